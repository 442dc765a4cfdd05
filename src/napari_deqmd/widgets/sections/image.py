"""Which image, and what its dimensions are."""

from __future__ import annotations

from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QRegularExpression, QTimer, Signal
from qtpy.QtGui import QRegularExpressionValidator
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_deqmd.core.config import AXES
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.typed import lengths
from napari_deqmd.widgets.choices import LayerCombo, PartCombo, RegionCombo
from napari_deqmd.widgets.layers import (
    LayerImage,
    describe,
    guess_axes,
    level_0,
    order_of,
    read_layer,
    require_fitting,
    saturation_of,
    set_voxel_size,
    sizes_of,
    voxels_of,
)
from napari_deqmd.widgets.region import (
    ALL,
    CURRENT,
    Region,
    chosen_part,
    focus,
    in_view,
    marked,
    middle_of,
    preview_of,
    whole,
)
from napari_deqmd.widgets.sections.parts import SectionBox, hint, named

# Milliseconds from a change of the view to the summary of what is in it.
_SOON = 200
_HOW_MANY = (
    "All of them, the current one that the slider shows, or a range as the slider counts, for example 3-7. "
    "Each is deconvolved on its own."
)


class ImageSection(SectionBox):
    """Open a stack or choose a layer, and the part of it that is meant; axes come from the layer and may be edited.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    parent : QWidget, optional
    """

    #: Another time, channel or other data of the same layer are meant.
    contents_changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__("1 · Image", parent)
        self._viewer = viewer
        self._watched: Any = None
        self._saturated = ""
        self.open_button = named(QPushButton("Open…"), "open_image")
        self.open_button.setToolTip(
            "<p>Open a TIFF, OME-TIFF or OME-Zarr with its axes and voxel size; each channel becomes a layer.</p>"
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
        self.voxel_edit = named(QLineEdit(), "voxel_size")
        self.voxel_edit.setPlaceholderText("unknown: such as 0.3, 0.1, 0.1")
        self.row(
            "Voxel µm",
            self.voxel_edit,
            "The layer's, along z, y, x: micrometres, or with their unit. A theoretical PSF needs it, and a measured "
            "one is resampled to it. What is typed here becomes the layer's scale and units, and so the result's.",
        )
        self.part_combos = {
            "T": ("Time", named(PartCombo(), "time_choice")),
            "C": ("Channel", named(PartCombo(), "channel_choice")),
        }
        for label, combo in self.part_combos.values():
            self.row(label, combo, _HOW_MANY)
        self.region_combo = named(RegionCombo(viewer), "roi")
        self.row(
            "Region",
            self.region_combo,
            "What is deconvolved: the whole image, what the canvas shows of it now, or the box around the selected "
            "(else the last) shape of a Shapes layer: add one with the polygon button above the layer list and draw "
            "a rectangle. Of a stack all planes are taken. The result is a layer that lies on this part.",
        )
        self.summary = hint("image_summary")
        self.column.addWidget(self.summary)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_SOON)
        self._soon.timeout.connect(self._summarise)
        self.layer_combo.layer_changed.connect(self._show_layer)
        self.axes_edit.textEdited.connect(self.layer_combo.keep)
        self.region_combo.activated.connect(self.layer_combo.keep)
        self.axes_edit.textChanged.connect(self._axes_changed)
        self.voxel_edit.editingFinished.connect(self._take_voxels)
        self.region_combo.currentIndexChanged.connect(self._summarise)
        for _, combo in self.part_combos.values():
            combo.currentTextChanged.connect(self._summarise)
            combo.currentTextChanged.connect(self.contents_changed)
            combo.activated.connect(self.layer_combo.keep)
            if (edit := combo.lineEdit()) is not None:
                edit.textEdited.connect(self.layer_combo.keep)
        self._show_layer(self.layer_combo.layer)

    @property
    def axes(self) -> str:
        """The axes as typed, in capitals."""
        return self.axes_edit.text().strip().upper()

    def read(self, *, preview: bool = False, keep: bool = True) -> LayerImage:
        """Take the image and the region that is meant, or a small part of that for a preview.

        The layer then is the choice to `keep`.

        Raises
        ------
        UserError
            The layer cannot be used, or there is no such region.
        """
        if keep:
            self.layer_combo.keep()
        layer = require_fitting(self.layer_combo.layer, self.axes)
        return read_layer(layer, self.axes, region=self._region(layer, preview=preview))

    def refresh_layers(self) -> None:
        """Read the viewer's layers again."""
        self.layer_combo.refresh()
        self.region_combo.refresh()

    def view_changed(self) -> None:
        """Follow the camera and the sliders."""
        if self.region_combo.in_view or any(
            combo.currentText().strip() == CURRENT for _, combo in self.part_combos.values()
        ):
            self._soon.start()

    def let_go(self) -> None:
        """Listen to no layer any more."""
        self._watch(None)

    def _region(self, layer: Any, *, preview: bool) -> Region:
        axes, shape = self.axes, tuple(level_0(layer).shape)
        here = focus(self._viewer, layer)
        shapes = self.region_combo.shapes
        if shapes is not None:
            region = marked(self._viewer, layer, axes, shape, shapes)
        elif preview or self.region_combo.in_view:
            region = in_view(self._viewer, layer, axes, shape)
        else:
            region = whole(shape)
        for axis, letter in enumerate(axes):
            if letter in self.part_combos:
                label, combo = self.part_combos[letter]
                text = CURRENT if preview else combo.currentText()
                region = region.narrow(axis, chosen_part(text, shape[axis], here[axis], what=label))
        if preview:
            middle = here
            if shapes is not None:
                middle[-2:] = middle_of(region)[-2:]
            region = preview_of(region, axes, middle)
        return region

    def _show_layer(self, layer: Any) -> None:
        self._watch(layer)
        self.axes_edit.setText(guess_axes(layer) if layer is not None else "")
        for _, combo in self.part_combos.values():
            combo.setCurrentText(ALL)
        self._look_for_saturation()
        self._axes_changed()

    def _watch(self, layer: Any) -> None:
        for watched, connected in ((self._watched, False), (layer, True)):
            if watched is None:
                continue
            for event, callback in (
                (watched.events.data, self._data_changed),
                (watched.events.axis_labels, self._labels_changed),
                (watched.events.scale, self._summarise),
                (watched.events.units, self._summarise),
            ):
                (event.connect if connected else event.disconnect)(callback)
        self._watched = layer

    def _data_changed(self, event: Any = None) -> None:
        if not isalive(self):
            return
        layer = self.layer_combo.layer
        if layer is not None and len(self.axes) != layer.ndim:
            self.axes_edit.setText(guess_axes(layer))
        self._look_for_saturation()
        self._summarise()
        self.contents_changed.emit()

    def _labels_changed(self, event: Any = None) -> None:
        layer = self.layer_combo.layer if isalive(self) else None
        if layer is not None:
            self.axes_edit.setText(guess_axes(layer))

    def _take_voxels(self) -> None:
        if not self.voxel_edit.isModified():
            return
        self.voxel_edit.setModified(False)
        try:
            layer = require_fitting(self.layer_combo.layer, self.axes)
            if text := self.voxel_edit.text().strip():
                set_voxel_size(layer, self.axes, lengths(text, "The voxel size"))
        except UserError as error:
            self.summary.complain(str(error))
        else:
            self._summarise()

    def _look_for_saturation(self) -> None:
        layer = self.layer_combo.layer
        self._saturated = "" if layer is None or layer.rgb else saturation_of(layer)

    def _axes_changed(self) -> None:
        for letter, (_, combo) in self.part_combos.items():
            self.form.setRowVisible(combo, letter in self.axes)
        self._summarise()

    def _summarise(self, event: Any = None) -> None:
        if not isalive(self):
            return
        layer = self.layer_combo.layer
        if not self.voxel_edit.isModified():
            self.voxel_edit.setText("" if layer is None else voxels_of(layer, self.axes))
        if layer is None:
            self.summary.setText("Open an image, or one of File > Open Sample > DEQ-MD Deconvolution.")
        elif layer.rgb:
            self.summary.complain(
                "A colour layer cannot be deconvolved: split it into channels (right-click, Split RGB)."
            )
        else:
            found, part, wrong = describe(layer, self.axes), "", False
            try:
                part = _describe_region(self.read(keep=False).part)
            except UserError as error:
                part, wrong = str(error), True
            turned = order_of(layer, self.axes)
            text = "<br>".join(filter(None, (found, part, turned, self._saturated)))
            say = self.summary.complain if wrong or turned or self._saturated else self.summary.setText
            say(text)


def _describe_region(region: Region) -> str:
    return "" if region.is_whole else f"Runs on {sizes_of(region.shape)} of it."
