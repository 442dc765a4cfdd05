"""The Reconstruct dock widget: sections in the order of work, and the run that they start."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets.controls import changes, take
from napari_deqmd.widgets.dock import DockWidget
from napari_deqmd.widgets.estimate import Estimate, find_photons
from napari_deqmd.widgets.form import PsfChoice, collect, config_from, hasty
from napari_deqmd.widgets.layers import LayerImage
from napari_deqmd.widgets.opening import layers_of
from napari_deqmd.widgets.reports import Job
from napari_deqmd.widgets.resources import SETTINGS, find_resources
from napari_deqmd.widgets.result import ResultLayer
from napari_deqmd.widgets.run import Run
from napari_deqmd.widgets.saving import DEFAULT, FILTERS, ending_of
from napari_deqmd.widgets.sections.image import ImageSection
from napari_deqmd.widgets.sections.method import MethodSection
from napari_deqmd.widgets.sections.photons import PhotonsSection
from napari_deqmd.widgets.sections.psf import PsfSection
from napari_deqmd.widgets.sections.run import RunSection
from napari_deqmd.widgets.sections.welcome import Welcome
from napari_deqmd.widgets.tasks import ButtonTask, LatestTask
from napari_deqmd.widgets.warm import RunOrder
from napari_deqmd.widgets.worker import TaskWorker


def default_job(
    image: np.ndarray, psf: np.ndarray, config: ReconstructionConfig, start: Any = None, maps: Any = None
) -> Job:
    """Return the job that the command line runs too; imports torch, so it belongs into the other thread."""
    from napari_deqmd.api import Reconstruction

    return Reconstruction(image, psf, config, start, maps)


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
        ``(image, psf, config, start, maps) -> Job``, called in the other thread.
    """

    runner: Run
    page = "reconstruct"

    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.job_factory: Callable[..., Job] = default_job
        self.welcome = Welcome(napari_viewer)
        self.image = ImageSection(napari_viewer)
        self.psf = PsfSection(napari_viewer)
        self.photons = PhotonsSection(napari_viewer)
        self.method = MethodSection()
        self.run_section = RunSection()
        self.runner = Run(self.run_section, self)
        self._opening = ButtonTask(self.image.open_button, self)
        self._estimating = ButtonTask(self.photons.estimate_button, self)
        self._saving = ButtonTask(self.run_section.save_button, self, self.run_section.allow_save)
        self._connect()
        self.set_up(self.welcome, self.image, self.psf, self.photons, self.method)
        self._needs = LatestTask(self._show_resources, self)
        self._watch_form()
        self._follow_image(self.image.layer_combo.layer)

    def open_path(self, path: str) -> None:
        """Read a stack in another thread and add it to the viewer, one layer for each channel."""
        from napari_deqmd.io.stack import read_stack

        self._opening.start(partial(read_stack, path), partial(self._add_stack, path))

    def estimate(self) -> None:
        """Estimate what the photons section asks for, of the chosen image, in another thread."""
        try:
            image = self.photons.mark(self.image.read())
        except Exception as error:  # layers come from anywhere: whatever they do ends as a sentence
            self.complain(error)
            return
        read_noise = self.photons.values()["read_noise"] or None
        task = partial(find_photons, image, self.photons.camera, read_noise)
        self.photons.say("Estimating…")
        self._estimating.start(task, partial(self._show_estimate, self.image.layer_combo.layer))

    def run(self) -> None:
        """Start a run on the chosen part of the image, unless one is going."""
        self._begin()

    def preview(self) -> None:
        """Try the settings on a small part."""
        self._begin(preview=True)

    def resume(self) -> None:
        """Go on with a run that is paused, or was stopped, or used up its iterations."""
        if self.runner.paused:
            self.runner.pause_or_resume()
        else:
            self._begin(going_on=True)

    def save_path(self, path: str, ending: str = DEFAULT) -> None:
        """Write the last result and its sidecar in another thread; a name without an ending gets one."""
        try:
            task = self.runner.saving(path, ending)
        except UserError as error:
            self.complain(error)
            return
        self._saving.start(task, self._show_saved)

    def _begin(self, *, preview: bool = False, going_on: bool = False) -> None:
        last = None if preview else self.runner.kept
        if self.runner.active or (going_on and last is None):
            return
        try:
            image, psf, config = self._read(preview=preview)
            metadata = {"input": image.name, "psf": str(psf), "config": config.to_dict()}
            if image.mask is not None:
                metadata["mask"] = image.mask.name
            suffix = "deconvolved"
            if preview or not image.part.is_whole:
                metadata["region"] = image.part.record(image.axes)
                suffix = "preview" if preview else "deconvolved (region)"
            result = ResultLayer(self._viewer, self.image.layer_combo.layer, image, metadata, suffix=suffix)
        except Exception as error:  # layers come from anywhere: whatever they do ends as a sentence
            self.complain(error)
            return
        warm = last is not None and self.method.warm_check.isChecked() and last.helps(config)
        start = last if going_on or warm else None
        order = RunOrder(self.job_factory, image, psf, config, start, going_on=going_on, kept=not preview)
        self.runner.start(order, result)

    def _read(
        self, *, preview: bool = False, keep: bool = True
    ) -> tuple[LayerImage, PsfChoice, ReconstructionConfig]:
        image = self.photons.mark(self.image.read(preview=preview, keep=keep))
        psf = self.psf.read(keep=keep)
        place = {"axes": image.axes, "voxel_size": image.voxel_size}
        config = config_from(collect((self.photons, self.method)) | place)
        return image, psf, hasty(config) if preview else config

    def _offer_resume(self, *_changed: object) -> None:
        kept = self.runner.kept
        resumable = kept is not None and kept.unfinished and kept.source == self.image.layer_combo.layer
        if kept is not None and resumable:
            try:
                image, psf, config = self._read(keep=False)
                resumable = kept.fits(image.part, str(psf), config)
            except Exception:  # told when a run is asked for
                resumable = False
        self.run_section.offer_resume(resumable)

    def refresh_layers(self) -> None:
        """Read the viewer's layers again."""
        self.image.refresh_layers()
        self.psf.layer_combo.refresh()
        self.photons.refresh_layers()

    def view_changed(self) -> None:
        """Follow the camera and the sliders."""
        self.image.view_changed()
        self.runner.view_changed()

    def layer_removed(self, layer: Any) -> None:
        """Stop the run of a layer that left."""
        self.runner.layer_removed(layer)
        self._offer_resume()

    def _connect(self) -> None:
        self.image.open_button.clicked.connect(self._ask_for_file)
        self.welcome.open_file.clicked.connect(self._ask_for_file)
        self.image.layer_combo.layer_changed.connect(self._follow_image)
        self.image.contents_changed.connect(self.photons.forget)
        for edit in (self.image.axes_edit, self.image.voxel_edit):
            edit.textChanged.connect(self._show_psf)
        self.photons.estimate_button.clicked.connect(self.estimate)
        self.run_section.run_button.clicked.connect(self.run)
        self.run_section.preview_button.clicked.connect(self.preview)
        self.run_section.pause_button.clicked.connect(self.runner.pause_or_resume)
        self.run_section.resume_button.clicked.connect(self.resume)
        self.run_section.save_button.clicked.connect(self._ask_where_to_save)
        self.runner.ended.connect(self._offer_resume)
        for section in (self.image, self.psf, self.photons, self.method):
            for control in section.findChildren(QWidget):
                for name in ("currentIndexChanged", "textChanged", "toggled"):
                    if (changed := getattr(control, name, None)) is not None:
                        changed.connect(self._offer_resume)
        self.run_section.stop_button.clicked.connect(self._stop)

    def _watch_form(self) -> None:
        for control in self._memory.controls.values():
            changes(control).connect(self._look_at_resources)
        for combo in (self.image.layer_combo, self.psf.layer_combo):
            combo.layer_changed.connect(self._look_at_resources)
        self.image.axes_edit.textChanged.connect(self._look_at_resources)
        self.image.region_combo.currentIndexChanged.connect(self._look_at_resources)
        # A run loads torch, which knows the devices; and it leaves less memory, or more.
        self.run_section.progress.valueChanged.connect(self._first_news)
        self.runner.ended.connect(self._look_at_resources)
        self._look_at_resources()

    def _first_news(self, value: int) -> None:
        if value > 0:
            self.run_section.progress.valueChanged.disconnect(self._first_news)
            self._look_at_resources()

    def _ask_for_file(self) -> None:
        kinds = "TIFF and OME-Zarr (*.tif *.tiff zarr.json .zattrs);;All files (*)"
        path, _ = QFileDialog.getOpenFileName(self, "Open an image", "", kinds)
        if path:
            self.open_path(path)

    def _ask_where_to_save(self) -> None:
        name = self.runner.result_name.replace("/", "-")
        path, kind = QFileDialog.getSaveFileName(self, "Save the result", f"{name}.ome.tif", FILTERS)
        if path:
            self.save_path(path, ending_of(kind))

    def _show_saved(self, target: Any) -> None:
        if target is not None:
            self.run_section.status.setText(f"Saved as {target}, with {target.name}.json beside it.")

    def _add_stack(self, path: str, stack: Any) -> None:
        layer = None
        for data, arguments in layers_of(stack, path) if stack is not None else ():
            layer = self._viewer.add_image(data, **arguments)
        if layer is not None:
            self.image.layer_combo.choose(layer)

    def _show_estimate(self, layer: Any, found: Estimate | None) -> None:
        if found is None or layer != self.image.layer_combo.layer:
            self.photons.say("")
        else:
            self.photons.show_estimate(found)

    def _look_at_resources(self, *_: Any) -> None:
        """Find out, soon, what a run would need; a form that is not complete has no memory to predict."""
        values = {name: take(self._memory.controls[name]) for name in SETTINGS}
        try:
            run = self.image.read(keep=False), self.psf.read(keep=False)
        except Exception:  # Run says what is missing
            self._needs.ask(partial(find_resources, None, None, values))
        else:
            self._needs.ask(partial(find_resources, *run, values))

    def _show_resources(self, ended: TaskWorker) -> None:
        if ended.outcome is not None:
            self.run_section.show_resources(ended.outcome)

    def _follow_image(self, layer: Any) -> None:
        self.photons.follow(layer)
        self._show_psf()
        self.welcome.setVisible(layer is None)

    def _let_go(self) -> None:
        super()._let_go()
        self.image.let_go()
        self._needs.ask(None)

    def _show_psf(self, *_: Any) -> None:
        self.psf.follow(self.image.layer_combo.layer, self.image.axes)

    def _stop(self) -> None:
        self.runner.stop()
