"""What comes at the worst moment; more of it where its subject is tested: closing, regions, lazy data, live view."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import tifffile
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QWidget

from napari_deqmd.widgets.reconstruct import ReconstructWidget, default_job
from widgets.jobs import FakeJob


def stop(bench: Any) -> None:
    bench.find("stop").click()
    bench.wait_idle()


def test_the_image_renamed_mid_run(bench: Any, notices: list[str]) -> None:
    source = bench.add()
    bench.run()
    result = bench.wait_preview()
    source.name = "nuclei"
    stop(bench)
    assert result.metadata["report"]["stopped_by"] == "user"
    assert bench.find("image_layer").currentText() == "nuclei"
    bench.run(max_iter=3)
    bench.wait_idle()
    assert (bench.viewer.layers["nuclei deconvolved"].data == 3).all()
    assert notices == []


def test_other_data_put_into_the_result_mid_run(bench: Any, notices: list[str]) -> None:
    bench.add()
    bench.run()
    result = bench.wait_preview()
    result.data = np.ones((5, 7), np.float32)
    stop(bench)
    assert result.data.shape == (32, 32)
    assert result.metadata["report"]["stopped_by"] == "user"
    assert notices == []


def test_a_result_has_its_images_metadata(bench: Any) -> None:
    """But not what is true of camera counts only: it would be filled in when the result is deconvolved again."""
    source = bench.add(metadata={"dye": "DAPI", "offset": 90.0, "gain": 2.0, "psf": "gaussian:sigma=2"})
    bench.run(max_iter=3)
    bench.wait_idle()
    metadata = bench.viewer.layers["cells deconvolved"].metadata
    assert metadata["dye"] == "DAPI"
    assert metadata["config"]["offset"] == 90
    assert not {"offset", "gain"} & metadata.keys()
    assert source.metadata.keys() == {"dye", "offset", "gain", "psf"}


def test_shapes_drawn_before_the_form_is_opened_are_offered(bench: Any) -> None:
    bench.add()
    bench.viewer.add_shapes([[2, 2], [20, 20]], shape_type="rectangle", name="box")
    combo = ReconstructWidget(bench.viewer).findChild(QWidget, "roi")
    assert [combo.itemText(row) for row in range(combo.count())][2:] == ["box"]


@pytest.mark.parametrize("which", ["cells", "cells deconvolved"])
def test_a_layer_removed_while_paused(bench: Any, notices: list[str], which: str) -> None:
    bench.add()
    bench.run()
    bench.wait_preview()
    bench.find("pause").click()
    bench.viewer.layers.remove(which)
    bench.wait_idle()
    assert len(notices) == 1
    assert "was removed" in notices[0]
    assert not bench.find("resume").isEnabled()


def test_all_layers_removed_mid_run(bench: Any, notices: list[str]) -> None:
    bench.add()
    bench.run()
    bench.wait_preview()
    bench.viewer.layers.clear()
    bench.wait_idle()
    assert not bench.viewer.layers
    assert len(notices) == 1


def test_a_layer_removed_while_it_is_estimated(bench: Any, monkeypatch: Any, notices: list[str]) -> None:
    finish = slow_estimate(bench, monkeypatch)
    bench.viewer.layers.clear()
    finish()
    assert bench.find("peak").text() == "auto"
    assert notices == []


@pytest.mark.parametrize("what", ["dock", "viewer"])
def test_closed_while_it_estimates(bench: Any, monkeypatch: Any, notices: list[str], what: str) -> None:
    finish = slow_estimate(bench, monkeypatch)
    if what == "dock":
        bench.viewer.window.remove_dock_widget(bench.dock)
        bench.dock.deleteLater()
    else:
        bench.viewer.close()
    bench.widget = bench.dock = None
    finish()
    assert notices == []


def slow_estimate(bench: Any, monkeypatch: Any) -> Any:
    """Begin an estimate, and return what lets it end and waits until the window has heard of it."""
    import threading

    from napari_deqmd.core import photons

    go, found = threading.Event(), photons.estimate_photons

    def wait_and_estimate(*arguments: Any, **options: Any) -> Any:
        assert go.wait(10)
        return found(*arguments, **options)

    monkeypatch.setattr(photons, "estimate_photons", wait_and_estimate)
    bench.add()
    bench.find("estimate").click()
    assert not bench.find("estimate").isEnabled()

    def finish() -> None:
        from qtpy.QtTest import QTest

        go.set()
        assert QThreadPool.globalInstance().waitForDone(5000)
        QTest.qWait(50)

    return finish


def test_the_dock_closed_mid_run_and_opened_again(bench: Any, qtbot: Any, notices: list[str]) -> None:
    source = bench.add()
    bench.run()
    result = bench.wait_preview()
    bench.viewer.window.remove_dock_widget(bench.dock)
    again = ReconstructWidget(bench.viewer)
    again.job_factory = FakeJob
    bench.viewer.window.add_dock_widget(again, name="Reconstruct")

    def find(name: str) -> Any:
        return again.findChild(QWidget, name)

    assert find("image_layer").currentText() == source.name
    find("max_iter").setValue(3)
    find("run").click()
    qtbot.waitUntil(find("run").isEnabled, timeout=10_000)
    assert (result.data == 3).all()
    assert len(bench.viewer.layers) == 2
    assert notices == []


def test_two_docks_run_on_one_image(bench: Any, qtbot: Any, notices: list[str]) -> None:
    bench.add()
    other = ReconstructWidget(bench.viewer)
    other.job_factory = FakeJob
    bench.viewer.window.add_dock_widget(other, name="Reconstruct too")
    bench.run()
    bench.wait_preview()
    other.method.max_iter_spin.setValue(3)
    other.run()
    qtbot.waitUntil(other.run_section.run_button.isEnabled, timeout=10_000)
    stop(bench)
    assert (bench.viewer.layers["cells deconvolved"].data > 3).all()
    assert notices == []


def test_the_file_of_a_lazy_image_changed(bench: Any, tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "cells.tif"
    image = np.random.default_rng(0).poisson(20, (32, 32)).astype(np.uint16)
    tifffile.imwrite(path, image)
    read = dask.delayed(tifffile.imread, pure=False)(path)
    data = dask.array.from_delayed(read, image.shape, image.dtype)
    bench.viewer.add_image(data, name="cells", contrast_limits=(0, 50), cache=False)
    bench.run()
    bench.wait_preview()
    tifffile.imwrite(path, image + 1)
    stop(bench)
    bench.find("resume").click()
    bench.wait_idle()
    assert notices == [
        "The image, its mask or the PSF has changed since the last run: press Run to start anew."
    ]
    tifffile.imwrite(path, image[:20])
    bench.run(max_iter=3)
    bench.wait_idle()
    assert len(notices) == 2
    assert notices[1] == "What 'cells' is read from has changed its size: open it again."
    path.unlink()
    bench.run(max_iter=3)
    bench.wait_idle()
    assert "No such file" in notices[2]
    tifffile.imwrite(path, image)
    bench.run(max_iter=3)
    bench.wait_idle()
    assert len(notices) == 3
    assert (bench.viewer.layers["cells deconvolved"].data == 3).all()


# napari picks the colours of labels at random.
@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB:UserWarning")
def test_labels_are_no_image(bench: Any, notices: list[str]) -> None:
    labels = bench.viewer.add_labels(np.ones((16, 16), dtype=int))
    for name in ("run", "preview", "estimate"):
        bench.find(name).click()
    assert notices == ["There is no image layer: open an image, or add one to the viewer."] * 3
    bench.add()
    bench.viewer.layers.selection.active = labels
    bench.find("psf_source").setCurrentText("Layer")
    combos = [bench.find(name) for name in ("image_layer", "psf_layer")]
    assert [[combo.itemText(row) for row in range(combo.count())] for combo in combos] == [["cells"]] * 2
    assert bench.find("image_layer").currentText() == "cells"


def test_a_gpu_that_is_full(bench: Any, notices: list[str], qtbot: Any) -> None:
    class Full(FakeJob):
        @property
        def error(self) -> Exception:  # type: ignore[override]
            return RuntimeError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of…"
            )

    jobs: list[weakref.ref[FakeJob]] = []

    def factory(*arguments: Any) -> FakeJob:
        job = Full(*arguments)
        jobs.append(weakref.ref(job))
        return job

    bench.add()
    bench.widget.job_factory = factory
    bench.run()
    bench.wait_idle()
    assert len(notices) == 1
    assert "not enough memory" in notices[0]
    assert "crop the image" in notices[0]
    qtbot.wait(50)
    gc.collect()
    assert jobs[0]() is None, "it still holds the memory"
    bench.widget.job_factory = FakeJob
    bench.run(max_iter=3)
    bench.wait_idle()
    assert (bench.viewer.layers["cells deconvolved"].data == 3).all()


def test_an_exception_in_the_model(bench: Any, notices: list[str], monkeypatch: Any) -> None:
    import torch

    bench.widget.job_factory = default_job
    bench.add()
    with monkeypatch.context() as broken:

        def fail(*_: Any, **__: Any) -> Any:
            raise ValueError("bad weights")

        broken.setattr(torch.nn.functional, "conv2d", fail)
        broken.setattr(torch.nn.Conv2d, "_conv_forward", fail)
        bench.run(max_iter=2)
        bench.wait_idle()
    assert notices == ["It failed unexpectedly (ValueError: bad weights); the console has the details."]
    notices.clear()
    bench.run(max_iter=2)
    bench.wait_idle()
    assert notices == []
    assert bench.viewer.layers["cells deconvolved"].metadata["report"]["iterations"] == 2


def test_a_preview_that_fails(bench: Any, notices: list[str]) -> None:
    class Blind(FakeJob):
        def preview(self, progress: Any, shown: Any = None) -> np.ndarray:
            raise RuntimeError("nothing to see")

    bench.add()
    bench.widget.job_factory = Blind
    bench.run()
    bench.wait_idle()
    assert len(notices) == 1
    assert bench.find("status").text() == notices[0]


def test_the_next_run_is_started_by_the_end_of_one(bench: Any, notices: list[str]) -> None:
    bench.add()
    begun: list[int] = []

    def again() -> None:
        if not begun:
            begun.append(1)
            bench.run(max_iter=5)

    bench.widget.runner.ended.connect(again)
    bench.run(max_iter=3)
    bench.wait_idle()
    assert begun == [1]
    assert (bench.viewer.layers["cells deconvolved"].data == 5).all()
    assert notices == []


def test_shown_as_a_volume_mid_run(bench: Any, notices: list[str]) -> None:
    bench.add((4, 16, 16))
    bench.run()
    bench.wait_preview()
    bench.viewer.dims.ndisplay = 3
    bench.viewer.dims.ndisplay = 2
    bench.viewer.dims.ndisplay = 3
    stop(bench)
    result = bench.viewer.layers["cells deconvolved"]
    assert (result.data == result.metadata["report"]["iterations"]).all()
    assert notices == []


def test_training_meets_the_same(train: Any, qtbot: Any, notices: list[str]) -> None:
    """The layer renamed, the model broken, all memory taken."""
    source = train.add()
    train.run()
    qtbot.waitUntil(lambda: len(train.find("train_plot").scores) >= 4, timeout=10_000)
    source.name = "nuclei"
    train.find("train_stop").click()
    train.wait_idle()
    assert notices == []
    assert train.find("train_data").currentText() == "nuclei"
    for error, words in (
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
        (ValueError("bad weights"), "bad weights"),
    ):

        def factory(order: Any, error: Exception = error) -> Any:
            raise error

        train.widget.job_factory = factory
        notices.clear()
        train.run()
        train.wait_idle()
        assert ["not saved" in notices[0], words in notices[1]] == [True, True]
        assert train.find("train_save").isEnabled(), "what was kept before can still be saved"
        assert len(notices) == 2


def test_a_paused_run_keeps_no_task_waiting(bench: Any, qtbot: Any) -> None:
    """On a machine with one core, whose pool has one thread."""
    pool = QThreadPool.globalInstance()
    usual = pool.maxThreadCount()
    pool.setMaxThreadCount(1)
    try:
        bench.add()
        bench.run()
        bench.wait_preview()
        bench.find("pause").click()
        bench.find("estimate").click()
        qtbot.waitUntil(lambda: "Found" in bench.find("estimate_result").text(), timeout=10_000)
        bench.find("stop").click()
        bench.wait_idle()
        assert pool.waitForDone(5000)
        assert pool.activeThreadCount() == 0
    finally:
        pool.setMaxThreadCount(usual)
