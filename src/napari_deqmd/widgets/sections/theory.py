"""The optics of a theoretical PSF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLineEdit, QWidget

from napari_deqmd.core.typed import numbers
from napari_deqmd.psf.theory import KINDS
from napari_deqmd.widgets.sections.parts import PlainSpin, form_layout, label_of, named, taught
from napari_deqmd.widgets.settings import fill

# Named as the command line names them, and as people do; a box of uniform light is for tests.
_NAMES = {
    "gaussian": "Gaussian",
    "widefield": "Wide-field",
    "confocal": "Confocal",
    "spinning-disc": "Spinning disc",
    "two-photon": "Two photons",
    "lightsheet": "Light sheet",
}
_NANOMETRES = 1000.0


class TheoryForm(QWidget):
    """Kind of microscope and its numbers; only what the kind takes is shown.

    Parameters
    ----------
    prefix : str
        Of the object names.
    """

    changed = Signal()

    def __init__(self, prefix: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._form = form_layout()
        self.setLayout(self._form)
        self.kind_combo = named(QComboBox(), f"{prefix}psf_kind")
        for kind, name in _NAMES.items():
            self.kind_combo.addItem(name, kind)
        tooltip = (
            "A Gaussian of a width you know, or what a microscope does to a point by diffraction. A microscope's PSF "
            "needs the voxel size of the image."
        )
        self._form.addRow(label_of("Kind", tooltip), taught(self.kind_combo, tooltip))
        self.sigma_edit = named(QLineEdit("1.8"), f"{prefix}psf_sigma")
        self.sigma_edit.setPlaceholderText("1.8  or  3, 1.4, 1.4")
        tooltip = (
            "Standard deviation in pixels (full width at half maximum / 2.355): one number, or z, y, x. Below the "
            "picture stands what that is in the image's unit."
        )
        self._form.addRow(label_of("Width σ px", tooltip), taught(self.sigma_edit, tooltip))
        self.spins: dict[str, PlainSpin] = {}
        self._labels: dict[str, QWidget] = {}
        self.vectorial = named(QCheckBox("Polarisation"), f"{prefix}psf_vectorial")
        self.vectorial.setChecked(True)
        self._rows = [1]  # of the Gaussian; the microscopes' follow
        self._pair(
            prefix,
            ("na", "NA", 0.02, 1.7, 1.4, "Numerical aperture, as written on the objective."),
            (
                "wavelength",
                "λ nm",
                100,
                5000,
                520,
                "Wavelength of the emission; of the laser for two photons.",
            ),
        )
        self._pair(
            prefix,
            ("ni", "Immersion", 1.0, 2.0, 1.515, "Refractive index: air 1, water 1.333, oil 1.515."),
            (
                "ns",
                "Sample",
                1.0,
                2.0,
                1.515,
                "Refractive index of what the object lies in. It matters at depth.",
            ),
        )
        self._pair(
            prefix,
            (
                "depth",
                "Depth µm",
                0.0,
                200.0,
                0.0,
                "Of the object below the coverslip, with another index: aberration.",
            ),
            ("pinhole", "Pinhole AU", 0.05, 20.0, 1.0, "Diameter in Airy units, usually 1."),
            ("sheet", "Sheet µm", 0.05, 100.0, 2.0, "Full width at half maximum of the light sheet."),
        )
        self._pair(
            prefix,
            ("excitation", "Laser nm", 100, 5000, 488, "Wavelength of the excitation."),
        )
        self.size_edit = named(QLineEdit(), f"{prefix}psf_size")
        self.size_edit.setPlaceholderText("automatic")
        tooltip = (
            "Voxels of the PSF: one odd number, or z, y, x. Automatic is as tall as the stack needs until the light "
            "has faded. A smaller one is quicker and needs less memory, but light from further away stays as haze."
        )
        self._form.addRow(label_of("Size px", tooltip), taught(self.size_edit, tooltip))
        self._rows.append(self._form.rowCount() - 1)
        tooltip = "Take polarisation into account: right for large apertures, a little slower."
        self._form.addRow(label_of("", ""), taught(self.vectorial, tooltip))
        self._rows.append(self._form.rowCount() - 1)
        self.kind_combo.currentIndexChanged.connect(self._show_kind)
        self.sigma_edit.textChanged.connect(self.changed)
        self.size_edit.textChanged.connect(self.changed)
        self.vectorial.toggled.connect(self.changed)
        for spin in self.spins.values():
            spin.valueChanged.connect(self.changed)
        self._taken: Any = None
        self._show_kind()

    @property
    def kind(self) -> str:
        """The kind, as the command line names it."""
        return str(self.kind_combo.currentData())

    def text(self) -> str:
        """Return the PSF as the command line would write it."""
        if self.kind == "gaussian":
            sigma = numbers(self.sigma_edit.text(), "The PSF's σ")
            return f"gaussian:sigma={','.join(f'{value:g}' for value in sigma)}"
        values = {
            name: spin.value() / (_NANOMETRES if name in ("wavelength", "excitation") else 1)
            for name, spin in self.spins.items()
            if name in KINDS[self.kind].takes
        }
        values["vectorial"] = float(self.vectorial.isChecked())
        written = [f"{name}={value:g}" for name, value in values.items()]
        if self.size_edit.text().strip():
            size = numbers(self.size_edit.text(), "The PSF's size")
            written.append(f"size={','.join(f'{value:g}' for value in size)}")
        return f"{self.kind}:{','.join(written)}"

    def take(self, metadata: Mapping[str, Any]) -> None:
        """Fill in what the image's file says of its optics, once for each image; else the user's own come back."""
        optics = optics_of(metadata)
        if optics != self._taken:
            self._taken = optics
            for name, spin in self.spins.items():
                fill(spin, optics.get(name))

    def _pair(self, prefix: str, *fields: tuple[str, str, float, float, float, str]) -> None:
        inside = QHBoxLayout()
        inside.setSpacing(8)
        first: QWidget | None = None
        for name, text, least, most, value, tooltip in fields:
            spin = named(PlainSpin(least, most, value), f"{prefix}psf_{name}")
            label = label_of(text, tooltip, **({} if first is None else {"width": 0}))
            self.spins[name], self._labels[name] = spin, label
            if first is None:
                first = label
            else:
                inside.addWidget(label)
            inside.addWidget(taught(spin, tooltip), stretch=1)
        self._form.addRow(first, inside)
        self._rows.append(self._form.rowCount() - 1)

    def _show_kind(self) -> None:
        takes = KINDS[self.kind].takes
        for row in self._rows:
            self._form.setRowVisible(row, (row == self._rows[0]) == (self.kind == "gaussian"))
        for name, spin in self.spins.items():
            spin.setVisible(name in takes)
            self._labels[name].setVisible(name in takes)
        self.changed.emit()


def optics_of(metadata: Mapping[str, Any]) -> dict[str, float]:
    """Return what a layer's metadata say of NA, wavelengths (nanometres) and immersion, by our names."""
    found = metadata.get("optics")
    optics = dict(found) if isinstance(found, Mapping) else {}
    channels = metadata.get("ome", {}).get("Channel", []) if isinstance(metadata.get("ome"), Mapping) else []
    if len(channels) == 1 and isinstance(channels[0], Mapping):
        for name, key in (("wavelength", "EmissionWavelength"), ("excitation", "ExcitationWavelength")):
            if channels[0].get(f"{key}Unit", "nm") == "nm" and key in channels[0]:
                optics.setdefault(name, channels[0][key])
    known = ("na", "wavelength", "ni", "ns", "excitation")
    return {name: float(optics[name]) for name in known if isinstance(optics.get(name), int | float | str)}
