"""One fine-tuning at a time: what its section shows, and what it leaves to be saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QWidget

from napari_deqmd.widgets.reports import TrainJob
from napari_deqmd.widgets.runner import Runner
from napari_deqmd.widgets.sections.train_run import TrainRunSection
from napari_deqmd.widgets.worker import TrainWorker

# Files whose names fit a notification.
_NAMED = 3
_LEFT_OUT = "Left out: "
_UNSAVED = "The last result is not saved: give it a name and press Save, before this training has a new one."


class Training(Runner):
    """Starts and ends fine-tunings.

    Parameters
    ----------
    section : TrainRunSection
        Shows the run.
    parent : QWidget
        When it goes, the run goes too.
    """

    STOPPING = "Stopping; the best so far is kept…"

    def __init__(self, section: TrainRunSection, parent: QWidget) -> None:
        super().__init__(section, parent)
        self._train_section = section
        self._measured: np.ndarray | None = None
        self._before: np.ndarray | None = None
        self._best: tuple[float, np.ndarray] | None = None
        self._base, self._figure = 0.0, ""
        #: Job and outcome that can be saved, and whether they were.
        self.kept: tuple[TrainJob, Any] | None = None
        self.saved = False

    def start(self, make_job: Callable[[], TrainJob], *, minutes: float) -> None:
        """Start a run; `make_job` is called in the other thread and must not refer to any Qt object.

        What was not saved can be until this run has something better.
        """
        if self.active:
            return
        self._measured = self._before = self._best = None
        if self.saved:
            self.kept = None
        self._train_section.reset(minutes)
        self._train_section.save_button.setEnabled(self.kept is not None)
        self.launch(TrainWorker(make_job))
        if self.kept is not None:
            show_warning(_UNSAVED)

    def save(self, name: str) -> Callable[[], str]:
        """Return the task that saves what was kept; its value is the name of the model."""
        assert self.kept is not None
        job, outcome = self.kept

        def task() -> str:
            from napari_deqmd.training.models import new_model

            return job.save(new_model(name), outcome).stem

        return task

    def show_news(self, worker: TrainWorker, news: Any) -> None:
        """Show steps, scores and patches."""
        if self._before is None and worker.job is not None:
            self._show_job(worker.job)
        self._show_steps(news)
        if not worker.stopping:
            self._section.status.setText(self._score())

    def show_outcome(self, worker: TrainWorker) -> None:
        """Say plainly whether it helped, and offer what did for saving."""
        outcome = worker.outcome
        stopped = worker.stopping
        *notes, verdict = outcome.notes
        self._train_section.say(notes)
        self._section.show_end(
            f"Stopped after {outcome.steps} steps. {verdict}" if stopped else verdict, complete=not stopped
        )
        if outcome.kept and worker.job is not None:
            self.kept, self.saved = (worker.job, outcome), False
            self._train_section.save_button.setEnabled(True)
            if self._best is not None:
                self._show_patches(self._best[1])
            self._train_section.patches.name_last("After")
        elif outcome.steps:
            self._train_section.patches.name_last("Last, not kept")

    def _show_job(self, job: TrainJob) -> None:
        self._figure, self._measured = job.source.held_out.figure, job.measured
        self._train_section.plot.name_score(self._figure)
        self._train_section.name_device()
        notes = job.source.notes
        self._train_section.say(notes)
        skipped = [note.removeprefix(_LEFT_OUT) for note in notes if note.startswith(_LEFT_OUT)]
        if skipped:
            more = f" … and {len(skipped) - _NAMED} more." if len(skipped) > _NAMED else ""
            show_warning(f"{_LEFT_OUT}{' '.join(skipped[:_NAMED])}{more}")

    def _show_steps(self, steps: Any) -> None:
        self._train_section.show_steps(steps)
        scored = [step for step in steps if step.patch is not None]
        for step in scored:
            if self._before is None:
                self._before, self._base = step.patch, step.best
            if step.best != (self._base if self._best is None else self._best[0]):
                self._best = (step.best, step.patch)
        if scored:
            self._show_patches(scored[-1].patch if scored[-1].step else None)

    def _show_patches(self, now: np.ndarray | None) -> None:
        self._train_section.patches.show_patches(self._measured, self._before, now)

    def _score(self) -> str:
        best = "nothing better yet" if self._best is None else f"{self._best[0]:.4g} with the best so far"
        return f"Held-out {self._figure}: {self._base:.4g} with the base model, {best}."
