"""The PSF widget: a layer comes of every way to a PSF, and a sentence of what cannot work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_deqmd.psf.theory import make_psf
from psf.test_beads import VOXEL, distance, field, lens
from widgets.driving import painted_as


@pytest.fixture
def dock(make_napari_viewer: Any, qtbot: Any) -> Any:
    from qtpy.QtWidgets import QWidget

    from napari_deqmd.widgets.psf import PsfWidget

    viewer = make_napari_viewer()
    widget = PsfWidget(viewer)
    viewer.window.add_dock_widget(widget, name="PSF")

    def find(name: str) -> Any:
        return widget.findChild(QWidget, name)

    def wait(name: str) -> Any:
        qtbot.waitUntil(lambda: name in viewer.layers, timeout=30_000)
        return viewer.layers[name]

    def says(*words: str) -> None:
        qtbot.waitUntil(lambda: all(word in find("psf_report").text() for word in words), timeout=30_000)

    return SimpleNamespace(viewer=viewer, widget=widget, find=find, wait=wait, says=says)


def test_makes_a_layer_with_scale_and_units(dock: Any) -> None:
    dock.viewer.add_image(np.ones((9, 32, 32)), name="cells", scale=(300, 100, 100), units=("nm",) * 3)
    assert dock.find("make_voxel_size").text() == "0.3, 0.1, 0.1"
    dock.find("make_psf_kind").setCurrentText("Confocal")
    dock.find("make_psf").click()
    layer = dock.wait("Confocal PSF")
    assert tuple(layer.scale) == pytest.approx((0.3, 0.1, 0.1))
    assert {str(unit) for unit in layer.units} == {"micrometer"}
    assert layer.metadata["psf"].startswith("confocal:na=1.4,wavelength=0.52,")
    dock.says("FWHM", "µm")


def test_makes_a_plane_where_two_sizes_are_given(dock: Any) -> None:
    dock.find("make_voxel_size").setText("100nm 100nm")
    dock.find("make_psf").click()
    assert dock.wait("Gaussian PSF").ndim == 2


def test_distils_beads(dock: Any) -> None:
    dock.viewer.add_image(field()[:, :, 18:], name="beads", scale=VOXEL, units=("um",) * 3)
    dock.find("distill_psf").click()
    layer = dock.wait("beads PSF")
    assert distance(layer.data, lens()) < 0.05
    assert tuple(layer.scale) == pytest.approx(VOXEL)
    dock.says("4 beads used, left out: 2 at the edge")


def test_inspects_a_layer(dock: Any) -> None:
    dock.viewer.add_image(make_psf(ndim=3, sigma=2), name="some PSF")
    dock.find("psf_tabs").setCurrentIndex(2)
    dock.says("FWHM 4.71 × 4.71 × 4.71 voxels")


def test_the_picture_follows_the_theme(dock: Any) -> None:
    for theme in ("light", "dark"):
        dock.viewer.theme = theme
        assert painted_as(dock.find("psf_view"), theme)


@pytest.mark.parametrize(
    ("name", "text", "button", "says"),
    [
        ("make_voxel_size", "0.1", "make_psf", "1 numbers"),
        ("make_voxel_size", "3 inches", "make_psf", "with nm"),
        ("make_psf_sigma", "wide", "make_psf", "'wide'"),
        ("bead_diameter", "big", "distill_psf", "with nm"),
        ("bead_diameter", "", "distill_psf", "No beads"),
    ],
)
def test_what_cannot_work_is_a_sentence(
    dock: Any, notices: list[str], name: str, text: str, button: str, says: str
) -> None:
    dock.viewer.add_image(np.random.default_rng(0).poisson(50, (16, 48, 48)), name="noise")
    dock.find(name).setText(text)
    dock.find(button).click()
    _until(dock, notices, says)
    assert [layer.name for layer in dock.viewer.layers] == ["noise"]


def _until(dock: Any, notices: list[str], says: str) -> None:
    from qtpy.QtTest import QTest

    for _ in range(500):
        if notices:
            break
        QTest.qWait(20)
    assert len(notices) == 1
    assert says in notices[0]
