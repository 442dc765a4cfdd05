"""Image files, TIFF and OME-Zarr, as arrays with axes, voxel size and metadata, and back."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_deqmd.core.caution import caution
from napari_deqmd.core.config import ZARR_VERSIONS
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.files import atomic_paths
from napari_deqmd.io.atomic import check_target
from napari_deqmd.io.axes import in_order, named
from napari_deqmd.io.metadata import Sizes
from napari_deqmd.io.names import SUFFIXES, image_path, is_ome
from napari_deqmd.io.names import ending as ending
from napari_deqmd.io.ngff import (
    MARKS,
    damage_reported,
    is_ngff,
    read_ngff,
    require_libraries,
    write_ngff,
)
from napari_deqmd.io.tiff import read_tiff, write_tiff
from napari_deqmd.io.vendors import is_vendor, read_vendor


@dataclasses.dataclass(frozen=True)
class Stack:
    """An image with what its file says about it.

    Attributes
    ----------
    data : ndarray or dask array
        The pixels, in the file's own type; lazy from OME-Zarr, mapped from a large file that is not compressed.
    axes : str
        One letter of ``"TCZYX"`` per dimension.
    voxel_size : tuple of float or None
        Micrometres along the spatial axes, in their order; ``None`` where one of them is unknown.
    channel_names : tuple of str
        One per channel, or none.
    metadata : dict
        What else the file keeps, to be written again; see `napari_deqmd.io.metadata`.
    file : str
        The name of its file, for what is said of it.
    """

    data: Any
    axes: str
    voxel_size: tuple[float, ...] | None = None
    channel_names: tuple[str, ...] = ()
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    file: str = "The image"

    @property
    def spatial_axes(self) -> str:
        """The axes among Z, Y and X, in their order."""
        return "".join(letter for letter in self.axes if letter in "ZYX")

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Pixels along those."""
        return tuple(n for n, letter in zip(self.data.shape, self.axes, strict=True) if letter in "ZYX")

    @property
    def sizes(self) -> Sizes:
        """Micrometres by spatial axis, empty where unknown."""
        return dict(zip(self.spatial_axes, self.voxel_size, strict=True)) if self.voxel_size else {}

    def part(self, places: Mapping[str, int | Sequence[int]]) -> Stack:
        """Return a part of it.

        Parameters
        ----------
        places : mapping of str to int or (int, int)
            By axis: an index, and the axis goes; or the first and the last of a range.

        Raises
        ------
        UserError
            There is no such axis, or it is shorter.
        """
        slices: list[int | slice] = [slice(None)] * len(self.axes)
        metadata = dict(self.metadata)
        steps = self.sizes | {"T": self.metadata.get("time_interval", 0.0)}
        for letter, place in places.items():
            axis = self.axes.find(letter)
            try:
                first, last = (place, place) if isinstance(place, int) else map(operator.index, place)
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"{place!r} is no part of the axis {letter}: give an index, or the first and the last."
                ) from error
            if axis < 0 or not 0 <= first <= last < self.data.shape[axis]:
                raise UserError(
                    f"{letter} {first} to {last} is no part of an image with the axes {self.axes} and "
                    f"{' x '.join(map(str, self.data.shape))} pixels: choose the image that it was taken from."
                )
            slices[axis] = place if isinstance(place, int) else slice(first, last + 1)
            if moved := first * steps.get(letter, 0.0):
                origin = metadata.get("origin", {})
                metadata["origin"] = origin | {letter: origin.get(letter, 0.0) + moved}
        kept = [
            (letter, cut) for letter, cut in zip(self.axes, slices, strict=True) if isinstance(cut, slice)
        ]
        spatial = [letter for letter, _ in kept if letter in "ZYX"]
        found = dataclasses.replace(
            self,
            data=self.data[tuple(slices)],
            axes="".join(letter for letter, _ in kept),
            voxel_size=tuple(self.sizes[letter] for letter in spatial) if self.voxel_size else None,
            metadata=metadata,
        )
        if "C" not in places:
            return found
        cut = slices[self.axes.index("C")]
        cut = cut if isinstance(cut, slice) else slice(cut, cut + 1)
        if colors := metadata.pop("channel_colors", ())[cut]:
            metadata["channel_colors"] = colors
        if own := metadata.pop("channel_optics", ())[cut]:
            metadata |= {
                "channel_optics": own,
                "optics": own[0] if len(own) == 1 else metadata.get("optics", {}),
            }
        return dataclasses.replace(found, channel_names=self.channel_names[cut], metadata=metadata)

    def load(self) -> Stack:
        """Return the same with its pixels as an array, native and not lazy; a mapped file may stay mapped."""
        with damage_reported(self.file):
            data = np.asarray(self.data)
        if not data.dtype.isnative:
            data = data.astype(data.dtype.newbyteorder("="))
        return dataclasses.replace(self, data=data)


def read_stack(
    path: Path | str,
    *,
    axes: str | None = None,
    voxel_size: tuple[float, ...] | None = None,
    level: int | None = None,
) -> Stack:
    """Read a TIFF, ImageJ hyperstack, OME-TIFF or OME-Zarr; other formats where bioio can.

    Parameters
    ----------
    path : path
        The file; of an OME-Zarr its folder, or ``zarr.json`` or ``.zattrs`` in it.
    axes : str, optional
        One letter of ``"TCZYX"`` per dimension, instead of what the file says. Unless the last two are ``YX``, as of a
        file in the order ``XYZ``, the image is turned to ``TCZYX``.
    voxel_size : tuple of float, optional
        Micrometres along the spatial axes, in their order, of `axes` if given, instead of what the file says.
    level : int, optional
        Which resolution of an OME-Zarr, 0 the full one.

    Returns
    -------
    Stack
        Dimensions of length 1 are dropped, unless `axes` names them. Three dimensions without names are ZYX.

    Raises
    ------
    UserError
        No such file, not an image, a damaged one, a colour picture, or axes that are unknown or do not fit.

    Warns
    -----
    UserWarning
        There are further images in the file, pixels have a size but planes no distance, or sizes no unit, axes without
        names look as if the last were Z, chunks of an OME-Zarr are missing, or OME-XML is damaged or not that of the
        pixels.
    """
    source = Path(path).expanduser()
    if not source.exists():
        raise UserError(f"There is no file {source}: check its name.")
    source = image_path(source)
    order: str | None = None
    if source.is_dir():
        if not is_ngff(source):
            raise UserError(f"{source} is a folder: name a TIFF file in it, or an OME-Zarr image.")
        data, letters, sizes, metadata, names = read_ngff(source, level or 0)
        data, letters = named(source, data, letters, axes)
        order = "".join(letter for letter in letters if letter not in "YX") + "YX"
    elif is_vendor(source):
        data, letters, sizes, metadata, names = read_vendor(source)
        data, letters = named(source, data, letters, axes)
    elif level:
        raise UserError(f"{source.name} has no levels of resolution: leave the level out.")
    else:
        data, letters, sizes, metadata, names, order = read_tiff(source, axes)
    given, doubts = letters, metadata.pop("doubts", {})
    if axes is not None and in_order(letters) != letters:
        # What the file says of X and Y is of its last two axes, which are others.
        order, sizes, doubts = in_order(letters), {}, {}
    if order and order != letters and sorted(order) == sorted(letters):
        data, letters = data.transpose([letters.index(letter) for letter in order]), order
    if "C" not in letters or len(names) != data.shape[letters.index("C")]:
        names = names if "C" not in letters and len(names) == 1 else ()
    stack = Stack(data, letters, None, names, metadata, source.name)
    spatial = stack.spatial_axes
    if voxel_size is not None:
        told = spatial if axes is None else "".join(letter for letter in given if letter in spatial)
        check_voxel_size(voxel_size, told)
        sizes = dict(zip(told, map(float, voxel_size), strict=True))
        doubts = {}
    doubts = {letter: doubt for letter, doubt in doubts.items() if letter in spatial}
    for doubt in dict.fromkeys(doubts.values()):
        caution(doubt, stacklevel=2)
    if all(letter in sizes for letter in spatial):
        return dataclasses.replace(stack, voxel_size=tuple(sizes[letter] for letter in spatial))
    if sizes.get("X") and sizes.get("X") == sizes.get("Y"):
        metadata["lateral"] = sizes["X"]
    if "Z" in spatial and {"X", "Y"} <= sizes.keys() and not doubts:
        caution(
            f"{source.name} does not say the distance of its planes along Z: give the voxel size.",
            stacklevel=2,
        )
    return stack


def check_voxel_size(voxel_size: tuple[float, ...], spatial_axes: str) -> None:
    """Raise `UserError` unless there is one positive number per spatial axis."""
    if len(voxel_size) != len(spatial_axes):
        raise UserError(
            f"The voxel size has {len(voxel_size)} numbers for the axes {','.join(spatial_axes)}: give one for each."
        )
    if not all(math.isfinite(size) and size > 0 for size in voxel_size):
        raise UserError(f"The voxel size {voxel_size} is not possible: give micrometres above 0.")


def write_stack(
    path: Path | str, stack: Stack, *, overwrite: bool = False, zarr_version: str = ZARR_VERSIONS[-1]
) -> None:
    """Write an OME-TIFF, an ImageJ hyperstack (``.tif``) or an OME-Zarr as float32, whole or not at all.

    An ImageJ hyperstack lies in the order TZCYX in its file; `read_stack` returns it in the order it had.

    Parameters
    ----------
    path : path
        Ends in ``.ome.tif``, ``.tif`` or ``.zarr``.
    stack : Stack
        Pixels and what is to be kept with them.
    overwrite : bool
        Replace an existing file.
    zarr_version : {"0.4", "0.5"}
        Of an OME-Zarr; older programs read only 0.4.

    Raises
    ------
    UserError
        Another ending, or as `napari_deqmd.io.atomic.check_target`.
    """
    target = check_output(path, overwrite=overwrite, size=4 * stack.data.size)
    pixels = np.asarray(stack.data, dtype=np.float32)
    with atomic_paths(target) as (place,):
        write_into(place, target, dataclasses.replace(stack, data=pixels), zarr_version=zarr_version)


def check_output(path: Path | str, *, overwrite: bool, size: int = 0) -> Path:
    """Check, before long work, that an image of `size` bytes can be written; return its absolute path."""
    if not str(Path(path)).lower().endswith(SUFFIXES):
        raise UserError(
            f"Cannot write {path}: images are written as TIFF or OME-Zarr, so name it .tif, .ome.tif or .ome.zarr."
        )
    if not is_ngff(Path(path)):
        return check_target(path, overwrite=overwrite, size=size)
    require_libraries()
    target = check_target(path, overwrite=overwrite, size=size, folder=True)
    if target.exists() and not any((target / mark).is_file() for mark in MARKS):
        raise UserError(f"{target} is there and no Zarr: choose another name.")
    return target


def write_into(place: Path, target: Path, stack: Stack, *, zarr_version: str = ZARR_VERSIONS[-1]) -> None:
    """Write an image in the type of its pixels at a new path, in the format that the name of `target` asks for."""
    if is_ngff(target):
        write_ngff(
            place,
            target.name.removesuffix(ending(target)),
            stack.data,
            stack.axes,
            stack.sizes,
            stack.metadata,
            stack.channel_names,
            zarr_version,
        )
        return
    with place.open("xb") as handle:
        write_tiff(
            handle,
            np.asarray(stack.data),
            stack.axes,
            stack.sizes,
            stack.metadata,
            stack.channel_names,
            ome=is_ome(target),
        )
