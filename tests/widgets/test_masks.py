"""Bad pixels, marked by a layer."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import pytest

from napari_deqmd.core.photons import estimate_photons
from widgets.jobs import FakeJob


@pytest.fixture
def hot() -> np.ndarray:
    """Return where the camera is hot."""
    hot = np.zeros((32, 32), np.uint8)
    hot[3, 4] = hot[20, 21] = 255
    return hot


def choose(bench: Any, image: Any, layer: Any) -> None:
    bench.widget.image.layer_combo.choose(image)
    bench.find("mask_layer").setCurrentText(layer.name)


def test_labels_and_images_are_offered_and_none_is_the_default(bench: Any, jobs: list[FakeJob]) -> None:
    combo = bench.find("mask_layer")
    cells = bench.add()
    labels = bench.viewer.add_labels(np.zeros((32, 32), int), name="dead")
    box = bench.viewer.add_shapes(name="box")
    assert [combo.itemText(row) for row in range(combo.count())] == ["none", "dead", "cells"]
    assert combo.currentText() == "none"
    choose(bench, cells, labels)
    labels.name = "bad"
    bench.viewer.layers.remove(box)
    assert combo.currentText() == "bad"
    bench.viewer.layers.remove(labels)
    assert combo.currentText() == "none"
    bench.run(max_iter=2)
    bench.wait_idle()
    assert jobs[-1].maps.mask is None
    assert "mask" not in bench.viewer.layers["cells deconvolved"].metadata


@pytest.mark.parametrize("lazy", [False, True])
def test_the_part_that_is_run_has_its_part_of_the_mask(
    bench: Any, jobs: list[FakeJob], hot: np.ndarray, lazy: bool
) -> None:
    cells = bench.add((3, 5, 32, 32), axis_labels=("t", "z", "y", "x"))
    mask = bench.viewer.add_image(
        dask.array.from_array(hot) if lazy else hot, name="hot", contrast_limits=(0, 1)
    )
    corners = np.array([[2, 3], [2, 13], [22, 13], [22, 3]]) - 0.5
    bench.viewer.add_shapes([corners], name="box")
    choose(bench, cells, mask)
    bench.find("roi").setCurrentText("box")
    bench.find("time_choice").setCurrentText("1")
    bench.run(max_iter=2)
    bench.wait_idle()
    assert np.array_equal(jobs[-1].maps.mask, hot[2:22, 3:13] != 0)
    assert bench.viewer.layers["cells deconvolved (region)"].metadata["mask"] == "hot"
    whole = bench.viewer.add_labels(np.broadcast_to(hot, (3, 5, 32, 32)).astype(int), name="every plane")
    choose(bench, cells, whole)
    bench.run(max_iter=2)
    bench.wait_idle()
    assert jobs[-1].maps.mask.shape == jobs[-1].input.shape == (1, 5, 20, 10)


def test_another_shape_is_one_sentence(bench: Any, notices: list[str]) -> None:
    cells = bench.add((5, 32, 32))
    choose(bench, cells, bench.viewer.add_labels(np.zeros((32, 30), int), name="dead"))
    bench.run(max_iter=2)
    assert notices == [
        "The mask 'dead' has 32 × 30 pixels and 'cells' has 5 × 32 × 32: choose one of the image's shape, or of its Y "
        "and X."
    ]
    assert bench.find("status").text() == notices[0]
    assert bench.find("run").isEnabled()


def test_photons_are_estimated_without_bad_pixels(
    bench: Any, jobs: list[FakeJob], hot: np.ndarray, qtbot: Any
) -> None:
    cells = bench.add()
    cells.data[12:20, 12:20] += 60
    clean = estimate_photons(cells.data.copy(), offset=0, gain=1).peak
    cells.data[:3] = 60_000
    hot[:3] = 1
    mask = bench.viewer.add_labels(hot.astype(int), name="hot")
    choose(bench, cells, mask)
    bench.find("gain").setValue(1.001)  # as set by hand: it is not read from the noise
    bench.find("estimate").click()
    qtbot.waitUntil(bench.find("estimate").isEnabled, timeout=10_000)
    assert float(bench.find("peak").text()) == pytest.approx(clean, rel=0.1)
    bench.find("peak").setText("auto")
    bench.viewer.add_shapes([np.array([[8, 8], [8, 20], [20, 20], [20, 8]])], name="box")
    bench.find("roi").setCurrentText("box")
    bench.run(max_iter=2)
    bench.wait_idle()
    assert jobs[-1].config.peak == pytest.approx(clean, rel=0.1)


def test_a_run_after_another_mask_starts_anew(bench: Any, jobs: list[FakeJob], hot: np.ndarray) -> None:
    choose(bench, bench.add(), bench.viewer.add_labels(hot.astype(int), name="hot"))
    bench.run(max_iter=2)
    bench.wait_idle()
    bench.run(max_iter=3)
    bench.wait_idle()
    assert jobs[-1].start is not None
    bench.find("mask_layer").setCurrentText("none")
    bench.run(max_iter=4)
    bench.wait_idle()
    assert jobs[-1].start is None
