"""The layers of a comparison: in a grid, in one contrast, and replaced by those of the next."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from napari.layers import Image, Layer

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.widgets.layers import LayerImage
from napari_deqmd.widgets.region import SPATIAL, camera_of, focus, lying, unit_factors
from napari_deqmd.widgets.result import COMPARED, NAMED, ResultLayer

_FONT = 9.0
# Share of its cell that an image takes, along one axis.
_FILLED = 0.95
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
        self._geometry: Mapping[str, Any] = {}
        self._names: dict[int, str] = {}
        self._limits: tuple[float, float] | None = None
        self._count = 0
        self._extent = np.zeros((2, 2))
        self._fitted = False
        self._grid_before: tuple[Any, ...] | None = None
        self._hidden: list[Layer] = []
        #: Layers of which each lies above one of these, in their order.
        self.companions: list[Layer] = []
        #: Layers by place.
        self.layers: dict[int, Image] = {}

    def enter(self) -> None:
        """Keep the grid in mind as it is before the first comparison, for `leave`."""
        grid = grid_of(self._viewer)
        self._grid_before = self._grid_before or (grid.enabled, grid.shape, grid.stride)

    def matches(self, source: Image, names: dict[int, str], count: int) -> bool:
        """Whether the first `count` of these layers lie there already, and no others."""
        there = {layer.name for layer in self._viewer.layers if layer.metadata.get(COMPARED) == source.name}
        return there == {names[place] for place in sorted(names)[:count]}

    def begin(self, source: Image, geometry: Mapping[str, Any], names: dict[int, str], count: int) -> None:
        """Begin a comparison: clear away what is of another, hide what is none of it, choose the grid's shape.

        Parameters
        ----------
        source : napari.layers.Image
            The image that is compared, ``([Z,] Y, X)``: the colormap is its. Need not be in the viewer.
        geometry : mapping
            Where it lay when it was read, as `ResultLayer` takes it.
        names : dict of int to str
            Of the layers that may come, by place.
        count : int
            How many of them are expected.
        """
        self._source, self._names, self.layers = source, names, {}
        self._geometry = geometry
        for layer in list(self._viewer.layers):
            _let_keep(layer)
            if layer.metadata.get(COMPARED) == source.name and layer.name in names.values():
                continue
            if layer.metadata.get(COMPARED):
                self._viewer.layers.remove(layer)
            elif layer.visible and layer not in self.companions:
                layer.visible = False
                self._hidden.append(layer)
        self._lay_out(count)

    def spread(self) -> None:
        """Put all into the grid."""
        grid_of(self._viewer).enabled = True
        self._fit()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let layers come, go and move without a grid: napari would build it anew, slowly, for every one."""
        grid = grid_of(self._viewer)
        enabled, grid.enabled = grid.enabled, False
        try:
            yield
        finally:
            grid.enabled = grid.enabled or enabled

    def show(self, place: int, image: np.ndarray, config: ReconstructionConfig, **entries: Any) -> None:
        """Show an image at its place."""
        assert self._source is not None
        told = {"input": self._source.name, COMPARED: self._source.name, "config": config.to_dict()}
        item = LayerImage(image, self._source.name, SPATIAL[-image.ndim :], None)
        result = ResultLayer(self._viewer, self._source, item, told, geometry=self._geometry)
        result.name = self._names[place]
        new = result.name not in self._viewer.layers
        with self.at_once() if new else contextlib.nullcontext():
            result.finish(image, **entries)
            assert result.layer is not None
            result.layer.metadata = {**result.layer.metadata, NAMED: result.layer.name}
            self._join(place, result.layer)
            self.arrange()
            if len(self.layers) > self._count:
                self._lay_out(len(self.layers))
        self._fit()

    def settle(self, top: float) -> None:
        """Set the common contrast limits, unless they are the user's."""
        layer = next(iter(self.layers.values()), None)
        if layer is not None and top > 0 and self._limits in (None, tuple(layer.contrast_limits)):
            layer.contrast_limits_range = (0.0, max(4 * top, layer.contrast_limits_range[1]))
            layer.contrast_limits = (0.0, top)
            self._limits = tuple(layer.contrast_limits)

    def drop_stale(self, *, but: int) -> None:
        """Remove what a comparison before left at places that were not shown again, all `but` one."""
        stale = {name for place, name in self._names.items() if place not in self.layers and place != but}
        for layer in list(self._viewer.layers):
            if layer.metadata.get(COMPARED) and layer.name in stale:
                self._viewer.layers.remove(layer)

    def remove(self, place: int) -> None:
        """Take an image away."""
        layer = self.layers.pop(place, None)
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def forget(self, layer: Layer) -> None:
        """Notice that a layer left the viewer."""
        self.layers = {place: known for place, known in self.layers.items() if known != layer}

    def arrange(self) -> None:
        """Bring the layers to the begin of the list, which is the top left of the grid, each below its companion."""
        order: list[Layer] = []
        beside = dict(zip(sorted(self.layers), self.companions, strict=False))
        for place in sorted(self.layers):
            order += [layer for layer in (self.layers[place], beside.get(place)) if layer is not None]
        layers, grid = self._viewer.layers, grid_of(self._viewer)
        stride = 2 if beside else 1
        if grid.stride == stride and all(mine == its for mine, its in zip(order, layers, strict=False)):
            return
        with self.at_once():
            for index, layer in enumerate(order):
                if layers.index(layer) != index:
                    layers.move(layers.index(layer), index)
            grid.stride = stride

    def leave(self) -> None:
        """Put the grid back as it was before the first comparison, and show what was hidden."""
        if self._grid_before is not None:
            grid = grid_of(self._viewer)
            before, shape, stride = self._grid_before
            grid.enabled = grid.enabled and before  # the user may have switched it off
            grid.shape, grid.stride = shape, stride
        for layer in self._hidden:
            if layer in self._viewer.layers:
                layer.visible = True
        for layer in self.layers.values():
            _say_name(layer, False)
        self._grid_before, self._hidden = None, []

    def _lay_out(self, count: int) -> None:
        """Choose the shape of the grid in which images are largest; after that it is the user's, as the view is."""
        assert self._source is not None
        extent = self._source.extent.world[:, -2:]
        if count == self._count and np.array_equal(extent, self._extent):
            return
        self._count, self._extent, self._fitted = count, extent, False
        size = getattr(getattr(self._viewer, "canvas", None), "size", None)
        if size is None:
            return
        height, width = np.maximum(extent[1] - extent[0], 1e-9)

        def zoom(columns: int) -> float:
            rows = math.ceil(count / columns)
            return float(min(size[0] / rows / height, size[1] / columns / width))

        columns = max(range(1, count + 1), key=zoom)
        grid_of(self._viewer).shape = (math.ceil(count / columns), columns)

    def _fit(self) -> None:
        """Look at the images alone: napari's own view of everything takes in what is hidden."""
        if self._fitted or not grid_of(self._viewer).enabled or self._source is None:
            return
        self._fitted = True
        dims, extent = self._viewer.dims, self._source.extent
        # Counted from the last: the viewer may have more axes than the images.
        shown = [axis - dims.ndim for axis in dims.displayed]
        canvas = getattr(self._viewer, "canvas", None)
        if canvas is None or min(shown) < -len(extent.step):
            self._viewer.reset_view()
            return
        factors = unit_factors(self._viewer, self._source)[shown]
        low, high = extent.world[:, shown] * factors
        step = extent.step[shown] * factors
        camera = camera_of(self._viewer)
        camera.center = tuple((low + high) / 2)
        cell = np.asarray(canvas.viewbox_size(self._viewer.layers))
        camera.zoom = _FILLED * float(np.min(cell / (high - low + step)[-2:]))

    def _join(self, place: int, layer: Image) -> None:
        others = list(self.layers.values())
        self.layers[place] = layer
        if others:
            for name in reversed(_LINKED):
                setattr(layer, name, getattr(others[0], name))
        elif self._limits is None:
            self._limits = tuple(layer.contrast_limits)
        layer.visible = True
        _say_name(layer, True)
        if others:
            self._viewer.layers.link_layers([*others, layer], _LINKED)


def _let_keep(layer: Layer) -> None:
    """Take a layer for the user's own once it has another name than it was shown with."""
    known = layer.metadata
    if COMPARED in known and known.get(NAMED, layer.name) != layer.name:
        layer.metadata = {key: value for key, value in known.items() if key not in (COMPARED, NAMED)}


def _say_name(layer: Image, shown: bool) -> None:
    # Of napari 0.9: in a grid nothing else says which image is which.
    if (overlay := getattr(layer, "name_overlay", None)) is not None:
        overlay.visible = shown
        overlay.font_size = _FONT


def grid_of(viewer: Any) -> Any:
    """Return the viewer's grid; since napari 0.9 it is the canvas's."""
    return getattr(viewer, "canvas", viewer).grid


def outer_index(viewer: Any, layer: Image, image: LayerImage) -> dict[str, int]:
    """Return the time and the channel that are shown, by letter; the nearest that are meant."""
    here = np.round(focus(viewer, layer))
    bounds = zip(image.axes, here, image.part.slices, strict=True)
    return {
        letter: int(np.clip(step, span.start, span.stop - 1))
        for letter, step, span in bounds
        if letter not in SPATIAL
    }


def among(index: Mapping[str, int], image: LayerImage) -> LayerImage:
    """Return an image of which one time and channel is meant, the nearest to these."""
    part = image.part
    for axis, (letter, span) in enumerate(zip(image.axes, part.slices, strict=True)):
        if letter not in SPATIAL:
            step = min(max(index.get(letter, 0), span.start), span.stop - 1)
            part = part.narrow(axis, slice(step, step + 1))
    return replace(image, region=part)


def item_at(index: Mapping[str, int], layer: Image, image: LayerImage) -> tuple[LayerImage, Image]:
    """Return the part that is meant at a time and in a channel, and a layer that lies there.

    Parameters
    ----------
    index : mapping of str to int
        Positions along T and C, the nearest that are meant.
    layer : napari.layers.Image
    image : LayerImage
        What was read of the layer.

    Returns
    -------
    item : LayerImage
        ``([Z,] Y, X)``, whole, with the same part of its mask.
    place : napari.layers.Image
        The layer itself where all of it is meant, else one that is in no viewer.
    """
    keep = [axis for axis, letter in enumerate(image.axes) if letter in SPATIAL]
    if len(keep) == layer.ndim and image.part.is_whole:
        return image, layer
    part = among(index, image).part
    item = _narrowed(image, part.slices)
    place = Image(
        item.data,
        name=layer.name,
        contrast_limits=layer.contrast_limits,
        colormap=layer.colormap,
        **lying(layer, keep) | {"translate": part.translate(layer)[keep]},
    )
    return item, place


def _narrowed(image: LayerImage, slices: tuple[slice, ...]) -> LayerImage:
    """Return the part at one time and in one channel, and of its mask, without these axes."""
    named = list(zip(image.axes, slices, strict=True))
    index = tuple(span if letter in SPATIAL else span.start for letter, span in named)
    axes = "".join(letter for letter in image.axes if letter in SPATIAL)
    mask = None if image.mask is None else _narrowed(image.mask, slices[-len(image.mask.axes) :])
    return LayerImage(image.data[index], image.name, axes, image.voxel_size, mask=mask)
