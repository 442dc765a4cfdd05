"""A line drawn across several images at once, and the brightness along it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Image, Layer, Shapes
from qtpy.QtCore import QObject, QTimer

from napari_deqmd.widgets.region import camera_of, in_units_of, lying, unit_factors
from napari_deqmd.widgets.side_by_side import SideBySide

NAME = "Profile"
_COLOR = "#ffd400"
# Pixels of the canvas, at any zoom: napari's own widths are pixels of the image, and below one of the canvas unseen.
_WIDTH = 2.0
# Milliseconds in which a moving line is drawn once.
_INTERVAL = 40
# Share of the width that the first line spans.
_SPAN = (0.1, 0.9)


class ProfileLine(QObject):
    """A Shapes layer with a line, repeated over every image of the grid; `changed` is called when it moved.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    images : SideBySide
    changed : callable
    parent : QObject
    """

    def __init__(self, viewer: Any, images: SideBySide, changed: Callable[[], None], parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._images = viewer, images
        self._lines: list[Shapes] = []
        self._away = False
        self._gone: list[Shapes] = []
        # In the middle of a removal, perhaps of all layers, no others may come, go or move.
        self._tidy = QTimer(self)
        self._tidy.setSingleShot(True)
        self._tidy.timeout.connect(self._tidy_up)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_INTERVAL)
        self._timer.timeout.connect(self._follow)
        self._timer.timeout.connect(changed)

    @property
    def shown(self) -> bool:
        """Whether there is a line."""
        return bool(self._lines) and not self._away

    def draw(self) -> None:
        """Put a line across the middle of the images and make it ready to be moved; or repeat it over new images."""
        places = sorted(self._images.layers)
        if not places:
            return
        image = self._images.layers[places[0]]
        if self._away or len(self._lines) != len(places):
            with self._images.at_once():
                while len(self._lines) < len(places):
                    self._add(image, self._lines[0].data if self._lines else [_middle(image)])
                while len(self._lines) > len(places):
                    self._viewer.layers.remove(self._lines.pop())
                for line in self._lines:
                    line.visible = True
                self._images.companions = list(self._lines)
                self._images.arrange()
        self._away = False
        main = self._lines[0]
        self._viewer.layers.selection.active = main
        main.mode = "select"
        main.selected_data = {0}
        self.refresh()

    def put_away(self) -> None:
        """Hide the line until it is drawn again, where it was."""
        self._away = True
        for line in self._lines:
            line.visible = False
        self._images.companions = []

    def leave(self) -> None:
        """Take the line out of the viewer."""
        for timer in (self._timer, self._tidy):
            timer.stop()
        self._gone, self._lines, self._images.companions = self._gone + self._lines, [], []
        self._take_out()

    def refresh(self, event: Any = None) -> None:
        """Sample again, soon."""
        if not self._timer.isActive():
            self._timer.start()

    def forget(self, layer: Layer) -> None:
        """Notice that a layer left the viewer: with the line its repetitions go, and with an image its own."""
        if layer in self._lines:
            self._gone += [line for line in self._lines if line != layer]
            self._lines, self._images.companions = [], []
        self._tidy.start(0)

    def _tidy_up(self) -> None:
        self._take_out()
        if self.shown and self._images.layers:
            self.draw()
        self._images.arrange()
        self.refresh()

    def _take_out(self) -> None:
        gone, self._gone = self._gone, []
        for line in gone:
            if line in self._viewer.layers:
                self._viewer.layers.remove(line)

    def sample(self, image: Image) -> tuple[np.ndarray, np.ndarray] | None:
        """Return distance and brightness along the line, in the layer's units; ``None`` without a line."""
        ends = self._ends()
        here = in_units_of(self._viewer, image, self._viewer.dims.point)
        return None if ends is None else along(image, ends, here)

    def _ends(self) -> np.ndarray | None:
        if not self._lines or not len(self._lines[0].data):
            return None
        main = self._lines[0]
        which = min(main.selected_data, default=len(main.data) - 1)
        shape = main.data[min(which, len(main.data) - 1)]
        return np.array([main.data_to_world(vertex)[-2:] for vertex in (shape[0], shape[-1])])

    def _add(self, image: Image, lines: list[np.ndarray]) -> None:
        layer = self._viewer.add_shapes(
            lines,
            shape_type="line",
            edge_color=_COLOR,
            name=NAME,
            **lying(image, range(image.ndim - 2, image.ndim)),
            metadata={"profile": True},
        )
        self._lines.append(layer)
        self._widen(layer)
        if len(self._lines) == 1:
            for event in (layer.events.set_data, layer.events.data, layer.events.highlight):
                event.connect(self.refresh)

    def _follow(self) -> None:
        for line in self._lines:
            main = self._lines[0]
            if len(line.data) != len(main.data) or any(
                not np.array_equal(mine, its) for mine, its in zip(line.data, main.data, strict=True)
            ):
                line.data = list(zip(main.data, main.shape_type, strict=True))
            self._widen(line)

    def _widen(self, line: Shapes) -> None:
        scale = float(np.min(line.scale * unit_factors(self._viewer, line)))
        width = _WIDTH / (camera_of(self._viewer).zoom * scale)
        if not np.allclose(line.edge_width, width):
            line.edge_width = width
            line.refresh()


def along(image: Image, ends: np.ndarray, point: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return distance and brightness along a line in a plane of an image.

    Parameters
    ----------
    image : napari.layers.Image
        ``(..., Y, X)``.
    ends : ndarray, shape (2, 2)
        y, x of the ends, in the world, in the image's units.
    point : sequence of float
        Where the viewer is, in the image's units: says which plane.

    Returns
    -------
    distance : ndarray
        In the world's units, from the first end.
    values : ndarray
        NaN outside the image.
    """
    from skimage.measure import profile_line

    before = [*point][: len(point) - 2]
    inside = [np.asarray(image.world_to_data([*before, *end]))[-image.ndim :] for end in ends]
    plane = tuple(
        int(np.clip(round(step), 0, size - 1))
        for step, size in zip(inside[0][:-2], image.data.shape, strict=False)
    )
    values = profile_line(
        np.asarray(image.data[plane]), inside[0][-2:], inside[1][-2:], order=1, mode="constant", cval=np.nan
    )
    return np.linspace(0, float(np.linalg.norm(ends[1] - ends[0])), len(values)), values


def _middle(image: Image) -> np.ndarray:
    height, width = image.data.shape[-2:]
    return np.array([[(height - 1) / 2, share * (width - 1)] for share in _SPAN])
