"""Curves of several images in one plot."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QFont
from qtpy.QtWidgets import QWidget

from napari_deqmd.widgets.palette import GRAY


class Curve(NamedTuple):
    """Values to be drawn; NaN leaves a gap."""

    x: np.ndarray
    y: np.ndarray
    color: str
    dashed: bool = False


class CurvesPlot(pg.PlotWidget):
    """A plot that says what to do while it is empty.

    Parameters
    ----------
    empty : str
        What is said.
    left : str
        Names the vertical axis, if it needs a name.
    """

    def __init__(self, empty: str, left: str, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.setMinimumHeight(150)
        self.curves: list[Curve] = []
        self._left = left
        self._foreground = "#cccccc"
        plot = self.getPlotItem()
        plot.setMenuEnabled(False)
        plot.hideButtons()
        plot.setMouseEnabled(x=False, y=False)
        plot.disableAutoRange()
        plot.showGrid(x=False, y=True, alpha=0.15)
        small = QFont()
        small.setPixelSize(11)
        for name in ("left", "bottom"):
            plot.getAxis(name).setStyle(tickFont=small, maxTickLevel=0)
        # Fixed: pyqtgraph does not make room for labels that come later.
        plot.getAxis("left").setWidth(50 if left else 34)
        plot.getAxis("bottom").setHeight(36)
        self._line = pg.InfiniteLine(angle=0, pen=pg.mkPen(GRAY, style=Qt.PenStyle.DotLine))
        self._note = pg.TextItem(empty, anchor=(0.5, 0.5))
        small.setPixelSize(12)
        self._note.setFont(small)
        plot.addItem(self._note, ignoreBounds=True)
        self._legend = pg.TextItem(anchor=(1, 0))
        self._legend.setZValue(1)
        self._legend.setFont(small)
        plot.addItem(self._legend, ignoreBounds=True)
        self.show_curves((), "")

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Stay as narrow as the form: a graphics view would ask for 640 pixels."""
        return QSize(320, 150)

    def set_colors(self, background: str, foreground: str) -> None:
        """Follow the viewer's theme."""
        self._foreground = foreground
        self.setBackground(background)
        self._note.setColor(foreground)
        behind = QColor(background)
        behind.setAlpha(190)
        self._legend.fill = pg.mkBrush(behind)
        for name in ("left", "bottom"):
            axis = self.getPlotItem().getAxis(name)
            axis.setPen(foreground)
            axis.setTextPen(foreground)
            axis.setLabel(axis.labelText, **{"color": foreground, "font-size": "8pt"})

    def show_curves(
        self,
        curves: Iterable[Curve],
        bottom: str,
        *,
        span: tuple[float, float] | None = None,
        line: float | None = None,
        legend: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Draw curves instead of those before.

        Parameters
        ----------
        curves : iterable of Curve
        bottom : str
            Names the horizontal axis.
        span : tuple of float, optional
            Of the vertical axis; else what the curves need.
        line : float, optional
            Where a dotted line lies.
        legend : iterable of (str, str)
            Lines of text in their colours.
        """
        self.curves = [curve for curve in curves if np.isfinite(curve.y).any()]
        plot = self.getPlotItem()
        plot.clearPlots()
        plot.removeItem(self._line)
        self._note.setVisible(not self.curves)
        self._legend.hide()
        for name, text in (("bottom", bottom), ("left", self._left)):
            plot.getAxis(name).setLabel(
                text if self.curves else "", **{"color": self._foreground, "font-size": "8pt"}
            )
            plot.getAxis(name).setStyle(showValues=bool(self.curves))
        if not self.curves:
            plot.setRange(xRange=(-1, 1), yRange=(-1, 1), padding=0)
            return
        for curve in self.curves:
            style = Qt.PenStyle.DashLine if curve.dashed else Qt.PenStyle.SolidLine
            pen = pg.mkPen(curve.color, width=1.5, style=style)
            plot.plot(curve.x, curve.y, pen=pen, connect="finite")
        if line is not None:
            self._line.setValue(line)
            plot.addItem(self._line, ignoreBounds=True)
        if span is None:
            low = min(0.0, *(float(np.nanmin(curve.y)) for curve in self.curves))
            high = max(float(np.nanmax(curve.y)) for curve in self.curves)
            span = (low, high + 0.05 * (high - low or 1.0))
        end = max(float(curve.x[-1]) for curve in self.curves)
        plot.setRange(xRange=(0, end or 1.0), yRange=span, padding=0)
        texts = [
            f'<div style="color: {color}; text-align: right">{html.escape(text)}</div>'
            for text, color in legend
        ]
        self._legend.setVisible(bool(texts))
        if texts:
            self._legend.setHtml("".join(texts))
            self._legend.setPos(end, span[1])
