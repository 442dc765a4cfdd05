"""What an iteration does, live: curves in two small plots side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QBuffer, QSize, Qt
from qtpy.QtGui import QAction, QFont
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.atomic import atomic_file
from napari_deqmd.widgets.form import default
from napari_deqmd.widgets.messages import note, tell
from napari_deqmd.widgets.palette import BLUE, GREEN, ORANGE
from napari_deqmd.widgets.reports import Point

# Losses of one step that are drawn as one.
_SMOOTHED = 8


class TwoPlots(pg.GraphicsLayoutWidget):
    """Two small plots side by side, each with a curve; the right one has a dashed line to compare with."""

    def __init__(self, left: str, right: str, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.setMinimumHeight(130)
        self.ci.setContentsMargins(0, 4, 6, 2)
        self._left: pg.PlotItem = self.addPlot(row=0, col=0)
        self._right: pg.PlotItem = self.addPlot(row=0, col=1)
        self._left.setTitle(left, size="8pt")
        self._right.setTitle(right, size="8pt")
        self._first = self._left.plot(pen=pg.mkPen(BLUE, width=2))
        self._second = self._right.plot(pen=pg.mkPen(ORANGE, width=2))
        self._line = pg.InfiniteLine(angle=0, pen=pg.mkPen(ORANGE, style=Qt.PenStyle.DashLine))
        self._right.addItem(self._line)
        for column in (0, 1):  # whatever the titles ask for
            self.ci.layout.setColumnPreferredWidth(column, 100)
            self.ci.layout.setColumnStretchFactor(column, 1)
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

    def clear_curves(self, span: tuple[float, float]) -> None:
        """Forget the curves: without any there is nothing to scale to, so an empty frame of this span."""
        self._first.setData([], [])
        self._second.setData([], [])
        self._left.getAxis("left").setStyle(showValues=False)
        for plot in (self._left, self._right):
            plot.setRange(xRange=(0, 20), yRange=span, padding=0)


class ConvergencePlot(TwoPlots):
    """What is minimised, how far from the optimum it still is, and how long the steps are.

    Certificate and step size are both relative to what is there, so they share one logarithmic axis.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        colors = (("Certificate", ORANGE), ("step size", GREEN))
        right = " · ".join(f'<span style="color: {color}">{name}</span>' for name, color in colors)
        super().__init__("Objective", right, parent)
        self._third = self._right.plot(pen=pg.mkPen(GREEN, width=1))
        self._right.setLogMode(y=True)
        self.points: list[Point] = []
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)
        for text, kind, save in (
            ("Save numbers (CSV)…", "csv", self.save_numbers),
            ("Save picture (PNG)…", "png", self.save_picture),
        ):
            action = QAction(text, self)
            action.triggered.connect(partial(self._ask_and_save, kind, save))
            self.addAction(action)
        self.set_goal(default("tol"))
        self.clear_points()

    def set_goal(self, tol: float) -> None:
        """Draw the certificate at which the run counts as converged."""
        self._goal_log = float(np.log10(tol))
        self._line.setValue(self._goal_log)

    def clear_points(self) -> None:
        """Forget the curves."""
        self.points = []
        self._third.setData([], [])
        self.clear_curves((self._goal_log - 0.5, 0))

    def add(self, points: Iterable[Point]) -> None:
        """Draw more iterations; a lower iteration number starts the curves again."""
        for point in points:
            if self.points and point.iteration <= self.points[-1].iteration:
                self.points = []
            self.points.append(point)
        if not self.points:
            return
        iterations, objective, certificate, step_size = np.array(self.points, dtype=float).T
        self._left.getAxis("left").setStyle(showValues=True)
        _draw(self._left, self._first, iterations, objective)
        shown = certificate > 0
        if shown.any():
            stepped = step_size > 0
            self._third.setData(iterations[stepped], step_size[stepped])
            positive = np.concatenate((certificate[shown], step_size[stepped]))
            span = np.append(np.log10(positive), self._goal_log)
            _draw(self._right, self._second, iterations[shown], certificate[shown], span=span)

    def save_numbers(self, path: str | Path) -> None:
        """Write one line for each iteration drawn, as comma-separated values."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(Point._fields)
        writer.writerows(self.points)
        _write(path, text.getvalue().encode())

    def save_picture(self, path: str | Path) -> None:
        """Write what is seen as a PNG."""
        encoded = QBuffer()
        encoded.open(QBuffer.OpenModeFlag.WriteOnly)
        self.grab().save(encoded, "PNG")
        _write(path, encoded.data().data())

    def _ask_and_save(self, kind: str, save: Callable[[str], None], *_: object) -> None:
        path, _filter = QFileDialog.getSaveFileName(
            self, "Save the convergence", f"convergence.{kind}", f"{kind.upper()} (*.{kind})"
        )
        if not path:
            return
        try:
            save(path)
        except UserError as error:
            tell(note(error), expected=True)


class TrainPlot(TwoPlots):
    """Loss of every step, and score of the held-out patches with the base model's as a line."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(f"Loss, mean of {_SMOOTHED} steps", "Held-out score", parent)
        self._second.setSymbol("o")
        self._second.setSymbolSize(5)
        self._second.setSymbolBrush(ORANGE)
        self._second.setSymbolPen(None)
        self._line_name = pg.InfLineLabel(self._line, "base", position=0.97, anchors=[(1, 0), (1, 1)])
        self._line_name.setColor(ORANGE)
        self.losses: list[tuple[int, float]] = []
        self.scores: list[tuple[int, float]] = []
        self.clear_steps()

    def clear_steps(self) -> None:
        """Forget the curves."""
        self.losses, self.scores = [], []
        self._line.hide()
        self._right.getAxis("left").setStyle(showValues=False)
        self.clear_curves((0, 1))

    def name_score(self, figure: str) -> None:
        """Say what is measured."""
        self._right.titleLabel.setText(figure)

    def add(self, steps: Iterable[Any]) -> None:
        """Draw more steps of a fine-tuning."""
        for progress in steps:
            if np.isfinite(progress.loss):
                self.losses.append((progress.step, progress.loss))
            if progress.score is not None:
                self.scores.append((progress.step, progress.score))
        for plot, curve, points in (
            (self._left, self._first, _trailing(self.losses)),
            (self._right, self._second, self.scores),
        ):
            if points:
                plot.getAxis("left").setStyle(showValues=True)
                _draw(plot, curve, *np.array(points, dtype=float).T)
        if self.scores:
            self._line.setValue(self.scores[0][1])
            self._line.show()


def _trailing(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the means of the last steps: patches differ more than a step teaches, and batches in what they measure."""
    if not points:
        return []
    sums = np.concatenate([[0.0], np.cumsum([value for _, value in points])])
    first = np.maximum(0, np.arange(1, len(sums)) - _SMOOTHED)
    means = (sums[1:] - sums[first]) / (np.arange(1, len(sums)) - first)
    return [(step, float(mean)) for (step, _), mean in zip(points, means, strict=True)]


def _write(path: str | Path, content: bytes) -> None:
    # The dialog has asked whether a file that exists may go.
    with atomic_file(Path(path), overwrite=True) as file:
        file.write(content)


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
