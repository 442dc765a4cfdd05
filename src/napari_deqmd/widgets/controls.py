"""What controls say, whatever their kind: taken from one form and put into another, or kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QSpinBox,
    QWidget,
)

from napari_deqmd.widgets.choices import LayerCombo

# Between the checked items of a list.
_AND = "; "
_CONTROLS = (QComboBox, QCheckBox, QLineEdit, QSpinBox, QDoubleSpinBox)


def add_prefix(section: QWidget, prefix: str) -> None:
    """Put a prefix before the object names of a section that another form has, too."""
    for control in _named(section):
        if not control.objectName().startswith(prefix):
            control.setObjectName(prefix + control.objectName())


def read_controls(sections: Iterable[QWidget], prefix: str = "") -> dict[str, Any]:
    """Return values by object name without its prefix, in the order of the form."""
    return {
        control.objectName().removeprefix(prefix): take(control)
        for section in sections
        for control in _named(section)
        if isinstance(control, _CONTROLS)
    }


def write_controls(form: QWidget, values: Mapping[str, Any]) -> None:
    """Set the controls that the form has; a layer or an entry that is no longer there is left out."""
    for name, value in values.items():
        control = form.findChild(QWidget, name)
        if control is not None:
            put(control, value)


def take(control: QWidget) -> Any:
    """Return the value of a control."""
    if isinstance(control, LayerCombo):
        return control.layer
    if isinstance(control, QComboBox):
        return control.currentText()
    if isinstance(control, QCheckBox):
        return control.isChecked()
    if isinstance(control, QListWidget):
        return _AND.join(
            item.text() for item in _items(control) if item.checkState() == Qt.CheckState.Checked
        )
    return control.text() if isinstance(control, QLineEdit) else control.value()  # type: ignore[attr-defined]


def put(control: QWidget, value: Any) -> None:
    """Set a control, unless it cannot have this value.

    Raises
    ------
    TypeError, ValueError
        It makes no sense to the control.
    """
    if isinstance(control, LayerCombo):
        if any(control.itemData(row) == value for row in range(control.count())):
            control.choose(value)
    elif isinstance(control, QComboBox):
        if control.isEditable():
            control.setCurrentText(str(value))
        elif (row := control.findText(str(value))) >= 0:
            control.setCurrentIndex(row)
    elif isinstance(control, QCheckBox):
        control.setChecked(value in (True, "true"))  # an INI file holds words
    elif isinstance(control, QListWidget):
        checked = str(value).split(_AND)
        for item in _items(control):
            item.setCheckState(Qt.CheckState.Checked if item.text() in checked else Qt.CheckState.Unchecked)
    elif isinstance(control, QLineEdit):
        control.setText(str(value))
    else:
        control.setValue(type(control.value())(value))  # type: ignore[attr-defined]


def changes(control: QWidget) -> Any:
    """Return the signal of a control whose value changed."""
    if isinstance(control, QComboBox):
        return control.currentTextChanged
    if isinstance(control, QCheckBox):
        return control.toggled
    if isinstance(control, QListWidget):
        return control.itemChanged
    return control.textChanged if isinstance(control, QLineEdit) else control.valueChanged  # type: ignore[attr-defined]


def _items(control: QListWidget) -> list[QListWidgetItem]:
    return [item for row in range(control.count()) if (item := control.item(row)) is not None]


def _named(section: QWidget) -> list[QWidget]:
    # Qt's own parts of controls have names, too.
    return [
        child
        for child in section.findChildren(QWidget)
        if child.objectName() and not child.objectName().startswith("qt_")
    ]
