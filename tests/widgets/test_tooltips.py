"""Whatever can be pressed, chosen or typed says what it does."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QTabBar, QWidget

_CONTROLS = (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit)


@pytest.mark.parametrize("name", ["Reconstruct", "Train", "Compare", "Psf"])
def test_every_control_teaches(make_napari_viewer: Any, qtbot: Any, name: str) -> None:
    module = import_module(f"napari_deqmd.widgets.{name.lower()}")
    widget = getattr(module, f"{name}Widget")(make_napari_viewer())
    qtbot.addWidget(widget)
    controls = [
        child
        for child in widget.findChildren(QWidget)
        # Qt's own parts of controls teach by the whole.
        if isinstance(child, _CONTROLS)
        and not child.objectName().startswith("qt_")
        and not isinstance(child.parent(), (*_CONTROLS, QTabBar))
    ]
    assert len(controls) > 5
    assert [child.objectName() or child for child in controls if not child.toolTip()] == []
