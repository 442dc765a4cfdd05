"""OME-Zarr 0.4 and 0.5: read lazily, written whole."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.metadata import Sizes, carried, micrometres, restored, seconds

MARKS = ("zarr.json", ".zattrs", ".zgroup")
"""Files that make a folder a Zarr group."""

_OURS = "napari-deqmd"
_KINDS = {"T": "time", "C": "channel"}
_UNITS = {"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}
# Written anew, or true of the source's own files only.
_NOT_KEPT = ("multiscales", "ome", "bioformats2raw.layout", _OURS)
_COLORS = ("FFFFFF",), ("FF00FF", "00FF00", "00FFFF", "FFFF00", "FF0000", "0000FF")
# Bytes of a chunk, at most: whole planes where they fit.
_CHUNK = 2**23


def is_ngff(path: Path) -> bool:
    """Tell whether a path names a Zarr folder, or will."""
    return path.suffix.lower() == ".zarr" or any((path / mark).is_file() for mark in MARKS)


def read_ngff(source: Path, level: int) -> tuple[Any, str, Sizes, dict[str, Any], tuple[str, ...]]:
    """Return lazy pixels, axes, voxel sizes, neutral metadata and channel names of an OME-Zarr image.

    Parameters
    ----------
    source : path
        The group's folder.
    level : int
        Which of its resolutions, 0 the full one.

    Raises
    ------
    UserError
        The libraries are missing, or it is not an OME-Zarr image, or a damaged one.
    """
    dask, zarr = _libraries()
    with damage_reported(source.name):
        group = zarr.open_group(source, mode="r")
        attributes = dict(group.attrs)
        ome = attributes.get("ome", attributes)
        if not isinstance(ome, Mapping) or not ome.get("multiscales"):
            raise UserError(
                f"{source.name} is a Zarr without multiscales: name the folder of an OME-Zarr image."
            )
        image = _validated(source, ome["multiscales"][0], "ome" in attributes)
        if not 0 <= level < len(image.datasets):
            raise UserError(
                f"{source.name} has {len(image.datasets)} levels of resolution: choose 0 to {len(image.datasets) - 1}."
            )
        dataset = image.datasets[level]
        array = group[dataset.path]
        _require_chunks(source, array)
    axes = "".join(str(axis.name).upper() for axis in image.axes)
    if len(axes) != array.ndim:
        raise UserError(
            f"{source.name} names {len(axes)} axes but has {array.ndim} dimensions: write it again."
        )
    scale = [1.0] * len(axes)
    for transform in (*dataset.coordinateTransformations, *(image.coordinateTransformations or ())):
        more = getattr(transform, "scale", None) or [1.0] * len(axes)
        scale = [one * other for one, other in zip(scale, more, strict=True)]
    kept = restored_from(attributes, ome)
    sizes: Sizes = {}
    for axis, letter, step in zip(image.axes, axes, scale, strict=True):
        if letter in "ZYX" and (size := micrometres(step, str(axis.unit or ""))):
            sizes[letter] = size
        elif letter == "T" and (interval := seconds(step, str(axis.unit or ""))):
            kept["time_interval"] = interval
    channels = (ome.get("omero") or {}).get("channels") or []
    names = tuple(str(channel.get("label") or "") for channel in channels if isinstance(channel, Mapping))
    return dask.from_zarr(array), axes, sizes, kept, names if names and all(names) else ()


def restored_from(attributes: Mapping[str, Any], ome: Mapping[str, Any]) -> dict[str, Any]:
    """Return the neutral metadata in a group's attributes."""
    kept = restored(attributes.get(_OURS))
    own = {key: value for key, value in {**attributes, **ome}.items() if key not in (*_NOT_KEPT, "version")}
    return kept | ({"zarr": own} if own else {})


def write_ngff(
    folder: Path,
    name: str,
    data: Any,
    axes: str,
    sizes: Sizes,
    metadata: Mapping[str, Any],
    channel_names: tuple[str, ...],
) -> None:
    """Write an OME-Zarr 0.5 image of one level into an empty folder, with its axes in the format's order TCZYX."""
    from ome_zarr_models.v05.multiscales import Multiscale

    _, zarr = _libraries()
    order = "".join(letter for letter in "TCZYX" if letter in axes)
    data, axes = np.asarray(data).transpose([axes.index(letter) for letter in order]), order
    lateral = metadata.get("lateral")
    known = sizes or ({"Y": lateral, "X": lateral} if lateral else {})
    units = {letter: _UNITS[letter] for letter in known} | (
        {"T": "second"} if "time_interval" in metadata else {}
    )
    steps: Sizes = {"T": metadata.get("time_interval", 1.0)} | known
    image = Multiscale.model_validate(
        {
            "name": name,
            "axes": [
                {"name": letter.lower(), "type": _KINDS.get(letter, "space")}
                | ({"unit": units[letter]} if letter in units else {})
                for letter in axes
            ],
            "datasets": [
                {
                    "path": "0",
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [float(steps.get(letter, 1.0)) for letter in axes]}
                    ],
                }
            ],
        }
    )
    group = zarr.open_group(folder, mode="w", zarr_format=3)
    plane = math.prod(data.shape[-2:]) * data.dtype.itemsize
    depth = max(1, min(data.shape[-3], _CHUNK // plane)) if axes[:-2].endswith("Z") else 1
    chunks = (*((1,) * (data.ndim - 3)), *((depth,) if data.ndim > 2 else ()), *data.shape[-2:])
    array = group.create_array(
        "0", shape=data.shape, dtype=data.dtype, chunks=chunks, dimension_names=list(axes.lower())
    )
    array[...] = data
    own = dict(metadata.get("zarr", {}))
    count = data.shape[axes.index("C")] if "C" in axes else 1
    omero = own.pop("omero", None)
    if omero is None or len(omero.get("channels", ())) != count or len(channel_names) == count:
        omero = _omero(omero, count, channel_names, float(np.max(data)))
    text = carried(metadata, without=("zarr", "lateral", *(("time_interval",) if "T" in axes else ())))
    group.attrs.put(
        own
        | {
            "ome": {
                "version": "0.5",
                "multiscales": [image.model_dump(mode="json", exclude_none=True)],
                "omero": omero,
            }
        }
        | ({_OURS: text} if text else {})
    )


def require_libraries() -> None:
    """Raise `UserError` where OME-Zarr cannot be read or written."""
    _libraries()


def _libraries() -> tuple[Any, Any]:
    try:
        import dask.array
        import ome_zarr_models  # noqa: F401
        import zarr
    except ImportError as error:
        raise UserError(
            'OME-Zarr needs more libraries: install them with pip install "napari-deqmd[zarr]", or use OME-TIFF.'
        ) from error
    return dask.array, zarr


def _validated(source: Path, content: Any, newer: bool) -> Any:
    """Return the description of a multiscale image, of version 0.5 or 0.4, checked."""
    from ome_zarr_models.v04.multiscales import Multiscale as Multiscale04
    from ome_zarr_models.v05.multiscales import Multiscale as Multiscale05
    from pydantic import ValidationError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return (Multiscale05 if newer else Multiscale04).model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = " ".join(str(first["msg"]).split())
        raise UserError(
            f"{source.name} is not valid OME-Zarr 0.4 or 0.5 ({where}: {reason}): write it again."
        ) from error


def _require_chunks(source: Path, array: Any) -> None:
    """Zarr takes missing chunks for zeros; where none of them is there, or one is cut off, the copy failed."""
    if array.nchunks_initialized == 0:
        raise UserError(f"{source.name} holds no pixels at all: copy it again, with all of its folders.")


def _omero(earlier: Any, count: int, names: tuple[str, ...], top: float) -> dict[str, Any]:
    """Return how channels are shown; colours of the source, but limits of these pixels."""
    known = (earlier or {}).get("channels", [])
    known = known if len(known) == count else [{}] * count
    colors = _COLORS[count > 1]
    window = {"min": 0.0, "max": top, "start": 0.0, "end": top}
    channels = []
    for place, channel in enumerate(known):
        label = {"label": names[place]} if len(names) == count else {}
        color = channel.get("color", colors[place % len(colors)])
        channels.append({"active": True, **channel, **label, "color": color, "window": window})
    return {**(earlier or {}), "channels": channels}


@contextlib.contextmanager
def damage_reported(name: str) -> Iterator[None]:
    """Turn whatever reading a Zarr raises into one sentence."""
    try:
        yield
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{name} may not be read: ask for the right to, or copy it.") from error
    except Exception as error:  # a damaged group can make a parser raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name} is not a Zarr image, or a damaged one ({reason}): copy it again.") from error
