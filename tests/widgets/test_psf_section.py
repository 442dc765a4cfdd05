"""The PSF section: what it shows of the PSF that is chosen, and that it never waits for it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from napari_deqmd.psf.theory import make_psf
from napari_deqmd.widgets.psf_view import glance_of, summary
from napari_deqmd.widgets.sections.theory import TheoryForm, optics_of
from widgets.driving import painted_as

MICRONS = {"scale": (0.3, 0.1, 0.1), "units": ("um",) * 3}


@pytest.fixture
def shown(bench: Any, qtbot: Any) -> Any:
    """Return the report as soon as it says something."""

    def wait(*words: str) -> str:
        report = bench.find("psf_report")
        qtbot.waitUntil(lambda: all(word in report.text() for word in words), timeout=30_000)
        return report.text()

    return wait


def test_widths_are_in_the_layers_units(bench: Any, shown: Any) -> None:
    assert "voxels" in shown("FWHM 4.24 × 4.24 voxels")
    bench.add((9, 32, 32), **MICRONS)
    assert "(4.24 × 4.24 × 4.24 voxels)" in shown("FWHM 1.27 × 0.424 × 0.424 µm")
    bench.find("psf_sigma").setText("0.6")
    shown("undersampled")
    bench.find("psf_sigma").setText("wide")
    assert "type a number" in shown("'wide'")


def test_a_microscope_takes_the_images_voxels(bench: Any, shown: Any, notices: list[str]) -> None:
    bench.add((9, 32, 32), name="pixels")
    bench.find("psf_kind").setCurrentText("Confocal")
    bench.find("psf_na").setValue(1.2)
    bench.find("psf_ni").setValue(1.333)
    bench.find("psf_ns").setValue(1.333)
    bench.viewer.layers["pixels"].units = ("um",) * 3
    bench.viewer.layers.clear()
    bench.add((9, 32, 32), **MICRONS)
    shown("FWHM 0.", "µm")
    assert bench.widget.psf.read().theory == (
        "confocal:na=1.2,wavelength=0.52,ni=1.333,ns=1.333,depth=0,pinhole=1,excitation=0.488,vectorial=1"
    )
    assert notices == []


def test_layer_of_other_voxels_is_told_before_the_run(bench: Any, shown: Any) -> None:
    bench.add((9, 32, 32), **MICRONS)
    bench.viewer.add_image(make_psf(ndim=3, sigma=2), name="psf", scale=(0.1,) * 3, units=("um",) * 3)
    bench.find("psf_source").setCurrentText("Layer")
    shown("FWHM 0.471", "but the image's 0.3", "resampled on use")
    bench.viewer.layers["psf"].scale = (0.3, 0.1, 0.1)
    bench.find("psf_source").setCurrentText("File")
    assert "No PSF file" in shown("No PSF file")
    bench.find("psf_source").setCurrentText("Layer")
    shown("FWHM 1.41")


def test_the_window_does_not_wait_and_only_the_latest_is_shown(
    bench: Any, shown: Any, monkeypatch: Any
) -> None:
    go, asked = threading.Event(), []

    def slow(choice: Any, image: Any, *_: Any) -> Any:
        asked.append(choice.theory)
        go.wait(20)
        return glance_of(choice.load(image), image.voxel_size)

    monkeypatch.setattr("napari_deqmd.widgets.psf_view.glance_at", slow)
    bench.find("psf_sigma").setText("2")
    monkeypatch.setattr(bench.widget.psf._look._looking._timer, "interval", lambda: 0)
    before = bench.find("psf_report").text()
    for text in ("2.5", "3", "3.5"):
        bench.find("psf_sigma").setText(text)
    assert bench.find("psf_report").text() == before
    go.set()
    shown("FWHM 8.24")
    assert asked[-1] == "gaussian:sigma=3.5"
    assert len(asked) <= 2


def test_a_closed_dock_forgets_what_is_still_computed(bench: Any, qtbot: Any, monkeypatch: Any) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(choice: Any, image: Any, *_: Any) -> Any:
        begun.set()
        go.wait(20)
        return glance_of(choice.load(image), image.voxel_size)

    monkeypatch.setattr("napari_deqmd.widgets.psf_view.glance_at", slow)
    bench.find("psf_sigma").setText("2")
    qtbot.waitUntil(begun.is_set, timeout=10_000)
    bench.viewer.window.remove_dock_widget(bench.widget)
    go.set()
    qtbot.wait(300)


def test_only_what_a_kind_takes_is_shown(qtbot: Any) -> None:
    form = TheoryForm()
    qtbot.addWidget(form)
    form.show()
    for kind, seen in (
        ("gaussian", set()),
        ("widefield", set()),
        ("lightsheet", {"sheet"}),
        ("confocal", {"pinhole", "excitation"}),
    ):
        form.kind_combo.setCurrentIndex(form.kind_combo.findData(kind))
        visible = {name for name, spin in form.spins.items() if spin.isVisible()}
        assert visible == (set() if kind == "gaussian" else {"na", "wavelength", "ni", "ns", "depth"} | seen)
        assert form.sigma_edit.isVisible() == (kind == "gaussian")


def test_optics_come_from_the_metadata(qtbot: Any) -> None:
    channel = {"EmissionWavelength": "461", "ExcitationWavelength": 405, "EmissionWavelengthUnit": "nm"}
    metadata = {"ome": {"Channel": [channel]}, "optics": {"na": 1.45, "ni": 1.512}}
    assert optics_of(metadata) == {"na": 1.45, "ni": 1.512, "wavelength": 461, "excitation": 405}
    assert optics_of({"ome": {"Channel": [channel, channel]}}) == {}
    form = TheoryForm()
    qtbot.addWidget(form)
    form.take(metadata)
    form.spins["na"].setValue(1.3)
    form.take(metadata)  # the same image again: what was typed stays
    assert form.spins["na"].value() == 1.3
    form.kind_combo.setCurrentIndex(1)
    assert form.text() == "widefield:na=1.3,wavelength=0.461,ni=1.512,ns=1.515,depth=0,vectorial=1"
    form.size_edit.setText("39, 51, 51")
    assert (
        form.text() == "widefield:na=1.3,wavelength=0.461,ni=1.512,ns=1.515,depth=0,vectorial=1,size=39,51,51"
    )


def test_glance_shows_planes_around_the_spot() -> None:
    glance = glance_of(make_psf(ndim=3, sigma=(4, 2, 2)), (0.3, 0.1, 0.1))
    (first, plane, high), (second, side, tall) = glance.planes
    assert (first, second) == ("XY", "XZ")
    assert plane.max() == side.max() == 1
    assert (high, tall) == (pytest.approx(1), pytest.approx(3))
    assert np.unravel_index(plane.argmax(), plane.shape) == (plane.shape[0] // 2, plane.shape[1] // 2)
    assert "OTF to" in summary(glance.report)


def test_a_layer_called_psf_is_taken_until_something_is_chosen(bench: Any) -> None:
    source = bench.find("psf_source")
    bench.add()
    bench.viewer.add_image(np.ones((5, 5, 5)), name="PSF of stacks")
    assert source.currentText() == "Theory"
    psf = bench.viewer.add_image(np.ones((5, 5)), name="my psf")
    assert (source.currentText(), bench.find("psf_layer").currentText()) == ("Layer", "my psf")
    bench.viewer.layers.remove(psf)
    assert source.currentText() == "Theory"
    bench.viewer.layers.append(psf)
    assert source.currentText() == "Layer"
    source.setCurrentText("Theory")
    bench.add(name="others")
    bench.viewer.layers.move(0, 2)
    assert source.currentText() == "Theory"


def test_a_sigma_that_was_typed_is_meant(bench: Any) -> None:
    bench.add()
    bench.find("psf_sigma").setText("2.5")
    bench.viewer.add_image(np.ones((5, 5)), name="psf")
    assert bench.find("psf_source").currentText() == "Theory"


def test_the_psf_that_the_image_names_comes_first(bench: Any) -> None:
    bench.viewer.add_image(np.ones((5, 5)), name="psf")
    bench.add(metadata={"psf": "gaussian:sigma=2"})
    assert bench.find("psf_source").currentText() == "Theory"
    assert bench.find("psf_sigma").text() == "2"


def test_a_plane_has_no_section_along_z(bench: Any, shown: Any) -> None:
    view = bench.find("psf_view")
    names = view._names

    def gap(name: str) -> float:
        """Pixels between a picture and the OTF."""
        view.grab()  # lays it out
        picture = view._images[name].sceneBoundingRect()
        assert picture.contains(names[name].sceneBoundingRect().center())
        return float(view._plot.sceneBoundingRect().left() - picture.right())

    bench.add()
    shown("FWHM")
    assert [names[name].isVisible() for name in ("XY", "XZ")] == [True, False]
    assert 0 <= gap("XY") < 12
    bench.viewer.layers.clear()
    bench.add((4, 32, 32))
    shown("4.24 × 4.24 × 4.24")
    assert names["XZ"].isVisible()
    assert 0 <= gap("XZ") < 12


def test_the_view_follows_the_theme(bench: Any) -> None:
    for theme in ("light", "dark"):
        bench.viewer.theme = theme
        assert painted_as(bench.find("psf_view"), theme)


def test_a_psf_wider_than_the_images_blur_is_told(bench: Any, shown: Any) -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    points = gaussian_filter(1e4 * (rng.random((160, 160)) < 0.01), 1.8)
    bench.viewer.add_image(rng.poisson(points + 10).astype(np.uint16), name="points")
    bench.find("psf_sigma").setText("3.6")
    shown("FWHM 8.48", "finer detail than this PSF lets through")
    bench.find("psf_sigma").setText("1.8")
    assert "detail" not in shown("FWHM 4.24")


def test_the_image_is_not_its_own_psf(bench: Any, shown: Any) -> None:
    """A remembered "Layer" meets a viewer without a PSF."""
    bench.add((9, 32, 32), name="only", **MICRONS)
    bench.find("psf_source").setCurrentText("Layer")
    shown("'only' is the image itself: choose the layer of a PSF")
    bench.viewer.add_image(make_psf(ndim=3, sigma=2), name="psf", scale=(0.3, 0.1, 0.1), units=("um",) * 3)
    bench.find("psf_layer").setCurrentText("psf")
    shown("FWHM")


def test_what_the_user_chose_for_an_image_stays(bench: Any, shown: Any) -> None:
    """Its metadata name a PSF, as a sample's do: neither another layer nor an edit of the axes brings that back."""
    bench.add(metadata={"psf": "gaussian:sigma=2"})
    for name, sigma in (("psf a", 1.0), ("psf b", 3.0)):
        bench.viewer.add_image(make_psf(sigma=sigma), name=name)
    shown("4.71")
    bench.find("psf_source").setCurrentText("Layer")
    for name in ("psf b", "psf a"):
        bench.find("psf_layer").setCurrentText(name)
    shown("2.35")
    bench.find("axes").setText("YZ")
    bench.find("axes").setText("YX")
    assert bench.find("psf_source").currentText() == "Layer"
    bench.viewer.add_image(np.ones((16, 16)), name="next", metadata={"psf": "gaussian:sigma=2"})
    bench.find("image_layer").setCurrentText("next")
    assert bench.find("psf_source").currentText() == "Theory"


def test_a_voxel_size_that_is_typed_is_the_layers(bench: Any, shown: Any) -> None:
    layer = bench.add((5, 32, 32))
    bench.find("psf_kind").setCurrentText("Wide-field")
    shown("needs the image's voxel size")
    edit = bench.find("voxel_size")
    assert edit.text() == ""
    for text in ("0.3", "0.3, 0.1, 0", "three"):
        _type(edit, text)
        assert "voxel size" in bench.find("image_summary").text()
        assert layer.scale.tolist() == [1, 1, 1]
    _type(edit, "300nm 100nm 100nm")
    shown("FWHM")
    assert layer.scale == pytest.approx((0.3, 0.1, 0.1))
    assert {str(unit) for unit in layer.units} == {"micrometer"}
    assert edit.text() == "0.3, 0.1, 0.1"
    _type(edit, "")  # what is taken away comes back: the layer still has it
    assert edit.text() == "0.3, 0.1, 0.1"


def _type(edit: Any, text: str) -> None:
    edit.clear()
    edit.insert(text)
    edit.editingFinished.emit()


def test_optics_and_voxels_of_a_pyramid_are_its_own(bench: Any) -> None:
    data = np.random.default_rng(0).poisson(20, (5, 64, 64)).astype(np.uint16)
    place = {"scale": (0.3, 0.1, 0.1), "units": ("um",) * 3}
    optics = [{"optics": {"na": na, "wavelength": 520.0, "ni": 1.33}} for na in (0.5, 1.2)]
    bench.find("psf_kind").setCurrentText("Wide-field")
    own = bench.find("psf_na").value()
    for name, levels, known in (
        ("one", data, optics[0]),
        ("pyramid", [data, data[:, ::2, ::2]], optics[1]),
        ("unknown", [data, data[:, ::2, ::2]], {}),
    ):
        many = isinstance(levels, list)
        layer = bench.viewer.add_image(levels, name=name, multiscale=many, metadata=known, **place)
        bench.find("image_layer").choose(layer)
        assert bench.find("psf_na").value() == (known["optics"]["na"] if known else own)
        assert bench.widget.psf._place.spatial_shape == (5, 64, 64)
