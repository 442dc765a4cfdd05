"""One job at a time: the worker, and what a section shows of it."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Protocol

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QWidget

from napari_deqmd.widgets.messages import note, tell
from napari_deqmd.widgets.sections.parts import Hint, RunState
from napari_deqmd.widgets.worker import JobWorker


class Shown(Protocol):
    """The section in which a job is started, stopped and seen."""

    status: Hint

    def show_state(self, state: RunState) -> None:
        """Enable what makes sense now."""

    def show_end(self, text: str, *, complete: bool) -> None:
        """Say how it ended."""


class Runner(QObject):
    """Starts and ends jobs.

    Parameters
    ----------
    section : Shown
    parent : QWidget
        When it goes, the job goes too.
    """

    #: A job begins, and is over, however that came.
    launched = Signal()
    ended = Signal()

    #: How `stop` is confirmed, and what is said of a job that had no first step.
    STOPPING = "Stopping…"
    UNBEGUN = "Stopped before the first step."

    def __init__(self, section: Shown, parent: QWidget) -> None:
        super().__init__(parent)
        self._section = section
        self._worker: Any = None
        self._complaint: tuple[str, bool] | None = None
        # Not a method of this object: when the widget is destroyed it can no longer be called.
        self._alive: list[JobWorker] = []
        parent.destroyed.connect(partial(_abandon, self._alive))

    @property
    def active(self) -> bool:
        """Whether a job is going, also a paused one."""
        return self._worker is not None

    def launch(self, worker: JobWorker) -> None:
        """Start a job."""
        worker.news.connect(self._on_news)
        worker.warned.connect(self._on_warning)
        worker.finished.connect(self._on_finished)
        self._worker, self._complaint = worker, None
        self._alive.append(worker)
        self._section.status.setText(
            "Preparing…" if "torch" in sys.modules else "Loading torch (first run only)…"
        )
        self._section.show_state(RunState.RUNNING)
        self.launched.emit()
        worker.start()

    def stop(self, text: str | None = None) -> None:
        """Stop, and keep what the last step reached."""
        if self._worker is None:
            return
        self._section.show_state(RunState.STOPPING)
        self._section.status.setText(text or self.STOPPING)
        self._worker.stop()

    def abandon(self) -> None:
        """Let the job go: the widget is closing."""
        if self._worker is not None:
            self._worker.finished.disconnect(self._on_finished)
        self._worker = None
        _abandon(self._alive)
        self.ended.emit()

    def show_news(self, worker: Any, news: Any) -> None:
        """Show what happened since the last news; the job goes on, or its outcome follows."""
        raise NotImplementedError

    def show_outcome(self, worker: Any) -> None:
        """Show what a job gave, or what there was when it failed."""
        raise NotImplementedError

    def forget(self) -> None:
        """Let go of what belonged to the job that is over."""

    def _on_news(self) -> None:
        news = self._worker.take() if self._worker is not None else None
        if news is not None:
            self.show_news(self._worker, news)

    def _on_warning(self, warning: tuple[str]) -> None:
        show_warning(*warning)

    def _on_finished(self) -> None:
        worker = self._worker
        if worker is None:
            return
        news = worker.take()
        self._worker = None
        self._alive.clear()
        self._section.show_state(RunState.IDLE)
        if news is not None:
            self.show_news(worker, news)
        complaint = self._complaint
        if worker.outcome is not None:
            try:
                self.show_outcome(worker)
            except Exception as error:  # writing into a layer the user may have changed
                complaint = (note(error), False)
        if worker.failure is not None:
            complaint = (worker.failure, worker.expected)
        elif worker.outcome is None:
            self._section.show_end(self.UNBEGUN, complete=False)
        if complaint is not None:
            self._section.show_end(complaint[0], complete=False)
            self._section.status.complain(self._section.status.text())
            tell(complaint[0], expected=complaint[1])
        # Who hears of the end may start the next job.
        self.forget()
        self.ended.emit()


def _abandon(workers: list[JobWorker], *_: object) -> None:
    for worker in workers:
        worker.abandon()
    workers.clear()
