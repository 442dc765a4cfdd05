"""Combo boxes of the viewer's image layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from napari.layers import Image, Labels, Layer, Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QMenu, QSizePolicy, QToolButton, QWidget

from napari_deqmd.widgets.region import ALL, CURRENT, VIEW, WHOLE
from napari_deqmd.widgets.result import is_result

# Between layers, files and folders that are named together.
_AND = "; "


class LayerCombo(QComboBox):
    """Image layers of a viewer.

    A choice that was made (or used, see `keep`) stays when layers come, go, move or change their names; until then
    the best guess is shown. Call `refresh` whenever the layer list or the active layer changes.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    psf : bool
        Guess a layer that calls itself a PSF, rather than the active layer that does not; a result is neither.
    """

    #: Carries the layer, or ``None``.
    layer_changed = Signal(object)
    #: Which layers are offered.
    kinds: tuple[type[Layer], ...] = (Image,)

    def __init__(self, viewer: Any, psf: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._psf = psf
        self._kept = False
        _keep_narrow(self)
        self.currentIndexChanged.connect(self._choice_made)
        self.refresh()

    @property
    def layer(self) -> Image | None:
        """The chosen layer."""
        return self.currentData()

    def choose(self, layer: Any) -> None:
        """Choose a layer of the list."""
        self.setCurrentIndex(self._find(layer))

    def keep(self, *_: Any) -> None:
        """Guess no more: this choice is being used."""
        self._kept = self.layer is not None

    def refresh(self) -> None:
        """Read the viewer's layers again, newest first as napari lists them."""
        before = self.layer
        self.blockSignals(True)
        self.clear()
        for layer in reversed(list(self._viewer.layers)):
            if isinstance(layer, self.kinds):
                self.addItem(layer.name, layer)
        index = self._find(before) if self._kept else -1
        self._kept = index >= 0
        self.setCurrentIndex(index if index >= 0 else self._guess(before))
        self.blockSignals(False)
        if self.layer != before:
            self.layer_changed.emit(self.layer)

    def _find(self, layer: Any) -> int:
        # Plugins see layers through proxies: equal, not identical.
        return next((row for row in range(self.count()) if self.itemData(row) == layer), -1)

    def _guess(self, before: Any) -> int:
        """Return the row of the active layer if it fits, else of the one that was shown before, else of the newest."""
        rows = range(self.count())
        fitting = [
            row
            for row in rows
            if ("psf" in self.itemText(row).lower()) == self._psf and not is_result(self.itemData(row))
        ]
        likely = [self._find(self._viewer.layers.selection.active), self._find(before)]
        return next((row for row in (*likely, *fitting, *rows) if row in (fitting or rows)), -1)

    def _choice_made(self) -> None:
        self.keep()
        self.layer_changed.emit(self.layer)


class OptionalCombo(LayerCombo):
    """Image layers of a viewer, or none of them, which is what it shows until one is chosen."""

    def refresh(self) -> None:
        """Read the viewer's layers again."""
        super().refresh()
        blocked = self.blockSignals(True)
        self.insertItem(0, "none", None)
        self.setCurrentIndex(max(0, self.currentIndex()))
        self.blockSignals(blocked)

    def _guess(self, before: Any) -> int:
        return -1


class MaskCombo(OptionalCombo):
    """Layers that may say which pixels are bad, or none of them."""

    kinds = (Image, Labels)


class ImagesCombo(LayerCombo):
    """Image layers of a viewer, or whatever is typed: names of layers, files and folders, separated by semicolons.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    guess : bool
        Show a layer before one is chosen.
    """

    def __init__(self, viewer: Any, *, guess: bool = True, parent: QWidget | None = None) -> None:
        self._guessing = guess
        super().__init__(viewer, parent=parent)
        self._told: Any = self.layer
        self.layer_changed.connect(self._tell)
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.setCompleter(None)
        if (edit := self.lineEdit()) is not None:
            edit.setPlaceholderText("layer, folder or files")
        self.editTextChanged.connect(self._typed)

    @property
    def layer(self) -> Image | None:
        """The chosen layer, unless something else was typed."""
        chosen = self.currentIndex() >= 0 and self.currentText() == self.itemText(self.currentIndex())
        return self.currentData() if chosen else None

    @property
    def sources(self) -> list[Image | str]:
        """What is chosen: layers, and paths."""
        if self.layer is not None:
            return [self.layer]
        named = {self.itemText(row): self.itemData(row) for row in range(self.count())}
        parts = [part.strip() for part in self.currentText().split(_AND.strip())]
        return [named.get(part, part) for part in parts if part]

    def refresh(self) -> None:
        """Read the viewer's layers again; what was typed stays."""
        typed = self.currentText() if self.layer is None else ""
        super().refresh()
        if typed:
            self.setEditText(typed)

    def choose_several(self, names: Iterable[str]) -> None:
        """Name layers, files or folders."""
        if text := _AND.join(names):
            self.setCurrentText(text)

    def _guess(self, before: Any) -> int:
        return super()._guess(before) if self._guessing else -1

    def _typed(self, text: str) -> None:
        """Notice that something else than the layer was written."""
        if self.layer is None and self._told is not None:
            self.layer_changed.emit(None)

    def _tell(self, layer: Any) -> None:
        self._told = layer


class RegionCombo(QComboBox):
    """The whole image, the current view, or the viewer's Shapes layers.

    Call `refresh` whenever the layer list changes; the choice stays.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        _keep_narrow(self)
        self.addItems((WHOLE, VIEW))
        self.refresh()

    @property
    def shapes(self) -> Shapes | None:
        """The chosen Shapes layer."""
        return self.currentData()

    @property
    def in_view(self) -> bool:
        """Whether the current view is chosen."""
        return self.shapes is None and self.currentText() == VIEW

    def refresh(self) -> None:
        """Read the viewer's layers again, newest first as napari lists them."""
        row, before = self.currentIndex(), self.shapes
        self.blockSignals(True)
        while self.count() > 2:
            self.removeItem(2)
        for layer in reversed(list(self._viewer.layers)):
            if isinstance(layer, Shapes):
                self.addItem(layer.name, layer)
                if before is not None and layer == before:
                    row = self.count() - 1
        self.setCurrentIndex(row if before is None or self.itemData(row) == before else 0)
        self.blockSignals(False)
        if self.shapes != before:
            self.currentIndexChanged.emit(self.currentIndex())


class PartCombo(QComboBox):
    """All, the current, or a typed range of the positions along an axis; an axis that is not there is hidden."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.addItems((ALL, CURRENT))
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.setCompleter(None)
        _keep_narrow(self)


class ImagesField(QWidget):
    """An `ImagesCombo` and a button that looks for folders, files and selected layers."""

    def __init__(self, viewer: Any, *, guess: bool = True, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.combo = ImagesCombo(viewer, guess=guess)
        button = QToolButton()
        button.setText("…")
        button.setToolTip("A folder, several files, or the layers that are selected in the layer list.")
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        button.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        menu = QMenu(button)
        menu.addAction("Folder…", self._ask_for_folder)
        menu.addAction("Files…", self._ask_for_files)
        menu.addAction("Selected layers", self._take_selected)
        button.setMenu(menu)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self.combo, stretch=1)
        row.addWidget(button)

    def _ask_for_folder(self) -> None:
        self.combo.choose_several(filter(None, [QFileDialog.getExistingDirectory(self, "Choose a folder")]))

    def _ask_for_files(self) -> None:
        kinds = "Images (*.tif *.tiff *.png *.jpg *.jpeg);;All files (*)"
        self.combo.choose_several(QFileDialog.getOpenFileNames(self, "Choose images", "", kinds)[0])

    def _take_selected(self) -> None:
        chosen = self._viewer.layers.selection
        self.combo.choose_several(
            layer.name for layer in self._viewer.layers if layer in chosen and isinstance(layer, Image)
        )


def _keep_narrow(combo: QComboBox) -> None:
    """Let the dock's width, and not the longest name, decide."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(8)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
