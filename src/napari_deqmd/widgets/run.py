"""One reconstruction at a time: the worker, its result layer, and what the Run section shows of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QWidget

from napari_deqmd.widgets.clock import duration
from napari_deqmd.widgets.messages import note, tell
from napari_deqmd.widgets.reports import Job, News
from napari_deqmd.widgets.result import ResultLayer
from napari_deqmd.widgets.sections.run import RunSection, RunState
from napari_deqmd.widgets.worker import RunWorker

_ENDS = {
    "converged": "Converged after {iterations} iterations in {time}.",
    "max_iter": "All {iterations} iterations done in {time}, without reaching the tolerance.",
    "user": "Stopped at iteration {iterations}: the result layer holds the image as it was then.",
    "diverged": "Stopped at iteration {iterations} because the numbers stopped making sense: check PSF and peak.",
}


class Run(QObject):
    """Starts, pauses and ends runs.

    Parameters
    ----------
    section : RunSection
        Shows the run.
    parent : QWidget
        When it goes, the run goes too.
    """

    def __init__(self, section: RunSection, parent: QWidget) -> None:
        super().__init__(parent)
        self._section = section
        self._worker: RunWorker | None = None
        self._result: ResultLayer | None = None
        self._complaint: tuple[str, bool] | None = None
        self._paused = False
        # Not a method of this object: when the widget is destroyed it can no longer be called.
        self._alive: list[RunWorker] = []
        parent.destroyed.connect(partial(_abandon, self._alive))

    @property
    def active(self) -> bool:
        """Whether a run is going, also a paused one."""
        return self._worker is not None

    def start(self, make_job: Callable[[], Job], result: ResultLayer, *, max_iter: int, tol: float) -> None:
        """Start a run; `make_job` is called in the other thread and must not refer to any Qt object."""
        if self.active:
            return
        worker = RunWorker(make_job)
        worker.news.connect(self._on_news)
        worker.warned.connect(self._on_warning)
        worker.finished.connect(self._on_finished)
        self._worker, self._result, self._complaint, self._paused = worker, result, None, False
        self._alive.append(worker)
        self._section.reset(max_iter, tol)
        self._section.status.setText(
            "Preparing…" if "torch" in sys.modules else "Loading torch (first run only)…"
        )
        self._section.show_state(RunState.RUNNING)
        worker.start()

    def pause_or_resume(self) -> None:
        """Wait after the current iteration, or go on."""
        if self._worker is None or self._worker.stopping:
            return
        self._paused = not self._paused
        self._worker.pause(self._paused)
        self._section.show_state(RunState.PAUSED if self._paused else RunState.RUNNING)
        self._section.status.setText("Paused: Resume goes on from here." if self._paused else "")

    def stop(self, text: str = "Stopping after this iteration…") -> None:
        """Stop after the current iteration and keep its iterate."""
        if self._worker is None:
            return
        self._section.show_state(RunState.STOPPING)
        self._section.status.setText(text)
        self._worker.stop()

    def abandon(self) -> None:
        """Let the run go: the widget is closing."""
        if self._worker is not None:
            self._worker.finished.disconnect(self._on_finished)
        self._worker = self._result = None
        _abandon(self._alive)

    def layer_removed(self, layer: Any) -> None:
        """Stop when the input or the result of the run leaves the viewer; a result that left does not come back."""
        if self._result is None or not self._result.is_about(layer):
            return
        if layer == self._result.layer:
            self._result = None
            self._complaint = ("The result layer was removed, so the run was stopped.", True)
        else:
            self._complaint = (
                "The image layer was removed, so the run was stopped; the result is kept.",
                True,
            )
        self.stop("The layer was removed: stopping…")

    def _on_news(self) -> None:
        news = self._worker.take() if self._worker is not None else None
        if self._worker is None or news is None:
            return
        self._section.device_label.setText(f"Runs on {self._worker.device}")
        self._section.show_progress(news)
        if not self._paused and not self._worker.stopping:
            self._section.status.setText(f"Certificate {news.points[-1].certificate:.1e}")
        if news.preview is not None:
            made = self._result is not None and self._result.layer is not None
            start = time.perf_counter()
            self._write(news)
            if made:
                # Painting is queued: a timer without delay comes after it. Making the layer counts for no preview.
                QTimer.singleShot(0, partial(_account, self._worker, start))

    def _write(self, news: News) -> None:
        if self._result is None or self._worker is None or news.preview is None:
            return
        try:
            self._result.show(news.preview, news.index)
        except Exception as error:  # the layer is the user's: its data may have been exchanged
            self._result = None
            self._complaint = (note(error), False)
            self._worker.stop()

    def _on_warning(self, warning: tuple[Any, ...]) -> None:
        message, category = warning[:2]
        if issubclass(category, UserWarning):
            show_warning(str(message))

    def _on_finished(self) -> None:
        worker, result = self._worker, self._result
        if worker is None:
            return
        news = worker.take()
        self._worker = self._result = None
        self._alive.clear()
        self._section.show_state(RunState.IDLE)
        if news is not None:
            self._section.show_progress(news)
        complaint = self._complaint
        if worker.failure is not None:
            complaint = (worker.failure, worker.expected)
        elif worker.outcome is not None:
            try:
                self._show_outcome(worker.outcome, result)
            except Exception as error:  # writing into a layer the user may have changed
                complaint = (note(error), False)
        else:
            self._section.show_end("Stopped before the first iteration.", complete=False)
        if complaint is not None:
            self._section.show_end(complaint[0], complete=False)
            tell(complaint[0], expected=complaint[1])

    def _show_outcome(self, outcome: Any, result: ResultLayer | None) -> None:
        if result is not None:
            result.finish(outcome.image, config=outcome.config.to_dict(), report=outcome.report)
        text = _ENDS[outcome.stopped_by].format(
            iterations=outcome.report["iterations"], time=duration(outcome.report["seconds"])
        )
        self._section.show_end(text, complete=outcome.stopped_by in ("converged", "max_iter"))
        if outcome.stopped_by == "diverged":
            show_warning(text)


def _account(worker: RunWorker, start: float) -> None:
    worker.shown(time.perf_counter() - start)


def _abandon(workers: list[RunWorker], *_: object) -> None:
    for worker in workers:
        worker.abandon()
    workers.clear()
