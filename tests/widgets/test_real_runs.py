"""The widget on the real job, small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_deqmd.scale import memory
from napari_deqmd.scale.memory import predict_bytes
from napari_deqmd.widgets.reconstruct import default_job


@pytest.fixture
def real(bench: Any) -> Any:
    bench.widget.job_factory = default_job
    return bench


@pytest.mark.parametrize("method", ["deq-md", "md-tv", "rl-accelerated"])
def test_run_stop_and_run_again(real: Any, qtbot: Any, method: str) -> None:
    source = real.add((128, 128), scale=(0.1, 0.1), units=("um", "um"), axis_labels=("y", "x"))
    real.find("method").setCurrentText(method)
    real.find("background").setText("0")
    real.find("tol").setText("1e-12")
    real.run()
    result = real.wait_preview()
    real.find("stop").click()
    real.wait_idle()
    assert result.metadata["report"]["stopped_by"] == "user"
    assert result.metadata["report"]["iterations"] == real.find("progress").value()
    stopped = result.data.copy()
    further = result.metadata["report"]["iterations"] + 3
    real.run(max_iter=further)
    real.wait_idle()
    assert len(real.viewer.layers) == 2
    assert result.metadata["report"]["iterations"] == further
    assert np.isfinite(result.data).all()
    assert not np.array_equal(result.data, stopped)
    assert result.data.mean() == pytest.approx(source.data.mean(), rel=0.2)
    device = {"cpu": "CPU", "cuda": "GPU"}[result.metadata["report"]["device"]]
    qtbot.waitUntil(lambda: real.find("device_label").text().startswith(device), timeout=10_000)


def test_a_time_series(real: Any) -> None:
    real.add((2, 48, 48), axis_labels=("t", "y", "x"))
    real.find("method").setCurrentText("rl")
    real.run(max_iter=4)
    real.wait_idle()
    result = real.viewer.layers["cells deconvolved"]
    assert all((plane > 0).any() for plane in result.data)
    assert result.metadata["config"]["axes"] == "TYX"


def test_an_image_that_does_not_fit_runs_in_tiles(
    real: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predict_bytes((160, 160), (7, 7), method="rl")
    monkeypatch.setattr(memory, "available_bytes", lambda device: int(0.8 * whole))
    real.add((2, 160, 160), axis_labels=("t", "y", "x"))
    real.find("psf_sigma").setText("1")
    real.find("method").setCurrentText("rl")
    label = real.find("memory_label")
    qtbot.waitUntil(lambda: " tiles of " in label.text(), timeout=10_000)
    assert "color" not in label.styleSheet()
    real.run(max_iter=4)
    real.wait_idle()
    result = real.viewer.layers["cells deconvolved"]
    assert (result.data > 0).any(axis=(1, 2)).all()
    assert result.metadata["report"]["tiles"]["count"] > 1
    assert len(result.metadata["report"]["items"]) == 2
    shown = result.data.copy()
    real.run(max_iter=6)
    real.wait_idle()
    assert not np.array_equal(result.data, shown)


def test_what_the_job_refuses_is_told(real: Any, notices: list[str]) -> None:
    real.viewer.add_image(np.full((32, 32), np.nan, dtype=np.float32), contrast_limits=(0, 1))
    real.run(max_iter=3)
    real.wait_idle()
    assert len(notices) == 1
    assert real.find("status").text() == notices[0]
    assert len(real.viewer.layers) == 1


def test_saturated_pixels_are_left_out_and_told(real: Any) -> None:
    counts = np.random.default_rng(0).poisson(40, (48, 48))
    counts[20:24, 20:24] += 300
    real.viewer.add_image(np.minimum(counts, 255).astype(np.uint8), name="full")
    real.find("method").setCurrentText("rl")
    real.run(max_iter=3)
    real.wait_idle()
    assert "16 saturated pixels were left out, at 255 counts" in real.find("status").text()
    assert real.viewer.layers["full deconvolved"].metadata["report"]["saturated_pixels"] == 16


def test_read_noise_reaches_the_job(real: Any) -> None:
    real.add((48, 48), axis_labels=("y", "x"))
    real.find("method").setCurrentText("rl")
    real.find("read_noise").setValue(1.5)
    real.run(max_iter=3)
    real.wait_idle()
    assert real.viewer.layers["cells deconvolved"].metadata["report"]["read_noise"] == 1.5
