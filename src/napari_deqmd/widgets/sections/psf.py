"""Where the point spread function comes from."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.typed import numbers
from napari_deqmd.widgets.choices import LayerCombo
from napari_deqmd.widgets.form import PsfChoice
from napari_deqmd.widgets.layers import read_layer
from napari_deqmd.widgets.sections.parts import SectionBox, form_layout, label_of, named, taught
from napari_deqmd.widgets.settings import fill

_GAUSSIAN = "gaussian:sigma="
SOURCES = ("Theory", "Layer", "File")


class PsfSection(SectionBox):
    """A theoretical PSF, a layer, or a file.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    prefix : str
        Of the object names.
    """

    def __init__(self, viewer: Any, prefix: str = "", parent: QWidget | None = None) -> None:
        super().__init__("2 · Point spread function", parent)
        self.source_combo = named(QComboBox(), f"{prefix}psf_source")
        self.source_combo.addItems(SOURCES)
        self.row(
            "Source",
            self.source_combo,
            "How the microscope blurs one point. A PSF measured from beads (layer or file) is best; a theoretical one "
            "does if its width is right. Too wide a PSF makes rings, too narrow a one leaves blur.",
        )
        self.sigma_edit = named(QLineEdit("1.8"), f"{prefix}psf_sigma")
        self.sigma_edit.setPlaceholderText("1.8  or  3, 1.4, 1.4")
        self.layer_combo = named(LayerCombo(viewer, psf=True), f"{prefix}psf_layer")
        self.file_edit = named(QLineEdit(), f"{prefix}psf_file")
        self.file_edit.setPlaceholderText("PSF as TIFF")
        browse = named(QToolButton(), f"{prefix}psf_browse")
        browse.setText("…")
        browse.setToolTip("Choose a TIFF file.")
        browse.clicked.connect(self._browse)
        file_row = QWidget()
        inside = QHBoxLayout(file_row)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addWidget(self.file_edit)
        inside.addWidget(browse)
        self._pages = QStackedWidget()
        for label, control, tooltip in (
            (
                "Gaussian σ",
                self.sigma_edit,
                "Standard deviation in pixels (full width at half maximum / 2.355): one number, or z, y, x.",
            ),
            (
                "PSF layer",
                self.layer_combo,
                "An image layer that shows one point, with the voxel size of the image.",
            ),
            ("PSF file", file_row, "A TIFF that shows one point, with the voxel size of the image."),
        ):
            self._pages.addWidget(_page(label, control, tooltip))
        self.file_edit.setToolTip(file_row.toolTip())
        self.column.addWidget(self._pages)
        self.source_combo.currentIndexChanged.connect(self._pages.setCurrentIndex)

    def follow(self, layer: Any) -> None:
        """Take the PSF from an image layer's metadata, ``psf`` as on the command line, or else the user's own."""
        known = layer.metadata.get("psf") if layer is not None else None
        sigma = (
            known.removeprefix(_GAUSSIAN) if isinstance(known, str) and known.startswith(_GAUSSIAN) else None
        )
        fill(self.source_combo, None if sigma is None else "Theory")
        fill(self.sigma_edit, None if sigma is None else sigma.replace(",", ", "))

    def read(self, *, keep: bool = True) -> PsfChoice:
        """Take the choice, which is then one to `keep`; layers are read here, files later in the other thread."""
        source = self.source_combo.currentText()
        if source == "Theory":
            return PsfChoice(sigma=numbers(self.sigma_edit.text(), "The PSF's σ"))
        if source == "Layer":
            if keep:
                self.layer_combo.keep()
            return PsfChoice(layer=read_layer(self.layer_combo.layer, what="PSF"))
        path = self.file_edit.text().strip()
        if not path:
            raise UserError("No PSF file is chosen: press … beside PSF file, or take a theoretical PSF.")
        return PsfChoice(path=path)

    def _browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Choose a PSF", "", "TIFF (*.tif *.tiff);;All files (*)")
        if path:
            self.file_edit.setText(path)


def _page(label: str, control: QWidget, tooltip: str) -> QWidget:
    page = QWidget()
    column = QVBoxLayout(page)
    column.setContentsMargins(0, 0, 0, 0)
    form = form_layout()
    form.addRow(label_of(label, tooltip), taught(control, tooltip))
    column.addLayout(form)
    column.addStretch()
    return page
