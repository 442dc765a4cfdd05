"""The run of a comparison, its table and its curves."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QTabWidget, QWidget

from napari_deqmd.widgets.comparison import Progress
from napari_deqmd.widgets.curves import CurvesPlot
from napari_deqmd.widgets.sections.parts import RunState, SectionBox, hint, named, taught
from napari_deqmd.widgets.sections.score_table import ScoreTable


class CompareRunSection(SectionBox):
    """The run of a comparison, its table and its curves."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("5 · Compare", parent)
        self.run_button = named(QPushButton("Compare"), "compare_run")
        taught(
            self.run_button,
            "Run the methods and show them beside the image in photo-electrons, in a grid and in one contrast: moving "
            "one layer's contrast limits moves all. Other layers are hidden; their eyes in the list bring them back. "
            "The next comparison replaces these layers: rename one to keep it.",
        )
        self.stop_button = named(QPushButton("Stop"), "compare_stop")
        taught(self.stop_button, "Stop, and keep what is done.")
        self.profile_button = named(QPushButton("Line profile"), "compare_profile")
        taught(
            self.profile_button,
            "Put a line across the images; move it or its ends with the mouse, and the brightness along it is drawn "
            "for all of them.",
        )
        buttons = QHBoxLayout()
        for button in (self.run_button, self.stop_button):
            buttons.addWidget(button)
        self.column.addLayout(buttons)
        self.progress = named(QProgressBar(), "compare_progress")
        self.progress.setToolTip("Methods that are done, of all.")
        self.progress.setRange(0, 1)
        self.progress.setValue(0)
        self.progress.setFormat("")
        self.column.addWidget(self.progress)
        self.status = hint("compare_status")
        self.status.setText("Ready.")
        self.column.addWidget(self.status)
        self.table = named(ScoreTable(), "compare_table")
        self.column.addWidget(self.table)
        self.winner_button = named(QPushButton("Use in Reconstruct"), "compare_winner")
        taught(
            self.winner_button,
            "Choose a row, and send the image, region, PSF, photon numbers and settings it was made with to "
            "Reconstruct, where you can then choose the whole image.",
        )
        below = QHBoxLayout()
        below.addWidget(self.profile_button)
        below.addWidget(self.winner_button)
        self.column.addLayout(below)
        self.plot = named(ComparePlots(), "compare_plots")
        self.column.addWidget(self.plot, stretch=1)
        self.show_state(RunState.IDLE)
        self.profile_button.setEnabled(False)
        self.winner_button.setEnabled(False)

    def show_state(self, state: RunState) -> None:
        """Enable what makes sense now."""
        self.run_button.setEnabled(state is RunState.IDLE)
        self.stop_button.setEnabled(state is RunState.RUNNING)

    def reset(self, names: Sequence[str], colors: Sequence[str], *, scored: bool) -> None:
        """Prepare for a run, with one row for each name."""
        self.progress.setRange(0, 0)
        self.progress.setFormat("")
        self.table.reset_rows(names, colors, scored=scored)

    def show_progress(self, progress: Progress, count: int) -> None:
        """Show how far it is."""
        parts = count * progress.parts
        done = progress.place * progress.parts + progress.part
        most = progress.contender.config.max_iter
        share = 1.0 if progress.ended else min(1.0, progress.iteration / most)
        self.progress.setRange(0, 1000 * parts)
        self.progress.setValue(round(1000 * (done + share)))
        self.progress.setFormat(f"{progress.place + 1} of {count} · iteration {progress.iteration} / {most}")

    def show_end(self, text: str, *, complete: bool) -> None:
        """Say how it ended."""
        if self.progress.maximum() == 0:
            self.progress.setRange(0, 1)
        if complete:
            self.progress.setValue(self.progress.maximum())
        self.progress.setFormat("done" if complete else "")
        self.status.setText(text)


class ComparePlots(QTabWidget):
    """The line profile, and the agreement by spatial frequency."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.profile = named(CurvesPlot("Compare, then press Line profile.", ""), "compare_profile_plot")
        self.rings = named(
            CurvesPlot("Choose a reference, or check\nResolution from two halves.", "correlation"),
            "compare_frc_plot",
        )
        taught(
            self.rings,
            "Fourier ring correlation (shells in 3D): agreement by spatial frequency, with the reference or between "
            "the reconstructions of two halves of the photons. Detail finer than where a curve falls below the dotted "
            "line is not resolved: 1/7 for two noisy halves, 1/2 for a reference, which says the same.",
        )
        taught(self.profile, "The brightness along the line in all images, in the plane that is shown.")
        self.addTab(self.profile, "Profile (photo-electrons)")
        self.addTab(self.rings, "Resolution")
        self.setDocumentMode(True)

    def set_colors(self, background: str, foreground: str) -> None:
        """Follow the viewer's theme."""
        self.profile.set_colors(background, foreground)
        self.rings.set_colors(background, foreground)
