"""What a napari layer says about an image: axes, voxel size, and whether it can be used at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pint
from napari.layers import Image

from napari_deqmd.core.config import AXES
from napari_deqmd.core.errors import UserError

SPATIAL = "ZYX"
# Lazy data are loaded as a whole, so only up to here (bytes).
LAZY_LIMIT = 2_000_000_000
_BY_NDIM = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
_PLANES = {2: "YX", 3: "TYX", 4: "TCYX"}


@dataclass(frozen=True)
class LayerImage:
    """An image taken from a layer; `data` is an ndarray, or a lazy array that is still to be computed."""

    data: Any
    name: str
    axes: str
    voxel_size: tuple[float, ...] | None


def guess_axes(layer: Image, *, planes: bool = False) -> str:
    """Return one letter per dimension: from the axis labels where they tell, else by the number of dimensions.

    Where only `planes` are of use, three dimensions that say nothing are a series of them and no stack.
    """
    letters = "".join(label.strip()[:1].upper() for label in layer.axis_labels)
    if len(set(letters)) == len(letters) and set(letters) <= set(AXES) and letters.endswith("YX"):
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


def read_layer(layer: Image | None, axes: str | None = None, *, what: str = "image") -> LayerImage:
    """Take the data of a layer, or say in one sentence why that cannot be.

    Parameters
    ----------
    layer : napari.layers.Image or None
    axes : str, optional
        Overrides what the layer says.
    what : str
        How the sentence calls the layer.

    Returns
    -------
    LayerImage

    Raises
    ------
    UserError
        No layer, a colour or multiscale layer, axes that do not fit, or lazy data too large to load.
    """
    if layer is None:
        raise UserError(f"There is no {what} layer: open an image, or add one to the viewer.")
    if layer.rgb:
        raise UserError(
            f"{layer.name!r} is a colour picture: split it into channels (right-click, Split RGB) first."
        )
    if layer.multiscale:
        raise UserError(
            f"{layer.name!r} is a multiscale layer: add one of its resolution levels as its own layer."
        )
    axes = guess_axes(layer) if axes is None else axes
    if len(axes) != layer.ndim:
        raise UserError(
            f"{layer.name!r} has {layer.ndim} dimensions but the axes are {axes!r}: give one letter for each."
        )
    data = layer.data
    if not isinstance(data, np.ndarray):
        size = int(np.prod(data.shape)) * np.dtype(data.dtype).itemsize
        if size > LAZY_LIMIT:
            raise UserError(
                f"{layer.name!r} is loaded lazily and holds {size / 1e9:.1f} GB: "
                f"crop it to {LAZY_LIMIT / 1e9:.0f} GB first."
            )
    return LayerImage(data=data, name=layer.name, axes=axes, voxel_size=voxel_size(layer, axes))


def describe(layer: Image, axes: str) -> str:
    """Return shape and voxel size for a reader."""
    shape = " × ".join(str(size) for size in layer.data.shape)
    if len(axes) != layer.ndim:
        return f"{shape}: give {layer.ndim} axes"
    sizes = voxel_size(layer, axes)
    if sizes is None:
        return f"{shape} · voxel size unknown"
    return f"{shape} · voxel {' × '.join(f'{size:.3g}' for size in sizes)} µm"
