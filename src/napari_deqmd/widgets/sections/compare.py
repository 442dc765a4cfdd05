"""Which methods are compared, and what they give."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QHeaderView,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QWidget,
)

from napari_deqmd.core.config import METHODS, ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets.choices import LayerCombo
from napari_deqmd.widgets.clock import duration
from napari_deqmd.widgets.comparison import Contender, Outcome, Progress, Scores
from napari_deqmd.widgets.curves import CurvesPlot
from napari_deqmd.widgets.form import default
from napari_deqmd.widgets.models import INSTALLED, about
from napari_deqmd.widgets.sections.parts import RunState, SectionBox, hint, named, taught

# Richardson-Lucy is stopped early by everyone who uses it: at its 200th iteration it would be a straw man.
_RL_ITERATIONS = 10
_CHECKED = (("rl-accelerated", ""), ("md-tv", ""), ("deq-md", default("model")))
_LEARNED = "deq-md"
# Lines of the list, and of the table before it scrolls.
_ROWS = 4
_LEAST_ROWS, _MOST_ROWS, _ROW = 3, 7, 20
_ENDS = {"converged": "converged", "max_iter": "iterations", "user": "stopped", "diverged": "diverged"}
_ENDS_AT_LENGTH = {
    "converged": "Its certificate fell below the tolerance.",
    "max_iter": "It did all the iterations it was allowed.",
    "user": "It was stopped: this is the image as it was then.",
    "diverged": "The numbers stopped making sense: check PSF and peak.",
}
_COLUMNS = ("Method", "Iter.", "Time", "Ended by", "PSNR", "SSIM", "NRMSE")
_COLUMN_TIPS = (
    "Click a row to select its layer. The colours are those of the curves.",
    "Iterations until it ended.",
    "Seconds it computed.",
    "Converged, or all iterations done, or stopped.",
    "Peak signal-to-noise ratio in dB, higher is better; the peak is the reference's maximum.",
    "Structural similarity, 1 is equal.",
    "Root-mean-square error over that of the reference, lower is better.",
)
_SCALED = (
    "The reference is brought to each image's photo-electrons by one factor, found by least squares; it tells "
    "nothing of the absolute brightness."
)
_FIRST_SCORE = 4


class ReferenceCombo(LayerCombo):
    """Image layers of a viewer, or none of them, which is what it shows until one is chosen."""

    def refresh(self) -> None:
        """Read the viewer's layers again."""
        super().refresh()
        blocked = self.blockSignals(True)
        self.insertItem(0, "none", None)
        self.setCurrentIndex(max(0, self.currentIndex()))
        self.blockSignals(blocked)

    def _guess(self) -> int:
        return -1


class MethodsSection(SectionBox):
    """The methods with their check boxes, and what all of them are told.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__("4 · Methods", parent)
        self.list = named(QListWidget(), "compare_methods")
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.row(
            "Compare",
            self.list,
            "The methods that are run, one after the other, on the same image with the same PSF and photon numbers.",
        )
        self.rl_spin = named(QSpinBox(), "compare_rl_iterations")
        self.rl_spin.setRange(1, 10_000)
        self.rl_spin.setValue(_RL_ITERATIONS)
        self.max_iter_spin = named(QSpinBox(), "compare_max_iter")
        self.max_iter_spin.setRange(1, 100_000)
        self.max_iter_spin.setValue(default("max_iter"))
        self.strength_spin = named(QDoubleSpinBox(), "compare_strength")
        self.strength_spin.setRange(0.0, 100.0)
        self.strength_spin.setSingleStep(0.1)
        self.strength_spin.setValue(default("strength"))
        self.row(
            "RL iterations",
            self.rl_spin,
            "Richardson-Lucy ends here: the longer it runs the sharper and the noisier it gets. About 10 accelerated "
            "ones, or 40 classic ones, are the best there is at few photons.",
        )
        self.pair(
            (
                "Iterations",
                self.max_iter_spin,
                "At most this many for methods with a prior, which stop by themselves when they have converged.",
            ),
            (
                "Strength",
                self.strength_spin,
                "How much a prior counts against the data; 1 is as it was trained.",
            ),
        )
        self.reference_combo = named(ReferenceCombo(viewer), "compare_reference")
        self.row(
            "Reference",
            self.reference_combo,
            "What the image should be, if you have that: a long exposure, or a sample's truth, of the same shape. "
            + _SCALED,
        )
        self.frc_check = named(QCheckBox("Resolution from two halves of the photons"), "compare_frc")
        taught(
            self.frc_check,
            "Deals the photo-electrons out to two independent images of half the exposure, reconstructs both, and "
            "shows up to which detail they agree (Fourier ring correlation): two more runs for each method. A prior "
            "makes both halves alike, so this is an upper bound on what the eye may trust. With a reference the "
            "agreement with that is shown instead, at no cost.",
        )
        self.form.addRow(self.frc_check)
        INSTALLED.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """List the methods and the installed models again."""
        from napari_deqmd.training.models import DEFAULTS, list_models, methods_of

        before = {
            item.data(Qt.ItemDataRole.UserRole): item.checkState()
            for item in (self.list.item(row) for row in range(self.list.count()))
            if item is not None
        }
        cards = {info.name: info.card for info in list_models() if _LEARNED in methods_of(info.card)}
        # What is the default for images and stacks alike need not be listed twice.
        bundled = set(DEFAULTS.values())
        own = [name for name in cards if len(bundled) > 1 or name not in bundled]
        models = {default("model"): cards.get(DEFAULTS[2], {}), **{name: cards[name] for name in own}}
        self.list.clear()
        for key in [(method, "") for method in reversed(METHODS) if method != _LEARNED] + [
            (_LEARNED, model) for model in models
        ]:
            item = QListWidgetItem(label_of_method(*key))
            item.setData(Qt.ItemDataRole.UserRole, key)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(
                before.get(key, Qt.CheckState.Checked if key in _CHECKED else Qt.CheckState.Unchecked)
            )
            item.setToolTip(about(models[key[1]]) if key[1] else "")
            self.list.addItem(item)
        rows = min(max(self.list.count(), _ROWS), _ROWS + 2)
        self.list.setFixedHeight(rows * max(self.list.sizeHintForRow(0), 18) + 2 * self.list.frameWidth() + 2)

    def contenders(self, values: dict[str, Any]) -> list[Contender]:
        """Return what is checked, with the settings they share.

        Raises
        ------
        UserError
            Nothing is checked, or a setting is outside its domain.
        """
        shared = ReconstructionConfig(**values)
        chosen = [
            item.data(Qt.ItemDataRole.UserRole)
            for item in (self.list.item(row) for row in range(self.list.count()))
            if item is not None and item.checkState() == Qt.CheckState.Checked
        ]
        if not chosen:
            raise UserError("No method is chosen: check at least one in the list.")
        return [
            Contender(
                label_of_method(method, model),
                dataclasses.replace(
                    shared,
                    method=method,
                    model=model or default("model"),
                    strength=self.strength_spin.value(),
                    max_iter=(self.rl_spin if method.startswith("rl") else self.max_iter_spin).value(),
                ),
            )
            for method, model in chosen
        ]


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
        taught(self.stop_button, "Stop after this iteration and keep what is done.")
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
        self.table = named(_table(), "compare_table")
        self.column.addWidget(self.table)
        self.winner_button = named(QPushButton("Use in Reconstruct"), "compare_winner")
        taught(
            self.winner_button,
            "Choose a row, and send the image, PSF, photon numbers and settings it was made with to Reconstruct.",
        )
        below = QHBoxLayout()
        below.addWidget(self.profile_button)
        below.addWidget(self.winner_button)
        self.column.addLayout(below)
        self.plot = named(ComparePlots(), "compare_plots")
        self.column.addWidget(self.plot, stretch=1)
        self._fit_table()
        self.show_state(RunState.IDLE)
        self.profile_button.setEnabled(False)
        self.winner_button.setEnabled(False)

    @property
    def row(self) -> int:  # type: ignore[override]
        """The place that is chosen in the table, or -1."""
        chosen = self.table.selectionModel()
        rows = chosen.selectedRows() if chosen is not None else []
        return rows[0].row() if rows else -1

    def show_state(self, state: RunState) -> None:
        """Enable what makes sense now."""
        self.run_button.setEnabled(state is RunState.IDLE)
        self.stop_button.setEnabled(state is RunState.RUNNING)

    def reset(self, names: Sequence[str], colors: Sequence[str], *, scored: bool) -> None:
        """Prepare for a run, with one row for each name."""
        self.progress.setRange(0, 0)
        self.progress.setFormat("")
        self.table.clearSelection()
        self.table.clearSpans()
        self.table.setRowCount(len(names))
        for row, (name, color) in enumerate(zip(names, colors, strict=True)):
            for column in range(len(_COLUMNS)):
                self._cell(row, column, "", "")
            self._cell(row, 0, name.replace(" · ", "\n"), name)
            self._item(row, 0).setIcon(_swatch(color))
        self.show_columns(scored)
        self._fit_table()

    def show_columns(self, scored: bool) -> None:
        """Show the columns of the scores, or do not."""
        for column in range(_FIRST_SCORE, len(_COLUMNS)):
            self.table.setColumnHidden(column, not scored)

    def show_progress(self, progress: Progress, count: int) -> None:
        """Show how far it is."""
        parts = count * progress.parts
        done = progress.place * progress.parts + progress.part
        most = progress.contender.config.max_iter
        share = 1.0 if progress.ended else min(1.0, progress.iteration / most)
        self.progress.setRange(0, 1000 * parts)
        self.progress.setValue(round(1000 * (done + share)))
        self.progress.setFormat(f"{progress.place + 1} of {count} · iteration {progress.iteration} / {most}")

    def show_ended(self, row: int, outcome: Outcome) -> None:
        """Fill the row of a method that ended."""
        if outcome.image is None:
            self.table.setSpan(row, 1, 1, len(_COLUMNS) - 1)
            self._cell(row, 1, outcome.failure, outcome.failure)
            self._item(row, 1).setTextAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        else:
            self._cell(row, 1, str(outcome.iterations), "")
            self._cell(row, 2, duration(outcome.seconds), "")
            told = [_ENDS_AT_LENGTH.get(outcome.stopped_by, ""), *outcome.report.get("warnings", ())]
            self._cell(row, 3, _ENDS.get(outcome.stopped_by, outcome.stopped_by), " ".join(told))
        self._fit_table()

    def show_scores(self, scores: dict[int, Scores]) -> None:
        """Fill the columns of the scores; the best of each is bold."""
        for column, name, form, best in (
            (4, "psnr", ".2f", max),
            (5, "ssim", ".3f", max),
            (6, "nrmse", ".3f", min),
        ):
            values = {row: getattr(found, name) for row, found in scores.items()}
            values = {row: value for row, value in values.items() if value is not None}
            for row, value in values.items():
                self._cell(row, column, format(value, form), f"{_COLUMN_TIPS[column]} {_SCALED}")
                item = self._item(row, column)
                font = item.font()
                font.setBold(value == best(values.values()))
                item.setFont(font)

    def show_reference(self, name: str, color: str, *, shown: bool) -> None:
        """Add the last row, which says the reference's colour, or take it away."""
        rows = self.table.rowCount()
        has = rows > 0 and self._item(rows - 1, 0).text() == name
        if shown and not has:
            self.table.setRowCount(rows + 1)
            for column in range(len(_COLUMNS)):
                self._cell(rows, column, "", "")
            self._cell(rows, 0, name, _SCALED)
            self._item(rows, 0).setIcon(_swatch(color))
            self._fit_table()
        elif has and not shown:
            self.table.setRowCount(rows - 1)

    def clear_scores(self) -> None:
        """Empty the columns of the scores."""
        for row in range(self.table.rowCount()):
            if self.table.columnSpan(row, 1) == 1:
                for column in range(_FIRST_SCORE, len(_COLUMNS)):
                    self._cell(row, column, "", "")

    def show_end(self, text: str, *, complete: bool) -> None:
        """Say how it ended."""
        if self.progress.maximum() == 0:
            self.progress.setRange(0, 1)
        if complete:
            self.progress.setValue(self.progress.maximum())
        self.progress.setFormat("done" if complete else "")
        self.status.setText(text)

    def _fit_table(self) -> None:
        self.table.resizeRowsToContents()
        heights = [self.table.rowHeight(row) for row in range(self.table.rowCount())]
        head = self.table.horizontalHeader()
        margins = (head.sizeHint().height() if head is not None else 0) + 2 * self.table.frameWidth()
        self.table.setFixedHeight(margins + max(sum(heights[:_MOST_ROWS]), _LEAST_ROWS * _ROW))

    def _item(self, row: int, column: int) -> QTableWidgetItem:
        item = self.table.item(row, column)
        assert item is not None
        return item

    def _cell(self, row: int, column: int, text: str, tooltip: str) -> None:
        item = QTableWidgetItem(text)
        item.setToolTip(f"<p>{tooltip}</p>" if tooltip else "")
        if column:
            item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.table.setItem(row, column, item)


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


def label_of_method(method: str, model: str = "") -> str:
    """Return how a method is called in the comparison."""
    return method if model in ("", default("model")) else f"{method} · {model}"


def _table() -> QTableWidget:
    table = QTableWidget(0, len(_COLUMNS))
    table.setHorizontalHeaderLabels(_COLUMNS)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    table.setIconSize(QSize(10, 10))
    table.setShowGrid(False)
    table.setStyleSheet("font-size: 11px;")
    for column, tip in enumerate(_COLUMN_TIPS):
        if (item := table.horizontalHeaderItem(column)) is not None:
            item.setToolTip(f"<p>{tip}</p>")
    if (rows := table.verticalHeader()) is not None:
        rows.hide()
        rows.setMinimumSectionSize(_ROW)
        rows.setDefaultSectionSize(_ROW)
    if (head := table.horizontalHeader()) is not None:
        head.setMinimumSectionSize(30)
        head.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        head.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    return table


def _swatch(color: str) -> QIcon:
    pixmap = QPixmap(10, 10)
    pixmap.fill(QColor(color))
    return QIcon(pixmap)


def colors(count: int) -> Iterable[str]:
    """Return colours that stay apart on dark and on light: the raw image's, then the methods'."""
    cycle = ("#4fa3ff", "#ff9f40", "#43c06b", "#d96fd1", "#c9a800", "#8f7cff", "#22b8b0", "#b07a4b")
    return ("#8e959c", *(cycle[i % len(cycle)] for i in range(count)))


REFERENCE_COLOR = "#f0484e"
