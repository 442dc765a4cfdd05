"""One short task in another thread, with its end in this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QPushButton, QWidget

from napari_deqmd.widgets.messages import tell
from napari_deqmd.widgets.worker import TaskWorker


class ButtonTask(QObject):
    """Runs what a button asks for; the button is disabled meanwhile.

    Parameters
    ----------
    button : QPushButton
    parent : QWidget
        When it goes, nobody waits for the task any more.
    enable : callable, optional
        Gets whether the button may be pressed, where more than this task decides on it.
    """

    def __init__(
        self, button: QPushButton, parent: QWidget, enable: Callable[[bool], None] | None = None
    ) -> None:
        super().__init__(parent)
        self._enable = enable or button.setEnabled
        self._worker: TaskWorker | None = None
        self._then: Callable[[Any], None] | None = None

    def start(self, task: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Call `task` in another thread, then `then` with its value in this one.

        A failure is told, and its value is ``None``. `task` must not refer to any Qt object: its last reference may
        end in the other thread.
        """
        if self._worker is not None:
            return
        self._enable(False)
        self._worker, self._then = TaskWorker(task), then
        self._worker.finished.connect(self._end)
        self._worker.start()

    def _end(self) -> None:
        worker, then = self._worker, self._then
        self._worker = self._then = None
        self._enable(True)
        if worker is None or then is None:
            return
        if worker.failure is not None:
            tell(worker.failure, expected=worker.expected)
        then(worker.outcome)


class LatestTask(QObject):
    """Runs what was asked for last, a moment later; what was asked for before and has not begun is forgotten.

    Parameters
    ----------
    then : callable
        Gets the worker that ended: its value, or its failure.
    parent : QWidget
        When it goes, nobody waits for the task any more.
    pause : int
        Milliseconds without another wish before it begins.
    """

    def __init__(self, then: Callable[[TaskWorker], None], parent: QWidget, *, pause: int = 250) -> None:
        super().__init__(parent)
        self._then = then
        self._wish: Callable[[], Any] | None = None
        self._outdated = False
        self._worker: TaskWorker | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(pause)
        self._timer.timeout.connect(self._begin)

    def ask(self, task: Callable[[], Any] | None) -> None:
        """Call `task` in another thread; it must not refer to any Qt object. ``None`` forgets the last wish.

        A task that runs already has its end, but nobody hears of it.
        """
        self._wish = task
        self._outdated = True
        self._timer.start()

    @property
    def busy(self) -> bool:
        """Whether a value is still to come."""
        return self._worker is not None or self._wish is not None

    def _begin(self) -> None:
        if self._worker is not None or self._wish is None:
            return
        self._worker, self._wish = TaskWorker(self._wish), None
        self._outdated = False
        self._worker.finished.connect(self._end)
        self._worker.start()

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None and not self._outdated:
            self._then(worker)
        if not self._timer.isActive():
            self._begin()
