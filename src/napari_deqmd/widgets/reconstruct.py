"""The Reconstruct dock widget: sections in the order of work, and the run that they start."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.widgets.dock import DockWidget
from napari_deqmd.widgets.form import PsfChoice, collect, config_from
from napari_deqmd.widgets.layers import LayerImage
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


def default_job(image: np.ndarray, psf: np.ndarray, config: ReconstructionConfig) -> Job:
    """Return the job that the command line runs too; imports torch, so it belongs into the other thread."""
    from napari_deqmd.api import Reconstruction

    return Reconstruction(image, psf, config)


class ReconstructWidget(DockWidget):
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

    runner: Run

    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.job_factory: Callable[[np.ndarray, np.ndarray, ReconstructionConfig], Job] = default_job
        self.image = ImageSection(napari_viewer)
        self.psf = PsfSection(napari_viewer)
        self.photons = PhotonsSection()
        self.method = MethodSection()
        self.run_section = RunSection()
        self.runner = Run(self.run_section, self)
        self._opening = ButtonTask(self.image.open_button, self)
        self._estimating = ButtonTask(self.photons.estimate_button, self)
        self._connect()
        self.set_up(self.image, self.psf, self.photons, self.method)
        self.photons.follow(self.image.layer_combo.layer)
        self._show_psf()

    def open_path(self, path: str) -> None:
        """Read a stack in another thread and add it to the viewer, one layer for each channel."""
        from napari_deqmd.io.stack import read_stack

        self._opening.start(partial(read_stack, path), partial(self._add_stack, path))

    def estimate(self) -> None:
        """Estimate peak and background of the chosen image in another thread."""
        try:
            image = self.image.read()
        except Exception as error:  # layers come from anywhere: whatever they do ends as a sentence
            self.complain(error)
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
            self.complain(error)
            return
        make_job = partial(_make_job, self.job_factory, image, psf, config)
        self.runner.start(make_job, result, max_iter=config.max_iter, tol=config.tol)

    def refresh_layers(self) -> None:
        """Read the viewer's layers again."""
        self.image.layer_combo.refresh()
        self.psf.layer_combo.refresh()

    def layer_removed(self, layer: Any) -> None:
        """Stop the run of a layer that left."""
        self.runner.layer_removed(layer)

    def _connect(self) -> None:
        self.image.open_button.clicked.connect(self._ask_for_file)
        self.image.layer_combo.layer_changed.connect(self.photons.follow)
        self.image.axes_edit.textChanged.connect(self._show_psf)
        self.image.layer_combo.layer_changed.connect(self._show_psf)
        self.photons.estimate_button.clicked.connect(self.estimate)
        self.run_section.run_button.clicked.connect(self.run)
        self.run_section.pause_button.clicked.connect(self.runner.pause_or_resume)
        self.run_section.stop_button.clicked.connect(self._stop)

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

    def _show_psf(self, *_: Any) -> None:
        self.psf.follow(self.image.layer_combo.layer, self.image.axes)

    def _stop(self) -> None:
        self.runner.stop()


def _make_job(
    factory: Callable[..., Job], image: LayerImage, psf: PsfChoice, config: ReconstructionConfig
) -> Job:
    return factory(np.asarray(image.data), psf.load(image), config)
