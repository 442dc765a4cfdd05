"""TIFF files as arrays with axes, voxel size and metadata, and back."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.atomic import atomic_files, check_target
from napari_deqmd.io.metadata import Sizes, read_imagej, read_ome, read_resolution, write_imagej, write_ome

AXES = "TCZYX"
SUFFIXES = (".tif", ".tiff")

# A classic TIFF, all that ImageJ reads, ends at 4 GiB; behind that its planes follow without pages of their own.
_CLASSIC = 2**32 - 2**25

# What tifffile logs as an error and reads on: planes or axes would be missing without a word.
_DAMAGED = re.compile(r"page offset|corrupt|missing|failed to|TiffTag 270 ")


@dataclasses.dataclass(frozen=True)
class Stack:
    """An image with what its file says about it.

    Attributes
    ----------
    data : ndarray
        The pixels, in the file's own type.
    axes : str
        One letter of ``"TCZYX"`` per dimension.
    voxel_size : tuple of float or None
        Micrometres along the spatial axes, in their order; ``None`` where one of them is unknown.
    channel_names : tuple of str
        One per channel, or none.
    metadata : dict
        What else the file keeps, to be written again; see `napari_deqmd.io.metadata`.
    """

    data: NDArray[Any]
    axes: str
    voxel_size: tuple[float, ...] | None = None
    channel_names: tuple[str, ...] = ()
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def spatial_axes(self) -> str:
        """The axes among Z, Y and X, in their order."""
        return "".join(letter for letter in self.axes if letter in "ZYX")

    @property
    def sizes(self) -> Sizes:
        """Micrometres by spatial axis, empty where unknown."""
        return dict(zip(self.spatial_axes, self.voxel_size, strict=True)) if self.voxel_size else {}


def read_stack(
    path: Path | str, *, axes: str | None = None, voxel_size: tuple[float, ...] | None = None
) -> Stack:
    """Read a TIFF, ImageJ hyperstack or OME-TIFF.

    Parameters
    ----------
    path : path
        The file.
    axes : str, optional
        One letter of ``"TCZYX"`` per dimension, instead of what the file says.
    voxel_size : tuple of float, optional
        Micrometres along the spatial axes, in their order, instead of what the file says.

    Returns
    -------
    Stack
        Dimensions of length 1 are dropped, unless `axes` names them. Three dimensions without names are ZYX.

    Raises
    ------
    UserError
        No such file, not a TIFF, a damaged one, a colour picture, or axes that are unknown or do not fit.
    """
    source = Path(path).expanduser()
    if not source.exists():
        raise UserError(f"There is no file {source}: check its name.")
    if source.is_dir():
        raise UserError(f"{source} is a folder: name a TIFF file in it.")
    with _damage_reported(source), tifffile.TiffFile(source) as tif:
        series = tif.series[0]
        if not series.shape or 0 in series.shape:
            raise UserError(f"{source.name} holds no pixels: choose another file.")
        _refuse_colour(source, series)
        others = len(tif.series) - 1
        shape, letters = _axes_of(source, series, axes)
        sizes, metadata, names, order = _metadata_of(tif, series)
        data = series.asarray().reshape(shape)
    if not data.dtype.isnative:
        data = data.astype(data.dtype.newbyteorder("="))
    if others:
        warnings.warn(f"{source.name} holds {others + 1} images: only the first was read.", stacklevel=2)
    if axes is None and order and sorted(order) == sorted(letters):
        data, letters = data.transpose([letters.index(letter) for letter in order]), order
    if "C" not in letters or len(names) != data.shape[letters.index("C")]:
        names = names if "C" not in letters and len(names) == 1 else ()
    stack = Stack(data, letters, None, names, metadata)
    spatial = stack.spatial_axes
    if voxel_size is not None:
        check_voxel_size(voxel_size, spatial)
        sizes = dict(zip(spatial, map(float, voxel_size), strict=True))
    if all(letter in sizes for letter in spatial):
        return dataclasses.replace(stack, voxel_size=tuple(sizes[letter] for letter in spatial))
    if sizes.get("X") and sizes.get("X") == sizes.get("Y"):
        metadata["lateral"] = sizes["X"]
    return stack


def check_voxel_size(voxel_size: tuple[float, ...], spatial_axes: str) -> None:
    """Raise `UserError` unless there is one positive number per spatial axis."""
    if len(voxel_size) != len(spatial_axes):
        raise UserError(
            f"The voxel size has {len(voxel_size)} numbers for the axes {','.join(spatial_axes)}: give one for each."
        )
    if not all(math.isfinite(size) and size > 0 for size in voxel_size):
        raise UserError(f"The voxel size {voxel_size} is not possible: give micrometres above 0.")


def write_stack(path: Path | str, stack: Stack, *, overwrite: bool = False) -> None:
    """Write an OME-TIFF (``.ome.tif``) or an ImageJ hyperstack (``.tif``) as float32, whole or not at all.

    An ImageJ hyperstack lies in the order TZCYX in its file; `read_stack` returns it in the order it had.

    Parameters
    ----------
    path : path
        Ends in ``.tif`` or ``.tiff``.
    stack : Stack
        Pixels and what is to be kept with them.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    UserError
        Another ending, or as `napari_deqmd.io.atomic.check_target`.
    """
    target = check_output(path, overwrite=overwrite, size=4 * stack.data.size)
    with atomic_files(target, overwrite=overwrite) as (handle,):
        encode(handle, stack, ome=is_ome(target))


def check_output(path: Path | str, *, overwrite: bool, size: int = 0) -> Path:
    """Check, before long work, that an image of `size` bytes can be written; return its absolute path."""
    if not str(path).lower().endswith(SUFFIXES):
        raise UserError(f"Cannot write {path}: images are written as TIFF, so name it .tif or .ome.tif.")
    return check_target(path, overwrite=overwrite, size=size)


def is_ome(path: Path) -> bool:
    """Tell whether a file's name asks for OME-TIFF."""
    return path.name.lower().endswith((".ome.tif", ".ome.tiff"))


def encode(handle: BinaryIO, stack: Stack, *, ome: bool) -> None:
    """Write the TIFF's bytes into an open file."""
    data = np.asarray(stack.data, dtype=np.float32)
    count = dict(zip(stack.axes, data.shape, strict=True))
    if ome:
        options = write_ome(stack.sizes, stack.metadata, stack.channel_names, count.get("C", 1))
        options["metadata"]["axes"] = stack.axes
        tifffile.imwrite(handle, data, photometric="minisblack", bigtiff=data.nbytes > _CLASSIC, **options)
        return
    order = "".join(letter for letter in "TZCYX" if letter in stack.axes)
    planes = data.size // (count["Y"] * count["X"])
    options = write_imagej(stack.sizes, stack.metadata, stack.channel_names, stack.axes, planes)
    options["metadata"]["axes"] = order
    data = data.transpose([stack.axes.index(letter) for letter in order])
    tifffile.imwrite(handle, data, photometric="minisblack", truncate=data.nbytes > _CLASSIC, **options)


def _refuse_colour(source: Path, series: Any) -> None:
    colour = series.keyframe.photometric in (2, 6) or (
        "S" in series.axes and series.shape[series.axes.index("S")] in (3, 4)
    )
    if colour:
        raise UserError(
            f"{source.name} is a colour (RGB) picture: save the channel to restore as a gray TIFF."
        )


def _axes_of(source: Path, series: Any, axes: str | None) -> tuple[tuple[int, ...], str]:
    shape, letters = tuple(series.shape), str(series.axes)
    if axes is not None:
        axes = axes.upper()
        full = tuple(series.get_shape(squeeze=False))
        for candidate in (shape, full, tuple(size for size in shape if size > 1)):
            if len(candidate) == len(axes):
                return candidate, _checked(source, axes)
        raise UserError(
            f"The axes {axes} name {len(axes)} dimensions but {source.name} has {len(shape)} "
            f"({' x '.join(map(str, shape))}): give one letter of {AXES} for each."
        )
    kept = [
        index for index, size in enumerate(shape) if size > 1 or letters[index] in "YX" or len(letters) == 2
    ]
    shape, letters = tuple(shape[i] for i in kept), "".join(letters[i] for i in kept)
    letters = letters.replace("S", "C")
    unknown = [letter for letter in letters if letter not in AXES]
    if len(unknown) == 1 and len(letters) == 3:
        letters = letters.replace(unknown[0], "Z")
    elif unknown:
        raise UserError(
            f"{source.name} has {len(shape)} dimensions ({' x '.join(map(str, shape))}) without names: "
            "give its axes, for example TZYX."
        )
    return shape, _checked(source, letters)


def _checked(source: Path, axes: str) -> str:
    if len(set(axes)) != len(axes) or not set(axes) <= set(AXES) or not axes.endswith("YX"):
        raise UserError(
            f"The axes {axes} of {source.name} cannot be used: each of {AXES} may come once, and YX last."
        )
    return axes


def _metadata_of(tif: Any, series: Any) -> tuple[Sizes, dict[str, Any], tuple[str, ...], str | None]:
    if tif.is_ome and tif.ome_metadata:
        return *read_ome(tif.ome_metadata), None
    if tif.is_imagej:
        return read_imagej(tif)
    return read_resolution(series.keyframe, None), {}, (), None


@contextlib.contextmanager
def _damage_reported(source: Path) -> Iterator[None]:
    """Turn whatever tifffile raises, or logs and skips, into one sentence."""
    damage: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            damage.append(record.getMessage())

    listener = Listener(logging.ERROR)
    logger = logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(listener)
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
        reason = " ".join(str(error).split())
        raise UserError(f"{source.name} is damaged or cut off ({reason}): copy or save it again.") from error
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagate
    if any(_DAMAGED.search(message) for message in damage):
        raise UserError(
            f"{source.name} is damaged or cut off: parts of it are missing, so copy or save it again."
        )
