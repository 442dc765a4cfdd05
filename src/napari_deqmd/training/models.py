"""Model files: weights as safetensors, everything else in a JSON card. A file from a stranger can never run code."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_deqmd.core.config import BREGMAN, LEARNED
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.files import atomic_paths, make_folder

if TYPE_CHECKING:
    from napari_deqmd.core.regularizers import Regularizer

FORMAT = "napari-deqmd model"
FORMAT_VERSION = 1
LARGEST = 2**28
LARGEST_OPTION = 4096
STORED = {"F16", "F32"}
"""Numbers that weights may be stored as."""
DEFAULTS = {2: "fluorescence-2d", 3: "fluorescence-2d"}
"""Bundled models for images and for stacks."""
BREGMAN_DEFAULT = "bregman-2d"
"""Bundled model of `BREGMAN` methods."""
BUNDLED = Path(__file__).parent.parent / "models"


@dataclass(frozen=True)
class ModelInfo:
    """An installed model: its name, its weights' file and its card."""

    name: str
    path: Path
    card: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A loaded model: the regularizer in float32 and its card."""

    regularizer: Regularizer
    card: dict[str, Any]
    path: Path


def user_folder() -> Path:
    """Return the folder of the user's own models: ``$DEQMD_MODELS``, or below the user's data folder."""
    if folder := os.environ.get("DEQMD_MODELS"):
        return Path(folder)
    data = (
        os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".local" / "share"
    )
    return Path(data) / "napari-deqmd" / "models"


def list_models() -> list[ModelInfo]:
    """Return bundled models, then the user's; files that are no models are passed over. Loads no torch."""
    found: dict[str, ModelInfo] = {}
    for folder in (BUNDLED, user_folder()):
        for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
            try:
                card = read_card(path)
            except UserError:
                continue
            found.setdefault(card["name"], ModelInfo(card["name"], path, card))
    return list(found.values())


def methods_of(card: dict[str, Any]) -> tuple[str, ...]:
    """Return the methods that a model is for."""
    bregman = str(card.get("family")).startswith("bregman")
    return BREGMAN if bregman else tuple(method for method in LEARNED if method not in BREGMAN)


def find_model(name_or_path: str | Path, *, ndim: int = 2, method: str | None = None) -> ModelInfo:
    """Return the model of a name or a path; ``"default"`` is the bundled one for data of `ndim` dimensions.

    Parameters
    ----------
    name_or_path : str or path
        As in `load_model`.
    ndim : {2, 3}
        Spatial dimensions of the data for which ``"default"`` is chosen.
    method : str, optional
        What the model is wanted for; by default no matter, and ``"default"`` is that of ``deq-md``.

    Raises
    ------
    UserError
        No such model, a card that cannot be read; a model for another method than the one wanted, or of colour
        photographs, whose channels are one image.
    """
    info = _find(name_or_path, BREGMAN_DEFAULT if method in BREGMAN else DEFAULTS[ndim])
    if method is not None and method not in methods_of(info.card):
        known = " or ".join(methods_of(info.card))
        raise UserError(
            f"The model {info.name} is for {known}, not {method}: choose another model or method."
        )
    if method is not None and info.card["options"].get("colours", 1) != 1:
        raise UserError(
            f"The model {info.name} takes the three channels of a colour photograph at once, for "
            "`deqmd benchmark paper`: choose another model."
        )
    return info


def _find(name_or_path: str | Path, default: str) -> ModelInfo:
    name = default if name_or_path == "default" else str(name_or_path)
    installed = {info.name: info for info in list_models()}
    if name in installed:
        return installed[name]
    path = Path(name)
    if path.suffix == ".json":
        path = path.with_suffix(".safetensors")
    if path.suffix != ".safetensors" or not path.exists():
        known = ", ".join(installed) or "none"
        raise UserError(
            f"There is no model {name!r}: give a .safetensors file or one of the installed ({known})."
        )
    card = read_card(path)
    return ModelInfo(card["name"], path, card)


def read_card(path: Path) -> dict[str, Any]:
    """Read and check the JSON card beside a weights file."""
    card_path = path.with_suffix(".json")
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"The model {path.name} has no readable card: put {card_path.name} beside it."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"The card {card_path.name} is not JSON: export the model again.") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise UserError(f"{card_path.name} is not the card of a napari-deqmd model: choose another file.")
    if card.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"The model {path.name} has format version {card.get('format_version')}, this program reads "
            f"{FORMAT_VERSION}: update napari-deqmd or export the model again."
        )
    if not (
        isinstance(card.get("name"), str)
        and isinstance(card.get("options"), dict)
        and card.get("ndim") in (2, 3)
        and card["options"].get("ndim", 2) in (2, card["ndim"])
    ):
        raise UserError(f"The card {card_path.name} is incomplete: export the model again.")
    return card


def load_model(name_or_path: str | Path = "default", *, ndim: int = 2, method: str | None = None) -> Model:
    """Load a model onto the CPU, in float32, ready for `Regularizer.energy`.

    Parameters
    ----------
    name_or_path : str or path
        ``"default"``, the name of an installed model, or its ``.safetensors`` file with the card beside it.
    ndim : {2, 3}
        Spatial dimensions of the data for which ``"default"`` is chosen.
    method : str, optional
        What the model is wanted for, as in `find_model`.

    Raises
    ------
    UserError
        Unknown name, a model that `find_model` refuses, a corrupt or foreign file, another version, weights that do
        not fit the card.
    """
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    from napari_deqmd.core.regularizers import build
    from napari_deqmd.core.regularizers.learned import SHARED

    info = find_model(name_or_path, ndim=ndim, method=method)
    corrupt = UserError(f"The model file {info.path.name} is corrupt or does not fit its card: get it again.")
    try:
        size = info.path.stat().st_size
        if size > LARGEST:
            raise UserError(
                f"The model file {info.path.name} is larger than {LARGEST >> 20} MiB: it is no model of ours."
            )
        options = info.card["options"]
        if not _plausible({name: value for name, value in options.items() if name not in SHARED}):
            raise corrupt
        try:
            with torch.device("meta"):
                regularizer = build(str(info.card.get("family")), options)
        except UserError as error:
            raise UserError(f"The card of {info.path.name} cannot be used: {error}") from error
        with safe_open(info.path, framework="pt") as file:
            heads = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            found = {name: list(head.get_shape()) for name, head in heads.items()}
            stored = {head.get_dtype() for head in heads.values()}
        expected = {name: list(tensor.shape) for name, tensor in regularizer.state_dict().items()}
        if found != expected or not stored <= STORED:
            raise corrupt
        blob = info.path.read_bytes()
        if hashlib.sha256(blob).hexdigest() != info.card.get("sha256"):
            raise corrupt
        weights = {name: tensor.float() for name, tensor in load(blob).items()}
    except OSError as error:
        raise UserError(f"The model file {info.path.name} cannot be read: {error.strerror}.") from error
    except UserError:
        raise
    except (SafetensorError, TypeError, ValueError, RuntimeError) as error:
        raise corrupt from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise UserError(f"The model file {info.path.name} holds invalid numbers: get it again.")
    regularizer.load_state_dict(weights, assign=True)
    regularizer.eval().requires_grad_(False)
    return Model(regularizer, info.card, info.path)


def _plausible(option: Any) -> bool:
    """Return whether the numbers of an architecture are of a size one would train: building it must not hang."""
    if isinstance(option, dict | list):
        return len(option) <= LARGEST_OPTION and all(
            _plausible(value) for value in (option.values() if isinstance(option, dict) else option)
        )
    return not isinstance(option, int | float) or isinstance(option, bool) or 0 < option <= LARGEST_OPTION


def save_model(regularizer: Regularizer, path: Path, card: dict[str, Any]) -> None:
    """Write weights in half precision, except single numbers, and the card beside them.

    Parameters
    ----------
    regularizer : Regularizer
        What to save.
    path : path
        ``NAME.safetensors``; the card becomes ``NAME.json``. Its folder is made.
    card : dict
        ``family``, ``options`` and ``ndim``, and what a reader wants to know (data, recipe, results, limits).
    """
    import torch
    from safetensors.torch import save

    tensors = {
        name: (tensor.half() if tensor.ndim else tensor).contiguous()
        for name, tensor in regularizer.state_dict().items()
    }
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise UserError(
            "The weights are not finite in half precision: train again with a lower learning rate."
        )
    blob = save(tensors)
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, "name": path.stem}
    full = {
        **head,
        **card,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "parameters": sum(t.numel() for t in tensors.values()),
    }
    make_folder(path.parent)
    _write(path, blob, full)


def versions() -> dict[str, str]:
    """Return what a model was trained with, for its card."""
    import platform

    import torch

    import napari_deqmd

    return {
        "napari_deqmd": napari_deqmd.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def export_model(name_or_path: str | Path, folder: Path, *, overwrite: bool = False) -> Path:
    """Copy a model, weights and card, to a folder, which is made if it is missing; return the path of its weights.

    Raises
    ------
    UserError
        Unknown or corrupt model, a folder that cannot be made, or files of its name there that may not be overwritten.
    """
    model = load_model(name_or_path)
    return _copy(model, _target(folder, str(model.card["name"]), overwrite=overwrite))


def import_model(path: Path, *, name: str | None = None, overwrite: bool = False) -> ModelInfo:
    """Check a model file and install it in the user's folder, under its own name or another.

    Raises
    ------
    UserError
        A file that `load_model` refuses, a name that is no file name or taken by a bundled model, or by one of the
        user's that may not be overwritten.
    """
    model = load_model(path)
    target = new_model(str(model.card["name"]) if name is None else name, overwrite=overwrite)
    return find_model(_copy(model, target))


def can_name(name: str) -> bool:
    """Return whether a model, and its file in any folder, can have a name."""
    return bool(re.fullmatch(r"\w[\w.+ -]*", name)) and name != "default"


def new_model(name: str, folder: Path | None = None, *, overwrite: bool = False) -> Path:
    """Return where a new model of this name goes, in a folder or the user's own, which is made if it is missing.

    Raises
    ------
    UserError
        A folder that cannot be made, a name that is no file name or taken by a bundled model, or by another in the
        folder that may not be overwritten.
    """
    if (BUNDLED / f"{name}.json").exists():
        raise UserError(f"{name} is the name of a bundled model: choose another name.")
    return _target(user_folder() if folder is None else folder, name, overwrite=overwrite)


def _target(folder: Path, name: str, *, overwrite: bool) -> Path:
    if not can_name(name):
        raise UserError(f"{name!r} cannot name a model: choose letters, digits, dots and dashes.")
    target = make_folder(folder) / f"{name}.safetensors"
    if not overwrite and (target.exists() or target.with_suffix(".json").exists()):
        raise UserError(f"{target} exists already: choose another name, or allow it to be overwritten.")
    return target


def _copy(model: Model, target: Path) -> Path:
    name = target.stem
    _write(target, model.path.read_bytes(), model.card | {"name": name})
    return target


def _write(path: Path, blob: bytes, card: dict[str, Any]) -> None:
    """Write weights and card, both or neither."""
    with atomic_paths(path, path.with_suffix(".json")) as (weights, told):
        weights.write_bytes(blob)
        told.write_bytes((json.dumps(card, indent=2) + "\n").encode())
