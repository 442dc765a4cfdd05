"""The Train dock widget: a model adapted to a lab's own images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtWidgets import QWidget

from napari_deqmd.widgets.dock import DockWidget
from napari_deqmd.widgets.models import INSTALLED
from napari_deqmd.widgets.order import TrainOrder, default_train_job
from napari_deqmd.widgets.reports import TrainJob
from napari_deqmd.widgets.sections.psf import PsfSection
from napari_deqmd.widgets.sections.train_run import TrainRunSection
from napari_deqmd.widgets.sections.training import BaseSection, TrainImagesSection, TrainPhotonsSection
from napari_deqmd.widgets.tasks import ButtonTask
from napari_deqmd.widgets.training import Training


class TrainWidget(DockWidget):
    """Fine-tune a model on layers or files, live, and save it for Reconstruct.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are offered.
    parent : QWidget, optional

    Attributes
    ----------
    job_factory : callable
        ``TrainOrder -> TrainJob``, called in the other thread.
    """

    runner: Training
    page = "train"

    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.job_factory: Callable[[TrainOrder], TrainJob] = default_train_job
        self.images = TrainImagesSection(napari_viewer)
        self.psf = PsfSection(napari_viewer, "train_")
        self.photons = TrainPhotonsSection()
        self.base = BaseSection()
        self.run_section = TrainRunSection()
        self.runner = Training(self.run_section, self)
        self._saving = ButtonTask(self.run_section.save_button, self)
        self._model: str | None = None
        self._connect()
        self.set_up(self.images, self.psf, self.photons, self.base)
        self.photons.follow(self.images.input.combo.layer)
        self.photons.follow_kind(self.images.kind)
        self.psf.follow(self.images.input.combo.layer)

    def run(self) -> None:
        """Start a fine-tuning, unless one is going."""
        if self.runner.active:
            return
        try:
            values = self.images.values() | self.photons.values() | self.base.values()
            order = TrainOrder(psf=self.psf.read(), **values)
        except Exception as error:  # layers come from anywhere: whatever they do ends as a sentence
            self.complain(error)
            return
        self.runner.start(partial(self.job_factory, order), minutes=order.minutes)

    def save(self) -> None:
        """Save what was kept, in another thread."""
        if self.runner.kept is not None:
            name = self.run_section.name_edit.text().strip()
            self._saving.start(self.runner.save(name), partial(self._saved, self.runner.kept))

    def use_in_reconstruct(self) -> None:
        """Choose the model that was saved last in Reconstruct, which is opened if it is not."""
        if self._model is not None:
            self.hand_over({"method": "deq-md", "model": self._model})

    def refresh_layers(self) -> None:
        """Read the viewer's layers again."""
        self.images.refresh()
        self.psf.layer_combo.refresh()

    def _connect(self) -> None:
        self.images.input.combo.layer_changed.connect(self.photons.follow)
        self.images.input.combo.layer_changed.connect(self.psf.follow)
        self.images.kind_combo.currentTextChanged.connect(self.photons.follow_kind)
        self.run_section.run_button.clicked.connect(self.run)
        self.run_section.stop_button.clicked.connect(self._stop)
        self.run_section.save_button.clicked.connect(self.save)
        self.run_section.use_button.clicked.connect(self.use_in_reconstruct)

    def _stop(self) -> None:
        self.runner.stop()

    def _saved(self, kept: Any, name: str | None) -> None:
        # A run may have been started meanwhile: then there is nothing to save yet.
        self.run_section.save_button.setEnabled(self.runner.kept is not None)
        if name is not None:
            self.runner.saved = self.runner.saved or self.runner.kept is kept
            self._model = name
            self.run_section.use_button.setEnabled(True)
            self.run_section.status.setText(f"Saved as {name}: Reconstruct offers it under Model.")
            INSTALLED.changed.emit()
