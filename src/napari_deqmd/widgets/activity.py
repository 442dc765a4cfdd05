"""A run in napari's activity dock."""

from __future__ import annotations

from napari.utils import progress
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QProgressBar


class Activity(QObject):
    """Repeats a progress bar in the activity dock while a job is going.

    Parameters
    ----------
    name : str
        What the dock calls it.
    bar : QProgressBar
        Is set with the news, so the dock is never busier than the form.
    parent : QObject
    """

    def __init__(self, name: str, bar: QProgressBar, parent: QObject) -> None:
        super().__init__(parent)
        self._name, self._bar = name, bar
        self._shown: progress | None = None
        # napari paints its bar at once and handles other events meanwhile: never within the handling of our news.
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._follow)
        bar.valueChanged.connect(self._due)

    def begin(self) -> None:
        """Appear."""
        self.end()
        self._shown = progress(total=self._bar.maximum(), desc=self._name)

    def end(self) -> None:
        """Disappear, however it ended."""
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.close()

    def _due(self) -> None:
        self._later.start()

    def _follow(self) -> None:
        shown, value = self._shown, self._bar.value()
        if shown is None:
            return
        if shown.total != self._bar.maximum():
            shown.total = self._bar.maximum()
        if value > shown.n:
            shown.update(value - shown.n)
