"""One reconstruction at a time: its result layer, and what the Run section shows of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets.clock import duration
from napari_deqmd.widgets.messages import note
from napari_deqmd.widgets.reports import News
from napari_deqmd.widgets.result import Piece, ResultLayer
from napari_deqmd.widgets.runner import Runner
from napari_deqmd.widgets.saving import DEFAULT, Record, save
from napari_deqmd.widgets.sections.parts import RunState
from napari_deqmd.widgets.sections.run import RunSection
from napari_deqmd.widgets.warm import Kept, RunOrder
from napari_deqmd.widgets.worker import RunWorker

# Milliseconds after which a slider is taken to rest.
_LOOK_AFTER = 50
_FROM_LAST = "Starting from the last result."
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

    UNBEGUN = "Stopped before the first iteration."

    def __init__(self, section: RunSection, parent: QWidget) -> None:
        super().__init__(section, parent)
        self._run_section = section
        self._result: ResultLayer | None = None
        self._order: RunOrder | None = None
        self._paused = False
        self.kept: Kept | None = None
        self._finished: tuple[Any, Record] | None = None
        # Sliders move in bursts: one look at where they are then.
        self._looking = QTimer(self)
        self._looking.setSingleShot(True)
        self._looking.timeout.connect(self._look)

    def start(self, order: RunOrder, result: ResultLayer) -> None:
        """Start a run."""
        if self.active:
            return
        self._order, self._result, self._paused = order, result, False
        self._run_section.reset(order.config.max_iter, order.config.tol)
        worker = RunWorker(order)
        worker.share.connect(self._on_share)
        self.launch(worker)

    def pause_or_resume(self) -> None:
        """Wait after the current iteration, or go on."""
        if self._worker is None or self._worker.stopping:
            return
        self._paused = not self._paused
        self._worker.pause(self._paused)
        self._section.show_state(RunState.PAUSED if self._paused else RunState.RUNNING)
        self._section.status.setText("Paused: Continue goes on from here." if self._paused else "")

    @property
    def paused(self) -> bool:
        """Whether a run is going that waits."""
        return self.active and self._paused

    @property
    def result_name(self) -> str:
        """Name of the layer that the last run ended in, or nothing."""
        return self._finished[0].name if self._finished is not None else ""

    def saving(self, path: str, ending: str = DEFAULT) -> Callable[[], Path]:
        """Return what writes the last result to a file, to be called in another thread."""
        if self._finished is None:
            raise UserError("There is no result to save: press Run first.")
        layer, record = self._finished
        # A copy: the next run writes into the layer.
        return partial(save, path, layer.data.copy(), record, layer.metadata["report"], ending=ending)

    def abandon(self) -> None:
        """Let the run go: the widget is closing."""
        self._result = self._order = self.kept = self._finished = None
        super().abandon()

    def view_changed(self) -> None:
        """Notice that the viewer shows something else."""
        if self.active:
            self._looking.start(_LOOK_AFTER)

    def layer_removed(self, layer: Any) -> None:
        """Stop when the input or the result of the run leaves the viewer; a result that left does not come back."""
        if self.kept is not None and layer in (self.kept.source, self.kept.layer):
            self.kept = None
        if self._finished is not None and layer == self._finished[0]:
            self._finished = None
            self._run_section.offer_save(False)
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
            begun = f"{_FROM_LAST} " if self._order is not None and self._order.warm else ""
            self._section.status.setText(f"{begun}Certificate {news.points[-1].certificate:.1e}")
        pieces: list[Piece] = [(ended.image, ended.index, ended.part) for ended in news.done]
        if news.seen is not None:
            pieces.append((news.seen.image, news.index, news.seen.part))
        if pieces:
            made = self._result is not None and self._result.layer is not None
            start = time.perf_counter()
            self._write(pieces)
            self._look()
            if made:
                # Painting is queued: a timer without delay comes after it. Making the layer counts for no preview.
                QTimer.singleShot(0, partial(_account, worker, start))

    def show_outcome(self, worker: RunWorker) -> None:
        """Write the result and say how it ended."""
        outcome, result, order = worker.outcome, self._result, self._order
        if result is not None and order is not None:
            result.finish(outcome.image, config=outcome.config.to_dict(), report=outcome.report)
            if order.kept and order.record is not None:
                self._finished = result.layer, order.record
                self._run_section.offer_save(True)
            if order.kept:
                self.kept = order.keep(outcome, result.source, result.layer)
        text = _ENDS[outcome.stopped_by].format(
            iterations=outcome.report["iterations"], time=duration(outcome.report["seconds"])
        )
        begun = ["It started from the last result."] if order is not None and order.warm else []
        self._section.show_end(
            " ".join((text, *begun, *outcome.report["warnings"])),
            complete=outcome.stopped_by in ("converged", "max_iter"),
        )
        if outcome.stopped_by == "diverged":
            show_warning(text)

    def forget(self) -> None:
        """Let go of what belonged to the run that is over."""
        self._result = self._order = None

    def _on_share(self, share: float) -> None:
        if self.active and not self._worker.stopping:
            self._run_section.show_share(share)
            if not self._paused:
                self._section.status.setText("Computing an iteration that takes long…")

    def _look(self) -> None:
        """Tell the worker what is shown, and show at once what there is of it."""
        shown = self._result.shown if self._result is not None else None
        if shown is None or self._worker is None:
            return
        start = time.perf_counter()
        try:
            seen = self._worker.watch(shown)
        except Exception:  # the job's next step tells what is wrong with it
            return
        if seen is not None:
            self._write([seen])
            self._worker.spend(time.perf_counter() - start)

    def _write(self, pieces: list[Piece]) -> None:
        if self._result is None or self._worker is None:
            return
        try:
            self._result.show(pieces)
            if self._finished is not None and self._finished[0] == self._result.layer:
                self._finished = None
                self._run_section.offer_save(False)
        except Exception as error:  # the layer is the user's: its data may have been exchanged
            self._result = None
            self._complaint = (note(error), False)
            self._worker.stop()


def _account(worker: RunWorker, start: float) -> None:
    worker.spend(time.perf_counter() - start)
