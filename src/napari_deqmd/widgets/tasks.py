"""One short task in another thread, with its end in this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject
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
    """

    def __init__(self, button: QPushButton, parent: QWidget) -> None:
        super().__init__(parent)
        self._button = button
        self._worker: TaskWorker | None = None
        self._then: Callable[[Any], None] | None = None

    def start(self, task: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Call `task` in another thread, then `then` with its value in this one.

        A failure is told, and its value is ``None``. `task` must not refer to any Qt object: its last reference may
        end in the other thread.
        """
        if self._worker is not None:
            return
        self._button.setEnabled(False)
        self._worker, self._then = TaskWorker(task), then
        self._worker.finished.connect(self._end)
        self._worker.start()

    def _end(self) -> None:
        worker, then = self._worker, self._then
        self._worker = self._then = None
        self._button.setEnabled(True)
        if worker is None or then is None:
            return
        if worker.failure is not None:
            tell(worker.failure, expected=worker.expected)
        then(worker.outcome)
