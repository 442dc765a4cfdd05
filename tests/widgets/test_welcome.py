"""An empty viewer says what to do, and a sample brings what its run needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QLabel


def test_it_is_there_while_there_is_no_image(bench: Any) -> None:
    welcome = bench.find("welcome")
    assert not welcome.isHidden()
    assert len(welcome.findChildren(QLabel)) == 3
    bench.viewer.add_shapes()
    assert not welcome.isHidden()
    bench.add()
    assert welcome.isHidden()
    bench.viewer.layers.clear()
    assert not welcome.isHidden()


@pytest.mark.parametrize(
    ("button", "name", "sigma"),
    [("welcome_2d", "Filaments", "1.8, 1.8"), ("welcome_3d", "Nuclei", "1.5, 2, 2")],
)
def test_a_sample_is_ready_to_run(bench: Any, button: str, name: str, sigma: str) -> None:
    bench.find("psf_source").setCurrentText("File")
    bench.find("psf_sigma").setText("7")
    bench.find(button).click()
    assert bench.find("welcome").isHidden()
    assert bench.find("image_layer").currentText() == name
    assert bench.find("psf_source").currentText() == "Theory"
    assert bench.find("psf_sigma").text() == sigma
    assert (bench.find("offset").value(), bench.find("gain").value()) == (100, 2)
    assert f"{name} truth" in bench.viewer.layers
    bench.run(max_iter=3)
    bench.wait_idle()
    job = bench.viewer.layers[f"{name} deconvolved"].metadata
    assert job["psf"] == f"gaussian:sigma={sigma.replace(' ', '')}"
    # Her own PSF is there again with her own image.
    bench.add(name="mine")
    bench.find("image_layer").setCurrentText("mine")
    assert bench.find("psf_source").currentText() == "File"
    assert bench.find("psf_sigma").text() == "7"


@pytest.mark.parametrize("psf", ["bead.tif", "layer 'PSF'", 3, None])
def test_metadata_that_name_no_gaussian_change_nothing(bench: Any, psf: Any) -> None:
    bench.find("psf_sigma").setText("7")
    bench.add(metadata={"psf": psf})
    assert bench.find("psf_source").currentText() == "Theory"
    assert bench.find("psf_sigma").text() == "7"


def test_open_a_file_asks_for_one(bench: Any, monkeypatch: Any, tmp_path: Any, qtbot: Any) -> None:
    import tifffile
    from qtpy.QtWidgets import QFileDialog

    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.arange(256, dtype=np.uint16).reshape(16, 16))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    bench.find("welcome_file").click()
    qtbot.waitUntil(lambda: "cells" in bench.viewer.layers, timeout=10_000)
    assert bench.find("welcome").isHidden()


def test_nothing_is_cut_off_at_the_side(bench: Any) -> None:
    from qtpy.QtWidgets import QScrollArea

    form = bench.widget.findChild(QScrollArea).widget()
    assert form.minimumSizeHint().width() < bench.widget.minimumSizeHint().width() <= 420
