"""What controls say, by their object names: taken from one form and put into another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QLineEdit, QSpinBox, QWidget

from napari_deqmd.widgets.choices import LayerCombo


def add_prefix(section: QWidget, prefix: str) -> None:
    """Put a prefix before the object names of a section that another form has, too."""
    for control in _named(section):
        if not control.objectName().startswith(prefix):
            control.setObjectName(prefix + control.objectName())


def read_controls(sections: Iterable[QWidget], prefix: str = "") -> dict[str, Any]:
    """Return values by object name without its prefix, in the order of the form."""
    values = {}
    for section in sections:
        for control in _named(section):
            name = control.objectName().removeprefix(prefix)
            if isinstance(control, LayerCombo):
                values[name] = control.layer
            elif isinstance(control, QComboBox):
                values[name] = control.currentText()
            elif isinstance(control, QLineEdit):
                values[name] = control.text()
            elif isinstance(control, QSpinBox | QDoubleSpinBox):
                values[name] = control.value()
            elif isinstance(control, QCheckBox):
                values[name] = control.isChecked()
    return values


def write_controls(form: QWidget, values: Mapping[str, Any]) -> None:
    """Set the controls that the form has; a layer or an entry that is no longer there is left out."""
    for name, value in values.items():
        control = form.findChild(QWidget, name)
        if isinstance(control, LayerCombo):
            if any(control.itemData(row) == value for row in range(control.count())):
                control.choose(value)
        elif isinstance(control, QComboBox):
            control.setCurrentText(value)
        elif isinstance(control, QLineEdit):
            control.setText(value)
        elif isinstance(control, QSpinBox | QDoubleSpinBox):
            control.setValue(value)
        elif isinstance(control, QCheckBox):
            control.setChecked(value)


def _named(section: QWidget) -> list[QWidget]:
    # Qt's own parts of controls have names, too.
    return [
        child
        for child in section.findChildren(QWidget)
        if child.objectName() and not child.objectName().startswith("qt_")
    ]
