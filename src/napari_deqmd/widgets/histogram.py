"""The photo-electrons of an image, with what was found of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QFont
from qtpy.QtWidgets import QWidget

from napari_deqmd.widgets.palette import BLUE, GREEN, ORANGE


class PhotonPlot(pg.PlotWidget):
    """Histogram of photo-electrons, counts on a logarithmic scale, with lines at the background and the peak."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.setFixedHeight(118)
        plot = self.getPlotItem()
        plot.setMenuEnabled(False)
        plot.hideButtons()
        plot.setMouseEnabled(x=False, y=False)
        plot.disableAutoRange()
        small = QFont()
        small.setPixelSize(11)
        plot.hideAxis("left")
        plot.getAxis("bottom").setStyle(tickFont=small, maxTickLevel=0)
        plot.setLabel("bottom", "photo-electrons per pixel", **{"font-size": "8pt"})
        self._bars = plot.plot(
            stepMode="center", fillLevel=0, brush=pg.mkBrush(BLUE + "70"), pen=pg.mkPen(BLUE)
        )
        self.background_line = _line(ORANGE, "background", 0.9)
        self.peak_line = _line(GREEN, "peak", 0.7)
        for line in (self.background_line, self.peak_line):
            plot.addItem(line)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Stay as narrow as the form: a graphics view would ask for 640 pixels."""
        return QSize(320, 118)

    def set_colors(self, background: str, foreground: str) -> None:
        """Follow the viewer's theme."""
        self.setBackground(background)
        axis = self.getPlotItem().getAxis("bottom")
        axis.setPen(foreground)
        axis.setTextPen(foreground)

    def show_photons(self, edges: np.ndarray, counts: np.ndarray, photons: Any) -> None:
        """Draw a histogram (``n + 1`` edges, ``n`` counts) and where background and peak were found."""
        heights = np.log10(1.0 + counts)
        self._bars.setData(edges, heights)
        top = photons.background + photons.peak
        self.background_line.setValue(photons.background)
        self.peak_line.setValue(top)
        right = max(float(edges[-1]), 1.05 * top)
        # Room on the left for the line of a background of 0, and above for the labels.
        self.getPlotItem().setRange(
            xRange=(-0.02 * right, right), yRange=(0, 1.35 * float(heights.max() or 1)), padding=0
        )


def _line(color: str, name: str, height: float) -> pg.InfiniteLine:
    return pg.InfiniteLine(
        angle=90,
        pen=pg.mkPen(color, width=2, style=Qt.PenStyle.DashLine),
        label=name,
        labelOpts={"position": height, "color": color, "anchors": [(0, 0.5), (1, 0.5)]},
    )
