"""A run in napari's activity dock."""

from __future__ import annotations

from napari.utils import progress
from qtpy.QtWidgets import QProgressBar


class Activity:
    """Repeats a progress bar in the activity dock while a job is going.

    Parameters
    ----------
    name : str
        What the dock calls it.
    bar : QProgressBar
        Is set with the news, so the dock is never busier than the form.
    """

    def __init__(self, name: str, bar: QProgressBar) -> None:
        self._name, self._bar = name, bar
        self._shown: progress | None = None
        bar.valueChanged.connect(self._follow)

    def begin(self) -> None:
        """Appear."""
        self.end()
        self._shown = progress(total=self._bar.maximum(), desc=self._name)

    def end(self) -> None:
        """Disappear, however it ended."""
        if self._shown is not None:
            self._shown.close()
        self._shown = None

    def _follow(self, value: int) -> None:
        if self._shown is None:
            return
        if self._shown.total != self._bar.maximum():
            self._shown.total = self._bar.maximum()
        if value > self._shown.n:
            self._shown.update(value - self._shown.n)
