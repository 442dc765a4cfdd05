"""TIFF, OME-TIFF and ImageJ hyperstacks: read whole or mapped, and written."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import tifffile
from numpy.typing import NDArray

from napari_deqmd.core.caution import caution
from napari_deqmd.core.errors import UserError
from napari_deqmd.io.axes import axes_of
from napari_deqmd.io.metadata import Sizes, read_imagej, read_resolution, write_imagej
from napari_deqmd.io.ome import described, read_ome, write_ome
from napari_deqmd.io.ome_channels import SCHEMAS

# Bytes from which on a file is left on the disk, and only what is used of it is read.
LARGE = 2**30

# A classic TIFF, all that ImageJ reads, ends at 4 GiB; behind that its planes follow without pages of their own.
_CLASSIC = 2**32 - 2**25

# What tifffile logs as an error and reads on: planes or axes would be missing without a word.
_DAMAGED = re.compile(r"page offset|corrupt|missing|failed to|TiffTag 270 ")


def read_tiff(
    source: Path, axes: str | None
) -> tuple[Any, str, Sizes, dict[str, Any], tuple[str, ...], str | None]:
    """Return pixels, axes, voxel sizes, neutral metadata and channel names of a file's first image.

    The last is the order in which its axes were before they were written, where the file says it.

    Parameters
    ----------
    source : path
        The file.
    axes : str, optional
        One letter of ``"TCZYX"`` per dimension, instead of what the file says.

    Raises
    ------
    UserError
        Not a TIFF, a damaged one, a colour picture, or axes that are unknown or do not fit.

    Warns
    -----
    UserWarning
        There are further images in the file.
    """
    with _damage_reported(source), tifffile.TiffFile(source) as tif:
        series = tif.series[0]
        if not series.shape or 0 in series.shape:
            raise UserError(f"{source.name} holds no pixels: choose another file.")
        _refuse_colour(source, series)
        others = len(tif.series) - 1
        shape, letters = axes_of(source, series, axes)
        sizes, metadata, names, order = _metadata_of(source, tif, series)
        lie = _lie_of(tif, series, metadata)
        mapped = series.dataoffset is not None and series.nbytes >= LARGE
        data = (tifffile.memmap(source, series=0, mode="r") if mapped else series.asarray()).reshape(shape)
    if lie:
        raise UserError(
            f"{source.name} does not hold the pixels that its OME-XML describes ({lie}): export it again."
        )
    if not (mapped or data.dtype.isnative):
        data = data.astype(data.dtype.newbyteorder("="))
    if others:
        caution(f"{source.name} holds {others + 1} images: only the first was read.", stacklevel=3)
    return data, letters, sizes, metadata, names, None if axes else order


def write_tiff(
    handle: BinaryIO,
    data: NDArray[Any],
    axes: str,
    sizes: Sizes,
    metadata: dict[str, Any],
    channel_names: tuple[str, ...],
    *,
    ome: bool,
) -> None:
    """Write an image's bytes into an open file, as OME-TIFF or as ImageJ hyperstack."""
    if ome:
        text = write_ome(sizes, metadata, channel_names, axes, data.shape, data.dtype)
        big = data.nbytes > _CLASSIC
        tifffile.imwrite(handle, data, photometric="minisblack", bigtiff=big, description=text, metadata=None)
        return
    count = dict(zip(axes, data.shape, strict=True))
    order = "".join(letter for letter in "TZCYX" if letter in axes)
    planes = data.size // (count["Y"] * count["X"])
    options = write_imagej(sizes, metadata, channel_names, axes, planes)
    options["metadata"]["axes"] = order
    data = data.transpose([axes.index(letter) for letter in order])
    tifffile.imwrite(handle, data, photometric="minisblack", truncate=data.nbytes > _CLASSIC, **options)


def _lie_of(tif: Any, series: Any, metadata: dict[str, Any]) -> str:
    """Say how the pixels that OME-XML describes differ from the pages that are there."""
    if not tif.is_ome:
        return ""
    told, page = described(metadata), series.keyframe
    if missing := sum(one is None for one in series.pages):
        return f"{missing} planes are missing"
    there = {"X": page.imagewidth, "Y": page.imagelength}
    if any(told.get(letter, size) != size for letter, size in there.items()):
        return f"its planes are {there['X']} wide and {there['Y']} high"
    known = sum(len(one.pages) for one in tif.series)
    return f"it has {len(tif.pages)} planes, not {known}" if known < len(tif.pages) else ""


def _refuse_colour(source: Path, series: Any) -> None:
    colour = series.keyframe.photometric in (2, 6) or (
        "S" in series.axes and series.shape[series.axes.index("S")] in (3, 4)
    )
    if colour:
        raise UserError(
            f"{source.name} is a colour (RGB) picture: save the channel to restore as a gray TIFF."
        )


def _metadata_of(
    source: Path, tif: Any, series: Any
) -> tuple[Sizes, dict[str, Any], tuple[str, ...], str | None]:
    text = tif.pages.first.description
    # tifffile knows OME-XML by its end, which may be cut off; this package cites it in ImageJ's files.
    if tif.is_ome or (SCHEMAS in text and not tif.is_imagej):
        return *read_ome(text, source.name, series.dtype), None
    if tif.is_imagej:
        return read_imagej(tif)
    return read_resolution(series.keyframe, None), {}, (), None


class _Listener(logging.Filter):
    """Keeps what tifffile logs while a thread listens, for that thread; of its own threads for all that listen."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: dict[int, list[str]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        listening = dict(self.heard)
        theirs = [listening[record.thread]] if record.thread in listening else listening.values()
        for said in theirs:
            if record.levelno >= logging.ERROR:
                said.append(record.getMessage())
        return not listening


_LISTENER = _Listener()
logging.getLogger("tifffile").addFilter(_LISTENER)


@contextlib.contextmanager
def _damage_reported(source: Path) -> Iterator[None]:
    """Turn whatever tifffile raises, or logs and skips, into one sentence."""
    damage = _LISTENER.heard[threading.get_ident()] = []
    try:
        yield
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{source} may not be read: ask for the right to, or copy it.") from error
    except MemoryError as error:
        raise UserError(f"{source.name} does not fit into memory: crop it first.") from error
    except tifffile.TiffFileError as error:
        raise UserError(
            f"{source.name} is not a TIFF file, or a damaged one: save it as TIFF again."
        ) from error
    except Exception as error:  # a damaged file can make a parser raise anything
        if "requires the 'imagecodecs' package" in str(error):
            raise UserError(
                f"{source.name} is compressed in a way that needs a library: pip install imagecodecs, or "
                "save the image without compression."
            ) from error
        raise UserError(f"{source.name} is damaged or cut off: copy or save it again.") from error
    finally:
        del _LISTENER.heard[threading.get_ident()]
    if any(_DAMAGED.search(message) for message in damage):
        raise UserError(
            f"{source.name} is damaged or cut off: parts of it are missing, so copy or save it again."
        )
