"""A PSF at a glance: its middle planes, its OTF, its widths, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QFont
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.inspect import PsfReport, inspect_psf, middle_planes
from napari_deqmd.widgets.form import PsfChoice, Spatial
from napari_deqmd.widgets.palette import BLUE, ORANGE
from napari_deqmd.widgets.sections.parts import hint, named
from napari_deqmd.widgets.tasks import LatestTask
from napari_deqmd.widgets.worker import TaskWorker

_HEIGHT = 92
# A wider plane has a ground above and below it.
_WIDEST = 130
_ACROSS, _ALONG = BLUE, ORANGE
_LARGEST = 20_000_000


@dataclass(frozen=True)
class Glance:
    """What there is to see of a PSF: planes with their height over width in space, and the numbers."""

    planes: tuple[tuple[str, np.ndarray, float], ...]
    report: PsfReport


def glance_at(choice: PsfChoice, image: Spatial, pixels: np.ndarray | None = None) -> Glance:
    """Load or compute a PSF and look at it, beside the pixels of its image; belongs into the other thread."""
    psf, voxel_size = choice.measured(image)
    if psf.size > _LARGEST:
        raise UserError(f"{choice} has {psf.size / 1e6:.0f} million voxels: that is no PSF, choose another.")
    return glance_of(psf, voxel_size, image.voxel_size, pixels)


def glance_of(
    psf: np.ndarray,
    voxel_size: tuple[float, ...] | None,
    image: tuple[float, ...] | None = None,
    pixels: np.ndarray | None = None,
) -> Glance:
    """Look at a PSF, and compare its voxel size and its blur with those of an image."""
    psf = np.asarray(psf)
    while psf.ndim > 2 and len(psf) == 1:
        psf = psf[0]
    known = voxel_size if voxel_size is not None and len(voxel_size) == psf.ndim else None
    report = inspect_psf(psf, known, image_voxel_size=image, image=pixels)
    return Glance(middle_planes(psf, report), report)


def summary(report: PsfReport) -> str:
    """Say the widths in the layer's units, where the OTF ends, and every warning in a line of its own."""
    voxels = " × ".join(f"{width:.3g}" for width in report.fwhm)
    if report.fwhm_um is None:
        widths = f"FWHM {voxels} voxels"
    else:
        widths = f"FWHM {' × '.join(f'{width:.3g}' for width in report.fwhm_um)} µm ({voxels} voxels)"
    ends = " / ".join("> 100%" if end >= 1 else f"{end:.0%}" for end in report.cutoff)
    return "\n".join((f"{widths} · OTF to {ends} of Nyquist", *(f"⚠ {one}" for one in report.warnings)))


class PsfView(pg.GraphicsLayoutWidget):
    """Middle planes and OTF, small."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.setFixedHeight(_HEIGHT)
        self.ci.setContentsMargins(0, 0, 0, 0)
        self.ci.setSpacing(4)
        self._boxes = {name: self.addViewBox(row=0, col=column) for column, name in enumerate(("XY", "XZ"))}
        self._images, self._names = {}, {}
        for name, box in self._boxes.items():
            box.setMouseEnabled(x=False, y=False)
            box.setMenuEnabled(False)
            box.invertY(True)
            self._images[name] = pg.ImageItem(axisOrder="row-major", levels=(0, 1))
            box.addItem(self._images[name])
            # In the picture, which is dark there in any theme.
            self._names[name] = pg.TextItem(name, color="w", anchor=(0, 0), fill=(0, 0, 0, 140))
            box.addItem(self._names[name], ignoreBounds=True)
        self._plot = self.addPlot(row=0, col=2)
        self._plot.setMenuEnabled(False)
        self._plot.hideButtons()
        self._plot.setMouseEnabled(x=False, y=False)
        self._plot.disableAutoRange()
        self._plot.setRange(xRange=(0, 1), yRange=(-3, 0), padding=0.02)
        small = QFont()
        small.setPixelSize(10)
        for side in ("left", "bottom"):
            axis = self._plot.getAxis(side)
            axis.setStyle(tickFont=small, maxTickLevel=0, tickTextOffset=2, tickLength=-3)
        self._plot.getAxis("left").setTicks([[(0, "1"), (-1, "0.1"), (-2, "0.01")]])
        self._plot.getAxis("left").setWidth(28)
        self._plot.getAxis("bottom").setTicks([[(0.5, "OTF to Nyquist")]])
        self._plot.getAxis("bottom").setHeight(18)
        self._plot.showGrid(x=False, y=True, alpha=0.2)
        self._curves = {
            "across": self._plot.plot(pen=pg.mkPen(_ACROSS, width=2)),
            "along": self._plot.plot(pen=pg.mkPen(_ALONG, width=2, style=Qt.PenStyle.DashLine)),
        }
        self.setToolTip(
            "<p>Brightness is drawn as its root, to show faint rings. The OTF says how much contrast is left of each "
            f"fineness: <span style='color:{_ACROSS}'>across (X)</span> and "
            f"<span style='color:{_ALONG}'>along the axis (Z)</span>, to the finest that the voxels can hold.</p>"
        )
        self.show_glance(None)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Stay as narrow as the form: a graphics view would ask for 640 pixels."""
        return QSize(320, _HEIGHT)

    def set_colors(self, background: str, foreground: str) -> None:
        """Follow the viewer's theme."""
        self.setBackground(background)
        for side in ("left", "bottom"):
            self._plot.getAxis(side).setPen(foreground)
            self._plot.getAxis(side).setTextPen(foreground)

    def show_glance(self, glance: Glance | None) -> None:
        """Draw a PSF, or nothing."""
        planes = {} if glance is None else {name: (plane, high) for name, plane, high in glance.planes}
        for column, (name, box) in enumerate(self._boxes.items()):
            self.ci.layout.setColumnFixedWidth(column, _width(*planes[name]) if name in planes else 0)
            image = self._images[name]
            self._names[name].setVisible(name in planes)
            if name in planes:
                plane, stretch = planes[name]
                rows, columns = plane.shape
                image.setImage(plane, autoLevels=False)
                image.setRect(0, 0, columns, rows * stretch)
                box.setAspectLocked(True)
                box.setRange(xRange=(0, columns), yRange=(0, rows * stretch), padding=0)
            else:
                image.clear()
        curves = [] if glance is None else [np.log10(curve.clip(1e-4)) for curve in glance.report.otf]
        for name, curve in (("across", curves[-1:]), ("along", curves[:-2])):
            if curve:
                self._curves[name].setData(np.linspace(0, 1, curve[0].size), curve[0])
            else:
                self._curves[name].setData([], [])


def _width(plane: np.ndarray, stretch: float) -> float:
    rows, columns = plane.shape
    return min(_WIDEST, _HEIGHT * columns / (rows * stretch))


class PsfLook(QWidget):
    """The view of a PSF and what is to be said of it, found in another thread.

    Parameters
    ----------
    prefix : str
        Of the object names.
    """

    def __init__(self, prefix: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._view = named(PsfView(), f"{prefix}psf_view")
        self._report = hint(f"{prefix}psf_report")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._view)
        column.addWidget(self._report)
        column.addStretch(1)
        self._looking = LatestTask(self._looked, self)

    def ask(self, choice: PsfChoice, image: Spatial, pixels: np.ndarray | None = None) -> None:
        """Show a PSF, soon, beside the pixels of its image if there are any."""
        self._looking.ask(partial(glance_at, choice, image, pixels))

    def say(self, text: str) -> None:
        """Say what is being done; what is shown stays."""
        self._report.setText(text)

    def complain(self, text: str) -> None:
        """Say what is wrong; what is shown stays."""
        self._report.complain(text)

    def fail(self, text: str) -> None:
        """Show no PSF, and say why."""
        self._looking.ask(None)
        self._view.show_glance(None)
        self.complain(text)

    def show_glance(self, glance: Glance, before: str = "") -> None:
        """Show a PSF, and say its numbers, after a text; its warnings have their colour."""
        self._looking.ask(None)
        self._view.show_glance(glance)
        (self.complain if glance.report.warnings else self.say)(before + summary(glance.report))

    def _looked(self, ended: TaskWorker) -> None:
        if ended.outcome is None:
            self.fail(ended.failure or "")
        else:
            self.show_glance(ended.outcome)
