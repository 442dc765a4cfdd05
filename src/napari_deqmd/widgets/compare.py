"""The Compare dock widget: several methods on one image, side by side, in numbers and along a line."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
from qtpy.QtWidgets import QWidget

from napari_deqmd.widgets.compare_curves import draw_profile, draw_rings
from napari_deqmd.widgets.compare_order import (
    RAW,
    RAW_LABEL,
    REFERENCE_LABEL,
    Order,
    make_comparison,
    score_all,
)
from napari_deqmd.widgets.comparing import Comparing
from napari_deqmd.widgets.comparison import JobFactory, Outcome, Scores, check_reference
from napari_deqmd.widgets.controls import add_prefix, read_controls
from napari_deqmd.widgets.dock import DockWidget
from napari_deqmd.widgets.form import PsfChoice, collect
from napari_deqmd.widgets.layers import LayerImage, read_layer
from napari_deqmd.widgets.messages import note, tell
from napari_deqmd.widgets.profile import ProfileLine
from napari_deqmd.widgets.reconstruct import default_job
from napari_deqmd.widgets.result import geometry_of
from napari_deqmd.widgets.sections.compare import CompareRunSection
from napari_deqmd.widgets.sections.image import ImageSection
from napari_deqmd.widgets.sections.methods import MethodsSection
from napari_deqmd.widgets.sections.photons import PhotonsSection
from napari_deqmd.widgets.sections.psf import PsfSection
from napari_deqmd.widgets.sections.score_table import REFERENCE_COLOR
from napari_deqmd.widgets.side_by_side import SideBySide, among, item_at, outer_index
from napari_deqmd.widgets.tasks import LatestTask
from napari_deqmd.widgets.worker import TaskWorker

_PREFIX = "compare_"
# What contenders run with, by the names of Reconstruct's controls.
_SETTINGS = (
    "method",
    "model",
    "strength",
    "max_iter",
    "solver",
    "boundary",
    "tol",
    "upper",
    "precision",
    "orientations",
)


class CompareWidget(DockWidget):
    """Run several methods on one image and look at them side by side.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are offered and which gets the results.
    parent : QWidget, optional

    Attributes
    ----------
    job_factory : callable
        ``(image, psf, config, start, maps) -> Job``, called in the other thread.
    """

    runner: Comparing
    page = "compare"

    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.job_factory: JobFactory = default_job
        self.image = ImageSection(napari_viewer)
        self.image.open_button.hide()
        self.psf = PsfSection(napari_viewer, _PREFIX)
        self.photons = PhotonsSection(napari_viewer)
        self.photons.estimate_button.hide()
        for section in (self.image, self.photons):
            add_prefix(section, _PREFIX)
        self.methods = MethodsSection(napari_viewer)
        self.run_section = CompareRunSection()
        self.runner = Comparing(self.run_section, self)
        self.images = SideBySide(napari_viewer)
        self.line = ProfileLine(napari_viewer, self.images, self._draw_profile, self)
        self.order: Order | None = None
        self._drawn: Order | None = None  # whose layers are shown
        self.outcomes: dict[int, Outcome] = {}
        self.scores: dict[int, Scores] = {}
        self._electrons: np.ndarray | None = None
        self._scoring = LatestTask(self._scored, self, pause=0)
        self._line_again = False
        self._connect()
        self.set_up(self.image, self.psf, self.photons, self.methods)
        self._follow_image(self.image.layer_combo.layer)

    def run(self) -> None:
        """Start a comparison, unless one is going."""
        if self.runner.active:
            return
        try:
            order, psf = self._read()
            reference = self._read_reference(order)
        except Exception as error:  # layers come from anywhere: whatever they do ends as a sentence
            self.complain(error)
            return
        self.order, self.outcomes, self.scores, self._electrons = order, {}, {}, None
        names = [RAW_LABEL, *(contender.label for contender in order.contenders)]
        self.run_section.reset(names, order.colors[:-1], scored=reference is not None)
        self._mention_reference(shown=reference is not None)
        self._choose()
        self._draw_rings()
        halves = self.methods.frc_check.isChecked() and reference is None
        make_job = partial(
            make_comparison, self.job_factory, order.item, order.among, psf, order.contenders, halves
        )
        self.runner.start(make_job, len(order.contenders))

    def draw_line(self) -> None:
        """Put the profile line across the images."""
        self.run_section.plot.setCurrentWidget(self.run_section.plot.profile)
        self.line.draw()

    def use_in_reconstruct(self) -> None:
        """Send the settings of the chosen row to Reconstruct, which is opened if it is not."""
        place = self.run_section.table.chosen
        if self.order is None or not 0 < place <= len(self.order.contenders):
            return
        config = self.order.contenders[place - 1].config
        chosen = {name: getattr(config, name) for name in _SETTINGS}
        self.hand_over({**self.order.values, **chosen})

    def refresh_layers(self) -> None:
        """Read the viewer's layers again."""
        self.image.refresh_layers()
        self.psf.layer_combo.refresh()
        self.photons.refresh_layers()
        self.methods.reference_combo.refresh()

    def view_changed(self) -> None:
        """Follow the camera and the sliders."""
        self.image.view_changed()
        self.line.refresh()

    def layer_removed(self, layer: Any) -> None:
        """Stop when the image leaves the viewer; draw no more curves of a result that left."""
        if self.order is not None and layer == self.order.layer:
            self.runner.source_removed()
        self.images.forget(layer)
        self.line.forget(layer)

    def _let_go(self) -> None:
        super()._let_go()
        self._scoring.ask(None)
        self.image.let_go()
        self.images.leave()
        self.line.leave()

    def _connect(self) -> None:
        section = self.run_section
        self.image.layer_combo.layer_changed.connect(self._follow_image)
        self.image.contents_changed.connect(self.photons.forget)
        for edit in (self.image.axes_edit, self.image.voxel_edit):
            edit.textChanged.connect(self._show_psf)
        section.run_button.clicked.connect(self.run)
        section.stop_button.clicked.connect(self._stop)
        section.profile_button.clicked.connect(self.draw_line)
        section.winner_button.clicked.connect(self.use_in_reconstruct)
        section.table.itemSelectionChanged.connect(self._choose)
        self.methods.reference_combo.layer_changed.connect(self._rescore)
        self.runner.began.connect(self._begin)
        self.runner.contender_ended.connect(self._show)
        self.runner.over.connect(self._finish)

    def _follow_image(self, layer: Any) -> None:
        self.photons.follow(layer)
        self._show_psf()

    def _show_psf(self, *_: Any) -> None:
        self.psf.follow(self.image.layer_combo.layer, self.image.axes)

    def _stop(self) -> None:
        self.runner.stop()

    def _read(self) -> tuple[Order, PsfChoice]:
        image = self.photons.mark(self.image.read())
        layer = self.image.layer_combo.layer
        index = outer_index(self._viewer, layer, image)
        item, source = item_at(index, layer, image)
        place = {"axes": item.axes, "voxel_size": item.voxel_size}
        contenders = self.methods.contenders(collect((self.photons,)) | place)
        values = read_controls((self.image, self.psf, self.photons), _PREFIX)
        order = Order(
            layer,
            source,
            geometry_of(source),
            item,
            image.part,
            among(index, image),
            index,
            contenders,
            values,
        )
        return order, self.psf.read()

    def _read_reference(self, order: Order) -> LayerImage | None:
        layer = self.methods.reference_combo.layer
        if layer is None:
            return None
        # Of a reference for all of the image the same part is meant, and of one with times the same time.
        same = not layer.multiscale and tuple(layer.data.shape) == order.part.of
        read = read_layer(layer, what="reference", region=order.part if same else None)
        reference, _ = item_at(order.index, layer, read)
        check_reference(reference.data, order.item.data.shape)
        return reference

    def _begin(self, electrons: np.ndarray) -> None:
        assert self.order is not None
        self._electrons = electrons
        self.images.enter()
        self._line_again = self.line.shown
        order = self.order
        count = order.reference_place + (self.methods.reference_combo.layer is not None)
        same = self.images.matches(order.source, order.names, count)
        with nullcontext() if same else self.images.at_once():
            if not same:
                self.line.put_away()
            self.images.begin(order.source, order.geometry, order.names, count)
            self._drawn = order
            self._add(RAW, electrons)
        self.images.spread()

    def _show(self, outcome: Outcome) -> None:
        assert self.order is not None
        place = outcome.place + 1
        first = outcome.place not in self.outcomes
        self.outcomes[outcome.place] = outcome
        self.run_section.table.show_ended(place, outcome)
        if outcome.image is not None and first:
            self._add(place, outcome.image, report=outcome.report, **self.order.marked)
        self._draw_rings()

    def _add(self, place: int, image: np.ndarray, **entries: Any) -> None:
        assert self.order is not None
        contender = self.order.contenders[max(0, min(place, len(self.order.contenders)) - 1)]
        try:
            self.images.show(place, image, contender.config, **entries)
        except Exception as error:  # the layer is the user's: its data may have been exchanged
            tell(note(error), expected=False)
        self.run_section.profile_button.setEnabled(bool(self.images.layers))

    def _finish(self) -> None:
        found = [outcome.bright for outcome in self.outcomes.values() if outcome.image is not None]
        if found:
            self.images.settle(float(np.median(found)))
        if self.order is not None:
            self.images.drop_stale(but=self.order.reference_place)
        if self._line_again:
            self.line.draw()
        self._draw_profile()
        self._choose()
        self._rescore()

    def _choose(self) -> None:
        """Select the layer of the chosen row."""
        place = self.run_section.table.chosen
        outcome = self.outcomes.get(place - 1)
        self.run_section.winner_button.setEnabled(outcome is not None and outcome.image is not None)
        if place in self.images.layers and not self.line.shown:
            self._viewer.layers.selection.active = self.images.layers[place]

    def _rescore(self, layer: Any = None) -> None:
        """Measure what there is by the reference that is chosen now, in another thread."""
        if self.runner.active or self.order is None or self._electrons is None:
            return
        self.scores = {}
        self.run_section.table.clear_scores()
        try:
            reference = self._read_reference(self.order)
        except Exception as error:  # as in `run`
            self.complain(error)
            reference = None
        self.run_section.table.show_columns(reference is not None)
        if reference is None:
            self._scoring.ask(None)
            self._show_reference(None)
            return
        images = {RAW: self._electrons} | {
            place + 1: outcome.image for place, outcome in self.outcomes.items() if outcome.image is not None
        }
        self._scoring.ask(partial(score_all, images, reference, self.order.item.voxel_size))

    def _scored(self, ended: TaskWorker) -> None:
        if self.runner.active:
            return
        if ended.failure is not None:
            self.run_section.status.setText(ended.failure)
            tell(ended.failure, expected=ended.expected)
            self._show_reference(None)
            return
        self.scores, reference = ended.outcome
        self.run_section.table.show_scores(self.scores)
        self._show_reference(reference)

    def _show_reference(self, image: np.ndarray | None) -> None:
        assert self.order is not None
        place = self.order.reference_place
        self._mention_reference(shown=image is not None)
        if image is None:
            self.images.remove(place)
            self.images.drop_stale(but=-1)
        else:
            self._add(place, image)
        if self.line.shown:
            self.line.draw()
        self._draw_profile()
        self._draw_rings()

    def _mention_reference(self, *, shown: bool) -> None:
        self.run_section.table.show_reference(REFERENCE_LABEL, REFERENCE_COLOR, shown=shown)

    def _draw_profile(self) -> None:
        draw_profile(self.run_section.plot, self._drawn, self.images.layers, self.line)

    def _draw_rings(self) -> None:
        draw_rings(self.run_section.plot, self.order, self.outcomes, self.scores)
