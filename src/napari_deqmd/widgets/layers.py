"""What a napari layer says about an image: axes, voxel size, and whether it can be used at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pint
from napari.layers import Image

from napari_deqmd.core.config import AXES
from napari_deqmd.core.electrons import saturation
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.images import perhaps_reversed
from napari_deqmd.core.pixels import PixelMaps, mended
from napari_deqmd.widgets.region import SPATIAL, Region, whole

if TYPE_CHECKING:
    from napari_deqmd.io.stack import Stack

# Lazy data, or the region of them, are loaded up to here (bytes).
LAZY_LIMIT = 2_000_000_000
# Pixels up to which peak and background of a region are read from the whole image.
_ESTIMATED = 2**26
# Pixels that are looked at for saturation, in whole rows: the window waits for it.
_LOOKED_AT = 2**19
_BY_NDIM = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
_PLANES = {2: "YX", 3: "TYX", 4: "TCYX"}


@dataclass(frozen=True)
class LayerImage:
    """An image taken from a layer.

    Attributes
    ----------
    data : ndarray or lazy array
        All of the layer's.
    name : str
    axes : str
    voxel_size : tuple of float or None
    region : Region or None
        The part that is meant, unless all is.
    path : str
        The file that it came from, where that is known.
    metadata : dict
        What that file says, as `napari_deqmd.io.metadata` has it.
    mask : LayerImage or None
        Nonzero where its pixels are bad: of its shape, or of its last axes.
    """

    data: Any
    name: str
    axes: str
    voxel_size: tuple[float, ...] | None
    region: Region | None = None
    path: str = ""
    metadata: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    mask: LayerImage | None = None

    @property
    def part(self) -> Region:
        """The part that is meant."""
        return whole(self.data.shape) if self.region is None else self.region

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Pixels of that along the spatial axes."""
        return spatial_shape(self.part.shape, self.axes)

    @property
    def channels(self) -> range:
        """The channels that are meant; none where it has no such axis."""
        part = self.part.slices[self.axes.index("C")] if "C" in self.axes else slice(0, 0)
        return range(part.start, part.stop)

    def channel(self, place: int) -> LayerImage:
        """Return the same of one channel."""
        if "C" not in self.axes:
            return self
        region = self.part.narrow(self.axes.index("C"), slice(place, place + 1))
        return replace(self, region=region, mask=None if self.mask is None else self.mask.channel(place))

    @property
    def ranges(self) -> dict[str, list[int]]:
        """First and last pixel along each axis of which not all is meant."""
        named = zip(self.axes, self.part.slices, self.part.of, strict=True)
        return {
            letter: [cut.start, cut.stop - 1] for letter, cut, size in named if cut.stop - cut.start < size
        }

    def stack(self) -> Stack:
        """Return the part that is meant as if it came from a file: with its place, and lazy data still so."""
        from napari_deqmd.io.metadata import sound
        from napari_deqmd.io.stack import Stack

        known = sound(self.metadata)
        name = str(known.pop("channel_name", "") or "")
        everything = Stack(self.data, self.axes, self.voxel_size, (name,) if name else (), known)
        return everything.part(self.ranges)

    @property
    def is_quick(self) -> bool:
        """Whether all of it is in memory and can be looked at in no time."""
        return isinstance(self.data, np.ndarray) and self.data.size <= _ESTIMATED

    def load(self) -> np.ndarray:
        """Return the part that is meant; of lazy data it computes no more, so it belongs into the other thread.

        Raises
        ------
        UserError
            Lazy data are not of the size they were said to be.
        """
        part = np.asarray(self.data[self.part.slices])
        if part.shape != self.part.shape:
            raise UserError(f"What {self.name!r} is read from has changed its size: open it again.")
        return part

    def maps(self) -> PixelMaps:
        """Return what is known of the pixels of that part; of lazy masks it computes no more, as `load`."""
        return PixelMaps(mask=None if self.mask is None else (self.mask.load() != 0).astype(np.uint8))

    def basis(self) -> np.ndarray:
        """Return what peak and background are read from, so that a part of the image runs with the numbers of all.

        That is all of its channels while that is quick, else the part; bad pixels are filled in.
        """
        if not self.is_quick:
            return self._filled(self.load(), self.part.slices)
        named = zip(self.axes, self.part.slices, strict=True)
        parts = tuple(part if letter == "C" else slice(None) for letter, part in named)
        return self._filled(self.data[parts], parts)

    def _filled(self, counts: np.ndarray, parts: tuple[slice, ...]) -> np.ndarray:
        if self.mask is None:
            return counts
        return mended(counts, np.asarray(self.mask.data[parts[-self.mask.data.ndim :]]) != 0, self.axes)


def guess_axes(layer: Image, *, planes: bool = False) -> str:
    """Return one letter per dimension: from the axis labels where they tell, else by the number of dimensions.

    Where only `planes` are of use, three dimensions that say nothing are a series of them and no stack. Labels that
    name axes of which no plane is made, such as time and X, are no reason to guess another: the letters are theirs.
    """
    letters = "".join(label.strip()[:1].upper() for label in layer.axis_labels)
    if len(set(letters)) == len(letters) and set(letters) <= set(AXES):
        return letters
    return (_PLANES if planes else _BY_NDIM).get(layer.ndim, "")


def voxel_size(layer: Image, axes: str) -> tuple[float, ...] | None:
    """Return micrometres along the spatial axes, or ``None`` where the layer counts in pixels."""
    sizes = []
    for letter, scale, unit in zip(axes, layer.scale, layer.units, strict=True):
        if letter in SPATIAL:
            try:
                sizes.append(float((abs(scale) * unit).to("micrometer").magnitude))
            except pint.DimensionalityError:
                return None
    return tuple(sizes)


def voxels_of(layer: Image, axes: str) -> str:
    """Return the voxel size as one would type it, nothing where it is not known."""
    sizes = voxel_size(layer, axes) if len(axes) == layer.ndim else None
    return "" if sizes is None else ", ".join(f"{size:.4g}" for size in sizes)


def set_voxel_size(layer: Image, axes: str, sizes: Sequence[float]) -> None:
    """Give a layer a voxel size along its spatial axes, micrometres.

    Raises
    ------
    UserError
        Other than one positive number for each.
    """
    spatial = [place for place, letter in enumerate(axes) if letter in SPATIAL]
    if len(sizes) != len(spatial) or not all(0 < size < math.inf for size in sizes):
        raise UserError(
            f"The voxel size is {sizes}: give {len(spatial)} numbers above 0, one for each spatial axis."
        )
    scale, units = list(layer.scale), list(layer.units)
    for place, size in zip(spatial, sizes, strict=True):
        scale[place], units[place] = size, "micrometer"
    layer.units = units
    layer.scale = scale


def spatial_shape(shape: tuple[int, ...], axes: str) -> tuple[int, ...]:
    """Return the pixels along the spatial axes."""
    return tuple(size for size, letter in zip(shape, axes, strict=True) if letter in SPATIAL)


def level_0(layer: Image) -> Any:
    """Return the data of a layer, at full resolution."""
    return layer.data[0] if layer.multiscale else layer.data


def require_fitting(layer: Image | None, axes: str, *, what: str = "image") -> Image:
    """Return the layer if it can be used with these axes.

    Raises
    ------
    UserError
        No layer, a colour layer, or axes that do not fit.
    """
    if layer is None:
        raise UserError(f"There is no {what} layer: open an image, or add one to the viewer.")
    if layer.rgb:
        raise UserError(
            f"{layer.name!r} is a colour picture: split it into channels (right-click, Split RGB) first."
        )
    if len(axes) != layer.ndim:
        raise UserError(
            f"{layer.name!r} has {layer.ndim} dimensions but the axes are {axes!r}: give one letter for each."
        )
    if not axes.endswith("YX"):
        raise UserError(
            f"The axes of {layer.name!r} are {axes!r}: correct them if Y and X are the last two, else reorder its data."
        )
    return layer


def read_layer(
    layer: Image | None, axes: str | None = None, *, what: str = "image", region: Region | None = None
) -> LayerImage:
    """Take the data of a layer, of a multiscale one at full resolution, or say in one sentence why that cannot be.

    Parameters
    ----------
    layer : napari.layers.Image or None
    axes : str, optional
        Overrides what the layer says.
    what : str
        How the sentence calls the layer.
    region : Region, optional
        The part that is meant.

    Returns
    -------
    LayerImage

    Raises
    ------
    UserError
        No layer, a colour layer, axes that do not fit, or lazy data too large to load.
    """
    axes = axes if axes is not None else guess_axes(layer) if layer is not None else ""
    layer = require_fitting(layer, axes, what=what)
    data = level_0(layer)
    image = LayerImage(
        data=data,
        name=layer.name,
        axes=axes,
        voxel_size=voxel_size(layer, axes),
        region=region,
        path=str(layer.metadata.get("path") or layer.source.path or ""),
        metadata=dict(layer.metadata),
    )
    size = math.prod(image.part.shape) * np.dtype(data.dtype).itemsize
    if not isinstance(data, np.ndarray) and size > LAZY_LIMIT:
        way_out = (
            f"crop it to {LAZY_LIMIT / 1e9:.0f} GB first"
            if region is None
            else "choose a region of it, or only the current time and channel"
        )
        raise UserError(f"{layer.name!r} is loaded lazily and holds {size / 1e9:.1f} GB: {way_out}.")
    return image


def read_mask(layer: Any, image: LayerImage) -> LayerImage:
    """Take the part of a layer that says which pixels of an image are bad.

    Raises
    ------
    UserError
        It is not of the image's shape, nor of its last axes.
    """
    data, whole_image = level_0(layer), image.part.of
    if tuple(data.shape) != whole_image[-layer.ndim :]:
        raise UserError(
            f"The mask {layer.name!r} has {sizes_of(data.shape)} pixels and {image.name!r} has "
            f"{sizes_of(whole_image)}: choose one of the image's shape, or of its Y and X."
        )
    region = Region(image.part.slices[-layer.ndim :], tuple(data.shape), image.part.name)
    return LayerImage(data, layer.name, image.axes[-layer.ndim :], None, region)


def describe(layer: Image, axes: str) -> str:
    """Return shape and voxel size for a reader."""
    shape = sizes_of(level_0(layer).shape)
    sizes = voxel_size(layer, axes) if len(axes) == layer.ndim else None
    if sizes is None:
        return f"{shape} · voxel size unknown"
    return f"{shape} · voxel {' × '.join(f'{size:.3g}' for size in sizes)} µm"


def order_of(layer: Image, axes: str) -> str:
    """Return a sentence on a layer that names no axes and is probably not in the order of these, or nothing."""
    if axes != "ZYX" or layer.rgb or guess_axes(layer, planes=True) == axes:
        return ""
    if not perhaps_reversed(level_0(layer).shape):
        return ""
    return (
        "The last axis is by far the shortest and taken to be X: if it is Z, reorder the layer's data, "
        "numpy.moveaxis(data, -1, 0)."
    )


def sizes_of(shape: tuple[int, ...]) -> str:
    """Return a shape for a reader."""
    return " × ".join(str(size) for size in shape)


def saturation_of(layer: Image) -> str:
    """Return a sentence on the saturated pixels of a layer that is in memory, or nothing; looks at some rows only."""
    data = level_0(layer)
    if not isinstance(data, np.ndarray) or isinstance(data, np.memmap) or data.ndim < 2 or not data.size:
        return ""
    step = math.ceil((data.size / _LOOKED_AT) ** (1 / (data.ndim - 1)))
    return saturation(data[(slice(None, None, step),) * (data.ndim - 1)])
