"""One comparison at a time: its worker, and what reaches the window."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

from napari_deqmd.widgets.clock import duration
from napari_deqmd.widgets.comparison import Comparison, Outcome, Progress
from napari_deqmd.widgets.messages import tell
from napari_deqmd.widgets.runner import Runner
from napari_deqmd.widgets.worker import JobWorker


@dataclass(frozen=True)
class ComparisonNews:
    """The latest step, and the contenders that ended since the window last looked."""

    progress: Progress
    ended: tuple[Outcome, ...]


class CompareWorker(JobWorker):
    """Runs a comparison; what ended is told at once."""

    #: The image in photo-electrons, as soon as it is known.
    electrons: np.ndarray | None = None

    def begin(self, job: Comparison) -> None:
        """Keep what all start from."""
        self.electrons = job.electrons

    def look(self, job: Comparison, progress: Progress, waiting: Any, held: bool) -> Outcome | None:
        """Return what ended."""
        return progress.ended

    def gather(
        self, waiting: ComparisonNews | None, progress: Progress, seen: Outcome | None
    ) -> ComparisonNews:
        """Return the latest step and everything that ended."""
        earlier = waiting.ended if waiting is not None else ()
        return ComparisonNews(progress, earlier if seen is None else (*earlier, seen))


class Comparing(Runner):
    """Starts and ends comparisons.

    Parameters
    ----------
    section : CompareRunSection
        Shows the run.
    parent : QWidget
        When it goes, the run goes too.
    """

    STOPPING = "Stopping; what is done is kept…"
    UNBEGUN = "Stopped before the first iteration."

    #: Carries the image in photo-electrons, before anything ended.
    began = Signal(object)
    #: Carries an `Outcome`; a second time where its halves were correlated later.
    contender_ended = Signal(object)
    #: Nothing more will come.
    over = Signal()

    def __init__(self, section: Any, parent: QWidget) -> None:
        super().__init__(section, parent)
        self._compare_section = section
        self._shown: dict[int, Outcome] = {}
        self._begun = False
        self._count = 0
        self._start = 0.0

    def start(self, make_job: Callable[[], Comparison], count: int) -> None:
        """Start a run; `make_job` is called in the other thread and must not refer to any Qt object."""
        if self.active:
            return
        self._shown, self._count, self._start = {}, count, time.perf_counter()
        self._begun = False
        self.launch(CompareWorker(make_job))

    def source_removed(self) -> None:
        """Stop because the image left the viewer."""
        if self.active:
            self._complaint = (
                "The image layer was removed, so the comparison was stopped; what is done is kept.",
                True,
            )
            self.stop("The layer was removed: stopping…")

    def show_news(self, worker: CompareWorker, news: ComparisonNews) -> None:
        """Show how far it is, and what ended."""
        self._begin(worker)
        self._compare_section.show_progress(news.progress, self._count)
        if self.active and not worker.stopping:
            self._section.status.setText(_doing(news.progress))
        for outcome in news.ended:
            self._show(outcome)

    def show_outcome(self, worker: CompareWorker) -> None:
        """Show what was not shown yet, and sum up."""
        self._begin(worker)
        for outcome in worker.outcome:
            self._show(outcome)
        cut = [outcome for outcome in self._shown.values() if outcome.stopped_by == "user"]
        done = [
            outcome
            for outcome in self._shown.values()
            if outcome.image is not None and outcome.stopped_by != "user"
        ]
        seconds = time.perf_counter() - self._start
        complete = len(self._shown) == self._count and not cut
        if not done and not cut:
            text = "No method gave a result: the table says why."
        else:
            what = f"{len(done)} of {self._count} methods" if len(done) < self._count else "Every method"
            also = "".join(f", and {one.contender.label} up to iteration {one.iterations}" for one in cut)
            text = f"{'' if complete else 'Stopped: '}{what} done in {duration(seconds)}{also}."
        self._section.show_end(text, complete=complete)
        self.over.emit()

    def _begin(self, worker: CompareWorker) -> None:
        # Before anything ended, because every image takes the window a moment that is put into napari's grid.
        if not self._begun and worker.electrons is not None:
            self._begun = True
            self.began.emit(worker.electrons)

    def _show(self, outcome: Outcome) -> None:
        if self._shown.get(outcome.place) is outcome:
            return
        self._shown[outcome.place] = outcome
        if outcome.failure:
            tell(f"{outcome.contender.label}: {outcome.failure}", expected=True)
        self.contender_ended.emit(outcome)


def _doing(progress: Progress) -> str:
    if progress.part:
        return f"{progress.contender.label}, half {progress.part} of the photons…"
    return f"{progress.contender.label}…"
