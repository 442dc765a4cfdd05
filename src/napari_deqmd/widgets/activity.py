"""A run in napari's activity dock."""

from __future__ import annotations

from functools import partial

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
        When it goes, what is shown goes too.
    """

    def __init__(self, name: str, bar: QProgressBar, parent: QObject) -> None:
        super().__init__(parent)
        self._name, self._bar = name, bar
        # Not a method of this object ends it with the parent: then it can no longer be called.
        self._shown: list[progress] = []
        parent.destroyed.connect(partial(_close, self._shown))
        # napari paints its bar at once and handles other events meanwhile: never within the handling of our news.
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._follow)
        bar.valueChanged.connect(self._due)

    def begin(self) -> None:
        """Appear."""
        self.end()
        self._shown.append(progress(total=self._bar.maximum(), desc=self._name))

    def end(self) -> None:
        """Disappear, however it ended."""
        _close(self._shown)

    def _due(self) -> None:
        self._later.start()

    def _follow(self) -> None:
        value = self._bar.value()
        for shown in list(self._shown):
            if shown.total != self._bar.maximum():
                shown.total = self._bar.maximum()
            if value > shown.n:
                shown.update(value - shown.n)


def _close(shown: list[progress], *_: object) -> None:
    while shown:
        shown.pop().close()
