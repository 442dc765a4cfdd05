"""The Reconstruct widget, driven by object names as an outsider would drive it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import tifffile
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtWidgets import QFileDialog

from napari_deqmd.core.caution import caution
from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets.reconstruct import ReconstructWidget
from widgets.driving import finder, track
from widgets.jobs import FakeJob

NAMES = (
    "open_image image_layer axes psf_source psf_layer psf_file psf_sigma offset gain estimate peak background "
    "mask_layer method model strength max_iter warm_start roi time_choice channel_choice preview run pause "
    "resume stop save_result progress convergence_plot status device_label memory_label photons_plot"
).split()


def items(combo: Any) -> list[str]:
    return [combo.itemText(row) for row in range(combo.count())]


def test_every_control_has_its_name_and_teaches(bench: Any) -> None:
    for name in NAMES:
        assert bench.find(name).toolTip() or name == "status", name


def test_choices(bench: Any) -> None:
    from napari_deqmd.core.config import METHODS

    assert items(bench.find("psf_source")) == ["Theory", "Layer", "File"]
    assert items(bench.find("method")) == list(METHODS)
    assert bench.find("model").currentText() == "default"
    assert bench.find("peak").text() == bench.find("background").text() == "auto"
    assert bench.find("run").isEnabled()
    assert not bench.find("pause").isEnabled()
    assert not bench.find("stop").isEnabled()
    assert bench.widget.minimumSizeHint().width() > 300


def test_richardson_lucy_needs_no_prior(bench: Any) -> None:
    bench.find("method").setCurrentText("rl")
    assert not bench.find("model").isEnabled()
    assert not bench.find("strength").isEnabled()
    bench.find("method").setCurrentText("md-tv")
    assert not bench.find("model").isEnabled()
    assert bench.find("strength").isEnabled()


def test_image_layers_only_and_the_choice_survives_changes(bench: Any) -> None:
    cells = bench.add()
    bench.viewer.add_labels(np.zeros((32, 32), dtype=int))
    bench.add(name="measured PSF")
    combo = bench.find("image_layer")
    assert items(combo) == ["measured PSF", "cells"]
    assert combo.currentText() == "cells"
    assert bench.find("psf_layer").currentText() == "measured PSF"
    cells.name = "neurons"
    assert combo.currentText() == "neurons"
    bench.viewer.layers.move(0, 3)
    assert combo.currentText() == "neurons"
    bench.viewer.layers.remove(cells)
    assert combo.currentText() == "measured PSF"
    bench.viewer.layers.clear()
    assert combo.count() == 0
    assert bench.find("axes").text() == ""


def test_guesses_image_and_psf_until_they_are_used(bench: Any) -> None:
    bench.add(name="Nuclei PSF")
    bench.add(name="Nuclei truth")
    bench.add(name="Nuclei")
    assert bench.find("image_layer").currentText() == "Nuclei"
    assert bench.find("psf_layer").currentText() == "Nuclei PSF"
    bench.add(name="Cells")
    assert bench.find("image_layer").currentText() == "Cells"
    bench.run(max_iter=3)
    bench.wait_idle()
    bench.add(name="More")
    assert bench.find("image_layer").currentText() == "Cells"


def test_camera_and_axes_come_from_the_layer(bench: Any) -> None:
    bench.add((4, 32, 32), metadata={"offset": 100.0, "gain": 2.2}, axis_labels=("t", "y", "x"))
    assert bench.find("offset").value() == 100
    assert bench.find("gain").value() == 2.2
    assert bench.find("axes").text() == "TYX"


def test_result_keeps_what_the_input_says(bench: Any) -> None:
    source = bench.add(
        (3, 32, 32),
        scale=(0.3, 0.1, 0.1),
        translate=(1, 2, 3),
        rotate=10,
        units=("um", "um", "um"),
        axis_labels=("z", "y", "x"),
        colormap="green",
    )
    bench.find("strength").setValue(1.5)
    bench.run(max_iter=20)
    bench.wait_idle()
    result = bench.viewer.layers["cells deconvolved"]
    assert len(bench.viewer.layers) == 2
    assert result.data.shape == source.data.shape
    assert result.data.dtype == np.float32
    assert (result.data == 20).all()
    for name in ("scale", "translate", "rotate"):
        np.testing.assert_allclose(getattr(result, name), getattr(source, name))
    assert result.units == source.units
    assert result.axis_labels == source.axis_labels
    assert result.colormap.name == "green"
    assert result.metadata["config"]["strength"] == 1.5
    assert result.metadata["config"]["voxel_size"] == pytest.approx((0.3, 0.1, 0.1))
    assert result.metadata["report"]["iterations"] == 20
    assert result.metadata["psf"] == "gaussian:sigma=1.8"
    assert bench.find("progress").value() == 20
    assert "All 20 iterations done" in bench.find("status").text()
    assert bench.find("image_layer").currentText() == "cells"


def test_what_the_report_warns_of_is_shown(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeJob, "warnings", ("3 voxels are held.",))
    bench.add()
    bench.run(max_iter=3)
    bench.wait_idle()
    assert bench.find("status").text().endswith("3 voxels are held.")


def test_previews_update_one_layer_and_leave_the_contrast_alone(bench: Any, qtbot: Any) -> None:
    bench.add()
    bench.run()
    result = bench.wait_preview()
    result.contrast_limits = (2.0, 3.0)
    data, seen = result.data, set()

    def three() -> bool:
        seen.add(float(result.data[0, 0]))
        return len(seen) >= 3

    qtbot.waitUntil(three, timeout=10_000)
    bench.find("stop").click()
    bench.wait_idle()
    assert result.data is data
    assert tuple(result.contrast_limits) == (2.0, 3.0)
    assert len(bench.viewer.layers) == 2
    assert "Stopped at iteration" in bench.find("status").text()
    assert result.metadata["report"]["stopped_by"] == "user"


def test_time_and_channels_are_written_item_by_item(bench: Any, qtbot: Any) -> None:
    bench.add((2, 3, 16, 16), axis_labels=("t", "z", "y", "x"))
    bench.run(max_iter=300)
    result = bench.wait_preview()
    assert (result.data[0] > 0).all()
    assert (result.data[1] == 0).all()
    qtbot.waitUntil(lambda: "2 of 2" in bench.find("progress").text(), timeout=10_000)
    bench.find("pause").click()
    qtbot.waitUntil(lambda: bool(result.data[1].all()), timeout=10_000)
    bench.find("pause").click()
    bench.wait_idle()
    assert (result.data == 300).all()


def test_run_again_reuses_the_layer(bench: Any) -> None:
    source = bench.add()
    bench.run(max_iter=5)
    bench.wait_idle()
    first = bench.viewer.layers["cells deconvolved"]
    first.contrast_limits = (1.0, 4.0)
    source.translate = (5, 5)
    bench.run(max_iter=9)
    bench.wait_idle()
    assert len(bench.viewer.layers) == 2
    assert (first.data == 9).all()
    assert tuple(first.contrast_limits) == (1.0, 4.0)
    assert tuple(first.translate) == (5.0, 5.0)
    first.name = "kept"
    bench.run(max_iter=3)
    bench.wait_idle()
    assert (first.data == 9).all()
    assert (bench.viewer.layers["cells deconvolved"].data == 3).all()


def test_raw_and_result_of_a_channel_are_not_added_up(bench: Any) -> None:
    source = bench.add(blending="additive")
    bench.run(max_iter=3)
    bench.wait_idle()
    assert not source.visible
    assert bench.viewer.layers["cells deconvolved"].blending == "additive"


def test_pause_and_resume(bench: Any, qtbot: Any) -> None:
    bench.add()
    bench.run()
    bench.wait_preview()
    pause = bench.find("pause")
    pause.click()
    assert pause.isChecked()
    assert bench.find("resume").isEnabled()
    assert not bench.find("run").isEnabled()
    qtbot.wait(200)
    held = bench.find("progress").value()
    qtbot.wait(200)
    assert bench.find("progress").value() == held
    assert bench.viewer.layers["cells deconvolved"].data[0, 0] == held
    pause.click()
    assert not pause.isChecked()
    qtbot.waitUntil(lambda: bench.find("progress").value() > held, timeout=5000)
    pause.click()
    held = bench.find("progress").value()
    bench.find("resume").click()
    assert not pause.isChecked()
    qtbot.waitUntil(lambda: bench.find("progress").value() > held, timeout=5000)
    pause.click()
    bench.find("stop").click()
    bench.wait_idle()
    assert pause.text() == "Pause"
    assert not pause.isChecked()
    assert not pause.isEnabled()


def test_two_runs_do_not_start(bench: Any) -> None:
    bench.add()
    bench.run()
    bench.wait_preview()
    bench.widget.run()
    bench.find("stop").click()
    bench.wait_idle()
    assert len(bench.viewer.layers) == 2


def test_errors_are_told_and_leave_the_widget_ready(bench: Any, notices: list[str]) -> None:
    class Broken(FakeJob):
        pass

    bench.add()
    for error in (RuntimeError("broken"), UserError("Choose another PSF."), MemoryError()):
        notices.clear()
        Broken.error = error
        bench.widget.job_factory = Broken
        bench.run()
        bench.wait_idle()
        assert len(notices) == 1
        assert bench.find("status").text() == notices[0]
        bench.widget.job_factory = FakeJob
        bench.run(max_iter=3)
        bench.wait_idle()
        assert (bench.viewer.layers["cells deconvolved"].data == 3).all()


def test_warnings_of_the_job_are_told(bench: Any, notices: list[str], qtbot: Any) -> None:
    class Warning(FakeJob):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            caution("The PSF is larger than the image: it was cropped.")

    bench.add()
    bench.widget.job_factory = Warning
    bench.run(max_iter=3)
    bench.wait_idle()
    assert notices == ["The PSF is larger than the image: it was cropped."]


@pytest.mark.parametrize("which", ["cells", "cells deconvolved"])
def test_a_removed_layer_ends_the_run(bench: Any, notices: list[str], which: str) -> None:
    bench.add()
    bench.run()
    bench.wait_preview()
    bench.viewer.layers.remove(which)
    bench.wait_idle()
    assert len(bench.viewer.layers) == 1
    assert len(notices) == 1
    assert "was removed" in notices[0]


def test_a_renamed_result_is_still_the_result(bench: Any, qtbot: Any) -> None:
    bench.add()
    bench.run()
    result = bench.wait_preview()
    result.name = "mine"
    bench.find("stop").click()
    bench.wait_idle()
    assert result.metadata["report"]["stopped_by"] == "user"
    assert len(bench.viewer.layers) == 2


def test_a_result_with_exchanged_data_ends_the_run(bench: Any, notices: list[str]) -> None:
    bench.add()
    bench.run()
    result = bench.wait_preview()
    result.data = np.zeros((5, 5), dtype=np.float32)
    bench.wait_idle()
    assert len(notices) == 1


def test_rolled_dimensions_mid_run(bench: Any) -> None:
    bench.add((4, 16, 16))
    bench.run(max_iter=400)
    bench.wait_preview()
    bench.viewer.dims.roll()
    bench.wait_idle()
    assert (bench.viewer.layers["cells deconvolved"].data == 400).all()


def refuse(bench: Any, notices: list[str], words: str) -> None:
    notices.clear()
    bench.run(max_iter=3)
    assert bench.find("run").isEnabled()
    assert len(notices) == 1
    assert words in notices[0]


def test_refuses_layers_it_cannot_take(bench: Any, notices: list[str]) -> None:
    refuse(bench, notices, "There is no image layer")
    bench.viewer.add_image(np.zeros((16, 16, 3), dtype=np.uint8), rgb=True)
    refuse(bench, notices, "colour picture")
    bench.viewer.layers.clear()
    bench.viewer.add_image(dask.array.zeros((100, 5000, 5000), chunks=1000), contrast_limits=(0, 1))
    refuse(bench, notices, "holds 20.0 GB: choose a region of it, or only the current time and channel.")


def test_takes_small_lazy_data(bench: Any) -> None:
    bench.viewer.add_image(dask.array.ones((16, 16), chunks=8), name="cells", contrast_limits=(0, 1))
    bench.run(max_iter=3)
    bench.wait_idle()
    assert (bench.viewer.layers["cells deconvolved"].data == 3).all()


def test_refuses_bad_fields(bench: Any, notices: list[str]) -> None:
    bench.add()
    for name, text, words in (
        ("axes", "ZYX", "has 2 dimensions"),
        ("axes", "XY", "Y and X are the last two"),
        ("peak", "-3", "peak is -3"),
        ("background", "few", "Background is 'few'"),
        ("psf_sigma", "wide", "σ is 'wide'"),
        ("tol", "soon", "Tolerance is 'soon'"),
    ):
        before = bench.find(name).text()
        bench.find(name).setText(text)
        refuse(bench, notices, words)
        bench.find(name).setText(before)
    bench.find("peak").setText("")
    bench.run(max_iter=3)
    bench.wait_idle()
    assert len(notices) == 1


def test_psf_layer_and_file_reach_the_job(
    bench: Any, jobs: list[FakeJob], tmp_path: Path, notices: list[str]
) -> None:
    bench.add()
    bench.viewer.add_image(np.ones((5, 5)), name="psf")
    bench.find("psf_source").setCurrentText("Layer")
    bench.run(max_iter=3)
    bench.wait_idle()
    assert jobs[0].psf.shape == (5, 5)
    tifffile.imwrite(tmp_path / "psf.tif", np.ones((7, 7), dtype=np.float32))
    bench.find("psf_source").setCurrentText("File")
    bench.find("psf_file").setText(str(tmp_path / "psf.tif"))
    bench.run(max_iter=3)
    bench.wait_idle()
    assert jobs[1].psf.shape == (7, 7)
    bench.find("psf_file").setText("")
    refuse(bench, notices, "No PSF file is chosen")


def test_estimate_fills_peak_and_background(bench: Any, qtbot: Any) -> None:
    layer = bench.add((64, 64))
    bench.find("estimate").click()
    assert not bench.find("estimate").isEnabled()
    qtbot.waitUntil(lambda: bench.find("estimate").isEnabled(), timeout=10_000)
    assert float(bench.find("peak").text()) > 0
    assert float(bench.find("background").text()) >= 0
    assert "photo-electrons" in bench.find("estimate_result").text()
    other = bench.add(name="others")
    bench.widget.image.layer_combo.choose(other)
    assert bench.find("peak").text() == "auto"
    bench.find("peak").setText("80")
    bench.widget.image.layer_combo.choose(layer)
    assert bench.find("peak").text() == "80"


def test_several_channels_are_estimated_one_by_one(bench: Any, qtbot: Any) -> None:
    generator = np.random.default_rng(0)
    light = np.zeros((2, 64, 64))
    light[:, 20:40, 20:40] = np.reshape([20, 1000], (2, 1, 1))
    data = generator.poisson(light + np.reshape([1, 50], (2, 1, 1))).astype(np.uint16)
    bench.viewer.add_image(data, name="cells", axis_labels=("c", "y", "x"))
    bench.find("gain").setValue(1.0)
    bench.find("offset").setValue(0.0)
    bench.find("peak").setText("80")

    def estimate() -> str:
        bench.find("estimate").click()
        qtbot.waitUntil(lambda: bench.find("estimate").isEnabled(), timeout=10_000)
        return bench.find("estimate_result").text()

    numbers = re.findall(r"channel (\d): peak ([\d.]+)[^,]*, background ([\d.]+)", estimate())
    assert np.array(numbers, float) == pytest.approx(np.array([[0, 20, 1], [1, 1000, 50]]), rel=0.25, abs=0.5)
    assert (bench.find("peak").text(), bench.find("background").text()) == ("auto", "auto")
    bench.find("channel_choice").setCurrentText("1")
    assert "channel" not in estimate()
    assert float(bench.find("peak").text()) == pytest.approx(1000, rel=0.2)
    data[1] = 7
    bench.find("channel_choice").setCurrentText("all")
    assert estimate() == ""


def test_estimate_without_an_image_is_told(bench: Any, notices: list[str]) -> None:
    bench.find("estimate").click()
    assert notices == ["There is no image layer: open an image, or add one to the viewer."]


def test_an_estimate_that_fails_is_told(bench: Any, notices: list[str], qtbot: Any) -> None:
    bench.viewer.add_image(np.full((16, 16), np.nan, dtype=np.float32), contrast_limits=(0, 1))
    bench.find("estimate").click()
    qtbot.waitUntil(lambda: bench.find("estimate").isEnabled(), timeout=10_000)
    assert len(notices) == 1
    assert bench.find("estimate_result").text() == ""


def test_open_image_adds_a_layer_with_its_metadata(
    bench: Any, tmp_path: Path, monkeypatch: Any, qtbot: Any
) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(
        path,
        np.zeros((3, 16, 16), dtype=np.uint16),
        imagej=True,
        resolution=(10, 10),
        metadata={"axes": "ZYX", "spacing": 0.3, "unit": "um"},
    )
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    bench.find("open_image").click()
    qtbot.waitUntil(lambda: "cells" in bench.viewer.layers, timeout=10_000)
    layer = bench.viewer.layers["cells"]
    np.testing.assert_allclose(layer.scale, (0.3, 0.1, 0.1))
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    assert bench.find("image_layer").currentText() == "cells"


def test_open_image_gives_each_channel_a_layer(bench: Any, tmp_path: Path, qtbot: Any) -> None:
    path = tmp_path / "two.tif"
    tifffile.imwrite(path, np.zeros((2, 16, 16), dtype=np.uint16), imagej=True, metadata={"axes": "CYX"})
    bench.widget.open_path(str(path))
    qtbot.waitUntil(lambda: len(bench.viewer.layers) == 2, timeout=10_000)
    assert {layer.ndim for layer in bench.viewer.layers} == {2}
    assert all(layer.blending == "additive" for layer in bench.viewer.layers)


def test_open_image_of_rubbish_is_told(bench: Any, tmp_path: Path, notices: list[str], qtbot: Any) -> None:
    path = tmp_path / "rubbish.tif"
    path.write_bytes(b"II*\0nothing")
    bench.widget.open_path(str(path))
    qtbot.waitUntil(lambda: bool(notices), timeout=10_000)
    assert bench.find("open_image").isEnabled()
    assert len(bench.viewer.layers) == 0


def test_theme_changes_reach_the_plot(bench: Any) -> None:
    before = bench.find("convergence_plot").backgroundBrush().color().name()
    bench.viewer.theme = "light"
    assert bench.find("convergence_plot").backgroundBrush().color().name() != before


def test_complaints_have_the_colour_of_warnings(bench: Any) -> None:
    from napari_deqmd.widgets.sections.parts import warning_color

    bench.run(max_iter=3)
    assert warning_color() in bench.find("status").styleSheet()
    bench.add()
    bench.run(max_iter=3)
    bench.wait_idle()
    assert "color" not in bench.find("status").styleSheet()
    bench.find("axes").setText("ZYX")
    assert warning_color() in bench.find("image_summary").styleSheet()
    bench.find("axes").setText("YX")
    assert "color" not in bench.find("image_summary").styleSheet()


def test_at_most_until_the_certificate_tells(bench: Any) -> None:
    from types import SimpleNamespace

    from napari_deqmd.widgets.reports import Point

    section = bench.widget.run_section
    section.reset(200, 1e-4)
    for iteration, ending in ((2, "2 / 200"), (3, "at most 66 s left"), (12, "about 1.2 s left")):
        points = [Point(n, 1.0, 0.7**n, 1.0) for n in range(1, iteration + 1)]
        told = {"item": 0, "items": 1, "iteration": iteration, "total": iteration, "seconds": 1.0}
        news = SimpleNamespace(**told, points=points)
        section.show_progress(news)
        assert section.progress.format().endswith(ending)


def test_fields_begin_below_one_another(bench: Any) -> None:
    bench.add()
    bench.find("advanced").expand()
    bench.widget.resize(420, 2000)
    bench.widget.grab()
    names = "axes psf_source psf_kind psf_sigma offset peak method strength"
    folded = "solver boundary upper tol device precision orientations"
    left = {
        name: bench.find(name).mapTo(bench.widget, bench.find(name).rect().topLeft()).x()
        for name in f"{names} {folded}".split()
    }
    # napari's style gives a frame of one pixel to what is folded.
    assert max(left.values()) - min(left.values()) <= 1, left


def test_behind_a_proxy_as_napari_gives_it(make_napari_viewer: Any, qtbot: Any) -> None:
    """Save is offered for a result that is there and whole."""
    viewer = make_napari_viewer()
    widget = ReconstructWidget(PublicOnlyProxy(viewer))
    viewer.window.add_dock_widget(widget)
    find = finder(widget)
    jobs = track(widget)
    viewer.add_image(np.random.default_rng(0).poisson(20, (32, 32)).astype(np.uint16), name="cells")
    find("max_iter").setValue(3)
    for _ in range(2):
        find("run").click()
        qtbot.waitUntil(find("run").isEnabled, timeout=10_000)
        assert find("save_result").isEnabled()
    find("max_iter").setValue(100_000)
    find("run").click()
    qtbot.waitUntil(lambda: len(jobs) == 3 and not find("save_result").isEnabled(), timeout=10_000)
    find("stop").click()
    qtbot.waitUntil(find("run").isEnabled, timeout=10_000)
    assert find("save_result").isEnabled()
    viewer.layers.remove("cells deconvolved")
    assert not find("save_result").isEnabled()


def test_an_estimate_is_of_one_channel(bench: Any, qtbot: Any) -> None:
    rng = np.random.default_rng(0)
    bright, dim = (np.where(rng.random((64, 64)) > 0.7, *levels) for levels in ((2000, 20), (30, 2)))
    layer = bench.viewer.add_image(rng.poisson([bright, dim]).astype(np.uint16), axis_labels="cyx")
    bench.find("channel_choice").setCurrentText("0")
    for change in (
        lambda: bench.find("channel_choice").setCurrentText("1"),
        lambda: setattr(layer, "data", layer.data[::-1].copy()),
    ):
        bench.find("estimate").click()
        qtbot.waitUntil(lambda: bench.find("peak").text() != "auto", timeout=10_000)
        change()
        assert bench.find("peak").text() == bench.find("background").text() == "auto"
        assert bench.find("estimate_result").isHidden()


def test_contrast_that_fits_no_longer_is_set_anew(bench: Any) -> None:
    bench.add()
    bench.run(max_iter=3)
    bench.wait_idle()
    result = bench.viewer.layers["cells deconvolved"]
    before = tuple(result.contrast_limits)
    bench.find("gain").setValue(20)
    bench.run(max_iter=3)
    bench.wait_idle()
    assert result.contrast_limits[1] < before[1] / 2
    mine = (0.0, 7.0)
    result.contrast_limits = mine
    bench.find("gain").setValue(1)
    bench.run(max_iter=3)
    bench.wait_idle()
    assert tuple(result.contrast_limits) == mine


def test_a_shape_to_mark_a_region_changes_no_image(bench: Any) -> None:
    first, _ = (bench.add((3, 32, 32), name=name) for name in "AB")
    bench.viewer.layers.selection.active = first
    bench.find("axes").setText("TYX")
    bench.find("time_choice").setCurrentText("1-2")
    bench.viewer.add_shapes(name="region")
    shown = bench.find("image_layer"), bench.find("axes"), bench.find("time_choice")
    assert [shown[0].currentText(), shown[1].text(), shown[2].currentText()] == ["A", "TYX", "1-2"]
