"""Which part of a layer is meant: from the canvas, a shape, and the positions along time and channels."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Image, Layer, Shapes

from napari_deqmd.core.errors import UserError

SPATIAL = "ZYX"
WHOLE, VIEW = "Whole image", "Current view"
ALL, CURRENT = "all", "current"
# A preview takes seconds on one core: as much of each axis at most. Planes that are missing matter more than pixels.
_PREVIEW = {"T": 1, "C": 1, "Y": 256, "X": 256}
_PREVIEW_OF_STACK = _PREVIEW | {"Z": 12, "Y": 48, "X": 48}
_RANGE = re.compile(r"(\d+)(?:\s*[-–]\s*(\d+))?")


@dataclasses.dataclass(frozen=True)
class Region:
    """A box of pixels.

    Attributes
    ----------
    slices : tuple of slice
        One for each axis of the data, without steps.
    of : tuple of int
        Shape of the data it is a part of.
    name : str
        Where it comes from.
    """

    slices: tuple[slice, ...]
    of: tuple[int, ...]
    name: str = WHOLE

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each axis."""
        return tuple(part.stop - part.start for part in self.slices)

    @property
    def is_whole(self) -> bool:
        """Whether it is all there is."""
        return self.shape == self.of

    def narrow(self, axis: int, part: slice) -> Region:
        """Return the region with another part of one axis."""
        return dataclasses.replace(self, slices=(*self.slices[:axis], part, *self.slices[axis + 1 :]))

    def translate(self, layer: Image) -> np.ndarray:
        """Return the translation that puts a layer of this part, else like the whole's, where the part is."""
        if not any(part.start for part in self.slices):
            return np.asarray(layer.translate)
        corner = layer.data_to_world([part.start for part in self.slices])
        return np.asarray(layer.affine.inverse(corner))

    def record(self, axes: str) -> dict[str, Any]:
        """Return its name, and first and last pixel along each axis, for metadata."""
        bounds = {letter: [part.start, part.stop - 1] for letter, part in zip(axes, self.slices, strict=True)}
        return {"name": self.name, **bounds}


def lying(layer: Layer, axes: Sequence[int]) -> dict[str, Any]:
    """Return the arguments of a layer of some axes of another that lies like it.

    Parameters
    ----------
    layer : napari.layers.Layer
    axes : sequence of int
        Which of its axes, rising, not negative.
    """
    square, keep = np.ix_(axes, axes), list(axes)
    affine = np.asarray(layer.affine.affine_matrix)
    outer = [*keep, layer.ndim]
    sheared = np.eye(layer.ndim)
    sheared[np.triu_indices(layer.ndim, 1)] = layer.shear
    return {
        "scale": layer.scale[keep],
        "translate": layer.translate[keep],
        "rotate": layer.rotate[square],
        "shear": sheared[square],
        "affine": affine[np.ix_(outer, outer)],
        "units": [layer.units[axis] for axis in keep],
        "axis_labels": [layer.axis_labels[axis] for axis in keep],
    }


def whole(shape: tuple[int, ...]) -> Region:
    """Return all of the data of a shape."""
    return Region(tuple(slice(0, size) for size in shape), tuple(shape))


def in_view(viewer: Any, layer: Image, axes: str, shape: tuple[int, ...]) -> Region:
    """Return what the canvas shows of a layer, and all along the axes that it does not show.

    Seen as a volume, it is the whole. Of a multiscale layer it is what napari keeps at hand for the view, which may
    be a little more.

    Raises
    ------
    UserError
        Nothing of it is in the view.
    """
    region = dataclasses.replace(whole(shape), name=VIEW)
    if viewer.dims.ndisplay == 3:
        return region
    corners = np.array(layer.corner_pixels, dtype=float)
    factors = layer.downsample_factors[layer.data_level] if layer.multiscale else np.ones(layer.ndim)
    for shown in viewer.dims.displayed:
        axis = shown - (viewer.dims.ndim - layer.ndim)
        if axis < 0 or axes[axis] not in SPATIAL:
            continue
        first, last = corners[:, axis]
        if first == last and shape[axis] > 1:  # napari clips the view to the image
            raise UserError(
                f"Nothing of {layer.name!r} is in the view: move it there (View > Reset View), or choose another "
                "region."
            )
        start, stop = np.rint((first * factors[axis], (last + 1) * factors[axis])).astype(int)
        region = region.narrow(axis, slice(max(0, int(start)), min(shape[axis], int(stop))))
    return region


def marked(viewer: Any, layer: Image, axes: str, shape: tuple[int, ...], shapes: Shapes) -> Region:
    """Return the box around the selected shapes, or around the last; all of an axis in which they have no extent.

    Raises
    ------
    UserError
        There is no shape, it has no area, or it is outside the image.
    """
    chosen = sorted(shapes.selected_data) or [len(shapes.data) - 1]
    if not len(shapes.data):
        raise UserError(f"{shapes.name!r} holds no shape: draw a rectangle in it, or choose the whole image.")
    points = []
    for vertex in np.concatenate([shapes.data[index] for index in chosen]):
        world = np.array(viewer.dims.point, dtype=float)
        placed = data_to_world(viewer, shapes, vertex)[-len(world) :]
        world[len(world) - len(placed) :] = placed
        points.append(world_to_data(viewer, layer, world))
    # Rounded: an edge between two pixels belongs to neither, whatever the arithmetic left of it.
    low, high = np.round([np.min(points, axis=0), np.max(points, axis=0)], 3) + 0.5
    axes_marked = [
        axis for axis, letter in enumerate(axes) if letter in SPATIAL and high[axis] - low[axis] > 0.5
    ]
    if len(axes_marked) < 2:
        raise UserError(
            f"The shape in {shapes.name!r} has no area: draw a rectangle around what is to be run."
        )
    region = dataclasses.replace(whole(shape), name=shapes.name)
    for axis in axes_marked:
        start, stop = max(0, int(np.floor(low[axis]))), min(shape[axis], int(np.ceil(high[axis])))
        if start >= stop:
            raise UserError(
                f"The shape in {shapes.name!r} is outside of {layer.name!r}: draw it on the image, or choose another."
            )
        region = region.narrow(axis, slice(start, stop))
    return region


def camera_of(viewer: Any) -> Any:
    """Return the camera: napari 0.9 moved it into the scene."""
    return getattr(viewer, "scene", viewer).camera


def unit_factors(viewer: Any, layer: Layer) -> np.ndarray:
    """Return how many of the viewer's units one of the layer's is: napari 0.9 shows all layers in the smallest ones."""
    world = getattr(viewer.dims, "units", None)
    if world is None or len(world) < layer.ndim:
        return np.ones(layer.ndim)
    pairs = zip(layer.units, world[-layer.ndim :], strict=True)
    return np.array(
        [
            1.0 if own == its or not own.is_compatible_with(its) else (1 * own).to(its).magnitude
            for own, its in pairs
        ]
    )


def in_units_of(viewer: Any, layer: Layer, world: Any) -> np.ndarray:
    """Return a place in the viewer's world in the units of a layer."""
    placed = np.array(world, dtype=float)
    both = min(len(placed), layer.ndim)  # a layer that is no longer in the viewer may have more axes
    placed[-both:] /= unit_factors(viewer, layer)[-both:]
    return placed


def world_to_data(viewer: Any, layer: Layer, world: Any) -> np.ndarray:
    """Return the pixel of a layer, not rounded, at a place in the viewer's world."""
    return np.asarray(layer.world_to_data(in_units_of(viewer, layer, world)))


def data_to_world(viewer: Any, layer: Layer, data: Any) -> np.ndarray:
    """Return the place of a layer's pixel in the viewer's world, along the layer's axes."""
    return np.asarray(layer.data_to_world(data)) * unit_factors(viewer, layer)


def focus(viewer: Any, layer: Image) -> np.ndarray:
    """Return the pixel, not rounded, at the middle of the view and at the sliders' positions."""
    world = np.array(viewer.dims.point, dtype=float)
    shown = list(viewer.dims.displayed)
    world[shown] = camera_of(viewer).center[-len(shown) :]
    return world_to_data(viewer, layer, world)


def chosen_part(text: str, size: int, current: float, *, what: str) -> slice:
    """Return the part of an axis that a text names.

    Parameters
    ----------
    text : str
        ``"all"``, ``"current"``, one index, or the first and the last as in ``"3-7"``; they count as the sliders do.
    size : int
        Length of the axis.
    current : float
        Position of the slider.
    what : str
        Name of the axis, for the sentence.

    Raises
    ------
    UserError
        It is none of these, or beyond the axis.
    """
    text = text.strip().lower()
    if text in ("", ALL):
        return slice(0, size)
    if text == CURRENT:
        return _around(slice(0, size), current, 1)
    match = _RANGE.fullmatch(text)
    if match is None:
        raise UserError(f"{what} is {text!r}: write all, current, one number, or a range like 3-7.")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last < size:
        raise UserError(f"{what} is {text!r} but there are only 0 to {size - 1}: write a range within them.")
    return slice(first, last + 1)


def preview_of(region: Region, axes: str, middle: np.ndarray) -> Region:
    """Return a part that takes seconds, about a pixel or as near to it as the region goes."""
    most = _PREVIEW_OF_STACK if "Z" in axes else _PREVIEW
    for axis, (letter, part) in enumerate(zip(axes, region.slices, strict=True)):
        region = region.narrow(axis, _around(part, middle[axis], most.get(letter, 1)))
    return region


def middle_of(region: Region) -> np.ndarray:
    """Return the middle pixel of a region, not rounded."""
    return np.array([(part.start + part.stop - 1) / 2 for part in region.slices])


def _around(part: slice, middle: float, most: int) -> slice:
    length = min(most, part.stop - part.start)
    # Halves are always rounded down, as the window would jump from plane to plane otherwise.
    start = int(np.clip(np.ceil(middle - length / 2), part.start, part.stop - length))
    return slice(start, start + length)
