"""``deqmd models``."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from napari_deqmd.cli.console import print_fields, print_json


def list_all(arguments: Namespace) -> None:
    """List the installed models."""
    from napari_deqmd.training.models import list_models

    models = list_models()
    if arguments.json:
        print_json({"models": [info.card | {"path": str(info.path)} for info in models]})
        return
    for info in models:
        print(f"{info.name}  {info.card['ndim']}D  {info.card.get('description', '')}  {info.path}".rstrip())
    if not models:
        print("No models are installed.")


def info(arguments: Namespace) -> None:
    """Show the card of a model."""
    from napari_deqmd.training.models import find_model

    found = find_model(arguments.model)
    card = found.card | {"path": str(found.path)}
    if arguments.json:
        print_json(card)
        return
    print_fields(card)


def export(arguments: Namespace) -> None:
    """Copy a model to a folder."""
    from pathlib import Path

    from napari_deqmd.training.models import export_model

    _installed(
        export_model(arguments.model, Path(arguments.folder), overwrite=arguments.overwrite), arguments
    )


def import_(arguments: Namespace) -> None:
    """Install a model file."""
    from pathlib import Path

    from napari_deqmd.training.models import import_model

    found = import_model(Path(arguments.path), name=arguments.name, overwrite=arguments.overwrite)
    _installed(found.path, arguments)


def _installed(path: Any, arguments: Namespace) -> None:
    if arguments.json:
        print_json({"path": str(path), "card": str(path.with_suffix(".json"))})
    else:
        print(path)
