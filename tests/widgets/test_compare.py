"""The Compare widget, driven by object names as an outsider would drive it."""

from __future__ import annotations

import dataclasses
import gc
import re
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import dask.array
import numpy as np
import pytest
from qtpy.QtCore import Qt, QThreadPool

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.photons import estimate_photons
from napari_deqmd.widgets.comparison import Comparison, Contender, score
from napari_deqmd.widgets.region import camera_of
from napari_deqmd.widgets.side_by_side import grid_of
from widgets.driving import adder, finder, track
from widgets.jobs import FakeJob

RUNS = ("rl-accelerated", "md-tv", "deq-md")
LAYERS = [f"{label} · cells" for label in ("raw", *RUNS)]


class QuickJob(FakeJob):
    """Adds what tells the methods apart to a photon count of the input, and takes three steps."""

    def __init__(
        self,
        image: np.ndarray,
        psf: np.ndarray,
        config: ReconstructionConfig,
        start: Any = None,
        maps: Any = None,
    ) -> None:
        super().__init__(image, psf, config, start, maps)
        self.steps_left = 3

    def steps(self) -> Any:
        for progress in super().steps():
            yield progress
            if progress.step.iteration == self.steps_left:
                self.stopped_by = "converged"
                return

    def result(self) -> Any:
        found = super().result()
        found.image = (self.input / self.config.gain + len(self.config.method)).astype(np.float32)
        found.report |= {"peak": 20.0, "background": 2.0}
        return found


@pytest.fixture
def compare(make_napari_viewer: Callable[..., Any], qtbot: Any) -> Any:
    """Return a docked widget with fake jobs, of which it keeps the list."""
    from napari_deqmd.widgets.compare import CompareWidget

    viewer = make_napari_viewer()
    widget = CompareWidget(viewer)
    dock = viewer.window.add_dock_widget(widget, name="Compare")
    bench = SimpleNamespace(viewer=viewer, widget=widget, dock=dock, kind=QuickJob)
    bench.jobs = track(widget, lambda *arguments: bench.kind(*arguments))
    find, add = finder(widget), adder(viewer)

    def wait() -> None:
        qtbot.waitUntil(lambda: find("compare_run").isEnabled() and not widget._scoring.busy, timeout=20_000)

    def run() -> None:
        find("compare_run").click()
        wait()

    def cell(row: int, column: int) -> str:
        item = find("compare_table").item(row, column)
        return item.text() if item is not None else ""

    for name, value in {"find": find, "add": add, "wait": wait, "run": run, "cell": cell}.items():
        setattr(bench, name, value)
    return bench


def names(bench: Any) -> list[str]:
    return [layer.name for layer in bench.viewer.layers]


def check(bench: Any, *labels: str) -> None:
    methods = bench.find("compare_methods")
    for row in range(methods.count()):
        item = methods.item(row)
        item.setCheckState(Qt.CheckState.Checked if item.text() in labels else Qt.CheckState.Unchecked)


def test_controls_teach_and_the_defaults_are_sensible(compare: Any) -> None:
    for name in (
        "compare_methods compare_run compare_stop compare_progress compare_reference compare_winner compare_frc "
        "compare_profile compare_image_layer compare_axes compare_psf_source compare_peak"
    ).split():
        assert compare.find(name).toolTip(), name
    methods = compare.find("compare_methods")
    items = [methods.item(row) for row in range(methods.count())]
    assert [item.text() for item in items] == ["rl", *RUNS[:2], "b-pnp", "b-red", RUNS[2]]
    assert [item.text() for item in items if item.checkState() == Qt.CheckState.Checked] == list(RUNS)
    assert compare.find("compare_reference").currentText() == "none"
    assert not compare.find("compare_frc").isChecked()
    assert not compare.find("compare_winner").isEnabled()
    assert not compare.find("compare_stop").isEnabled()


def test_every_installed_model_is_offered(
    compare: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_deqmd.training import models
    from napari_deqmd.widgets.models import INSTALLED

    info = models.find_model("default")
    check(compare, "rl")
    monkeypatch.setattr(
        models, "list_models", lambda: [info, models.ModelInfo("mine", tmp_path, {"name": "mine"})]
    )
    INSTALLED.changed.emit()
    methods = compare.find("compare_methods")
    assert methods.item(methods.count() - 1).text() == "deq-md · mine"
    check(compare, "deq-md · mine")
    compare.add()
    compare.run()
    assert [job.config.model for job in compare.jobs] == ["mine"]
    assert compare.cell(1, 0) == "deq-md\nmine"


def test_side_by_side_in_one_contrast(compare: Any) -> None:
    source = compare.add(
        scale=(0.2, 0.1), translate=(3, 4), units=("um", "um"), axis_labels=("y", "x"), metadata={"gain": 2.0}
    )
    compare.run()
    assert names(compare) == [*LAYERS, "cells"]
    assert not source.visible
    layers = list(compare.viewer.layers)[:4]
    np.testing.assert_allclose(layers[0].data, source.data / 2)
    for layer, method in zip(layers[1:], RUNS, strict=True):
        np.testing.assert_allclose(layer.data, source.data / 2 + len(method))
        assert layer.metadata["config"]["method"] == method
    for layer in layers:
        for name in ("scale", "translate"):
            np.testing.assert_allclose(getattr(layer, name), getattr(source, name))
        assert layer.units == source.units
        assert layer.axis_labels == source.axis_labels
    assert grid_of(compare.viewer).enabled
    assert grid_of(compare.viewer).stride == 1
    layers[2].contrast_limits = (1.0, 7.0)
    assert all(tuple(layer.contrast_limits) == (1.0, 7.0) for layer in layers)
    assert "Every method done" in compare.find("compare_status").text()
    assert [compare.cell(row, 0) for row in range(4)] == ["raw", *RUNS]
    assert [compare.cell(2, column) for column in (1, 2, 3)] == ["3", "0.1 s", "converged"]
    assert compare.find("compare_table").isColumnHidden(4)
    assert compare.find("compare_image_layer").currentText() == "cells"


def test_all_are_told_the_same_but_their_iterations(compare: Any) -> None:
    compare.add(metadata={"offset": 5.0, "gain": 2.0})
    compare.find("compare_peak").setText("30")
    compare.find("compare_rl_iterations").setValue(7)
    compare.find("compare_max_iter").setValue(50)
    compare.find("compare_strength").setValue(1.5)
    check(compare, "rl", *RUNS)
    compare.run()
    configs = [job.config for job in compare.jobs]
    assert [config.method for config in configs] == ["rl", *RUNS]
    assert [config.max_iter for config in configs] == [7, 7, 50, 50]
    assert {(c.peak, c.background, c.offset, c.gain, c.strength) for c in configs} == {
        (30.0, "auto", 5.0, 2.0, 1.5)
    }
    assert all(np.array_equal(job.psf, compare.jobs[0].psf) for job in compare.jobs)


def test_a_second_comparison_replaces_the_first(compare: Any) -> None:
    compare.add()
    compare.run()
    kept = compare.viewer.layers[LAYERS[3]]
    kept.contrast_limits = (0.0, 9.0)
    compare.run()
    assert names(compare) == [*LAYERS, "cells"]
    assert compare.viewer.layers[LAYERS[3]] == kept
    assert tuple(kept.contrast_limits) == (0.0, 9.0)
    check(compare, "md-tv")
    compare.run()
    assert names(compare) == [LAYERS[0], LAYERS[2], "cells"]


def test_the_item_that_is_shown_is_compared(compare: Any) -> None:
    source = compare.add((3, 4, 16, 16), axis_labels=("t", "z", "y", "x"), scale=(5, 0.3, 0.1, 0.1))
    compare.viewer.dims.set_point(0, 10)
    check(compare, "md-tv")
    compare.run()
    assert compare.jobs[0].config.axes == "ZYX"
    np.testing.assert_array_equal(compare.jobs[0].input, source.data[2])
    result = compare.viewer.layers[LAYERS[2]]
    np.testing.assert_allclose(result.scale, (0.3, 0.1, 0.1))
    assert result.axis_labels == ("z", "y", "x")


@pytest.mark.parametrize("lazy", [False, True])
def test_bad_pixels_are_left_out_of_what_is_compared(compare: Any, lazy: bool) -> None:
    cells = compare.add((3, 4, 16, 16), axis_labels=("t", "z", "y", "x"))
    hot = np.zeros((16, 16), np.uint8)
    hot[3, 4] = 255
    planes = np.zeros(cells.data.shape, np.uint8)
    planes[2, 1, 7, 8] = 1
    for name, mask in (("hot", hot), ("planes", planes)):
        compare.viewer.add_image(
            dask.array.from_array(mask) if lazy else mask, name=name, contrast_limits=(0, 1)
        )
    compare.viewer.add_shapes([np.array([[2, 3], [2, 13], [12, 13], [12, 3]]) - 0.5], name="box")
    compare.find("compare_image_layer").choose(cells)
    compare.find("compare_roi").setCurrentText("box")
    compare.find("compare_frc").setChecked(True)
    compare.viewer.dims.set_point(0, 2)
    check(compare, "md-tv")
    for name, expected in (("hot", hot[2:12, 3:13]), ("planes", planes[2, :, 2:12, 3:13])):
        compare.find("compare_mask_layer").setCurrentText(name)
        compare.run()
        image, *halves = compare.jobs[-3:]
        assert image.maps.mask.any()
        for job in (image, *halves):
            np.testing.assert_array_equal(job.maps.mask, expected != 0)
        assert compare.viewer.layers[LAYERS[2]].metadata["mask"] == name
        assert "mask" not in compare.viewer.layers[LAYERS[0]].metadata
    compare.find("compare_mask_layer").setCurrentText("none")
    compare.run()
    assert compare.jobs[-1].maps.mask is None
    assert "mask" not in compare.viewer.layers[LAYERS[2]].metadata


def test_the_region_that_is_meant_is_compared_where_it_lies(compare: Any) -> None:
    cells = compare.add(scale=(0.5, 0.5), translate=(3, 4))
    truth = compare.viewer.add_image(
        cells.data.astype(float), name="truth", scale=(0.5, 0.5), translate=(3, 4)
    )
    compare.find("compare_image_layer").setCurrentText("cells")
    corners = np.array([[4, 6], [4, 17], [23, 17], [23, 6]])
    compare.viewer.add_shapes(corners, scale=(0.5, 0.5), translate=(3, 4), name="box")
    compare.find("compare_roi").setCurrentText("box")
    compare.find("compare_reference").setCurrentText(truth.name)
    compare.run()
    found = compare.viewer.layers[LAYERS[1]]
    where = compare.widget.order.part.slices
    assert found.data.shape == compare.jobs[0].input.shape == (20, 12)
    assert np.array_equal(compare.jobs[0].input, cells.data[where])
    assert np.allclose(found.data_to_world((0, 0)), cells.data_to_world([span.start for span in where]))
    assert float(compare.cell(1, 4)) > 0


def test_a_region_fills_its_cells(compare: Any) -> None:
    compare.add((400, 400), scale=(0.5, 0.5), translate=(3, 4))
    corners = np.array([[40, 60], [40, 99], [69, 99], [69, 60]])
    box = compare.viewer.add_shapes(corners, scale=(0.5, 0.5), translate=(3, 4), name="box")
    compare.find("compare_roi").setCurrentText("box")

    def run_and_measure() -> tuple[float, Any]:
        compare.run()
        found = compare.viewer.layers[LAYERS[0]].extent.world
        camera = camera_of(compare.viewer)
        np.testing.assert_allclose(camera.center[-2:], found.mean(axis=0), atol=0.5)
        cells = grid_of(compare.viewer).shape
        room = np.array(compare.viewer.canvas.size) / cells
        return float(max(camera.zoom * (found[1] - found[0]) / room)), camera

    share, camera = run_and_measure()
    assert 0.85 < share <= 1
    # What the user makes of the view stays, until another region is compared.
    camera.zoom *= 2
    zoom = camera.zoom
    compare.run()
    assert camera.zoom == zoom
    box.data = [np.add(corners, (200, 100))]
    assert 0.85 < run_and_measure()[0] <= 1


def test_the_view_fits_what_has_fewer_axes_than_the_viewer(compare: Any) -> None:
    compare.add((3, 20, 40), axis_labels=("t", "y", "x"), scale=(5, 0.1, 0.1))
    check(compare, "md-tv")
    compare.run()
    camera = camera_of(compare.viewer)
    np.testing.assert_allclose(camera.center[-2:], (0.95, 1.95))
    rows, columns = np.array(compare.viewer.canvas.size) / grid_of(compare.viewer).shape
    assert camera.zoom == pytest.approx(0.95 * min(rows / 2, columns / 4), rel=0.01)


def test_a_reference_is_scaled_and_scores(compare: Any) -> None:
    source = compare.add()
    truth = compare.viewer.add_image(3.0 * source.data, name="truth", visible=False)
    compare.find("compare_image_layer").choose(source)
    compare.find("compare_reference").choose(truth)
    compare.run()
    table = compare.find("compare_table")
    assert not table.isColumnHidden(4)
    assert names(compare)[:5] == [*LAYERS, "reference · cells"]
    np.testing.assert_array_equal(truth.data, 3.0 * source.data)
    expected = [score(job.result().image, truth.data) for job in compare.jobs]
    for row, found in enumerate(expected, start=1):
        assert compare.cell(row, 4) == f"{found.psnr:.2f}"
        assert compare.cell(row, 6) == f"{found.nrmse:.3f}"
    # The shortest name adds the smallest error; the raw image has none.
    assert table.item(0, 6).font().bold()
    assert not table.item(2, 6).font().bold()
    assert compare.cell(4, 0) == "reference"
    assert shown_whole(table)
    assert len(compare.find("compare_frc_plot").curves) == 3
    shown = compare.viewer.layers["reference · cells"]
    assert np.median(shown.data / source.data) == pytest.approx(np.median([3 * f.factor for f in expected]))
    compare.find("compare_reference").setCurrentIndex(0)
    compare.wait()
    assert table.isColumnHidden(4)
    assert "reference · cells" not in names(compare)
    assert table.rowCount() == 4
    assert shown_whole(table)
    assert compare.find("compare_frc_plot").curves == []
    compare.find("compare_reference").choose(truth)
    compare.wait()
    assert compare.cell(1, 4) == f"{expected[0].psnr:.2f}"
    assert shown_whole(table)
    # From the start there is room for the reference, which comes last.
    compare.find("compare_run").click()
    assert compare.cell(4, 0) == "reference"
    compare.wait()


def shown_whole(table: Any) -> bool:
    """Whether a table is as high as its rows."""
    rows = sum(table.rowHeight(row) for row in range(table.rowCount()))
    return table.height() == rows + table.horizontalHeader().sizeHint().height() + 2 * table.frameWidth()


def test_a_reference_of_another_shape_is_refused(compare: Any, notices: list[str]) -> None:
    source = compare.add()
    other = compare.add((16, 16), name="other")
    compare.find("compare_image_layer").choose(source)
    compare.find("compare_reference").choose(other)
    compare.find("compare_run").click()
    assert notices == ["The reference is 16 × 16 but the image is 32 × 32: choose another layer."]
    assert compare.find("compare_run").isEnabled()


def test_halves_of_the_photons(compare: Any) -> None:
    source = compare.add((32, 32), scale=(0.1, 0.1), units=("um", "um"), metadata={"gain": 2.0})
    compare.find("compare_frc").setChecked(True)
    check(compare, "md-tv")
    compare.run()
    whole, *halves = compare.jobs
    assert whole.config.gain == 2
    assert len(halves) == 2
    np.testing.assert_array_equal(halves[0].input + halves[1].input, np.rint(source.data / 2))
    for half in halves:
        assert (half.config.offset, half.config.gain) == (0.0, 1.0)
        assert (half.config.peak, half.config.background, half.config.read_noise) == (10.0, 1.0, 0.0)
    (curve,) = compare.find("compare_frc_plot").curves
    assert curve.x[-1] == pytest.approx(5, rel=0.05)
    assert "prior makes both halves alike" in compare.find("compare_frc").toolTip()


def test_one_that_fails_leaves_the_others(compare: Any, notices: list[str]) -> None:
    class Broken(QuickJob):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            if self.config.method == "md-tv":
                self.error = RuntimeError("broken")
            if self.config.method == "rl":
                raise UserError("Choose another PSF.")

    compare.kind = Broken
    compare.add()
    check(compare, "rl", *RUNS)
    compare.run()
    assert compare.cell(1, 1) == "Choose another PSF."
    assert "RuntimeError: broken" in compare.cell(3, 1)
    assert compare.cell(4, 3) == "converged"
    assert names(compare) == [LAYERS[0], LAYERS[1], LAYERS[3], "cells"]
    assert len(notices) == 2
    assert notices[0] == "rl: Choose another PSF."
    assert "2 of 4 methods" in compare.find("compare_status").text()
    compare.find("compare_table").selectRow(1)
    assert not compare.find("compare_winner").isEnabled()
    compare.kind = QuickJob
    compare.run()
    assert compare.cell(3, 3) == "converged"
    assert LAYERS[2] in names(compare)
    # The image of the run before must not pass for one of this.
    compare.kind = Broken
    compare.run()
    assert LAYERS[2] not in names(compare)


def test_no_image_and_no_method_are_told(compare: Any, notices: list[str]) -> None:
    compare.find("compare_run").click()
    assert notices == ["There is no image layer: open an image, or add one to the viewer."]
    compare.add()
    check(compare)
    compare.find("compare_run").click()
    assert notices[1:] == ["No method is chosen: check at least one in the list."]
    assert not compare.jobs


def test_an_image_that_is_none_is_told_once(compare: Any, notices: list[str]) -> None:
    compare.viewer.add_image(np.full((16, 16), np.nan, np.float32), contrast_limits=(0, 1))
    compare.run()
    assert len(notices) == 1
    assert "NaN" in notices[0]
    assert compare.find("compare_status").text() == notices[0]


def slow(compare: Any, qtbot: Any) -> None:
    """Begin a comparison whose second method takes for ever."""

    class Slow(QuickJob):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.steps_left = 3 if self.config.method == "rl-accelerated" else 100_000

    compare.kind = Slow
    compare.find("compare_max_iter").setValue(100_000)
    compare.find("compare_run").click()
    qtbot.waitUntil(lambda: LAYERS[1] in names(compare) and len(compare.jobs) == 2, timeout=10_000)


def test_stop_keeps_what_is_done(compare: Any, qtbot: Any) -> None:
    compare.add()
    slow(compare, qtbot)
    compare.widget.run()
    assert not compare.find("compare_run").isEnabled()
    qtbot.waitUntil(lambda: "md-tv" in compare.find("compare_status").text(), timeout=5000)
    compare.find("compare_stop").click()
    compare.wait()
    assert compare.jobs[1].closed.is_set()
    assert len(compare.jobs) == 2
    assert names(compare) == [*LAYERS[:3], "cells"]
    assert compare.cell(3, 1) == ""
    assert compare.cell(2, 3) == "stopped"
    said = compare.find("compare_status").text()
    assert re.fullmatch(r"Stopped: 1 of 3 methods done in .*, and md-tv up to iteration \d+\.", said)


def test_a_stop_says_what_the_table_says(compare: Any, qtbot: Any) -> None:
    compare.add()
    check(compare, "rl-accelerated", "md-tv")
    slow(compare, qtbot)
    qtbot.waitUntil(lambda: "md-tv" in compare.find("compare_status").text(), timeout=5000)
    compare.find("compare_stop").click()
    compare.wait()
    assert compare.find("compare_status").text().startswith("Stopped: 1 of 2 methods")
    assert compare.find("compare_progress").format() != "done"
    # A stop that came when all had ended stopped nothing.
    ended = [dataclasses.replace(one, stopped_by="converged") for one in compare.widget.outcomes.values()]
    late = SimpleNamespace(stopping=True, electrons=None, outcome=ended)
    compare.widget.runner.show_outcome(late)
    assert compare.find("compare_status").text().startswith("Every method done")


@pytest.mark.parametrize("which", ["cells", LAYERS[1]])
def test_layers_removed_mid_run(compare: Any, qtbot: Any, notices: list[str], which: str) -> None:
    compare.add()
    slow(compare, qtbot)
    compare.viewer.layers.remove(which)
    if which == "cells":
        compare.wait()
        assert len(notices) == 1
        assert "The image layer was removed" in notices[0]
        assert names(compare) == LAYERS[:3]
    else:
        compare.find("compare_stop").click()
        compare.wait()
        assert names(compare) == [LAYERS[0], LAYERS[2], "cells"]
        assert not notices


@pytest.mark.parametrize("which", ["cells", LAYERS[1]])
def test_data_exchanged_mid_run_moves_no_result(
    compare: Any, qtbot: Any, notices: list[str], which: str
) -> None:
    """What is still to come lies where the image lay that was read, be its layer another shape by now."""
    layer = compare.add((4, 24, 24), scale=(0.3, 0.1, 0.1))
    slow(compare, qtbot)
    compare.viewer.layers[which].data = np.ones((8, 8), dtype=np.float32)
    compare.find("compare_stop").click()
    compare.wait()
    assert not notices
    latest = compare.viewer.layers[LAYERS[2]]
    assert latest.data.shape == (4, 24, 24)
    assert tuple(latest.scale) == (0.3, 0.1, 0.1)
    assert layer in compare.viewer.layers


def test_closing_the_dock_mid_run_stops_it_and_leaks_nothing(
    compare: Any, qtbot: Any, notices: list[str]
) -> None:
    compare.add()
    slow(compare, qtbot)
    jobs, widget = compare.jobs, weakref.ref(compare.widget)
    compare.viewer.window.remove_dock_widget(compare.dock)
    for name in ("widget", "dock", "find", "wait", "run", "cell"):
        setattr(compare, name, None)
    qtbot.waitUntil(jobs[1].closed.is_set, timeout=5000)
    assert QThreadPool.globalInstance().waitForDone(5000)
    qtbot.wait(100)
    gc.collect()
    compare.add(name="more")
    compare.viewer.dims.set_current_step(0, 5)
    compare.viewer.layers.clear()
    assert widget() is None
    assert not notices


@pytest.mark.parametrize("before", [False, True])
def test_closing_puts_the_viewer_back(compare: Any, before: bool) -> None:
    cells, other, hidden = (compare.add(name=name) for name in ("cells", "other", "hidden"))
    hidden.visible = False
    grid = grid_of(compare.viewer)
    grid.enabled, grid.shape = before, (1, 7)
    compare.find("compare_image_layer").choose(cells)
    for _ in range(2):
        compare.run()
    compare.find("compare_profile").click()
    compare.viewer.layers.remove(other)
    assert grid.enabled
    compare.viewer.window.remove_dock_widget(compare.dock)
    assert (grid.enabled, grid.shape, grid.stride) == (before, (1, 7), 1)
    assert names(compare) == [*LAYERS, "cells", "hidden"]
    assert (cells.visible, hidden.visible) == (True, False)
    assert not any(layer.name_overlay.visible for layer in compare.viewer.layers)


def test_closing_leaves_what_the_user_changed(compare: Any) -> None:
    grid = grid_of(compare.viewer)
    cells = compare.add()
    grid.enabled = True
    compare.run()
    cells.visible, grid.enabled = True, False
    compare.viewer.window.remove_dock_widget(compare.dock)
    assert not grid.enabled
    assert cells.visible


def test_line_profile_follows_the_line(compare: Any, qtbot: Any) -> None:
    source = compare.add((20, 40), scale=(0.1, 0.1), translate=(1, 2), units=("um", "um"))
    check(compare, "md-tv")
    assert not compare.find("compare_profile").isEnabled()
    compare.run()
    plot = compare.find("compare_profile_plot")
    assert plot.curves == []
    compare.find("compare_profile").click()
    qtbot.waitUntil(lambda: len(plot.curves) == 2, timeout=5000)
    assert plot.curves[0].x[-1] == pytest.approx(0.8 * 39 * 0.1)
    assert plot.getPlotItem().getAxis("bottom").labelText == "µm along the line"
    line = compare.viewer.layers["Profile"]
    assert compare.viewer.layers.selection.active == line
    assert grid_of(compare.viewer).stride == 2
    images, lines = (list(compare.viewer.layers)[start:4:2] for start in (0, 1))
    assert [layer.name for layer in images] == [LAYERS[0], LAYERS[2]]
    line.data = [np.array([[5.0, 3.0], [5.0, 13.0]])]
    qtbot.waitUntil(lambda: len(plot.curves[0].x) == 11, timeout=5000)
    np.testing.assert_allclose(plot.curves[0].y, source.data[5, 3:14])
    np.testing.assert_allclose(plot.curves[1].y - plot.curves[0].y, len("md-tv"))
    np.testing.assert_allclose(lines[1].data[0], line.data[0])
    # Outside the image there is nothing.
    line.data = [np.array([[5.0, 30.0], [5.0, 60.0]])]
    qtbot.waitUntil(lambda: len(plot.curves[0].x) == 31, timeout=5000)
    assert np.isnan(plot.curves[0].y[-5:]).all()


@pytest.mark.parametrize("voxel", [1e-4, 0.1, 300.0])
def test_the_line_is_two_pixels_wide_at_any_zoom(compare: Any, qtbot: Any, voxel: float) -> None:
    compare.add((20, 40), scale=(voxel, voxel))
    check(compare, "md-tv")
    compare.run()
    compare.find("compare_profile").click()
    lines = [layer for layer in compare.viewer.layers if layer.name.startswith("Profile")]
    assert len(lines) == 2
    camera = camera_of(compare.viewer)

    def on_canvas() -> list[float]:
        return [float(line.edge_width[0]) * voxel * camera.zoom for line in lines]

    assert on_canvas() == pytest.approx([2, 2])
    for factor in (0.05, 200):
        camera.zoom *= factor
        qtbot.waitUntil(lambda: on_canvas() == pytest.approx([2, 2]), timeout=2000)


def test_the_line_comes_and_goes_with_the_images(compare: Any, qtbot: Any) -> None:
    def lines() -> int:
        return sum(name.startswith("Profile") for name in names(compare))

    compare.add()
    check(compare, "md-tv")
    compare.run()
    compare.find("compare_profile").click()
    compare.viewer.layers["Profile"].data = [np.array([[5.0, 3.0], [5.0, 13.0]])]
    check(compare, "rl")
    compare.run()
    assert lines() == 2
    np.testing.assert_allclose(compare.viewer.layers["Profile"].data[0], [[5, 3], [5, 13]])
    compare.viewer.layers.remove("rl · cells")
    qtbot.waitUntil(lambda: lines() == 1, timeout=5000)
    compare.viewer.layers.remove("Profile")
    qtbot.waitUntil(lambda: compare.find("compare_profile_plot").curves == [], timeout=5000)
    assert grid_of(compare.viewer).stride == 1
    compare.run()
    compare.find("compare_profile").click()
    compare.viewer.layers.clear()
    qtbot.wait(100)
    assert names(compare) == []


def test_the_profile_is_of_the_plane_that_is_shown(compare: Any, qtbot: Any) -> None:
    source = compare.add((5, 16, 16), scale=(2, 1, 1))
    compare.run()
    compare.find("compare_profile").click()
    plot = compare.find("compare_profile_plot")
    compare.viewer.layers["Profile"].data = [np.array([[4.0, 2.0], [4.0, 9.0]])]
    for plane in (1, 3):
        compare.viewer.dims.set_point(0, 2 * plane)
        qtbot.waitUntil(
            lambda plane=plane: (
                bool(plot.curves) and np.array_equal(plot.curves[0].y, source.data[plane, 4, 2:10])
            ),
            timeout=5000,
        )


def test_the_winner_goes_to_reconstruct(compare: Any, reconstruct_beside: Callable[[Any], Any]) -> None:
    compare.add(name="first")
    cells = compare.add(metadata={"offset": 3.0, "gain": 2.0})
    psf = compare.add((5, 5), name="psf")
    hot = compare.viewer.add_labels(np.eye(32, dtype=int), name="hot")
    reconstruct = reconstruct_beside(compare.viewer)
    compare.find("compare_image_layer").choose(cells)
    compare.find("compare_psf_source").setCurrentText("Layer")
    compare.find("compare_psf_layer").choose(psf)
    compare.find("compare_mask_layer").choose(hot)
    compare.find("compare_background").setText("1.5")
    compare.find("compare_strength").setValue(2.5)
    compare.viewer.add_shapes([np.array([[2, 3], [2, 13], [12, 13], [12, 3]])], name="box")
    compare.find("compare_roi").setCurrentText("box")
    compare.run()
    # What counts is what it was run with.
    compare.find("compare_background").setText("7")
    compare.find("compare_strength").setValue(1.0)
    compare.find("compare_table").selectRow(0)
    assert not compare.find("compare_winner").isEnabled()
    compare.find("compare_table").selectRow(2)
    assert compare.viewer.layers.selection.active == compare.viewer.layers[LAYERS[2]]
    compare.find("compare_winner").click()
    assert not reconstruct.parent().isHidden()
    assert reconstruct.image.layer_combo.layer == cells
    assert reconstruct.image.region_combo.currentText() == "box"
    assert reconstruct.psf.source_combo.currentText() == "Layer"
    assert reconstruct.psf.layer_combo.layer == psf
    assert reconstruct.photons.mask_combo.layer == hot
    assert reconstruct.photons.values() == {
        "offset": 3.0,
        "gain": 2.0,
        "read_noise": 0.0,
        "peak": "auto",
        "background": 1.5,
    }
    values = reconstruct.method.values()
    assert (values["method"], values["strength"], values["max_iter"]) == ("md-tv", 2.5, 200)


def test_a_comparison_that_is_closed_keeps_the_current_iterate() -> None:
    contenders = [Contender(name, ReconstructionConfig(method=name, axes="YX")) for name in ("rl", "md-tv")]
    job = Comparison(np.arange(64.0).reshape(8, 8), np.ones((3, 3)), contenders, FakeJob)
    steps = job.steps()
    for _ in range(4):
        last = next(steps)
    steps.close()
    (outcome,) = job.result()
    assert (last.place, last.iteration) == (0, 4)
    assert (outcome.iterations, outcome.stopped_by) == (4, "user")


def test_scores_do_not_depend_on_the_reference_s_unit() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((32, 32))
    image = (5 * truth + rng.normal(0, 0.3, truth.shape)).astype(np.float32)
    first, second = score(image, truth), score(image, 1000 * truth)
    assert first.factor == pytest.approx(5, rel=0.02)
    assert first.psnr == pytest.approx(second.psnr)
    assert first.psnr == pytest.approx(20 * np.log10(5 / 0.3), abs=0.3)
    assert first.ssim == pytest.approx(second.ssim)
    assert first.nrmse == pytest.approx(0.3 / np.sqrt(np.mean((5 * truth) ** 2)), rel=0.05)
    with pytest.raises(UserError, match="nothing in common"):
        score(image, np.zeros_like(truth))


def test_stacks_of_few_slices_have_scores_too() -> None:
    image = np.random.default_rng(0).random((2, 16, 16)).astype(np.float32)
    assert score(image, image + 0.1).ssim is None
    assert score(image[[0, 0, 1, 1]], image[[0, 0, 1, 1]]).ssim == pytest.approx(1)


def test_a_real_comparison(compare: Any) -> None:
    from napari_deqmd.widgets.reconstruct import default_job

    compare.widget.job_factory = default_job
    rng = np.random.default_rng(0)
    truth = 40 * (rng.random((48, 48)) > 0.95) + 1.0
    compare.viewer.add_image(rng.poisson(truth).astype(np.uint16), name="cells", scale=(0.1, 0.1), units="um")
    reference = compare.viewer.add_image(truth, name="truth", scale=(0.1, 0.1), units="um")
    compare.find("compare_image_layer").choose(compare.viewer.layers["cells"])
    compare.find("compare_reference").choose(reference)
    compare.find("compare_max_iter").setValue(3)
    compare.find("compare_rl_iterations").setValue(3)
    compare.run()
    for row, method in enumerate(RUNS, start=1):
        assert compare.cell(row, 0) == method
        assert compare.cell(row, 1) == "3"
        assert float(compare.cell(row, 4)) > 5
    images = [compare.viewer.layers[name].data for name in LAYERS]
    assert all(np.isfinite(image).all() for image in images)
    assert not any(np.array_equal(images[0], image) for image in images[1:])


# napari picks the colours of labels at random.
@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB:UserWarning")
def test_bad_moments(compare: Any, notices: list[str], qtbot: Any) -> None:
    """What cannot be compared is told; sliders, names and volumes may change while it runs."""
    rgb = compare.viewer.add_image(np.zeros((16, 16, 3), dtype=np.uint8), rgb=True, name="picture")
    labels = compare.viewer.add_labels(np.ones((16, 16), dtype=int))
    compare.find("compare_run").click()
    assert "colour picture" in notices[0]
    compare.viewer.layers.remove(rgb)
    compare.find("compare_run").click()
    assert "There is no image layer" in notices[1]
    compare.viewer.layers.remove(labels)
    large = compare.viewer.add_image(
        dask.array.zeros((100, 5000, 5000), chunks=1000), contrast_limits=(0, 1), name="large"
    )
    compare.find("compare_run").click()
    assert "is loaded lazily and holds 20.0 GB" in notices[2]
    compare.viewer.layers.remove(large)
    source = compare.add((4, 16, 16))
    slow(compare, qtbot)
    source.name = "nuclei"
    compare.viewer.dims.roll()
    compare.viewer.dims.ndisplay = 3
    compare.find("compare_stop").click()
    compare.wait()
    assert len(notices) == 3
    assert compare.find("compare_status").text().startswith("Stopped: 1 of 3 methods")


def test_a_renamed_result_is_the_users(compare: Any) -> None:
    compare.add()
    check(compare, "rl")
    compare.run()
    compare.viewer.layers["rl · cells"].name = "my favourite"
    compare.run()
    assert sorted(names(compare)) == ["cells", "my favourite", "raw · cells", "rl · cells"]
    check(compare, "md-tv")
    compare.run()
    assert sorted(names(compare)) == ["cells", "md-tv · cells", "my favourite", "raw · cells"]


def test_the_frame_is_the_one_that_is_seen(compare: Any) -> None:
    """Of layers with other distances in time the viewer's steps are those of the finest."""
    compare.viewer.add_image(np.zeros((60, 8, 8)), scale=(0.5, 1, 1), axis_labels="tyx")
    frames = np.arange(10, 61, 10).astype(np.uint16)[:, None, None] * np.ones((1, 8, 8), np.uint16)
    frames[:, 2:4, 2:4] *= 3
    layer = compare.viewer.add_image(frames, name="cells", scale=(2, 1, 1), axis_labels="tyx")
    compare.find("compare_image_layer").choose(layer)
    check(compare, "rl")
    compare.viewer.dims.set_point(0, 4.0)
    compare.run()
    assert compare.viewer.layers["raw · cells"].data[0, 0] == 30


def test_the_reference_is_of_the_compared_time(compare: Any) -> None:
    truth = np.random.default_rng(0).random((4, 16, 16)).astype(np.float32) + 0.1
    compare.viewer.add_image(truth, name="truth", axis_labels="tyx")
    layer = compare.viewer.add_image((100 * truth).astype(np.uint16), name="cells", axis_labels="tyx")
    compare.find("compare_image_layer").choose(layer)
    compare.find("compare_reference").choose(compare.viewer.layers["truth"])
    check(compare, "rl")
    compare.viewer.dims.set_point(0, 0)
    compare.run()
    found = compare.cell(0, 4)
    compare.viewer.dims.set_point(0, 3)
    compare.widget._rescore()
    compare.wait()
    assert compare.cell(0, 4) == found != ""


def test_results_lie_on_a_layer_that_is_moved_and_sheared(compare: Any) -> None:
    affine = np.eye(4)
    affine[1:3, 3] = 100, 200
    data = np.random.default_rng(0).poisson(20, (2, 32, 32)).astype(np.uint16)
    layer = compare.viewer.add_image(
        data, name="cells", axis_labels="tyx", affine=affine, shear=[0, 0, 0.5], rotate=np.eye(3)
    )
    check(compare, "rl")
    compare.run()
    result = compare.viewer.layers["rl · cells"]
    for corner in ((0, 0), (31, 31), (0, 31)):
        np.testing.assert_allclose(result.data_to_world(corner), layer.data_to_world((0, *corner))[1:])
    compare.find("compare_profile").click()
    line = compare.viewer.layers["Profile"]
    np.testing.assert_allclose(line.data_to_world((3, 4)), result.data_to_world((3, 4)))


def test_a_region_has_the_photons_of_all_and_reconstruct_its_settings(
    compare: Any, reconstruct_beside: Callable[[Any], Any]
) -> None:
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.poisson(5, (64, 128)), rng.poisson(500, (64, 128))]).astype(np.uint16)
    compare.viewer.add_image(data, name="cells")
    compare.viewer.add_shapes([np.array([[5, 5], [5, 50], [50, 50], [50, 5]])], name="dim")
    compare.find("compare_roi").setCurrentText("dim")
    check(compare, "rl")
    beside = reconstruct_beside(compare.viewer)
    find = finder(beside)
    for name, value in (("boundary", "periodic"), ("solver", "plain")):
        find(name).setCurrentText(value)
    find("tol").setText("0.1")
    compare.run()
    peak = compare.jobs[0].config.peak
    assert peak == estimate_photons(data).peak
    assert peak > 10 * estimate_photons(data[5:50, 5:50]).peak
    compare.find("compare_table").selectRow(1)
    compare.find("compare_winner").click()
    _, _, config = beside._read()
    theirs = compare.jobs[0].config
    assert (config.boundary, config.solver, config.tol) == (theirs.boundary, theirs.solver, theirs.tol)


def test_a_comparison_that_fails_leaves_the_curves_of_the_last(
    compare: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare.add()
    compare.run()
    compare.find("compare_profile").click()
    plot = compare.find("compare_profile_plot")
    qtbot.waitUntil(lambda: len(plot.curves) == 4, timeout=5000)
    check(compare, "rl")
    monkeypatch.setattr(
        "napari_deqmd.widgets.compare.make_comparison", lambda *_: (_ for _ in ()).throw(UserError("No."))
    )
    compare.run()
    compare.widget.line.refresh()
    qtbot.wait(100)
    assert len(plot.curves) == 4


def test_the_view_fits_among_layers_in_other_units(compare: Any) -> None:
    if not hasattr(compare.viewer.dims, "units"):
        pytest.skip("this napari takes units for names")
    compare.viewer.add_image(np.zeros((8, 8)), name="other", scale=(100, 100), units=("nm", "nm"))
    layer = compare.add(scale=(0.1, 0.1), units=("um", "um"))
    compare.find("compare_image_layer").choose(layer)
    check(compare, "rl")
    compare.run()
    np.testing.assert_allclose(camera_of(compare.viewer).center[-2:], 1000 * layer.extent.world.mean(axis=0))
