"""The table of a comparison: one row for each image, in the colour of its curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from napari_deqmd.widgets.clock import duration
from napari_deqmd.widgets.comparison import Outcome, Scores
from napari_deqmd.widgets.palette import BLUE, BROWN, GRAY, GREEN, MAGENTA, OLIVE, ORANGE, RED, TEAL, VIOLET

REFERENCE_COLOR = RED
SCALED = (
    "The reference is brought to each image's photo-electrons by one factor, found by least squares; it tells "
    "nothing of the absolute brightness."
)
# Lines of the table, before it scrolls.
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
_FIRST_SCORE = 4


class ScoreTable(QTableWidget):
    """What is known of each image: how its run ended, and its scores."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(_COLUMNS), parent)
        self.setHorizontalHeaderLabels(_COLUMNS)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setIconSize(QSize(10, 10))
        self.setShowGrid(False)
        self.setStyleSheet("font-size: 11px;")
        for column, tip in enumerate(_COLUMN_TIPS):
            if (item := self.horizontalHeaderItem(column)) is not None:
                item.setToolTip(f"<p>{tip}</p>")
        if (rows := self.verticalHeader()) is not None:
            rows.hide()
            rows.setMinimumSectionSize(_ROW)
            rows.setDefaultSectionSize(_ROW)
        if (head := self.horizontalHeader()) is not None:
            head.setMinimumSectionSize(30)
            head.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            head.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self._fit()

    @property
    def chosen(self) -> int:
        """The place that is chosen, or -1."""
        selection = self.selectionModel()
        rows = selection.selectedRows() if selection is not None else []
        return rows[0].row() if rows else -1

    def reset_rows(self, names: Sequence[str], colors: Sequence[str], *, scored: bool) -> None:
        """Prepare for a run, with one row for each name."""
        self.clearSelection()
        self.clearSpans()
        self.setRowCount(len(names))
        for row, (name, color) in enumerate(zip(names, colors, strict=True)):
            for column in range(len(_COLUMNS)):
                self._cell(row, column, "", "")
            self._cell(row, 0, name.replace(" · ", "\n"), name)
            self._item(row, 0).setIcon(_swatch(color))
        self.show_columns(scored)
        self._fit()

    def show_columns(self, scored: bool) -> None:
        """Show the columns of the scores, or do not."""
        for column in range(_FIRST_SCORE, len(_COLUMNS)):
            self.setColumnHidden(column, not scored)

    def show_ended(self, row: int, outcome: Outcome) -> None:
        """Fill the row of a method that ended."""
        if outcome.image is None:
            self.setSpan(row, 1, 1, len(_COLUMNS) - 1)
            self._cell(row, 1, outcome.failure, outcome.failure)
            self._item(row, 1).setTextAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        else:
            self._cell(row, 1, str(outcome.iterations), "")
            self._cell(row, 2, duration(outcome.seconds), "")
            told = [_ENDS_AT_LENGTH.get(outcome.stopped_by, ""), *outcome.report.get("warnings", ())]
            self._cell(row, 3, _ENDS.get(outcome.stopped_by, outcome.stopped_by), " ".join(told))
        self._fit()

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
                self._cell(row, column, format(value, form), f"{_COLUMN_TIPS[column]} {SCALED}")
                item = self._item(row, column)
                font = item.font()
                font.setBold(value == best(values.values()))
                item.setFont(font)

    def show_reference(self, name: str, color: str, *, shown: bool) -> None:
        """Add the last row, which says the reference's colour, or take it away."""
        rows = self.rowCount()
        has = rows > 0 and self._item(rows - 1, 0).text() == name
        if shown and not has:
            self.setRowCount(rows + 1)
            for column in range(len(_COLUMNS)):
                self._cell(rows, column, "", "")
            self._cell(rows, 0, name, SCALED)
            self._item(rows, 0).setIcon(_swatch(color))
        elif has and not shown:
            self.setRowCount(rows - 1)
        self._fit()

    def clear_scores(self) -> None:
        """Empty the columns of the scores."""
        for row in range(self.rowCount()):
            if self.columnSpan(row, 1) == 1:
                for column in range(_FIRST_SCORE, len(_COLUMNS)):
                    self._cell(row, column, "", "")

    def _fit(self) -> None:
        self.resizeRowsToContents()
        heights = [self.rowHeight(row) for row in range(self.rowCount())]
        head = self.horizontalHeader()
        margins = (head.sizeHint().height() if head is not None else 0) + 2 * self.frameWidth()
        self.setFixedHeight(margins + max(sum(heights[:_MOST_ROWS]), _LEAST_ROWS * _ROW))

    def _item(self, row: int, column: int) -> QTableWidgetItem:
        item = self.item(row, column)
        assert item is not None
        return item

    def _cell(self, row: int, column: int, text: str, tooltip: str) -> None:
        item = QTableWidgetItem(text)
        item.setToolTip(f"<p>{tooltip}</p>" if tooltip else "")
        if column:
            item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.setItem(row, column, item)


def _swatch(color: str) -> QIcon:
    pixmap = QPixmap(10, 10)
    pixmap.fill(QColor(color))
    return QIcon(pixmap)


def colors(count: int) -> Iterable[str]:
    """Return one colour for each place: the raw image's, then the methods'."""
    cycle = (BLUE, ORANGE, GREEN, MAGENTA, OLIVE, VIOLET, TEAL, BROWN)
    return (GRAY, *(cycle[i % len(cycle)] for i in range(count)))
