"""The parts of the Train form: which images, how bright, which base model."""

from __future__ import annotations

import re
from typing import Any

from qtpy.QtWidgets import QComboBox, QLineEdit, QWidget

from napari_deqmd.core.config import AXES, KINDS
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.typed import AUTO, number_or_range
from napari_deqmd.widgets.choices import ImagesField
from napari_deqmd.widgets.form import default
from napari_deqmd.widgets.layers import LayerImage, guess_axes, read_layer
from napari_deqmd.widgets.models import ModelCombo
from napari_deqmd.widgets.sections.parts import PlainSpin, SectionBox, hint, named
from napari_deqmd.widgets.sections.photons import CameraSection

_ABOUT = {
    "clean": "Sharp images, without blur and nearly without noise: measurements are simulated from them.",
    "paired": "A short and a long exposure of each field: the long one confirms what the short one is restored to.",
    "noisy": "Noisy images only: their photons are split in two, and one part checks what the other predicts.",
}
_MINUTES = 10.0


class TrainImagesSection(SectionBox):
    """Kind of data, images, and for pairs their targets."""

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__("1 · Images", parent)
        self.kind_combo = named(QComboBox(), "train_kind")
        self.kind_combo.addItems(KINDS)
        self.kind_combo.setCurrentText("noisy")
        self.row(
            "Kind", self.kind_combo, "<br>".join(f"<b>{name}</b>: {text}" for name, text in _ABOUT.items())
        )
        self.about = hint("train_about")
        self.form.addRow(self.about)
        self.input = ImagesField(viewer)
        self.row(
            "Images",
            self.input,
            "Images like those you want to restore: a layer (every plane of a series counts), or a folder or files on "
            "disk, separated by semicolons. Several fields teach more than one.",
        )
        self.target = ImagesField(viewer, guess=False)
        self.row(
            "Targets",
            self.target,
            "The long exposures of the same fields, in the same order and of the same size.",
        )
        for field, name in ((self.input, "train_data"), (self.target, "train_target")):
            named(field.combo, name).setToolTip(field.toolTip())
        self.axes_edit = named(QLineEdit(), "train_axes")
        self.axes_edit.setPlaceholderText("from the images")
        self.row(
            "Axes",
            self.axes_edit,
            "One letter for each dimension, where the images do not say or are wrong: T time, C channel, Y, X. Planes "
            "are used one by one: call a focus stack TYX to use its slices.",
        )
        self.kind_combo.currentTextChanged.connect(self._follow_kind)
        self._follow_kind(self.kind_combo.currentText())

    @property
    def kind(self) -> str:
        """The kind of data."""
        return self.kind_combo.currentText()

    def values(self) -> dict[str, Any]:
        """Return what an order is told of images; layers are read here, files in the other thread."""
        axes = self.axes_edit.text().strip().upper() or None
        if axes is not None and not re.fullmatch(f"(?!.*(.).*\\1)[{AXES}]*YX", axes):
            raise UserError(f"The axes are {axes!r}: give letters of {AXES}, each once, ending in YX.")
        inputs = _read(
            self.input, axes, "No images are chosen: choose a layer, or a folder with the … button."
        )
        targets: tuple[LayerImage | str, ...] = ()
        if self.kind == "paired":
            targets = _read(
                self.target,
                axes,
                "No targets are chosen: choose the layer or folder of the long exposures, or another kind of data.",
            )
            if self.input.combo.currentText() == self.target.combo.currentText():
                raise UserError("Images and targets are the same: choose the long exposures as targets.")
        return {"kind": self.kind, "inputs": inputs, "targets": targets, "axes": axes}

    def refresh(self) -> None:
        """Read the viewer's layers again."""
        self.input.combo.refresh()
        self.target.combo.refresh()

    def _follow_kind(self, kind: str) -> None:
        self.about.setText(_ABOUT.get(kind, ""))
        self.form.setRowVisible(self.target, kind == "paired")


class TrainPhotonsSection(CameraSection):
    """Offset, gain and peak."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("3 · Photons", "train_", parent)
        self.peak_edit = named(QLineEdit(AUTO), "train_peak")
        self.peak_edit.setPlaceholderText(AUTO)
        self.row(
            "Peak",
            self.peak_edit,
            "Photo-electrons in a pixel where the object is bright. 'auto' reads it from each image; for clean images, "
            "whose measurements are simulated, it is the whole range of the bundled model, and a range like 20:200 "
            "narrows it to yours.",
        )

    def values(self) -> dict[str, Any]:
        """Return what an order is told of photons."""
        return self.camera | {"peak": number_or_range(self.peak_edit.text(), "Peak")}

    def follow_kind(self, kind: str) -> None:
        """Sharp images are taken on any scale."""
        self.offset_spin.setEnabled(kind != "clean")
        self.gain_spin.setEnabled(kind != "clean")


class BaseSection(SectionBox):
    """Which model to begin with, and for how long."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("4 · Model", parent)
        self.model_combo = named(ModelCombo(), "base_model")
        self.row("Base", self.model_combo, "The model that is adapted to your images; it stays as it is.")
        self.minutes_spin = named(PlainSpin(0.01, 10_000, _MINUTES), "minutes")
        self.row(
            "Minutes",
            self.minutes_spin,
            "Time for everything. Ten minutes tell whether it is worth more; Stop keeps the best so far.",
        )

    def values(self) -> dict[str, Any]:
        """Return what an order is told of the model."""
        return {
            "base": self.model_combo.currentText() or default("model"),
            "minutes": self.minutes_spin.value(),
        }


def _read(field: ImagesField, axes: str | None, missing: str) -> tuple[LayerImage | str, ...]:
    field.combo.keep()
    found = field.combo.sources
    if not found:
        raise UserError(missing)
    return tuple(
        source if isinstance(source, str) else read_layer(source, axes or guess_axes(source, planes=True))
        for source in found
    )
