"""The Reconstruct dock widget: sections in the order of work, and the run that they start."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from napari.utils.theme import get_theme
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import QFileDialog, QScrollArea, QSplitter, QVBoxLayout, QWidget

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets.form import PsfChoice, collect, config_from
from napari_deqmd.widgets.layers import LayerImage
from napari_deqmd.widgets.messages import note, tell
from napari_deqmd.widgets.opening import layers_of
from napari_deqmd.widgets.reports import Job
from napari_deqmd.widgets.result import ResultLayer
from napari_deqmd.widgets.run import Run
from napari_deqmd.widgets.sections.image import ImageSection
from napari_deqmd.widgets.sections.method import MethodSection
from napari_deqmd.widgets.sections.photons import PhotonsSection
from napari_deqmd.widgets.sections.psf import PsfSection
from napari_deqmd.widgets.sections.run import RunSection
from napari_deqmd.widgets.tasks import ButtonTask

# napari's right dock would shrink to 100 pixels.
MINIMUM_WIDTH = 340
PREFERRED_WIDTH = 420


def default_job(image: np.ndarray, psf: np.ndarray, config: ReconstructionConfig) -> Job:
    """Return the job that the command line runs too; imports torch, so it belongs into the other thread."""
    from napari_deqmd.api import Reconstruction

    return Reconstruction(image, psf, config)


class ReconstructWidget(QWidget):
    """Deconvolve an image layer, live.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are offered and which gets the result.
    parent : QWidget, optional

    Attributes
    ----------
    job_factory : callable
        ``(image, psf, config) -> Job``, called in the other thread.
    """

    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self.job_factory: Callable[[np.ndarray, np.ndarray, ReconstructionConfig], Job] = default_job
        self.image = ImageSection(napari_viewer)
        self.psf = PsfSection(napari_viewer)
        self.photons = PhotonsSection()
        self.method = MethodSection()
        self.run_section = RunSection()
        self.runner = Run(self.run_section, self)
        self._opening = ButtonTask(self.image.open_button, self)
        self._estimating = ButtonTask(self.photons.estimate_button, self)
        self._lay_out()
        self._connect()
        self._follow_theme()
        self.photons.follow(self.image.layer_combo.layer)

    def open_path(self, path: str) -> None:
        """Read a stack in another thread and add it to the viewer, one layer for each channel."""
        from napari_deqmd.io.stack import read_stack

        self._opening.start(partial(read_stack, path), partial(self._add_stack, path))

    def estimate(self) -> None:
        """Estimate peak and background of the chosen image in another thread."""
        try:
            image = self.image.read()
        except Exception as error:  # layers come from anywhere: whatever they do ends as a sentence
            self._complain(error)
            return
        camera = self.photons.camera

        def task() -> Any:
            from napari_deqmd.core.photons import estimate_photons

            return estimate_photons(np.asarray(image.data), **camera)

        self.photons.say("Estimating…")
        self._estimating.start(task, partial(self._show_estimate, self.image.layer_combo.layer))

    def run(self) -> None:
        """Start a run on the chosen image, unless one is going."""
        if self.runner.active:
            return
        try:
            image = self.image.read()
            psf = self.psf.read()
            place = {"axes": image.axes, "voxel_size": image.voxel_size}
            config = config_from(collect((self.photons, self.method)) | place)
            metadata = {"input": image.name, "psf": str(psf), "config": config.to_dict()}
            result = ResultLayer(self._viewer, self.image.layer_combo.layer, image.axes, metadata)
        except Exception as error:  # layers come from anywhere: whatever they do ends as a sentence
            self._complain(error)
            return
        make_job = partial(_make_job, self.job_factory, image, psf, config)
        self.runner.start(make_job, result, max_iter=config.max_iter, tol=config.tol)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Ask for a dock that leaves most of the window to the image."""
        return QSize(PREFERRED_WIDTH, super().sizeHint().height())

    def changeEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        """Notice that napari took the widget out of its dock: that is how a dock closes."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._let_go()

    def closeEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        """End the run with the window."""
        self._let_go()
        super().closeEvent(event)

    def _lay_out(self) -> None:
        inside = _framed(self.image, self.psf, self.photons, self.method)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inside)
        # The run stays in sight whatever part of the form is.
        split = QSplitter(Qt.Orientation.Vertical)
        split.setChildrenCollapsible(False)
        split.addWidget(scroll)
        split.addWidget(_framed(self.run_section))
        split.setStretchFactor(0, 3)
        split.setStretchFactor(1, 1)
        outside = QVBoxLayout(self)
        outside.setContentsMargins(0, 0, 0, 0)
        outside.addWidget(split)
        self.setMinimumWidth(MINIMUM_WIDTH)

    def _connect(self) -> None:
        self.image.open_button.clicked.connect(self._ask_for_file)
        self.image.layer_combo.layer_changed.connect(self.photons.follow)
        self.photons.estimate_button.clicked.connect(self.estimate)
        self.run_section.run_button.clicked.connect(self.run)
        self.run_section.pause_button.clicked.connect(self.runner.pause_or_resume)
        self.run_section.stop_button.clicked.connect(self._stop)
        for event, callback in self._listening():
            event.connect(callback)

    def _let_go(self) -> None:
        self.runner.abandon()
        for event, callback in self._listening():
            event.disconnect(callback)

    def _listening(self) -> list[tuple[Any, Callable[..., None]]]:
        layers = self._viewer.layers
        changes = [getattr(layers.events, name) for name in ("inserted", "removed", "reordered", "renamed")]
        return [
            *((event, self._refresh_layers) for event in (*changes, layers.selection.events.active)),
            (layers.events.removed, self._layer_removed),
            (self._viewer.events.theme, self._follow_theme),
        ]

    def _ask_for_file(self) -> None:
        kinds = "TIFF stacks (*.tif *.tiff);;All files (*)"
        path, _ = QFileDialog.getOpenFileName(self, "Open an image", "", kinds)
        if path:
            self.open_path(path)

    def _add_stack(self, path: str, stack: Any) -> None:
        layer = None
        for data, arguments in layers_of(stack, path) if stack is not None else ():
            layer = self._viewer.add_image(data, **arguments)
        if layer is not None:
            self.image.layer_combo.choose(layer)

    def _show_estimate(self, layer: Any, photons: Any) -> None:
        if photons is None or layer != self.image.layer_combo.layer:
            self.photons.say("")
        else:
            self.photons.show_estimate(photons)

    def _stop(self) -> None:
        self.runner.stop()

    def _complain(self, error: Exception) -> None:
        text = note(error)
        self.run_section.status.setText(text)
        tell(text, expected=isinstance(error, UserError))

    def _refresh_layers(self, event: Any = None) -> None:
        if isalive(self):
            self.image.layer_combo.refresh()
            self.psf.layer_combo.refresh()

    def _layer_removed(self, event: Any) -> None:
        if isalive(self):
            self.runner.layer_removed(event.value)

    def _follow_theme(self, event: Any = None) -> None:
        if isalive(self):
            theme = get_theme(self._viewer.theme)
            self.run_section.plot.set_colors(theme.background.as_hex(), theme.text.as_hex())


def _make_job(
    factory: Callable[..., Job], image: LayerImage, psf: PsfChoice, config: ReconstructionConfig
) -> Job:
    return factory(np.asarray(image.data), psf.load(image), config)


def _framed(*sections: QWidget) -> QWidget:
    frame = QWidget()
    column = QVBoxLayout(frame)
    column.setContentsMargins(4, 4, 4, 4)
    column.setSpacing(8)
    for section in sections:
        column.addWidget(section)
    if len(sections) > 1:
        column.addStretch()
    return frame
