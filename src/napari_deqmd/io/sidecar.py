"""Provenance: the JSON beside a result that says how it came about."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.atomic import atomic_files
from napari_deqmd.io.stack import Stack, check_output, encode, is_ome

_PACKAGES = ("napari-deqmd", "numpy", "scipy", "tifffile", "torch")


def sidecar_path(output: Path | str) -> Path:
    """Return the name of the JSON beside an image: ``result.tif`` has ``result.tif.json``."""
    output = Path(output)
    return output.with_name(output.name + ".json")


def versions() -> dict[str, str]:
    """Return the versions of Python and of what computes the result, without importing any of it."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_sidecar(output: Path | str, content: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write the JSON beside `output`, whole or not at all.

    Parameters
    ----------
    output : path
        The image it belongs to.
    content : mapping
        JSON-able values; NumPy scalars, paths and tuples are converted, NaN and infinities become null.
    overwrite : bool
        Replace an existing one.

    Raises
    ------
    UserError
        As `napari_deqmd.io.atomic.check_target`.
    """
    with atomic_files(sidecar_path(output), overwrite=overwrite) as (handle,):
        handle.write(_encode(content))


def read_sidecar(output: Path | str) -> dict[str, Any]:
    """Read the JSON beside `output`, or `output` itself if it is one.

    Raises
    ------
    UserError
        There is none, or it is not a JSON object.
    """
    path = Path(output)
    path = path if path.suffix == ".json" else sidecar_path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"There is no {path}: a result's settings lie in a .json beside it.") from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it should hold a result's settings as JSON.")
    return content


def check_result(path: Path | str, *, overwrite: bool, size: int = 0) -> Path:
    """Check, before long work, that an image and its sidecar can be written; return the image's path."""
    target = check_output(path, overwrite=overwrite, size=size)
    beside = sidecar_path(target)
    if beside.exists() and not overwrite:
        raise UserError(f"{beside} exists already: choose another name, or allow it to be overwritten.")
    return target


def write_result(
    path: Path | str, stack: Stack, content: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write an image and its sidecar, both or neither.

    Raises
    ------
    UserError
        As `napari_deqmd.io.stack.write_stack`.
    """
    target = check_result(path, overwrite=overwrite, size=4 * stack.data.size)
    with atomic_files(target, sidecar_path(target), overwrite=overwrite) as (image, beside):
        encode(image, stack, ome=is_ome(target))
        beside.write(_encode(content))


def _encode(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(plain(content), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def plain(value: Any) -> Any:
    """Convert to what JSON has: NumPy scalars and arrays, tuples, paths; NaN and infinities become null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
