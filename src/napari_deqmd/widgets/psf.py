"""The PSF dock widget: make a theoretical PSF, distil one from beads, inspect one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QSize
from qtpy.QtWidgets import QLineEdit, QPushButton, QTabWidget, QVBoxLayout, QWidget

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.typed import lengths
from napari_deqmd.widgets.choices import LayerCombo
from napari_deqmd.widgets.dock import MINIMUM_WIDTH, PREFERRED_WIDTH, paint
from napari_deqmd.widgets.form import Place, PsfChoice
from napari_deqmd.widgets.layers import LayerImage, guess_axes, level_0, read_layer, spatial_shape, voxels_of
from napari_deqmd.widgets.messages import note, tell
from napari_deqmd.widgets.opening import place_of
from napari_deqmd.widgets.psf_view import Glance, PsfLook, glance_of
from napari_deqmd.widgets.sections.parts import form_layout, label_of, named, taught
from napari_deqmd.widgets.sections.theory import TheoryForm
from napari_deqmd.widgets.settings import Memory
from napari_deqmd.widgets.tasks import ButtonTask


class PsfWidget(QWidget):
    """Three ways to a PSF layer, and what it looks like.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are offered and which gets the PSF.
    parent : QWidget, optional
    """

    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self.theory = TheoryForm("make_")
        self.image_combo = named(LayerCombo(napari_viewer), "make_image")
        self.voxel_edit = named(QLineEdit(), "make_voxel_size")
        self.voxel_edit.setPlaceholderText("0.3, 0.1, 0.1  or  300nm 100nm 100nm")
        self.make_button = named(QPushButton("Make"), "make_psf")
        taught(
            self.make_button,
            "Compute this PSF for these voxels and add it as a layer: Reconstruct offers it under Source, Layer.",
        )
        self.beads_combo = named(LayerCombo(napari_viewer), "beads_layer")
        self.diameter_edit = named(QLineEdit(), "bead_diameter")
        self.diameter_edit.setPlaceholderText("not deconvolved  or  200nm")
        self.distill_button = named(QPushButton("Distil"), "distill_psf")
        taught(
            self.distill_button,
            "Find the beads, leave out what is no single whole bead, and add the mean of the others as a layer; below "
            "it is said how many were used and how much they differ.",
        )
        self.psf_combo = named(LayerCombo(napari_viewer, psf=True), "inspect_layer")
        self.tabs = named(QTabWidget(), "psf_tabs")
        self.tabs.addTab(
            _page(
                self.theory,
                (
                    "For image",
                    self.image_combo,
                    "Its voxel size is taken over below; a wide-field PSF becomes as tall as it needs.",
                ),
                (
                    "Voxel size",
                    self.voxel_edit,
                    "Along z, y, x, or y, x for a plane: micrometres, or with their unit.",
                ),
                button=self.make_button,
            ),
            "Make",
        )
        self.tabs.addTab(
            _page(
                None,
                ("Beads", self.beads_combo, "An image of single beads: raw counts, nothing saturated."),
                (
                    "Diameter",
                    self.diameter_edit,
                    "Of the beads, to be taken out; leave it empty for beads below a third of the PSF's width.",
                ),
                button=self.distill_button,
            ),
            "From beads",
        )
        self.tabs.addTab(
            _page(None, ("PSF", self.psf_combo, "A layer that shows one point."), button=None), "Inspect"
        )
        self._look = PsfLook()
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        for part in (self.tabs, self._look):
            column.addWidget(part)
        column.addStretch()
        self.setMinimumWidth(MINIMUM_WIDTH)
        self._making = ButtonTask(self.make_button, self)
        self._distilling = ButtonTask(self.distill_button, self)
        self.make_button.clicked.connect(self.make)
        self.distill_button.clicked.connect(self.distill)
        self.image_combo.layer_changed.connect(self._follow)
        self.psf_combo.layer_changed.connect(self.inspect)
        self.tabs.currentChanged.connect(self.inspect)
        self._memory = Memory("psf", self)
        for event, callback in self._listening():
            event.connect(callback)
        self._follow(self.image_combo.layer)
        self._follow_theme()

    def make(self) -> None:
        """Compute a theoretical PSF in another thread and add it as a layer."""
        try:
            text = self.voxel_edit.text().strip()
            voxel = lengths(text, "The voxel size") if text else None
            if voxel is not None and len(voxel) not in (2, 3):
                raise UserError(f"The voxel size has {len(voxel)} numbers: give z, y, x, or y, x.")
            choice = PsfChoice(theory=self.theory.text())
        except UserError as error:
            self._complain(error)
            return
        axes = "ZYX"[-len(voxel) :] if voxel is not None else "ZYX"
        image = Place(axes, voxel, self._shape(axes))
        name = f"{self.theory.kind_combo.currentText()} PSF"
        self._making.start(partial(_made, choice, image), partial(self._add, name, {"psf": str(choice)}))

    def distill(self) -> None:
        """Make a PSF out of a layer of beads in another thread and add it as a layer."""
        try:
            beads = read_layer(self.beads_combo.layer, what="bead")
            text = self.diameter_edit.text().strip()
            diameter = lengths(text, "The bead diameter")[0] if text else None
            if set(beads.axes) - set("ZYX"):
                raise UserError(
                    f"{beads.name!r} has the axes {beads.axes}: give one channel and time as its own layer."
                )
        except Exception as error:  # layers come from anywhere: whatever they do ends as a sentence
            self._complain(error)
            return
        self.beads_combo.keep()
        self._look.say("Looking for beads…")
        self._distilling.start(
            partial(_distilled, beads, diameter),
            partial(self._add, f"{beads.name} PSF", {"beads": beads.name, "bead_diameter": diameter}),
        )

    def inspect(self, *_: Any) -> None:
        """Show the chosen PSF, soon."""
        if self.tabs.tabText(self.tabs.currentIndex()) != "Inspect":
            return
        try:
            layer = read_layer(self.psf_combo.layer, what="PSF")
        except Exception as error:  # as above
            self._look.fail(str(error))
        else:
            self._look.ask(PsfChoice(layer=layer), layer)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Ask for a dock that leaves most of the window to the image."""
        return QSize(PREFERRED_WIDTH, super().sizeHint().height())

    def changeEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        """Notice that napari took the widget out of its dock: that is how a dock closes."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            for emitter, callback in self._listening():
                emitter.disconnect(callback)

    def _listening(self) -> list[tuple[Any, Callable[..., None]]]:
        layers = self._viewer.layers
        changes = [getattr(layers.events, name) for name in ("inserted", "removed", "reordered", "renamed")]
        return [
            *((event, self._layers_changed) for event in (*changes, layers.selection.events.active)),
            (self._viewer.events.theme, self._follow_theme),
            *self._memory.listening(),
        ]

    def _layers_changed(self, event: Any = None) -> None:
        if isalive(self):
            for combo in (self.image_combo, self.beads_combo, self.psf_combo):
                combo.refresh()

    def _follow_theme(self, event: Any = None) -> None:
        if isalive(self):
            paint(self, self._viewer.theme)

    def _follow(self, layer: Any) -> None:
        if layer is None or layer.rgb:
            return
        self.theory.take(layer.metadata)
        self.voxel_edit.setText(voxels_of(layer, guess_axes(layer)))

    def _shape(self, axes: str) -> tuple[int, ...] | None:
        """Return the shape of the chosen image, if it has the PSF's axes."""
        layer = self.image_combo.layer
        own = "" if layer is None or layer.rgb else guess_axes(layer)
        if "".join(letter for letter in own if letter in "ZYX") != axes:
            return None
        return spatial_shape(level_0(layer).shape, own)

    def _add(self, name: str, metadata: dict[str, Any], found: tuple[Any, Glance, str] | None) -> None:
        if found is None:  # told already
            self._look.say("")
            return
        psf, glance, text = found
        place = place_of("ZYX"[-psf.ndim :], glance.report.voxel_size)
        self._viewer.add_image(psf, name=name, metadata=metadata, colormap="inferno", **place)
        self._look.show_glance(glance, text)

    def _complain(self, error: Exception) -> None:
        text = note(error)
        self._look.complain(text)
        tell(text, expected=isinstance(error, UserError))


def _made(choice: PsfChoice, image: Place) -> tuple[np.ndarray, Glance, str]:
    psf = choice.load(image)
    return psf, glance_of(psf, image.voxel_size), ""


def _distilled(beads: LayerImage, diameter: float | None) -> tuple[np.ndarray, Glance, str]:
    from napari_deqmd.psf.beads import distil_psf

    found = distil_psf(np.asarray(beads.data), beads.voxel_size, bead_diameter=diameter)
    reasons = [bead.reason for bead in found.rejected]
    left = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
    text = f"{len(found.beads)} beads used" + (f", left out: {left}" if left else "")
    if len(found.beads) > 1:
        text += f"; they differ from their mean by {found.residual:.0%}"
    own = [f"⚠ {one}" for one in found.warnings if "bead" in one.lower()]
    return found.psf, glance_of(found.psf, found.voxel_size), "\n".join((f"{text}.", *own, ""))


def _page(top: QWidget | None, *rows: tuple[str, QWidget, str], button: QPushButton | None) -> QWidget:
    page = QWidget()
    column = QVBoxLayout(page)
    column.setContentsMargins(8, 8, 8, 8)
    if top is not None:
        column.addWidget(top)
    form = form_layout()
    for label, control, tooltip in rows:
        form.addRow(label_of(label, tooltip), taught(control, tooltip))
    column.addLayout(form)
    if button is not None:
        column.addWidget(button)
    column.addStretch()
    return page
