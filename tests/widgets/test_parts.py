"""What of an image is run, chosen in the widget: regions, previews, times and channels, of lazy data too."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import psf_generator  # noqa: F401  (it and torch may take longer to import than a test waits)
import pytest
from scipy.ndimage import gaussian_filter

from napari_deqmd.core.photons import estimate_photons
from napari_deqmd.widgets.form import PREVIEW_TOL, default
from napari_deqmd.widgets.reconstruct import default_job
from napari_deqmd.widgets.region import camera_of, in_view, middle_of
from widgets.jobs import FakeJob


def box(bench: Any, corner: tuple[int, int], size: tuple[int, int], **options: Any) -> Any:
    corners = np.array([(0, 0), (0, 1), (1, 1), (1, 0)]) * size + corner - 0.5
    return bench.viewer.add_shapes([corners], **{"name": "box", **options})


def preview(bench: Any, max_iter: int = 3) -> Any:
    bench.find("max_iter").setValue(max_iter)
    bench.find("preview").click()
    bench.wait_idle()
    return bench.viewer.layers["cells preview"]


def test_shapes_layers_are_offered_and_the_choice_survives(bench: Any) -> None:
    bench.add()
    shapes = box(bench, (2, 3), (10, 12))
    roi = bench.find("roi")
    assert [roi.itemText(row) for row in range(roi.count())] == ["Whole image", "Current view", "box"]
    roi.setCurrentText("box")
    assert "Runs on 10 × 12 of it" in bench.find("image_summary").text()
    shapes.name = "other"
    bench.viewer.add_shapes(name="third")
    assert roi.currentText() == "other"
    bench.viewer.layers.remove(shapes)
    assert roi.currentText() == "Whole image"
    assert "Runs on" not in bench.find("image_summary").text()


def test_a_region_is_run_and_lies_on_the_image(bench: Any, jobs: list[FakeJob]) -> None:
    placed = {
        "scale": (0.3, 0.1, 0.1),
        "rotate": 15,
        "units": ("um", "um", "um"),
        "axis_labels": ("z", "y", "x"),
    }
    source = bench.add((5, 32, 32), translate=(1, 2, 3), **placed)
    shapes = bench.viewer.add_shapes(ndim=2, name="box")
    world = [
        source.data_to_world((0, y, x))[1:] for y, x in ((3.5, 5.5), (3.5, 20.5), (12.5, 20.5), (12.5, 5.5))
    ]
    shapes.add_polygons([np.array(world)])
    bench.find("roi").setCurrentText("box")
    bench.run(max_iter=4)
    bench.wait_idle()
    np.testing.assert_array_equal(jobs[0].input, source.data[:, 4:13, 6:21])
    result = bench.viewer.layers["cells deconvolved (region)"]
    assert result.data.shape == (5, 9, 15)
    assert (result.data == 4).all()
    np.testing.assert_allclose(result.data_to_world((4, 8, 14)), source.data_to_world((4, 12, 20)))
    assert (result.units, result.axis_labels) == (source.units, source.axis_labels)
    np.testing.assert_allclose(result.rotate, source.rotate)
    assert result.metadata["region"] == {"name": "box", "Z": [0, 4], "Y": [4, 12], "X": [6, 20]}
    shapes.data = [
        shapes.data[0] * 0 + [[0, 0], [0, 1], [1, 1], [1, 0]] + result.data_to_world((0, 0, 0))[1:]
    ]
    bench.run(max_iter=2)
    bench.wait_idle()
    assert result.data.shape == jobs[1].input.shape != (5, 9, 15)
    assert (result.data == 2).all()
    assert "cells deconvolved (region) [1]" not in bench.viewer.layers


def test_a_region_without_an_area_is_refused(bench: Any, notices: list[str]) -> None:
    bench.add()
    bench.viewer.add_shapes(name="box")
    bench.find("roi").setCurrentText("box")
    assert "holds no shape" in bench.find("image_summary").text()
    bench.run(max_iter=3)
    assert len(notices) == 1
    assert "holds no shape" in notices[0]
    assert bench.find("run").isEnabled()


def test_a_preview_of_the_current_view(bench: Any, jobs: list[FakeJob]) -> None:
    source = bench.add((2, 40, 80, 100), axis_labels=("t", "z", "y", "x"), scale=(1, 2, 0.5, 0.5))
    bench.viewer.dims.set_point((0, 1), (1, 40))
    bench.find("time_choice").setCurrentText("0")
    source.corner_pixels = np.array([[0, 0, 40, 10], [0, 0, 79, 39]])
    result = preview(bench)
    assert jobs[0].input.shape == (1, 12, 40, 30)
    np.testing.assert_array_equal(jobs[0].input, source.data[1:, 14:26, 40:, 10:40])
    np.testing.assert_allclose(result.translate, (1, 28, 20, 5))
    assert result.metadata["region"]["Z"] == [14, 25]
    assert preview(bench) is result
    assert len(bench.viewer.layers) == 2


def test_a_preview_of_a_shape_is_about_its_middle(bench: Any, jobs: list[FakeJob]) -> None:
    source = bench.add((320, 900))
    box(bench, (2, 300), (300, 500))
    bench.find("roi").setCurrentText("box")
    preview(bench)
    np.testing.assert_array_equal(jobs[0].input, source.data[24:280, 422:678])


def test_a_preview_does_not_hide_the_channel_it_lies_on(bench: Any, jobs: list[FakeJob]) -> None:
    source = bench.add((300, 300), blending="additive")
    result = preview(bench)
    assert source.visible
    assert result.blending != "additive"


def test_a_part_runs_with_the_peak_of_the_whole(bench: Any, jobs: list[FakeJob], notices: list[str]) -> None:
    data = np.random.default_rng(0).poisson(5, (300, 300)).astype(np.uint16)
    data[:8, :8] = np.random.default_rng(1).poisson(400, (8, 8))
    bench.viewer.add_image(data, name="cells")
    preview(bench)
    found = estimate_photons(data)
    assert jobs[0].config.peak == pytest.approx(found.peak)
    assert estimate_photons(jobs[0].input).peak != pytest.approx(found.peak, rel=0.1)
    assert notices == list(found.warnings)
    bench.find("peak").setText("50")
    preview(bench)
    assert (jobs[1].config.peak, jobs[1].config.background) == (50, pytest.approx(found.background))
    bench.run(max_iter=3)
    bench.wait_idle()
    assert jobs[2].config.background == "auto"


def test_holes_outside_the_part_do_no_harm(bench: Any, jobs: list[FakeJob], notices: list[str]) -> None:
    data = np.random.default_rng(0).poisson(5, (300, 300)).astype(np.float32)
    data[0] = np.nan
    bench.viewer.add_image(data, name="cells", contrast_limits=(0, 10))
    preview(bench)
    assert jobs[0].config.peak == "auto"
    assert notices == []


def test_stop_and_pause_act_on_a_preview(bench: Any, qtbot: Any) -> None:
    bench.add()
    bench.find("max_iter").setValue(100_000)
    bench.find("preview").click()
    assert not bench.find("preview").isEnabled()
    assert not bench.find("run").isEnabled()
    result = bench.wait_preview("cells preview")
    bench.find("pause").click()
    assert bench.find("pause").isChecked()
    bench.find("stop").click()
    bench.wait_idle()
    assert bench.find("preview").isEnabled()
    assert result.metadata["report"]["stopped_by"] == "user"


def test_times_and_channels(bench: Any, jobs: list[FakeJob], notices: list[str]) -> None:
    source = bench.add((5, 3, 32, 32), axis_labels=("t", "c", "y", "x"), scale=(2, 1, 0.5, 0.5))
    time, channel = bench.find("time_choice"), bench.find("channel_choice")
    assert time.currentText() == channel.currentText() == "all"
    time.setCurrentText("1-3")
    channel.setCurrentText("current")
    bench.viewer.dims.set_point(1, 2)
    assert "Runs on 3 × 1 × 32 × 32 of it" in bench.find("image_summary").text()
    bench.run(max_iter=3)
    bench.wait_idle()
    np.testing.assert_array_equal(jobs[0].input, source.data[1:4, 2:])
    result = bench.viewer.layers["cells deconvolved (region)"]
    np.testing.assert_allclose(result.translate, (2, 2, 0, 0))
    time.setCurrentText("4-9")
    bench.run(max_iter=3)
    assert notices == ["Time is '4-9' but there are only 0 to 4: write a range within them."]
    assert bench.find("image_summary").text().endswith(notices[0])


def test_time_and_channel_are_hidden_where_there_are_none(bench: Any) -> None:
    bench.add((3, 32, 32))
    time, channel = bench.find("time_choice"), bench.find("channel_choice")
    assert time.isHidden()
    assert channel.isHidden()
    bench.find("axes").setText("TYX")
    assert not time.isHidden()
    assert channel.isHidden()
    time.setCurrentText("0-1")
    bench.add((3, 3, 32, 32), axis_labels=("t", "c", "y", "x"), name="others")
    assert not channel.isHidden()
    assert time.currentText() == "all"


def test_the_summary_follows_the_sliders_and_the_view(bench: Any, qtbot: Any) -> None:
    source = bench.add((4, 64, 64))
    bench.find("roi").setCurrentText("Current view")
    summary = bench.find("image_summary")
    source.corner_pixels = np.array([[0, 10, 10], [0, 19, 29]])
    camera_of(bench.viewer).zoom *= 2
    qtbot.waitUntil(lambda: "Runs on 4 × 10 × 20 of it" in summary.text(), timeout=5000)


def test_data_of_another_shape_are_noticed(bench: Any, jobs: list[FakeJob]) -> None:
    source = bench.add((32, 32))
    bench.run(max_iter=2)
    bench.wait_idle()
    source.data = np.ones((4, 16, 16), np.uint16)
    assert bench.find("axes").text() == "ZYX"
    assert "4 × 16 × 16" in bench.find("image_summary").text()
    bench.run(max_iter=2)
    bench.wait_idle()
    assert jobs[1].input.shape == (4, 16, 16)
    source.axis_labels = ("t", "y", "x")
    assert bench.find("axes").text() == "TYX"
    source.data = np.full((4, 8, 8), 255, np.uint8)
    assert bench.find("axes").text() == "TYX"
    assert "100.0% of the pixels are at 255" in bench.find("image_summary").text()


def test_data_of_another_shape_mid_run(bench: Any, notices: list[str]) -> None:
    source = bench.add((32, 32))
    bench.run(max_iter=200)
    source.data = np.ones((4, 16, 16), np.uint16)
    bench.wait_idle()
    assert (bench.viewer.layers["cells deconvolved"].data == 200).all()
    assert notices == []


def test_nothing_is_heard_after_the_dock_is_closed(bench: Any, qtbot: Any) -> None:
    source = bench.add()
    before = len(source.events.data.callbacks)
    bench.viewer.window.remove_dock_widget(bench.dock)
    assert len(source.events.data.callbacks) == before - 1
    source.data = np.ones((4, 16, 16))
    camera_of(bench.viewer).zoom *= 2


class Chunks:
    """A lazy stack that notes which planes are computed."""

    def __init__(self, shape: tuple[int, ...], dtype: Any = np.uint16) -> None:
        self.touched: set[tuple[int, int]] = set()
        chunks = ((1,) * shape[0], (1,) * shape[1], (shape[2],), (shape[3],))
        self.data = dask.array.map_blocks(
            self._make, chunks=chunks, dtype=dtype, meta=np.empty((0,) * 4, dtype)
        )

    def _make(self, block_info: Any = None) -> np.ndarray:
        (time, _), (plane, _), *_ = block_info[None]["array-location"]
        self.touched.add((time, plane))
        shape = block_info[None]["chunk-shape"]
        return np.full(shape, 20, np.uint16)


def test_of_a_large_lazy_layer_only_the_region_is_touched(
    bench: Any, jobs: list[FakeJob], notices: list[str]
) -> None:
    stack = Chunks((20, 100, 1600, 1600))
    assert stack.data.nbytes >= 10e9
    bench.viewer.add_image(
        stack.data, name="cells", axis_labels=("t", "z", "y", "x"), contrast_limits=(0, 50), cache=False
    )
    bench.viewer.dims.set_point((0, 1), (3, 25.0))
    bench.run(max_iter=3)
    assert notices == [
        "'cells' is loaded lazily and holds 10.2 GB: choose a region of it, or only the current time and channel."
    ]
    stack.touched.clear()
    preview(bench)
    assert jobs[0].input.shape == (1, 12, 48, 48)
    assert stack.touched == {(3, plane) for plane in range(19, 31)}
    stack.touched.clear()
    box(bench, (100, 200), (20, 30))
    bench.find("roi").setCurrentText("box")
    bench.find("time_choice").setCurrentText("current")
    bench.run(max_iter=3)
    bench.wait_idle()
    assert jobs[1].input.shape == (1, 100, 20, 30)
    assert {time for time, _ in stack.touched} == {3}


def test_multiscale_layers_are_taken_at_their_finest_level(
    bench: Any, jobs: list[FakeJob], notices: list[str]
) -> None:
    finest = dask.array.ones((40_000, 60_000), chunks=2000, dtype=np.uint8)
    levels = [finest, finest[::10, ::10], np.ones((400, 600), np.uint8)]
    bench.viewer.add_image(levels, multiscale=True, name="cells", contrast_limits=(0, 2), scale=(0.1, 0.1))
    bench.run(max_iter=3)
    assert len(notices) == 1
    assert "holds 2.4 GB: choose a region" in notices[0]
    box(bench, (10, 20), (20, 30), scale=(0.1, 0.1))
    bench.find("roi").setCurrentText("box")
    bench.run(max_iter=3)
    bench.wait_idle()
    assert jobs[0].input.shape == (20, 30)
    result = bench.viewer.layers["cells deconvolved (region)"]
    np.testing.assert_allclose(result.translate, (1, 2))
    assert not result.multiscale


def test_a_psf_of_an_image_does_for_no_stack(bench: Any, notices: list[str]) -> None:
    bench.widget.job_factory = default_job
    bench.add((8, 32, 32))
    bench.viewer.add_image(np.ones((5, 5)), name="psf")
    bench.find("psf_source").setCurrentText("Layer")
    bench.find("method").setCurrentText("rl")
    bench.run(max_iter=2)
    bench.wait_idle()
    assert notices == [
        "The PSF is 2D but the image is a 3D stack: give a 3D PSF, or name the first axis T, not Z."
    ]


def test_a_real_preview_is_what_the_full_run_shows_there(bench: Any) -> None:
    bench.widget.job_factory = default_job
    rng = np.random.default_rng(0)
    object_ = np.full((160, 160), 2.0)
    object_[rng.integers(0, 160, 60), rng.integers(0, 160, 60)] = 800
    bench.viewer.add_image(rng.poisson(gaussian_filter(object_, 1.8)).astype(np.uint16), name="cells")
    box(bench, (40, 40), (80, 80))
    bench.find("method").setCurrentText("rl")
    bench.find("roi").setCurrentText("box")
    small = preview(bench, 10)
    bench.find("roi").setCurrentText("Whole image")
    bench.run(max_iter=10)
    bench.wait_idle()
    full = bench.viewer.layers["cells deconvolved"]
    assert small.metadata["report"]["peak"] == pytest.approx(full.metadata["report"]["peak"])
    inner = full.data[55:105, 55:105]
    np.testing.assert_allclose(small.data[15:65, 15:65], inner, atol=0.02 * inner.max())


def test_a_preview_ends_earlier_than_a_run_and_says_so(bench: Any, jobs: list[FakeJob]) -> None:
    bench.add()
    preview(bench)
    assert jobs[-1].config.tol == PREVIEW_TOL > default("tol")
    assert bench.viewer.layers["cells preview"].metadata["config"]["tol"] == PREVIEW_TOL
    bench.find("tol").setText("0.01")
    preview(bench)
    assert jobs[-1].config.tol == 0.01, "the user's is looser"
    bench.find("tol").setText("1e-5")
    bench.run(max_iter=2)
    bench.wait_idle()
    assert jobs[-1].config.tol == 1e-5


@pytest.mark.parametrize(
    ("planes", "theory", "told"),
    [(24, "Wide-field", True), (24, "Confocal", False), (7, "Wide-field", False)],
)
def test_a_preview_says_when_it_sees_less_haze(
    bench: Any, notices: list[str], planes: int, theory: str, told: bool
) -> None:
    bench.add((planes, 32, 32), scale=(0.3, 0.1, 0.1), units=("um", "um", "um"))
    bench.find("psf_kind").setCurrentText(theory)
    preview(bench)
    said = f"A preview sees 12 of {planes} planes, and this PSF reaches further: here stays haze that Run removes."
    assert (said in notices) is told
    notices.clear()
    bench.run(max_iter=2)
    bench.wait_idle()
    assert not any("planes" in sentence for sentence in notices)


def test_the_view_of_a_real_canvas(make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    layer = viewer.add_image(np.random.default_rng(0).random((400, 400)), scale=(0.5, 0.5), rotate=90)
    camera_of(viewer).zoom = 20
    camera_of(viewer).center = (0, *layer.data_to_world((100, 300)))
    qtbot.waitUntil(
        lambda: layer.corner_pixels[1].max() < 399 and layer.corner_pixels[1].min() > 0, timeout=5000
    )
    qtbot.wait(100)
    region = in_view(viewer, layer, "YX", (400, 400))
    np.testing.assert_allclose(middle_of(region), (100, 300), atol=1)
    if (canvas := getattr(viewer, "canvas", None)) is not None:  # napari before 0.9 does not say its size
        height, width = np.array(canvas.size) / 20 / 0.5
        np.testing.assert_allclose(region.shape, (width, height), atol=3)
