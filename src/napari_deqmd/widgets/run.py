"""One reconstruction at a time: its result layer, and what the Run section shows of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_deqmd.widgets.clock import duration
from napari_deqmd.widgets.messages import note
from napari_deqmd.widgets.reports import Job, News
from napari_deqmd.widgets.result import ResultLayer
from napari_deqmd.widgets.runner import Runner
from napari_deqmd.widgets.sections.parts import RunState
from napari_deqmd.widgets.sections.run import RunSection
from napari_deqmd.widgets.worker import RunWorker

_ENDS = {
    "converged": "Converged after {iterations} iterations in {time}.",
    "max_iter": "All {iterations} iterations done in {time}, without reaching the tolerance.",
    "user": "Stopped at iteration {iterations}: the result layer holds the image as it was then.",
    "diverged": "Stopped at iteration {iterations} because the numbers stopped making sense: check PSF and peak.",
}


class Run(Runner):
    """Starts, pauses and ends reconstructions.

    Parameters
    ----------
    section : RunSection
        Shows the run.
    parent : QWidget
        When it goes, the run goes too.
    """

    STOPPING = "Stopping after this iteration…"
    UNBEGUN = "Stopped before the first iteration."

    def __init__(self, section: RunSection, parent: QWidget) -> None:
        super().__init__(section, parent)
        self._run_section = section
        self._result: ResultLayer | None = None
        self._paused = False

    def start(self, make_job: Callable[[], Job], result: ResultLayer, *, max_iter: int, tol: float) -> None:
        """Start a run; `make_job` is called in the other thread and must not refer to any Qt object."""
        if self.active:
            return
        self._result, self._paused = result, False
        self._run_section.reset(max_iter, tol)
        self.launch(RunWorker(make_job))

    def pause_or_resume(self) -> None:
        """Wait after the current iteration, or go on."""
        if self._worker is None or self._worker.stopping:
            return
        self._paused = not self._paused
        self._worker.pause(self._paused)
        self._section.show_state(RunState.PAUSED if self._paused else RunState.RUNNING)
        self._section.status.setText("Paused: Resume goes on from here." if self._paused else "")

    def abandon(self) -> None:
        """Let the run go: the widget is closing."""
        self._result = None
        super().abandon()

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

    def show_news(self, worker: RunWorker, news: News) -> None:
        """Show progress and, unless the result follows, the preview."""
        self._run_section.show_progress(news)
        if not self.active:
            return
        if not self._paused and not worker.stopping:
            self._section.status.setText(f"Certificate {news.points[-1].certificate:.1e}")
        if news.preview is not None:
            made = self._result is not None and self._result.layer is not None
            start = time.perf_counter()
            self._write(news)
            if made:
                # Painting is queued: a timer without delay comes after it. Making the layer counts for no preview.
                QTimer.singleShot(0, partial(_account, worker, start))

    def show_outcome(self, worker: RunWorker) -> None:
        """Write the result and say how it ended."""
        outcome, result = worker.outcome, self._result
        if result is not None:
            result.finish(outcome.image, config=outcome.config.to_dict(), report=outcome.report)
        text = _ENDS[outcome.stopped_by].format(
            iterations=outcome.report["iterations"], time=duration(outcome.report["seconds"])
        )
        self._section.show_end(
            " ".join((text, *outcome.report["warnings"])),
            complete=outcome.stopped_by in ("converged", "max_iter"),
        )
        if outcome.stopped_by == "diverged":
            show_warning(text)

    def _on_finished(self) -> None:
        super()._on_finished()
        self._result = None

    def _write(self, news: News) -> None:
        if self._result is None or self._worker is None or news.preview is None:
            return
        try:
            self._result.show(news.preview, news.index)
        except Exception as error:  # the layer is the user's: its data may have been exchanged
            self._result = None
            self._complaint = (note(error), False)
            self._worker.stop()


def _account(worker: RunWorker, start: float) -> None:
    worker.shown(time.perf_counter() - start)
