"""Provenance: the JSON beside a result that says how it came about."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.files import atomic_paths
from napari_deqmd.io.atomic import atomic_file, check_target
from napari_deqmd.io.metadata import plain
from napari_deqmd.io.ngff import is_ngff
from napari_deqmd.io.stack import Stack, check_output, write_into

_PACKAGES = ("napari-deqmd", "numpy", "psf-generator", "scipy", "tifffile", "torch")
# What decides the bits of a result; the others only carry it.
_COMPUTING = ("napari-deqmd", "numpy", "psf-generator", "python", "scipy", "torch")
# Lists that grow with the image stay beside it.
_NOT_EMBEDDED = ("items",)


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


def other_versions(recorded: Any) -> list[str]:
    """Name what computed a recorded result in another version than is installed, with both versions."""
    known = recorded if isinstance(recorded, Mapping) else {}
    now = versions()
    return [
        f"{name} {known[name]} (now {now.get(name, 'none')})"
        for name in _COMPUTING
        if name in known and known[name] != now.get(name)
    ]


def fingerprint(array: Any) -> str:
    """Return the SHA-256 of an array's type, shape and values; lazy ones are read part by part."""
    dtype = np.dtype(array.dtype).newbyteorder("<")
    digest = hashlib.sha256(f"{dtype.str} {tuple(array.shape)}".encode())
    for part in array if array.ndim > 2 else (array,):
        digest.update(np.ascontiguousarray(part, dtype=dtype).data)
    return digest.hexdigest()


def origin(
    stack: Stack, psf: Any, *, path: str | None, psf_source: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a sidecar says of when and from what a result came about.

    Parameters
    ----------
    stack : Stack
        The input.
    psf : array
        At the input's voxel size.
    path : str or None
        Of the input, where it is a file.
    psf_source : str
        As ``--psf`` of the command line takes it.
    given : mapping
        How the input was read, where not as its file says: ``axes``, ``voxel_size``, ``level``, and the ``part`` as
        `Stack.part` takes it.
    """
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "input": {
            "path": path,
            "axes": stack.axes,
            "shape": stack.data.shape,
            "dtype": str(stack.data.dtype),
            "voxel_size": stack.voxel_size,
            "sha256": fingerprint(stack.data),
            "given": dict(given),
        },
        "psf": {"source": psf_source, "shape": psf.shape, "sha256": fingerprint(psf)},
    }


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
    with atomic_file(sidecar_path(output), overwrite=overwrite) as handle:
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
    check_target(sidecar_path(target), overwrite=overwrite)
    return target


def write_result(
    path: Path | str,
    stack: Stack,
    content: Mapping[str, Any],
    *,
    dtype: str = "float32",
    zarr_version: str = "0.5",
    overwrite: bool = False,
    beside: Mapping[Path, Stack] | None = None,
) -> dict[str, Any]:
    """Write an image and its sidecar, both or neither; the image carries the same facts.

    Parameters
    ----------
    path : path
        As for `napari_deqmd.io.stack.write_stack`.
    stack : Stack
        The image. What it says of its own provenance goes along under ``input``.
    content : mapping
        As for `write_sidecar`.
    dtype : {"float32", "uint16"}
        How pixels are stored. Integers are ``value / scale`` rounded, with the scale at which the brightest just
        fits: nothing is clipped.
    zarr_version : {"0.4", "0.5"}
        Of an OME-Zarr.
    overwrite : bool
        Replace existing ones.
    beside : mapping of path to Stack, optional
        Further images, written as float32 with the two or not at all; as `check_output` returned their paths.

    Returns
    -------
    dict
        What was written as the sidecar: `content` and ``output``, with the type, scale and hash of the pixels.

    Raises
    ------
    UserError
        As `napari_deqmd.io.stack.write_stack`, or negative values that integers cannot hold.
    """
    target = check_result(path, overwrite=overwrite, size=np.dtype(dtype).itemsize * stack.data.size)
    pixels, scale = _stored(stack.data, dtype)
    written = dict(plain(content))
    written["output"] = {"name": target.name, "dtype": dtype, "scale": scale, "sha256": fingerprint(pixels)}
    if is_ngff(target):
        written["output"]["zarr_version"] = zarr_version
    earlier = stack.metadata.get("provenance")
    if earlier is not None and isinstance(written.get("input"), dict):
        written["input"] = written["input"] | {"provenance": plain(earlier)}
    embedded = {key: value for key, value in written.items() if key not in _NOT_EMBEDDED}
    made = dataclasses.replace(stack, data=pixels, metadata=stack.metadata | {"provenance": embedded})
    further = beside or {}
    with atomic_paths(target, sidecar_path(target), *further) as (image, text, *places):
        write_into(image, target, made, zarr_version=zarr_version)
        text.write_bytes(_encode(written))
        for place, (name, one) in zip(places, further.items(), strict=True):
            values = np.asarray(one.data, dtype=np.float32)
            write_into(place, name, dataclasses.replace(one, data=values), zarr_version=zarr_version)
    return written


def _stored(data: Any, dtype: str) -> tuple[Any, float]:
    """Return pixels as they are stored, and by what to multiply them."""
    if dtype == "float32":
        return np.asarray(data, dtype=np.float32), 1.0
    most = np.iinfo(dtype).max
    low, high = float(data.min()), float(data.max())
    if low < 0:
        raise UserError(f"The result has values down to {low:g}, which {dtype} cannot hold: write float32.")
    scale = high / most if high > 0 else 1.0
    return np.rint(np.asarray(data, dtype=np.float64) / scale).astype(dtype), scale


def _encode(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(plain(content), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()
