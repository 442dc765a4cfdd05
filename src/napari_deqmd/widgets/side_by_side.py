"""The layers of a comparison: in a grid, in one contrast, and replaced by those of the next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from napari.layers import Image, Layer

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.widgets.layers import SPATIAL, LayerImage
from napari_deqmd.widgets.result import ResultLayer

#: In the metadata of every layer of a comparison.
MARK = "comparison"
_LINKED = ("contrast_limits", "contrast_limits_range")


class SideBySide:
    """Puts images beside each other, in the order of their places.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._source: Image | None = None
        self._names: dict[int, str] = {}
        self._limits: tuple[float, float] | None = None
        #: Layers by place.
        self.layers: dict[int, Image] = {}

    def begin(self, source: Image, names: dict[int, str]) -> None:
        """Begin a comparison: clear away what is of another, hide what is none of it, and lay out the grid.

        Parameters
        ----------
        source : napari.layers.Image
            The image that is compared, ``([Z,] Y, X)``: geometry and colormap are its. Need not be in the viewer.
        names : dict of int to str
            Of the layers to come, by place.
        """
        self._source, self._names, self.layers = source, names, {}
        for layer in list(self._viewer.layers):
            if layer.metadata.get(MARK) == source.name and layer.name in names.values():
                continue
            if layer.metadata.get(MARK):
                self._viewer.layers.remove(layer)
            else:
                layer.visible = False
        grid = grid_of(self._viewer)
        if not grid.enabled:
            grid.enabled = True

    def show(self, place: int, image: np.ndarray, config: ReconstructionConfig, **entries: Any) -> None:
        """Show an image at its place."""
        assert self._source is not None
        first = not self.layers
        told = {"input": self._source.name, MARK: self._source.name, "config": config.to_dict()}
        result = ResultLayer(self._viewer, self._source, SPATIAL[-image.ndim :], told)
        result.name = self._names[place]
        result.finish(image, **entries)
        assert result.layer is not None
        self._join(place, result.layer)
        self.arrange()
        if first:
            self._viewer.reset_view()

    def settle(self, top: float) -> None:
        """Set the common contrast limits, unless they are the user's."""
        layer = next(iter(self.layers.values()), None)
        if layer is not None and top > 0 and self._limits in (None, tuple(layer.contrast_limits)):
            layer.contrast_limits_range = (0.0, max(4 * top, layer.contrast_limits_range[1]))
            layer.contrast_limits = (0.0, top)
            self._limits = tuple(layer.contrast_limits)

    def remove(self, place: int) -> None:
        """Take an image away."""
        layer = self.layers.pop(place, None)
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def forget(self, layer: Layer) -> bool:
        """Notice that a layer left the viewer; return whether it was one of these."""
        places = [place for place, known in self.layers.items() if known == layer]
        for place in places:
            del self.layers[place]
        return bool(places)

    def arrange(self, companions: Iterable[Layer | None] = ()) -> None:
        """Bring the layers to the begin of the list, which is the top left of the grid, each below its companion."""
        order: list[Layer] = []
        beside = dict(zip(sorted(self.layers), companions, strict=False))
        for place in sorted(self.layers):
            order += [layer for layer in (self.layers[place], beside.get(place)) if layer is not None]
        layers = self._viewer.layers
        for index, layer in enumerate(order):
            if layers.index(layer) != index:
                layers.move(layers.index(layer), index)
        grid = grid_of(self._viewer)
        stride = 2 if beside else 1
        if grid.stride != stride:
            grid.stride = stride

    def _join(self, place: int, layer: Image) -> None:
        others = list(self.layers.values())
        self.layers[place] = layer
        if others:
            for name in reversed(_LINKED):
                setattr(layer, name, getattr(others[0], name))
        elif self._limits is None:
            self._limits = tuple(layer.contrast_limits)
        layer.visible = True
        # Of napari 0.9: without it nothing says which image is which.
        if (overlay := getattr(layer, "name_overlay", None)) is not None:
            overlay.visible = True
        if others:
            self._viewer.layers.link_layers([*others, layer], _LINKED)


def grid_of(viewer: Any) -> Any:
    """Return the viewer's grid; since napari 0.9 it is the canvas's."""
    return getattr(viewer, "canvas", viewer).grid


def current_item(viewer: Any, layer: Image, image: LayerImage) -> tuple[LayerImage, Image]:
    """Return the time and channel that are shown, and a layer that lies where they do.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari.layers.Image
    image : LayerImage
        What was read of the layer.

    Returns
    -------
    item : LayerImage
        ``([Z,] Y, X)``.
    place : napari.layers.Image
        The layer itself where it has no other axes, else one that is in no viewer.
    """
    keep = [axis for axis, letter in enumerate(image.axes) if letter in SPATIAL]
    if len(keep) == layer.ndim:
        return image, layer
    steps = viewer.dims.current_step[-layer.ndim :]
    index = tuple(
        slice(None) if axis in keep else min(steps[axis], size - 1)
        for axis, size in enumerate(layer.data.shape)
    )
    part = np.ix_(keep, keep)
    item = LayerImage(
        image.data[index], image.name, "".join(image.axes[axis] for axis in keep), image.voxel_size
    )
    place = Image(
        item.data,
        name=layer.name,
        contrast_limits=layer.contrast_limits,
        colormap=layer.colormap,
        scale=layer.scale[keep],
        translate=layer.translate[keep],
        rotate=layer.rotate[part],
        units=[layer.units[axis] for axis in keep],
        axis_labels=[layer.axis_labels[axis] for axis in keep],
    )
    return item, place
