"""The one layer a reconstruction lives in, from the first preview to the result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from napari.layers import Image

from napari_deqmd.widgets.layers import LayerImage
from napari_deqmd.widgets.view import Shown, place, shown_of

# Structures get brighter as they sharpen: by about this much from the first iterate, and from the raw image. The
# limits are set once, so they must fit the last iterate rather than the first.
_FIRST_TO_LAST = 1.6
_RAW_TO_LAST = 1.3
# Pixels that the contrast limits are read from: a percentile of a whole stack would stall the window.
_SAMPLE = 500_000
# Contrast limits that fit, and are ours, are left alone up to this factor: going on from a result begins at its end.
_STALE = 2.0
#: In the metadata of every layer of a comparison: of what, and under which name it was shown.
COMPARED, NAMED = "comparison", "comparison_name"
#: In the metadata of every result: the contrast limits that it was shown with.
LIMITS = "contrast_limits"
# Of the source's metadata, what is true of camera counts only, and what says how the source was made itself.
_NOT_INHERITED = {
    "offset",
    "gain",
    "read_noise",
    "psf",
    "input",
    "config",
    "report",
    "region",
    "mask",
    COMPARED,
    NAMED,
    LIMITS,
}
#: An item or a part of it, ``([Z,] Y, X)``, photo-electrons; its position along the axes that are not spatial; and of a
#: part, where it lies along those that are.
Piece = tuple[Any, ...]
_GEOMETRY = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def is_result(layer: Any) -> bool:
    """Whether a layer is what a run made of another, by its metadata."""
    return {"input", "config"} <= layer.metadata.keys()


def geometry_of(source: Image) -> dict[str, Any]:
    """Return where a layer lies, as it is now."""
    return {name: getattr(source, name) for name in _GEOMETRY}


class ResultLayer:
    """Creates or finds the result layer of an input layer, and writes into it in place.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    source : napari.layers.Image
        The input; geometry, colormap and blending are its.
    image : LayerImage
        What was read from it; the result lies on the region that is meant.
    metadata : dict
        Goes into the layer's metadata, beside what the source's says; ``config`` in it says the camera's offset and
        gain.
    suffix : str
        What follows the input's name.
    geometry : mapping, optional
        Of the source when its image was read, if that was before.
    """

    def __init__(
        self,
        viewer: Any,
        source: Image,
        image: LayerImage,
        metadata: dict[str, Any],
        *,
        suffix: str = "deconvolved",
        geometry: Mapping[str, Any] | None = None,
    ) -> None:
        self._viewer = viewer
        self.source = source
        self._image = image
        inherited = {key: value for key, value in source.metadata.items() if key not in _NOT_INHERITED}
        if origin := image.stack().metadata.get("origin"):
            inherited["origin"] = origin
        self._metadata = inherited | metadata
        self._camera = (float(metadata["config"]["offset"]), float(metadata["config"]["gain"]))
        self._region = image.part
        self._geometry = geometry or geometry_of(source) | {"translate": self._region.translate(source)}
        self.name = f"{source.name} {suffix}"
        self.layer: Image | None = None

    def is_about(self, layer: Any) -> bool:
        """Whether a layer is the input or the result of this run."""
        return layer == self.source or (self.layer is not None and layer == self.layer)

    @property
    def shown(self) -> Shown | None:
        """What the viewer shows of it, once it is there: its first preview is of all."""
        if self.layer is None or self.layer.ndim != len(self._image.axes):
            return None
        return shown_of(self._viewer, self.layer, self._image.axes)

    def show(self, pieces: Sequence[Piece]) -> None:
        """Write previews of items, and draw once."""
        first = self.layer is None
        layer = self.layer = self._layer_for(pieces[0][0])
        for item, index, *part in pieces:
            _write(layer.data, place(self._image.axes, index, *part), item)
        layer.refresh(extent=False, highlight=False, thumbnail=first)

    def finish(self, image: np.ndarray, **entries: Any) -> None:
        """Write the whole result, and what is known of it into the metadata."""
        layer = self.layer = self._layer_for(image)
        if _takes(layer.data, image.shape):
            _write(layer.data, ..., image)
            layer.refresh(extent=False, highlight=False)
        else:  # somebody else has put other data there
            layer.data = image
        layer.metadata = self._metadata | entries

    def _layer_for(self, first: np.ndarray) -> Image:
        """Return the layer, which is there, is left of an earlier run, or is made for what it shows first."""
        if self.layer is not None:
            return self.layer
        top = max(_FIRST_TO_LAST * _bright(first), _RAW_TO_LAST * self._raw_brightness()) or 1.0
        layer = self._find()
        if layer is None:
            layer = self._add(first, top)
        elif (mine := layer.metadata.get(LIMITS)) == tuple(layer.contrast_limits):
            # Still ours: what they were set for may have been of another camera, or another place.
            if not top / _STALE < mine[1] < top * _STALE:
                _set_limits(layer, top)
            else:
                top = mine[1]
        self._metadata[LIMITS] = (0.0, top)
        layer.metadata = dict(self._metadata)
        return layer

    def _find(self) -> Image | None:
        for layer in self._viewer.layers:
            if (
                layer.name == self.name
                and isinstance(layer, Image)
                and layer.metadata.get("input") == self.source.name
                and layer.ndim == len(self._region.shape)
                and not (layer.rgb or layer.multiscale)
            ):
                if not _takes(layer.data, self._region.shape):
                    layer.data = self._empty()
                for name, value in self._geometry.items():
                    # Setting the same again would draw the layer again, each time.
                    if not np.array_equal(getattr(layer, name), value):
                        setattr(layer, name, value)
                return layer
        return None

    def _add(self, first: np.ndarray, top: float) -> Image:
        # Raw and result of one place would add up to a picture of neither.
        added = self.source.blending == "additive"
        # To fill a large stack with zeros and then with values would take the window twice as long.
        filled = first.shape == self._region.shape and first.flags.writeable
        layer = self._viewer.add_image(
            first if filled else self._empty(),
            name=self.name,
            colormap=self.source.colormap,
            blending=self.source.blending if self._region.is_whole or not added else "translucent_no_depth",
            contrast_limits=(0.0, top),
            **self._geometry,
        )
        _set_limits(layer, top)
        if added and self._region.is_whole:
            self.source.visible = False
        return layer

    def _empty(self) -> np.ndarray:
        return np.zeros(self._region.shape, dtype=np.float32)

    def _raw_brightness(self) -> float:
        if not isinstance(self._image.data, np.ndarray):
            return 0.0
        offset, gain = self._camera
        return (_bright(self._image.load()) - offset) / gain


def _set_limits(layer: Image, top: float) -> None:
    layer.contrast_limits_range = (0.0, 4 * top)
    layer.contrast_limits = (0.0, top)


def _takes(data: Any, shape: tuple[int, ...]) -> bool:
    return (
        isinstance(data, np.ndarray)
        and data.shape == shape
        and data.dtype == np.float32
        and data.flags.writeable
    )


def _write(data: np.ndarray, where: Any, values: np.ndarray) -> None:
    if data is not values:
        data[where] = values


def _bright(image: np.ndarray) -> float:
    step = math.ceil((image.size / _SAMPLE) ** (1 / image.ndim))
    return float(np.nanpercentile(image[(slice(None, None, step),) * image.ndim], 99.9))
