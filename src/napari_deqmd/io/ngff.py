"""OME-Zarr 0.4 and 0.5: read lazily, written whole."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_deqmd.core.caution import caution
from napari_deqmd.core.config import AXES, ZARR_VERSIONS
from napari_deqmd.core.errors import UserError
from napari_deqmd.io.metadata import Sizes, carried, micrometres, restored, seconds
from napari_deqmd.io.pyramid import levels_of, placed

MARKS = ("zarr.json", ".zattrs", ".zgroup")
"""Files that make a folder a Zarr group."""

_OURS = "napari-deqmd"
_KINDS = {"T": "time", "C": "channel"}
_UNITS = {"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}
# Written anew, or true of the source's own files only.
_NOT_KEPT = ("multiscales", "ome", "bioformats2raw.layout", _OURS)
_COLORS = ("FFFFFF",), ("FF00FF", "00FF00", "00FFFF", "FFFF00", "FF0000", "0000FF")
_COLOR = re.compile("[0-9A-Fa-f]{6}")
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

    Warns
    -----
    UserWarning
        Chunks are missing, or times have no unit.
    """
    dask, zarr = _libraries()
    with damage_reported(source.name):
        group = zarr.open(source, mode="r")
        if not isinstance(group, zarr.Group):
            raise UserError(
                f"{source.name} is a Zarr without multiscales, one array: write it as an OME-Zarr image."
            )
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
        if dataset.path not in group:
            raise UserError(
                f"{source.name} is damaged: its level {dataset.path} is not there, so copy it again."
            )
        array = group[dataset.path]
        _require_chunks(source, array)
    letters = [str(axis.name).upper() for axis in image.axes]
    axes = "".join(letter if letter in AXES else "?" for letter in letters)
    if len(axes) != array.ndim:
        raise UserError(
            f"{source.name} names {len(axes)} axes but has {array.ndim} dimensions: write it again."
        )
    (scale, shift), full = (
        _composed((*one.coordinateTransformations, *(image.coordinateTransformations or ())), len(axes))
        for one in (dataset, image.datasets[0])
    )
    kept = restored_from(attributes, ome)
    sizes: Sizes = {}
    origin: Sizes = {}
    unsure = ""
    for axis, letter, step, start, *whole in zip(image.axes, axes, scale, shift, *full, strict=True):
        convert = seconds if letter == "T" else micrometres
        if size := convert(step, str(axis.unit or "")):
            sizes[letter] = size
            origin |= {letter: size / step * start} if start else {}
        elif letter in _UNITS and whole != [1, 0]:
            unsure += letter
    if space := unsure.replace("T", ""):
        told = f"{source.name} does not say the unit of {', '.join(space)}, so sizes are lost: give the voxel size."
        kept["doubts"] = dict.fromkeys(space, told)
    if "T" in unsure:
        caution(
            f"{source.name} does not say the unit of its times: the interval is lost in what is written.",
            stacklevel=3,
        )
    if "T" in sizes:
        kept["time_interval"] = sizes.pop("T")
    channels = [
        channel for channel in (ome.get("omero") or {}).get("channels") or [] if isinstance(channel, Mapping)
    ]
    names = tuple(str(channel.get("label") or "") for channel in channels)
    colors = [color if _COLOR.fullmatch(color := str(channel.get("color"))) else "" for channel in channels]
    own = {"name": str(image.name or ""), "origin": origin, "channel_colors": colors if any(colors) else []}
    kept |= {key: value for key, value in own.items() if value}
    return dask.from_zarr(array), axes, sizes, kept, names if names and all(names) else ()


def _composed(transforms: Iterable[Any], ndim: int) -> tuple[list[float], list[float]]:
    """Return scale and translation of all transformations, the first applied first."""
    scale, shift = [1.0] * ndim, [0.0] * ndim
    for transform in transforms:
        factors = getattr(transform, "scale", None) or [1.0] * ndim
        more = getattr(transform, "translation", None) or [0.0] * ndim
        scale = [one * factor for one, factor in zip(scale, factors, strict=True)]
        shift = [one * factor + other for one, factor, other in zip(shift, factors, more, strict=True)]
    return scale, shift


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
    version: str = ZARR_VERSIONS[-1],
) -> None:
    """Write an OME-Zarr image into a new folder, with its axes in the format's order TCZYX.

    Large planes have coarser levels, each the mean over 2 x 2 pixels of the one before, and over 2 planes where these
    are no further apart than the pixels.
    """
    _, zarr = _libraries()
    from ome_zarr_models.v04.multiscales import Multiscale as Multiscale04
    from ome_zarr_models.v05.multiscales import Multiscale as Multiscale05

    newer = version != "0.4"
    order = "".join(letter for letter in "TCZYX" if letter in axes)
    data, axes = np.asarray(data).transpose([axes.index(letter) for letter in order]), order
    lateral = metadata.get("lateral")
    known = sizes or ({"Y": lateral, "X": lateral} if lateral else {})
    units = {letter: _UNITS[letter] for letter in known} | (
        {"T": "second"} if "time_interval" in metadata else {}
    )
    steps: Sizes = {"T": metadata.get("time_interval", 1.0)} | known
    full = [float(steps.get(letter, 1.0)) for letter in axes]
    start = [metadata.get("origin", {}).get(letter, 0.0) if letter in units else 0.0 for letter in axes]
    levels = list(levels_of(data, axes, full))
    description: Any = (Multiscale05 if newer else Multiscale04).model_validate(
        ({} if newer else {"version": version})
        | {
            "name": metadata.get("name", name),
            "axes": [
                {"name": letter.lower(), "type": _KINDS.get(letter, "space")}
                | ({"unit": units[letter]} if letter in units else {})
                for letter in axes
            ],
            "datasets": [
                {"path": str(place), "coordinateTransformations": placed(full, scale, start)}
                for place, (_, scale) in enumerate(levels)
            ],
        }
    )
    group = zarr.open_group(folder, mode="w", zarr_format=3 if newer else 2)
    for place, (pixels, _) in enumerate(levels):
        plane = math.prod(pixels.shape[-2:]) * pixels.dtype.itemsize
        depth = max(1, min(pixels.shape[-3], _CHUNK // plane)) if axes[:-2].endswith("Z") else 1
        array = group.create_array(
            str(place),
            shape=pixels.shape,
            dtype=pixels.dtype,
            # A chunk that is not there is one that was lost.
            config={"write_empty_chunks": True},
            chunks=(
                *((1,) * (pixels.ndim - 3)),
                *((depth,) if pixels.ndim > 2 else ()),
                *pixels.shape[-2:],
            ),
            **(
                {"dimension_names": list(axes.lower())}
                if newer
                else {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
            ),
        )
        array[...] = pixels
    own = dict(metadata["zarr"]) if isinstance(metadata.get("zarr"), dict) else {}
    count = data.shape[axes.index("C")] if "C" in axes else 1
    omero = own.pop("omero", None)
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(channels, list) or len(channels) != count or len(channel_names) == count:
        omero = _omero(omero, count, channel_names, metadata.get("channel_colors", ()), float(np.max(data)))
    told = (
        "zarr",
        "lateral",
        "name",
        "origin",
        "channel_colors",
        *(("time_interval",) if "T" in axes else ()),
    )
    text = carried(metadata, without=told)
    ome = {"multiscales": [description.model_dump(mode="json", exclude_none=True)], "omero": omero}
    group.attrs.put(
        own | ({"ome": {"version": version} | ome} if newer else ome) | ({_OURS: text} if text else {})
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
    from ome_zarr_models.exceptions import ValidationWarning
    from ome_zarr_models.v04.multiscales import Multiscale as Multiscale04
    from ome_zarr_models.v05.multiscales import Multiscale as Multiscale05
    from pydantic import ValidationError

    try:
        # Not for a moment only: threads share these filters, and the end of one's moment would be the end of another's.
        warnings.simplefilter("ignore", ValidationWarning)
        return (Multiscale05 if newer else Multiscale04).model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = " ".join(str(first["msg"]).split())
        raise UserError(
            f"{source.name} is not valid OME-Zarr 0.4 or 0.5 ({where}: {reason}): write it again."
        ) from error


def _require_chunks(source: Path, array: Any) -> None:
    """Zarr takes missing chunks for its fill value; where none of them is there, the copy failed."""
    there, count = array.nchunks_initialized, array.nchunks
    if there == 0:
        raise UserError(f"{source.name} holds no pixels at all: copy it again, with all of its folders.")
    if there < count:
        caution(
            f"{source.name} lacks {count - there} of its {count} chunks, which read as {array.fill_value}: copy it "
            "again, unless nothing is in those places.",
            stacklevel=4,
        )


def _omero(
    earlier: Any, count: int, names: tuple[str, ...], colors: Sequence[str], top: float
) -> dict[str, Any]:
    """Return how channels are shown; colours of the source, but limits of these pixels."""
    known = (earlier or {}).get("channels", [])
    known = known if len(known) == count else [{}] * count
    colors = colors if len(colors) == count else [""] * count
    usual = _COLORS[count > 1]
    window = {"min": 0.0, "max": top, "start": 0.0, "end": top}
    channels = []
    for place, channel in enumerate(known):
        label = {"label": names[place]} if len(names) == count else {}
        color = colors[place] or channel.get("color", usual[place % len(usual)])
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
