"""From camera counts to photo-electrons, and how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qtpy.QtCore import QRegularExpression
from qtpy.QtGui import QRegularExpressionValidator
from qtpy.QtWidgets import QLineEdit, QPushButton, QWidget

from napari_deqmd.core.typed import AUTO, number_or_auto
from napari_deqmd.widgets.choices import MaskCombo
from napari_deqmd.widgets.estimate import Estimate
from napari_deqmd.widgets.form import default
from napari_deqmd.widgets.histogram import PhotonPlot
from napari_deqmd.widgets.layers import LayerImage, read_mask
from napari_deqmd.widgets.sections.parts import (
    PlainSpin,
    SectionBox,
    folded,
    form_layout,
    hint,
    label_of,
    named,
    taught,
)
from napari_deqmd.widgets.settings import fill

_NUMBER_OR_AUTO = r"\s*([aA][uU]?[tT]?[oO]?|[0-9]*[.]?[0-9]*([eE][-+]?[0-9]*)?)\s*"

_BAD = (
    "A layer that is nonzero where a pixel is dead or hot: these are left out. Of the image's shape, or of its Y and X "
    "for all planes, times and channels. Paint it in a Labels layer, or open the one of your camera. Saturated pixels "
    "are found without it."
)


class CameraSection(SectionBox):
    """Offset and gain.

    Parameters
    ----------
    title : str
    prefix : str
        Of the object names.
    """

    def __init__(self, title: str, prefix: str = "", parent: QWidget | None = None) -> None:
        super().__init__(title, parent)
        self.offset_spin = named(PlainSpin(-1e6, 1e6, default("offset")), f"{prefix}offset")
        self.gain_spin = named(PlainSpin(1e-4, 1e6, default("gain")), f"{prefix}gain")
        self.pair(
            (
                "Offset",
                self.offset_spin,
                "Camera counts in the dark, subtracted first: from the camera's data sheet or a dark frame, often 100.",
            ),
            (
                "Gain",
                self.gain_spin,
                "Camera counts per photo-electron, from the data sheet. Leave 1 if unknown.",
            ),
        )

    @property
    def camera(self) -> dict[str, float]:
        """Offset and gain."""
        return {"offset": self.offset_spin.value(), "gain": self.gain_spin.value()}

    def follow(self, layer: Any) -> None:
        """Take offset and gain from a layer's metadata, or else the user's own."""
        metadata: Mapping[str, Any] = layer.metadata if layer is not None else {}
        for name, spin in (("offset", self.offset_spin), ("gain", self.gain_spin)):
            value = metadata.get(name)
            fill(spin, float(value) if isinstance(value, int | float) else None)


class PhotonsSection(CameraSection):
    """Offset, gain, read noise, peak, background, the button that estimates the last two, and which pixels are bad.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        A layer of it may say which pixels are bad.
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__("3 · Photons", parent=parent)
        self.read_noise_spin = named(PlainSpin(0, 1e4, default("read_noise")), "read_noise")
        self.row(
            "Read noise",
            self.read_noise_spin,
            "The camera's own noise, electrons in every pixel, from its data sheet: 1 to 2 for sCMOS, 5 to 10 for CCD, "
            "0 for photon counters and EMCCD. It matters where a pixel has few photons.",
        )
        self.peak_edit = named(_auto_edit(), "peak")
        self.background_edit = named(_auto_edit(), "background")
        self.pair(
            (
                "Peak",
                self.peak_edit,
                "Photo-electrons in a pixel where the object is bright: it sets how much noise to expect. About 10 is "
                "very noisy, 1000 nearly clean. 'auto' reads it from the image. Distrust it when offset or gain "
                "are guesses: twice the gain is half the peak.",
            ),
            (
                "Background",
                self.background_edit,
                "Photo-electrons per pixel that do not come from the object: glow, haze, dark current. 'auto' reads it "
                "from the darkest large part of the image.",
            ),
        )
        self.estimate_button = named(QPushButton("Estimate"), "estimate")
        self.estimate_button.setToolTip(
            "<p>Read peak and background from the image with this offset and gain, and draw where they lie.</p>"
            "<p>While offset and gain are 0 and 1, they are read from the noise of the image first, if it tells "
            "them.</p><p>Of several channels each has its own: they are told, and 'auto' runs each with its own.</p>"
        )
        self.column.addWidget(self.estimate_button)
        self.finding = hint("estimate_result")
        self.finding.hide()
        self.column.addWidget(self.finding)
        self.plot = named(PhotonPlot(), "photons_plot")
        self.plot.setToolTip(
            "<p>How many pixels (on a logarithmic scale) have how many photo-electrons. The background's line belongs "
            "on the hump on the left, the peak's where the bright structures end.</p><p>Distrust the numbers when the "
            "hump lies far from the background's line (the offset is wrong), when the peak's line is lost in emptiness "
            "(hot pixels) or stands in the hump (nothing is bright), and when the bars end in a tower (saturation).</p>"
        )
        self.plot.hide()
        self.column.addWidget(self.plot)
        self.mask_combo = named(MaskCombo(viewer), "mask_layer")
        form = form_layout()
        form.addRow(label_of("Bad pixels", _BAD), taught(self.mask_combo, _BAD))
        self.column.addWidget(folded(form, "photons_advanced", "Which pixels are bad: they are left out."))
        self._estimated: tuple[str, str] | None = None

    def values(self) -> dict[str, Any]:
        """Return keyword arguments of `ReconstructionConfig`."""
        return self.camera | {
            "read_noise": self.read_noise_spin.value(),
            "peak": number_or_auto(self.peak_edit.text(), "Peak"),
            "background": number_or_auto(self.background_edit.text(), "Background"),
        }

    def refresh_layers(self) -> None:
        """Read the viewer's layers again."""
        self.mask_combo.refresh()

    def mark(self, image: LayerImage) -> LayerImage:
        """Return the image with the chosen mask of its bad pixels.

        Raises
        ------
        UserError
            The mask is of another shape.
        """
        layer = self.mask_combo.layer
        return image if layer is None else replace(image, mask=read_mask(layer, image))

    def show_estimate(self, estimate: Estimate) -> None:
        """Fill in what was found; say it, and draw it. Of several channels each has its own: only "auto" means that.

        Offset and gain are the image's: they are not remembered, and go with it.
        """
        photons, several = estimate.photons, bool(estimate.channels)
        self.peak_edit.setText(AUTO if several else f"{photons.peak:.4g}")
        self.background_edit.setText(AUTO if several else f"{photons.background:.4g}")
        self._estimated = self._shown()
        found = [f"Found: {estimate.summary}."]
        camera = photons.camera
        if camera is not None and camera.gain is not None and camera.offset is not None:
            fill(self.offset_spin, round(camera.offset, 2))
            fill(self.gain_spin, float(f"{camera.gain:.4g}"))
            found.append(
                f"From the noise: gain {camera.gain:.3g} ± {camera.gain_error:.1g} counts per photo-electron, offset "
                f"{camera.offset:.4g} ± {camera.offset_error:.1g} counts."
            )
        self.say(" ".join((*found, *estimate.warnings)))
        if not several:
            self.plot.show_photons(*estimate.histogram, photons)
            self.plot.show()

    def say(self, text: str) -> None:
        """Show what was found, or hide the line; what is drawn belongs to what was found before."""
        self.plot.hide()
        self.finding.setText(text)
        self.finding.setVisible(bool(text))

    def follow(self, layer: Any) -> None:
        """Take offset and gain from a layer's metadata; an estimate of another image is not this one's."""
        self.forget()
        super().follow(layer)

    def forget(self, *_: Any) -> None:
        """Let go of an estimate: it was of another image, or of another part of it."""
        if self._estimated is not None and self._estimated == self._shown():
            self.peak_edit.setText(AUTO)
            self.background_edit.setText(AUTO)
        self._estimated = None
        self.say("")

    def _shown(self) -> tuple[str, str]:
        return self.peak_edit.text(), self.background_edit.text()


def _auto_edit() -> QLineEdit:
    edit = QLineEdit(AUTO)
    edit.setPlaceholderText(AUTO)
    edit.setValidator(QRegularExpressionValidator(QRegularExpression(_NUMBER_OR_AUTO), edit))
    return edit
