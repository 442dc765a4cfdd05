"""Objective and certificate against the iteration, live."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QFont
from qtpy.QtWidgets import QWidget

from napari_deqmd.widgets.form import default
from napari_deqmd.widgets.reports import Point

_OBJECTIVE = "#4fa3ff"
_CERTIFICATE = "#ffa94d"


class ConvergencePlot(pg.GraphicsLayoutWidget):
    """Two small plots side by side: what is minimised, and how far from the optimum it still is."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.setMinimumHeight(130)
        self.ci.setContentsMargins(0, 4, 6, 2)
        self._left: pg.PlotItem = self.addPlot(row=0, col=0)
        self._right: pg.PlotItem = self.addPlot(row=0, col=1)
        self._left.setTitle("Objective", size="8pt")
        self._right.setTitle("Certificate", size="8pt")
        self._right.setLogMode(y=True)
        self._objective = self._left.plot(pen=pg.mkPen(_OBJECTIVE, width=2))
        self._certificate = self._right.plot(pen=pg.mkPen(_CERTIFICATE, width=2))
        self._goal = pg.InfiniteLine(angle=0, pen=pg.mkPen(_CERTIFICATE, style=Qt.PenStyle.DashLine))
        self._right.addItem(self._goal)
        self.points: list[Point] = []
        small = QFont()
        small.setPixelSize(11)
        for plot in (self._left, self._right):
            plot.setMenuEnabled(False)
            plot.hideButtons()
            plot.disableAutoRange()
            plot.setMouseEnabled(x=False, y=False)
            plot.getAxis("left").setWidth(44)
            for axis in (plot.getAxis("left"), plot.getAxis("bottom")):
                axis.setStyle(tickFont=small, maxTickLevel=0)
            plot.showGrid(x=False, y=True, alpha=0.15)
        self.set_goal(default("tol"))
        self.clear_points()

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Stay as narrow as the form: a graphics view would ask for 640 pixels."""
        return QSize(320, 170)

    def set_colors(self, background: str, foreground: str) -> None:
        """Follow the viewer's theme."""
        self.setBackground(background)
        for plot in (self._left, self._right):
            plot.titleLabel.setText(plot.titleLabel.text, color=foreground)
            for name in ("left", "bottom"):
                plot.getAxis(name).setPen(foreground)
                plot.getAxis(name).setTextPen(foreground)

    def set_goal(self, tol: float) -> None:
        """Draw the certificate at which the run counts as converged."""
        self._goal_log = float(np.log10(tol))
        self._goal.setValue(self._goal_log)

    def clear_points(self) -> None:
        """Forget the curves."""
        self.points = []
        self._objective.setData([], [])
        self._certificate.setData([], [])
        # Without curves there is nothing to scale to: an empty frame from 1 down to the goal.
        self._left.getAxis("left").setStyle(showValues=False)
        for plot in (self._left, self._right):
            plot.setRange(xRange=(0, 20), yRange=(self._goal_log - 0.5, 0), padding=0)

    def add(self, points: Iterable[Point]) -> None:
        """Draw more iterations; a lower iteration number starts the curves again."""
        for point in points:
            if self.points and point.iteration <= self.points[-1].iteration:
                self.points = []
            self.points.append(point)
        if not self.points:
            return
        iterations, objective, certificate = np.array(self.points, dtype=float).T
        self._left.getAxis("left").setStyle(showValues=True)
        _draw(self._left, self._objective, iterations, objective)
        shown = certificate > 0
        if shown.any():
            low = np.append(np.log10(certificate[shown]), self._goal_log)
            _draw(self._right, self._certificate, iterations[shown], certificate[shown], span=low)


def _draw(
    plot: pg.PlotItem,
    curve: pg.PlotDataItem,
    x: np.ndarray,
    y: np.ndarray,
    span: np.ndarray | None = None,
) -> None:
    # Ranges by hand: pyqtgraph's own are found while painting, which paints the whole window a second time.
    span = y if span is None else span
    low, high = float(span.min()), float(span.max())
    margin = 0.05 * (high - low) or 1.0
    curve.setData(x, y)
    plot.setRange(xRange=(0, max(20.0, float(x[-1]))), yRange=(low - margin, high + margin), padding=0)
