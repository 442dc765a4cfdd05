"""A combo box of the viewer's image layers."""

from __future__ import annotations

from typing import Any

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget


class LayerCombo(QComboBox):
    """Image layers of a viewer.

    A choice that was made (or used, see `keep`) stays when layers come, go, move or change their names; until then
    the best guess is shown. Call `refresh` whenever the layer list or the active layer changes.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    psf : bool
        Guess a layer that calls itself a PSF, rather than the active layer that does not.
    """

    #: Carries the layer, or ``None``.
    layer_changed = Signal(object)

    def __init__(self, viewer: Any, psf: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._psf = psf
        self._kept = False
        # Long layer names must not widen the dock.
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.currentIndexChanged.connect(self._choice_made)
        self.refresh()

    @property
    def layer(self) -> Image | None:
        """The chosen layer."""
        return self.currentData()

    def choose(self, layer: Any) -> None:
        """Choose a layer of the list."""
        self.setCurrentIndex(self._find(layer))

    def keep(self) -> None:
        """Guess no more: this choice is being used."""
        self._kept = self.layer is not None

    def refresh(self) -> None:
        """Read the viewer's layers again, newest first as napari lists them."""
        before = self.layer
        self.blockSignals(True)
        self.clear()
        for layer in reversed(list(self._viewer.layers)):
            if isinstance(layer, Image):
                self.addItem(layer.name, layer)
        index = self._find(before) if self._kept else -1
        self._kept = index >= 0
        self.setCurrentIndex(index if index >= 0 else self._guess())
        self.blockSignals(False)
        if self.layer != before:
            self.layer_changed.emit(self.layer)

    def _find(self, layer: Any) -> int:
        # Plugins see layers through proxies: equal, not identical.
        return next((row for row in range(self.count()) if self.itemData(row) == layer), -1)

    def _guess(self) -> int:
        rows = range(self.count())
        fitting = [row for row in rows if ("psf" in self.itemText(row).lower()) == self._psf]
        active = self._find(self._viewer.layers.selection.active)
        if active in fitting and not self._psf:
            return active
        return next(iter(fitting or rows), -1)

    def _choice_made(self) -> None:
        self.keep()
        self.layer_changed.emit(self.layer)
