"""Where a command may write."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.names import image_path
from napari_deqmd.io.sidecar import sidecar_path

_WRITTEN = ("output", "picture", "plot")


def check_apart(arguments: Namespace, target: Path) -> None:
    """Raise `UserError` where a command would replace what it reads: any other text given to it may name a file.

    Parameters
    ----------
    arguments : Namespace
        What was given.
    target : path
        What is written, as `napari_deqmd.io.atomic.check_target` returned it; its sidecar counts as well.
    """
    given = (text for name, text in vars(arguments).items() if isinstance(text, str) and name not in _WRITTEN)
    for text in given:
        source = image_path(text).resolve()
        for written in (target, sidecar_path(target)):
            if written in (source, *source.parents):
                raise UserError(f"{written} is an input: name another file for the output.")
