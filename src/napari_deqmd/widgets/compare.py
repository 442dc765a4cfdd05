"""The Compare dock widget: several methods on one image, side by side, in numbers and along a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from qtpy.QtWidgets import QWidget

from napari_deqmd.widgets.comparing import Comparing
from napari_deqmd.widgets.comparison import (
    Comparison,
    Contender,
    JobFactory,
    Outcome,
    Scores,
    check_reference,
    score,
)
from napari_deqmd.widgets.controls import add_prefix, read_controls, write_controls
from napari_deqmd.widgets.curves import Curve
from napari_deqmd.widgets.dock import DockWidget
from napari_deqmd.widgets.form import PsfChoice, collect
from napari_deqmd.widgets.layers import LayerImage, read_layer
from napari_deqmd.widgets.messages import note, tell
from napari_deqmd.widgets.profile import ProfileLine
from napari_deqmd.widgets.reconstruct import default_job
from napari_deqmd.widgets.region import Region
from napari_deqmd.widgets.sections.compare import (
    REFERENCE_COLOR,
    CompareRunSection,
    MethodsSection,
    colors,
)
from napari_deqmd.widgets.sections.image import ImageSection
from napari_deqmd.widgets.sections.photons import PhotonsSection
from napari_deqmd.widgets.sections.psf import PsfSection
from napari_deqmd.widgets.side_by_side import SideBySide, current_item
from napari_deqmd.widgets.worker import TaskWorker

if TYPE_CHECKING:
    from napari_deqmd.core.resolution import RingCorrelation

_PREFIX = "compare_"
_RAW = 0
_RAW_LABEL = "raw"
_REFERENCE_LABEL = "reference"


@dataclass(frozen=True)
class Order:
    """A comparison that was started.

    Attributes
    ----------
    layer : napari.layers.Image
        What was chosen.
    source : napari.layers.Image
        Where the results lie: `layer`, or the time and channel of it that was shown.
    item : LayerImage
        ``([Z,] Y, X)``.
    part : Region
        Of the layer: what is compared.
    values : mapping
        What the form said, by the object names of Reconstruct's controls.
    """

    layer: Image
    source: Image
    item: LayerImage
    part: Region
    contenders: Sequence[Contender]
    values: Mapping[str, Any]

    @property
    def reference_place(self) -> int:
        """The raw image is at place 0, the contenders follow, and the reference comes last."""
        return len(self.contenders) + 1

    @property
    def colors(self) -> list[str]:
        """One for each place."""
        return [*colors(len(self.contenders)), REFERENCE_COLOR]

    @property
    def names(self) -> dict[int, str]:
        """Layer names by place."""
        labels = [_RAW_LABEL, *(contender.label for contender in self.contenders), _REFERENCE_LABEL]
        return {place: f"{label} · {self.item.name}" for place, label in enumerate(labels)}


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
        ``(image, psf, config) -> Job``, called in the other thread.
    """

    runner: Comparing
    page = "compare"

    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.job_factory: JobFactory = default_job
        self.image = ImageSection(napari_viewer)
        self.image.open_button.hide()
        self.psf = PsfSection(napari_viewer, _PREFIX)
        self.photons = PhotonsSection()
        self.photons.estimate_button.hide()
        for section in (self.image, self.photons):
            add_prefix(section, _PREFIX)
        self.methods = MethodsSection(napari_viewer)
        self.run_section = CompareRunSection()
        self.runner = Comparing(self.run_section, self)
        self.images = SideBySide(napari_viewer)
        self.line = ProfileLine(napari_viewer, self.images, self._draw_profile, self)
        self.order: Order | None = None
        self.outcomes: dict[int, Outcome] = {}
        self.scores: dict[int, Scores] = {}
        self._electrons: np.ndarray | None = None
        self._scoring: TaskWorker | None = None
        self._score_again = self._line_again = False
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
        names = [_RAW_LABEL, *(contender.label for contender in order.contenders)]
        self.run_section.reset(names, order.colors[:-1], scored=reference is not None)
        self._choose()
        self._draw_rings()
        halves = self.methods.frc_check.isChecked() and reference is None
        make_job = partial(_make_job, self.job_factory, order.item, psf, order.contenders, halves)
        self.runner.start(make_job, len(order.contenders))

    def draw_line(self) -> None:
        """Put the profile line across the images."""
        self.run_section.plot.setCurrentWidget(self.run_section.plot.profile)
        self.line.draw()

    def use_in_reconstruct(self) -> None:
        """Send the settings of the chosen row to Reconstruct, which is opened if it is not."""
        place = self.run_section.row
        if self.order is None or not 0 < place <= len(self.order.contenders):
            return
        config = self.order.contenders[place - 1].config
        try:
            # Beside this one in a tab: two forms on top of each other would both be too low.
            dock, widget = self._viewer.window.add_plugin_dock_widget(
                "napari-deqmd", "Reconstruct", tabify=True
            )
        except Exception as error:  # napari's doing
            self.complain(error)
            return
        chosen = {name: getattr(config, name) for name in ("method", "model", "strength", "max_iter")}
        write_controls(widget, {**self.order.values, **chosen})
        dock.show()
        dock.raise_()

    def refresh_layers(self) -> None:
        """Read the viewer's layers again."""
        self.image.refresh_layers()
        self.psf.layer_combo.refresh()
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
        self.image.let_go()

    def _connect(self) -> None:
        section = self.run_section
        self.image.layer_combo.layer_changed.connect(self._follow_image)
        self.image.axes_edit.textChanged.connect(self._show_psf)
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
        image = self.image.read()
        layer = self.image.layer_combo.layer
        item, source = current_item(self._viewer, layer, image)
        place = {"axes": item.axes, "voxel_size": item.voxel_size}
        contenders = self.methods.contenders(collect((self.photons,)) | place)
        values = read_controls((self.image, self.psf, self.photons), _PREFIX)
        return Order(layer, source, item, image.part, contenders, values), self.psf.read()

    def _read_reference(self, order: Order) -> LayerImage | None:
        layer = self.methods.reference_combo.layer
        if layer is None:
            return None
        # Of a reference for all of the image the same part is meant.
        same = not layer.multiscale and tuple(layer.data.shape) == order.part.of
        read = read_layer(layer, what="reference", region=order.part if same else None)
        reference, _ = current_item(self._viewer, layer, read)
        check_reference(reference.data, order.item.data.shape)
        return reference

    def _begin(self, electrons: np.ndarray) -> None:
        assert self.order is not None
        self._electrons = electrons
        self._line_again = self.line.shown
        order = self.order
        count = order.reference_place + (self.methods.reference_combo.layer is not None)
        same = self.images.matches(order.source, order.names, count)
        with nullcontext() if same else self.images.at_once():
            if not same:
                self.line.put_away()
            self.images.begin(order.source, order.names, count)
            self._add(_RAW, electrons)

    def _show(self, outcome: Outcome) -> None:
        place = outcome.place + 1
        first = outcome.place not in self.outcomes
        self.outcomes[outcome.place] = outcome
        self.run_section.show_ended(place, outcome)
        if outcome.image is not None and first:
            self._add(place, outcome.image, report=outcome.report)
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
        place = self.run_section.row
        outcome = self.outcomes.get(place - 1)
        self.run_section.winner_button.setEnabled(outcome is not None and outcome.image is not None)
        if place in self.images.layers and not self.line.shown:
            self._viewer.layers.selection.active = self.images.layers[place]

    def _rescore(self, layer: Any = None) -> None:
        """Measure what there is by the reference that is chosen now, in another thread."""
        if self._scoring is not None:
            self._score_again = True
            return
        if self.runner.active or self.order is None or self._electrons is None:
            return
        self.scores = {}
        self.run_section.clear_scores()
        try:
            reference = self._read_reference(self.order)
        except Exception as error:  # as in `run`
            self.complain(error)
            reference = None
        self.run_section.show_columns(reference is not None)
        if reference is None:
            self._show_reference(None)
            return
        images = {_RAW: self._electrons} | {
            place + 1: outcome.image for place, outcome in self.outcomes.items() if outcome.image is not None
        }
        self._scoring = TaskWorker(partial(_score, images, reference, self.order.item.voxel_size))
        self._scoring.finished.connect(self._scored)
        self._scoring.start()

    def _scored(self) -> None:
        worker, self._scoring = self._scoring, None
        if self._score_again:
            self._score_again = False
            self._rescore()
            return
        if worker is None or self.runner.active:
            return
        if worker.failure is not None:
            self.run_section.status.setText(worker.failure)
            tell(worker.failure, expected=worker.expected)
            self._show_reference(None)
            return
        self.scores, reference = worker.outcome
        self.run_section.show_scores(self.scores)
        self._show_reference(reference)

    def _show_reference(self, image: np.ndarray | None) -> None:
        assert self.order is not None
        place = self.order.reference_place
        self.run_section.show_reference(_REFERENCE_LABEL, REFERENCE_COLOR, shown=image is not None)
        if image is None:
            self.images.remove(place)
            self.images.drop_stale(but=-1)
        else:
            self._add(place, image)
        if self.line.shown:
            self.line.draw()
        self._draw_profile()
        self._draw_rings()

    def _draw_profile(self) -> None:
        self.run_section.plot.profile.show_curves(self._profiles(), f"{self._unit()} along the line")

    def _profiles(self) -> Iterator[Curve]:
        for place, layer in sorted(self.images.layers.items()):
            sampled = self.line.sample(layer)
            if sampled is not None and self.order is not None:
                dashed = place == self.order.reference_place
                yield Curve(*sampled, self.order.colors[place], dashed)

    def _draw_rings(self) -> None:
        unit = self._unit()
        curves, legend, line = [], [], None
        for place, name, rings in self._rings():
            assert self.order is not None
            color = self.order.colors[place]
            x, y = (np.asarray(values) for values in (rings.frequency, rings.correlation))
            curves.append(Curve(x, y, color))
            legend.append((f"{name} {_resolution(rings, unit)}", color))
            line = rings.threshold
        self.run_section.plot.rings.show_curves(
            curves, f"cycles per {unit.removesuffix('s')}", span=(-0.1, 1.05), line=line, legend=legend
        )

    def _rings(self) -> Iterator[tuple[int, str, RingCorrelation]]:
        if self.order is None:
            return
        for place, contender in enumerate(self.order.contenders, start=1):
            outcome = self.outcomes.get(place - 1)
            if place in self.scores:
                yield place, contender.label, self.scores[place].rings
            elif not self.scores and outcome is not None and outcome.halves is not None:
                yield place, contender.label, outcome.halves

    def _unit(self) -> str:
        if self.order is None or self.order.item.voxel_size is None:
            return "pixels"
        return "µm"


def _make_job(
    factory: JobFactory, image: LayerImage, psf: PsfChoice, contenders: Sequence[Contender], halves: bool
) -> Comparison:
    return Comparison(
        image.load(),
        psf.load(image),
        contenders,
        factory,
        voxel_size=image.voxel_size,
        halves=halves,
    )


def _score(
    images: Mapping[int, np.ndarray], reference: LayerImage, voxel_size: tuple[float, ...] | None
) -> tuple[dict[int, Scores], np.ndarray]:
    """Return scores by place, and the reference as it is shown: by the middle one of the methods' factors."""
    truth = np.asarray(reference.data)
    scores = {place: score(image, truth, voxel_size) for place, image in images.items()}
    factors = [found.factor for place, found in scores.items() if place != _RAW] or [scores[_RAW].factor]
    return scores, (float(np.median(factors)) * truth).astype(np.float32)


def _resolution(rings: RingCorrelation, unit: str) -> str:
    if rings.resolution is None:
        return "to the last pixel"
    if not np.isfinite(rings.resolution):
        return "not at all"
    return f"{rings.resolution:.2g} {unit}"
