"""Small parts that every section uses."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TypeVar

from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtGui import QValidator
from qtpy.QtWidgets import QDoubleSpinBox, QFormLayout, QGroupBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget
from superqt import QCollapsible

Control = TypeVar("Control", bound=QWidget)

# Fields of different sections begin below one another.
_LABEL_WIDTH = 84
_NUMBER = re.compile(r"[+-]?(?P<digits>\d*[.,]?\d*)(?P<exponent>[eE][+-]?\d*)?")


class RunState(Enum):
    """What the run is doing."""

    IDLE = auto()
    RUNNING = auto()
    PAUSED = auto()
    STOPPING = auto()


class SectionBox(QGroupBox):
    """A titled group with a form in it."""

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(title, parent)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(8, 8, 8, 6)
        self.column.setSpacing(5)
        self.form = form_layout()
        self.column.addLayout(self.form)

    def row(self, label: str, control: QWidget, tooltip: str) -> None:
        """Add a labelled control; the label carries the same tooltip."""
        self.form.addRow(label_of(label, tooltip), taught(control, tooltip))

    def pair(self, first: tuple[str, QWidget, str], second: tuple[str, QWidget, str]) -> None:
        """Add two labelled controls in one row, each as label, control and tooltip."""
        inside = QHBoxLayout()
        inside.setSpacing(8)
        inside.addWidget(taught(first[1], first[2]), stretch=1)
        inside.addWidget(label_of(second[0], second[2], width=0))
        inside.addWidget(taught(second[1], second[2]), stretch=1)
        self.form.addRow(label_of(first[0], first[2]), inside)


class PlainSpin(QDoubleSpinBox):
    """A spin box for numbers of any size that shows no digits nobody typed."""

    def __init__(self, least: float, most: float, value: float) -> None:
        super().__init__()
        self.setDecimals(4)
        self.setRange(least, most)
        self.setValue(value)
        self.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.setKeyboardTracking(False)

    def textFromValue(self, value: float) -> str:  # noqa: N802 (Qt's name)
        """Return the number without trailing zeros, with a point wherever the user lives."""
        return f"{value:.8g}"

    def valueFromText(self, text: str | None) -> float:  # noqa: N802 (Qt's name)
        """Return what is written, with a point or a comma."""
        try:
            return float((text or "").replace(",", "."))
        except ValueError:
            return self.value()

    def validate(self, text: str | None, position: int) -> tuple[QValidator.State, str, int]:
        """Take points and commas alike: Qt would read one of them as a separator of thousands."""
        text = text or ""
        written = _NUMBER.fullmatch(text.strip())
        if written is None:
            return QValidator.State.Invalid, text, position
        whole = any(map(str.isdigit, written["digits"])) and (written["exponent"] or "0")[-1].isdigit()
        fits = whole and self.minimum() <= self.valueFromText(text) <= self.maximum()
        return QValidator.State.Acceptable if fits else QValidator.State.Intermediate, text, position


def form_layout() -> QFormLayout:
    """Return a form whose fields use the width there is."""
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setHorizontalSpacing(8)
    form.setVerticalSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    return form


def folded(form: QFormLayout, name: str, tooltip: str) -> QCollapsible:
    """Return what hides a form of advanced settings until it is asked for."""
    inside = QWidget()
    inside.setLayout(form)
    fold = named(QCollapsible("Advanced", collapsedIcon="▸", expandedIcon="▾"), name)
    fold.setDuration(0)
    taught(fold.toggleButton(), tooltip)
    fold.addWidget(inside)
    for part in (fold, fold.content()):
        if (layout := part.layout()) is not None:
            layout.setContentsMargins(0, 0, 0, 0)
    return fold


def named(control: Control, name: str) -> Control:
    """Give a control the object name by which outside drivers find it."""
    control.setObjectName(name)
    return control


class Hint(QLabel):
    """A small label that wraps, for what the program found; a complaint has the theme's colour of warnings."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._complaining = True
        self._paint_as(complaint=False)

    def setText(self, text: str | None) -> None:  # noqa: N802 (Qt's name)
        """Say something that is no complaint."""
        self._paint_as(complaint=False)
        super().setText(text)

    def complain(self, text: str) -> None:
        """Say what is wrong."""
        self._paint_as(complaint=True)
        super().setText(text)

    def _paint_as(self, *, complaint: bool) -> None:
        # A style sheet is expensive to set, and news come often.
        if complaint != self._complaining:
            self._complaining = complaint
            color = f" color: {warning_color()};" if complaint else ""
            self.setStyleSheet(f"font-size: 11px;{color}")


def warning_color() -> str:
    """Return the colour of warnings in napari's theme."""
    return str(get_theme(get_settings().appearance.theme).warning.as_hex())


def hint(name: str) -> Hint:
    """Return a small label that wraps, for what the program found."""
    return Hint(name)


def resource_hint(name: str, tooltip: str) -> Hint:
    """Return a small label for what a run computes on, as high as others beside it."""
    label = Hint(name)
    label.setAlignment(Qt.AlignmentFlag.AlignTop)
    label.setToolTip(f"<p>{tooltip}</p>")
    return label


def label_of(text: str, tooltip: str, *, width: int = _LABEL_WIDTH) -> QLabel:
    """Return a label that teaches too."""
    label = QLabel(text)
    label.setToolTip(f"<p>{tooltip}</p>")
    label.setMinimumWidth(width)
    return label


def taught(control: QWidget, tooltip: str) -> QWidget:
    """Give a control a tooltip; as rich text, because Qt wraps only that."""
    control.setToolTip(f"<p>{tooltip}</p>")
    return control
