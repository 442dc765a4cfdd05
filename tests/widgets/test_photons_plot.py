"""The estimate is drawn: what there is, and where background and peak were found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_deqmd.core.photons import Photons, photon_histogram
from napari_deqmd.widgets.histogram import PhotonPlot


def test_histogram_counts_every_pixel_in_photo_electrons() -> None:
    electrons = np.random.default_rng(0).poisson(3, (64, 64))
    edges, counts = photon_histogram(100 + 2 * electrons, offset=100, gain=2)
    assert len(edges) == len(counts) + 1
    assert counts.sum() == electrons.size
    for value in range(5):
        assert counts[np.searchsorted(edges, value) - 1] == np.count_nonzero(electrons == value)


def test_histogram_is_not_stretched_by_one_hot_pixel_in_many() -> None:
    image = np.random.default_rng(0).poisson(30, (512, 512))
    image[3, 3] = 60_000
    edges, counts = photon_histogram(image)
    assert edges[-1] < 200
    assert len(counts) <= 98
    assert counts.sum() == image.size
    assert counts[-1] >= 1


def test_histogram_of_a_large_stack_looks_at_a_part() -> None:
    image = np.broadcast_to(np.arange(100, dtype=np.uint8), (400, 1024, 100))
    _, counts = photon_histogram(image)
    assert 0 < counts.sum() <= 2**23


def test_it_is_drawn_after_the_estimate_and_goes_with_the_image(bench: Any, qtbot: Any) -> None:
    bench.find("offset").setValue(0.0)
    plot = bench.find("photons_plot")
    assert plot.isHidden()
    data = np.random.default_rng(0).poisson(5, (64, 64)).astype(np.uint16)
    data[20:40, 20:40] += 80
    bench.viewer.add_image(data, name="square")
    bench.find("estimate").click()
    qtbot.waitUntil(lambda: not plot.isHidden(), timeout=10_000)
    background = float(bench.find("background").text())
    peak = float(bench.find("peak").text())
    assert plot.background_line.value() == pytest.approx(background, rel=1e-3)
    assert plot.peak_line.value() == pytest.approx(background + peak, rel=1e-3)
    bench.add(name="another")
    bench.find("image_layer").setCurrentText("another")
    assert plot.isHidden()


def _camera(gain: float, offset: float) -> Any:
    y, x = np.mgrid[:320, :320]
    bright = 200 * (np.sin(x / 19) * np.sin(y / 23)) ** 2 + 10
    return np.rint(gain * np.random.default_rng(0).poisson(bright) + offset).astype(np.uint16)


def test_estimate_fills_in_gain_and_offset_that_were_left_alone(bench: Any, qtbot: Any) -> None:
    offset, gain, button = bench.find("offset"), bench.find("gain"), bench.find("estimate")
    offset.setValue(0.0)
    gain.setValue(1.0)
    bench.viewer.add_image(_camera(2.5, 90), name="camera")
    button.click()
    qtbot.waitUntil(lambda: button.isEnabled() and gain.value() != 1, timeout=10_000)
    assert gain.value() == pytest.approx(2.5, rel=0.1)
    assert offset.value() == pytest.approx(90, abs=5)
    assert "From the noise: gain 2.5" in bench.find("estimate_result").text()
    bench.add(name="another")
    bench.find("image_layer").setCurrentText("another")
    assert (offset.value(), gain.value()) == (0, 1)


def test_estimate_keeps_a_gain_that_was_given(bench: Any, qtbot: Any) -> None:
    bench.find("gain").setValue(2.0)
    bench.find("offset").setValue(80.0)
    bench.viewer.add_image(_camera(2.5, 90), name="camera")
    bench.find("estimate").click()
    qtbot.waitUntil(lambda: not bench.find("photons_plot").isHidden(), timeout=10_000)
    assert (bench.find("offset").value(), bench.find("gain").value()) == (80, 2)


def test_estimate_says_why_the_gain_cannot_be_told(bench: Any, qtbot: Any) -> None:
    bench.find("offset").setValue(0.0)
    bench.viewer.add_image(gaussian_filter(_camera(2.5, 90).astype(np.float32), 1), name="smooth")
    bench.find("estimate").click()
    qtbot.waitUntil(lambda: not bench.find("photons_plot").isHidden(), timeout=10_000)
    assert "neighbouring pixels vary together" in bench.find("estimate_result").text()
    assert (bench.find("offset").value(), bench.find("gain").value()) == (0, 1)


def test_both_lines_are_in_sight(qtbot: Any) -> None:
    plot = PhotonPlot()
    qtbot.addWidget(plot)
    photons = Photons(offset=0, gain=1, peak=500.0, background=0.0, clipped_fraction=0.0)
    plot.show_photons(np.arange(4.0), np.array([9, 0, 1]), photons)
    (left, right), (bottom, top) = plot.getPlotItem().viewRange()
    assert left < 0
    assert right > 500
    assert (bottom, top) == pytest.approx((0, 1.35))
