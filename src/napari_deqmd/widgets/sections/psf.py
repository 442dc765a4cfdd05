"""Where the point spread function comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLineEdit, QToolButton, QWidget

from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets.choices import LayerCombo
from napari_deqmd.widgets.form import Place, PsfChoice
from napari_deqmd.widgets.layers import guess_axes, level_0, read_layer, spatial_shape, voxel_size
from napari_deqmd.widgets.psf_view import PsfLook
from napari_deqmd.widgets.region import SPATIAL
from napari_deqmd.widgets.sections.parts import SectionBox, form_layout, label_of, named, taught
from napari_deqmd.widgets.sections.theory import TheoryForm
from napari_deqmd.widgets.settings import fill

_GAUSSIAN = "gaussian:sigma="
SOURCES = ("Theory", "Layer", "File")


class PsfSection(SectionBox):
    """A theoretical PSF, a layer, or a file, and what it looks like.

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
        self.theory = TheoryForm(prefix)
        self.sigma_edit = self.theory.sigma_edit
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
        self._pages = [
            self.theory,
            _page(
                "PSF layer",
                self.layer_combo,
                "An image layer that shows one point; other voxels than the image's are resampled.",
            ),
            _page(
                "PSF file",
                file_row,
                "A TIFF that shows one point; other voxels than the image's are resampled.",
            ),
        ]
        self.file_edit.setToolTip(file_row.toolTip())
        for page in self._pages:
            self.column.addWidget(page)
        self._look = PsfLook(prefix)
        self.column.addWidget(self._look)
        self._place = Place()
        self._pixels: np.ndarray | None = None
        self._image: Any = None
        # Once the user has chosen anything here, no layer is guessed; for this image, nothing is filled in either.
        self._chosen = self._settled = self._guessing = False
        self.source_combo.currentIndexChanged.connect(self._turn_to)
        for change in (
            self.source_combo.currentIndexChanged,
            self.theory.changed,
            self.file_edit.textChanged,
        ):
            change.connect(self._choose)
        self.layer_combo.layer_changed.connect(self._guess)
        self.theory.changed.connect(self.look)
        self.layer_combo.layer_changed.connect(self.look)
        self.file_edit.editingFinished.connect(self.look)
        self._turn_to(0)

    def read(self, *, keep: bool = True) -> PsfChoice:
        """Take the choice, which is then one to `keep`; layers are read here, files later in the other thread."""
        source = self.source_combo.currentText()
        if source == "Theory":
            return PsfChoice(theory=self.theory.text())
        if source == "Layer":
            # What is remembered as "Layer" finds no PSF in another session's viewer.
            if self._image is not None and self.layer_combo.layer == self._image:
                raise UserError(
                    f"{self._image.name!r} is the image itself: choose the layer of a PSF, or a theoretical one."
                )
            if keep:
                self.layer_combo.keep()
            return PsfChoice(layer=read_layer(self.layer_combo.layer, what="PSF"))
        path = self.file_edit.text().strip()
        if not path:
            raise UserError("No PSF file is chosen: press … beside PSF file, or take a theoretical PSF.")
        return PsfChoice(path=path)

    def follow(self, layer: Any, axes: str | None = None) -> None:
        """Take voxel size, dimensions and optics from the image that the PSF is for.

        And the PSF, if ``psf`` of its metadata is a Gaussian as on the command line, ``gaussian:sigma=...``; without it
        the user's own comes back, or a layer that calls itself a PSF while there is none.
        """
        self._settled = self._settled and layer is not None and layer == self._image
        self._image = layer
        self._guess()
        place, pixels = Place(), None
        if layer is not None and not layer.rgb:
            axes = guess_axes(layer) if axes is None else axes
            if len(axes) == layer.ndim and "YX" in axes:
                place = Place(axes, voxel_size(layer, axes), spatial_shape(level_0(layer).shape, axes))
                pixels = layer.data if isinstance(layer.data, np.ndarray) else None
        self._guessing = True
        self.theory.take({} if layer is None else layer.metadata)
        self._guessing = False
        if place != self._place or pixels is not self._pixels:
            self._place, self._pixels = place, pixels
            self.look()

    def _guess(self, *_: Any) -> None:
        if self._settled:
            return
        known = self._image.metadata.get("psf") if self._image is not None else None
        sigma = (
            known.removeprefix(_GAUSSIAN) if isinstance(known, str) and known.startswith(_GAUSSIAN) else None
        )
        source = "Theory" if sigma is not None else "Layer" if self._is_offered() else None
        self._guessing = True
        fill(self.source_combo, source)
        fill(self.theory.kind_combo, None if sigma is None else "Gaussian")
        fill(self.sigma_edit, None if sigma is None else sigma.replace(",", ", "))
        self._guessing = False

    def _is_offered(self) -> bool:
        """Whether a layer calls itself a PSF, could be one of the image, and the user has chosen nothing."""
        layer, image = self.layer_combo.layer, self._image
        if (
            self._chosen
            or layer is None
            or image is None
            or layer == image
            or "psf" not in layer.name.lower()
        ):
            return False
        spatial = sum(letter in SPATIAL for letter in guess_axes(image))
        return not (layer.rgb or layer.multiscale or image.rgb) and layer.ndim == spatial

    def _choose(self, *_: Any) -> None:
        self._chosen = self._chosen or not self._guessing
        self._settled = self._settled or not self._guessing

    def look(self, *_: Any) -> None:
        """Show the chosen PSF, soon."""
        try:
            choice = self.read(keep=False)
        except Exception as error:  # layers come from anywhere; Run says it once more
            self._look.fail(str(error))
        else:
            self._look.ask(choice, self._place, self._pixels)

    def _turn_to(self, index: int) -> None:
        for number, page in enumerate(self._pages):
            page.setVisible(number == index)
        self.look()

    def _browse(self) -> None:
        kinds = "TIFF and OME-Zarr (*.tif *.tiff zarr.json .zattrs);;All files (*)"
        path, _ = QFileDialog.getOpenFileName(self, "Choose a PSF", "", kinds)
        if path:
            self.file_edit.setText(path)
            self.look()


def _page(label: str, control: QWidget, tooltip: str) -> QWidget:
    page = QWidget()
    form = form_layout()
    page.setLayout(form)
    form.addRow(label_of(label, tooltip), taught(control, tooltip))
    return page
