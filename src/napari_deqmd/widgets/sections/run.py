"""Buttons, progress, status and the convergence plot."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QWidget

from napari_deqmd.widgets.clock import duration, iterations_left
from napari_deqmd.widgets.form import default
from napari_deqmd.widgets.plot import ConvergencePlot
from napari_deqmd.widgets.reports import News
from napari_deqmd.widgets.resources import Resources
from napari_deqmd.widgets.sections.parts import RunState, SectionBox, hint, named, resource_hint

# Iterations from which their pace is told: the first ones wait for much that is made ready once.
_PACED = 3


class RunSection(SectionBox):
    """Run, Pause, Stop; how far it is and how it converges."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("5 · Run", parent)
        buttons = QHBoxLayout()
        self.preview_button = named(QPushButton("Preview"), "preview")
        self.preview_button.setToolTip(
            "<p>Try these settings in seconds: on what the canvas shows (or on the region), at most 256 × 256 pixels "
            "about its middle, of a stack 48 × 48 in 12 planes about this one, at this time and in this channel. It "
            "ends earlier than a run, at a tolerance of 0.001. What is cut off around it is missing, at its border "
            "most. The result lies on the image as its own layer.</p>"
        )
        self.run_button = named(QPushButton("Run"), "run")
        self.run_button.setToolTip(
            "<p>Deconvolve. The result grows in its own layer, named after the image with 'deconvolved'. Running "
            "again writes into the same layer: rename it to keep it. When only Method changed it starts from the last "
            "result, which saves time; to start anew, press Run again or untick that under Advanced.</p>"
        )
        self.pause_button = named(QPushButton("Pause"), "pause")
        self.pause_button.setToolTip("Wait after this iteration, to look at it; press again to go on.")
        self.stop_button = named(QPushButton("Stop"), "stop")
        self.stop_button.setToolTip("Stop, and keep the image of the last iteration.")
        self.pause_button.setCheckable(True)
        self.resume_button = named(QPushButton("Continue"), "resume")
        self.resume_button.setToolTip(
            "<p>Go on: after a pause, or from where the last run was stopped or ran out of iterations, with as many "
            "more as Method says.</p>"
        )
        for button in (
            self.preview_button,
            self.run_button,
            self.pause_button,
            self.resume_button,
            self.stop_button,
        ):
            # Five beside each other: napari's padding would make them wider than the dock.
            button.setStyleSheet("QPushButton { padding-left: 2px; padding-right: 2px; }")
            button.setMinimumWidth(button.fontMetrics().horizontalAdvance(button.text()) + 10)
            buttons.addWidget(button)
        buttons.setSpacing(4)
        self.column.addLayout(buttons)
        self.progress = named(QProgressBar(), "progress")
        self.progress.setToolTip("Iterations of the most there may be; it may converge earlier.")
        self.column.addWidget(self.progress)
        self.status = hint("status")
        self.status.setText("Ready.")
        self.save_button = named(QPushButton("Save result…"), "save_result")
        self.save_button.setToolTip(
            "<p>Write the last result as OME-TIFF, TIFF or OME-Zarr with all that its image's file says, and beside it "
            "a .json with settings, estimates, hashes and versions. On the command line, <i>deqmd reconstruct --from "
            "THAT.json IMAGE</i> makes it again.</p>"
        )
        told = QHBoxLayout()
        told.addWidget(self.status, stretch=1)
        told.addWidget(self.save_button, alignment=Qt.AlignmentFlag.AlignTop)
        self.column.addLayout(told)
        self.device_label = resource_hint("device_label", "Where the run computes; choose it under Advanced.")
        self.memory_label = resource_hint(
            "memory_label",
            "What the run takes at its worst moment beyond what napari holds already, predicted from the sizes of "
            "image and PSF, the method and the solver, and what is free now. RL needs the least, the accelerated "
            "solver the most.",
        )
        below = QHBoxLayout()
        below.setSpacing(8)
        below.addWidget(self.device_label, stretch=7)
        below.addWidget(self.memory_label, stretch=8)
        self.column.addLayout(below)
        self.plot = named(ConvergencePlot(), "convergence_plot")
        self.plot.setToolTip(
            "<p>Objective: what is minimised. Certificate: how far the image is from satisfying the optimality "
            "conditions; below the dashed line it has converged. Step size: short steps are a sign of a difficult "
            "stretch. Right-click to save numbers or picture.</p>"
        )
        self.column.addWidget(self.plot, stretch=1)
        self._state, self._resumable = RunState.IDLE, False
        self._saveable, self._save_allowed = False, True
        self.show_state(RunState.IDLE)
        self.reset(1, default("tol"))
        self.progress.setFormat("")

    def show_state(self, state: RunState) -> None:
        """Enable what makes sense now."""
        self.preview_button.setEnabled(state is RunState.IDLE)
        self.run_button.setEnabled(state is RunState.IDLE)
        self.pause_button.setEnabled(state in (RunState.RUNNING, RunState.PAUSED))
        self.pause_button.setChecked(state is RunState.PAUSED)
        self._state = state
        self.offer_save(self._saveable)
        self.offer_resume(self._resumable)
        self.stop_button.setEnabled(state in (RunState.RUNNING, RunState.PAUSED))

    def offer_resume(self, resumable: bool) -> None:
        """Enable Continue while paused, and between runs where there is something to go on from."""
        self._resumable = resumable
        idle = self._state is RunState.IDLE
        self.resume_button.setEnabled(self._state is RunState.PAUSED or (idle and resumable))

    def offer_save(self, saveable: bool) -> None:
        """Enable Save between runs where there is a result."""
        self._saveable = saveable
        idle = self._state is RunState.IDLE
        self.save_button.setEnabled(saveable and idle and self._save_allowed)

    def allow_save(self, allowed: bool) -> None:
        """Keep Save disabled while a result is being saved, whatever runs meanwhile."""
        self._save_allowed = allowed
        self.offer_save(self._saveable)

    def show_resources(self, resources: Resources) -> None:
        """Say where a run would compute, and whether it fits."""
        self.device_label.setText(resources.device)
        (self.memory_label.setText if resources.fits else self.memory_label.complain)(resources.memory)

    def reset(self, max_iter: int, tol: float) -> None:
        """Prepare for a run."""
        self._tol = tol
        self.plot.set_goal(tol)
        self._max_iter = max_iter
        self._where = ""
        self.progress.setRange(0, max_iter)
        self.progress.setValue(0)
        self.progress.setFormat("starting…")
        self.plot.clear_points()

    def show_progress(self, news: News) -> None:
        """Show how far it is, and how long it may still take."""
        total = self._max_iter * news.items
        done = self._max_iter * news.item + news.iteration
        self.progress.setMaximum(total)
        self.progress.setValue(done)
        self.plot.add(news.points)
        item = f"{news.item + 1} of {news.items} · " if news.items > 1 else ""
        self._where = f"{item}{news.iteration} / {self._max_iter}"
        time_left = f" · {self._time_left(news)}" if news.total >= _PACED else ""
        self.progress.setFormat(f"{self._where}{time_left}")

    def show_share(self, share: float) -> None:
        """Show how far an iteration is that takes long."""
        self.progress.setFormat(
            f"{self._where} · next {share:.0%}" if self._where else f"starting… {share:.0%}"
        )

    def _time_left(self, news: News) -> str:
        certificates = [point.certificate for point in self.plot.points]
        left = iterations_left(certificates, self._tol, self._max_iter)
        about = "at most" if left is None else "about"
        left = self._max_iter - news.iteration if left is None else left
        # Items to come: as many iterations as this one takes, at the pace so far.
        left += (news.items - news.item - 1) * (news.iteration + left)
        return f"{about} {duration(news.seconds * left / news.total)} left"

    def show_end(self, text: str, *, complete: bool) -> None:
        """Say how it ended."""
        if complete:
            self.progress.setValue(self.progress.maximum())
        self.progress.setFormat(f"{self._where} · {'done' if complete else 'stopped'}" if self._where else "")
        self.status.setText(text)
