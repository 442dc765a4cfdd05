"""Which image, and what its dimensions are."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QRegularExpression
from qtpy.QtGui import QRegularExpressionValidator
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_deqmd.core.config import AXES
from napari_deqmd.widgets.choices import LayerCombo
from napari_deqmd.widgets.layers import LayerImage, describe, guess_axes, read_layer
from napari_deqmd.widgets.sections.parts import SectionBox, hint, named


class ImageSection(SectionBox):
    """Open a stack or choose a layer; axes come from the layer and may be edited."""

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__("1 · Image", parent)
        self.open_button = named(QPushButton("Open…"), "open_image")
        self.open_button.setToolTip(
            "<p>Open a TIFF or OME-TIFF stack with its axes and voxel size; each channel becomes a layer.</p>"
        )
        self.layer_combo = named(LayerCombo(viewer), "image_layer")
        self.row(
            "Layer", self.layer_combo, "The image to deconvolve: raw camera counts, not rescaled or filtered."
        )
        beside = QHBoxLayout()
        beside.setSpacing(6)
        beside.addWidget(self.layer_combo, stretch=1)
        beside.addWidget(self.open_button)
        self.form.setLayout(0, QFormLayout.ItemRole.FieldRole, beside)
        self.axes_edit = named(QLineEdit(), "axes")
        letters = QRegularExpression(f"[{AXES}{AXES.lower()}]*")
        self.axes_edit.setValidator(QRegularExpressionValidator(letters, self.axes_edit))
        self.row(
            "Axes",
            self.axes_edit,
            "One letter for each dimension: T time, C channel, Z depth, Y, X. Times and channels are deconvolved one "
            "by one; Z, Y, X together. A time series of planes is TYX, a focus stack ZYX.",
        )
        self.summary = hint("image_summary")
        self.column.addWidget(self.summary)
        self.layer_combo.layer_changed.connect(self._show_layer)
        self.axes_edit.textChanged.connect(self._summarise)
        self._show_layer(self.layer_combo.layer)

    @property
    def axes(self) -> str:
        """The axes as typed, in capitals."""
        return self.axes_edit.text().strip().upper()

    def read(self, *, keep: bool = True) -> LayerImage:
        """Take the image from the chosen layer, which then is the choice to `keep`."""
        if keep:
            self.layer_combo.keep()
        return read_layer(self.layer_combo.layer, self.axes)

    def _show_layer(self, layer: Any) -> None:
        self.axes_edit.setText(guess_axes(layer) if layer is not None else "")
        self._summarise()

    def _summarise(self) -> None:
        layer = self.layer_combo.layer
        if layer is None:
            text = "Open an image, or one of File > Open Sample > DEQ-MD Deconvolution."
        elif layer.rgb or layer.multiscale:
            text = (
                "A colour or multiscale layer cannot be deconvolved: add one plain channel as its own layer."
            )
        else:
            text = describe(layer, self.axes)
        self.summary.setText(text)
