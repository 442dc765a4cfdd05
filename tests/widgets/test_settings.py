"""What is remembered between starts, where, and what is not."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from napari import settings as napari_settings
from qtpy.QtCore import QSettings
from qtpy.QtWidgets import QCheckBox, QComboBox, QWidget

from napari_deqmd.widgets import settings
from napari_deqmd.widgets.compare import CompareWidget
from napari_deqmd.widgets.controls import put, take
from napari_deqmd.widgets.psf import PsfWidget
from napari_deqmd.widgets.reconstruct import ReconstructWidget
from napari_deqmd.widgets.settings import fill
from napari_deqmd.widgets.train import TrainWidget

WIDGETS = {
    "compare": CompareWidget,
    "psf": PsfWidget,
    "reconstruct": ReconstructWidget,
    "train": TrainWidget,
}
MANIFEST = yaml.safe_load((Path(settings.__file__).parents[1] / "napari.yaml").read_text("utf-8"))
PAGES = MANIFEST["contributions"]["configurations"]


@pytest.fixture(params=["napari's", "our file"])
def _kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "our file":
        monkeypatch.delattr(napari_settings, "get_plugin_settings", raising=False)
    elif not hasattr(napari_settings, "get_plugin_settings"):
        pytest.skip("this napari keeps no settings for plugins")


@pytest.mark.parametrize("page", PAGES)
def test_the_manifest_knows_defaults_and_choices(page: str, make_napari_viewer: Any) -> None:
    form = WIDGETS[page](make_napari_viewer())
    for name, declared in PAGES[page]["properties"].items():
        control = form.findChild(QWidget, name)
        assert control is not None, name
        assert take(control) == declared["default"], name
        if "enum" in declared:
            assert isinstance(control, QComboBox)
            assert [control.itemText(row) for row in range(control.count())] == declared["enum"]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("_kept")
def test_every_control_is_there_again(page: str, make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    first, changed = WIDGETS[page](viewer), {}
    for name in PAGES[page]["properties"]:
        control = first.findChild(QWidget, name)
        if isinstance(control, QComboBox):
            control.setCurrentIndex(control.count() - 1)
        elif isinstance(control, QCheckBox):
            control.toggle()
        else:
            put(control, take(control) + type(take(control))(3))
        changed[name] = take(control)
    again = WIDGETS[page](viewer)
    assert {name: take(again.findChild(QWidget, name)) for name in changed} == changed


@pytest.mark.skipif(not hasattr(napari_settings, "get_plugin_settings"), reason="napari before 0.9")
def test_preferences_are_a_file_and_change_the_form(bench: Any, settings_folder: Path) -> None:
    bench.find("strength").setValue(2.5)
    kept = yaml.safe_load((settings_folder / "napari-deqmd.yaml").read_text())
    assert kept["reconstruct"]["strength"] == 2.5
    napari_settings.get_plugin_settings("napari-deqmd").reconstruct.method = "rl"
    assert bench.find("method").currentText() == "rl"


def test_what_belongs_to_the_image_is_not_remembered(bench: Any) -> None:
    bench.find("offset").setValue(90)
    bench.add(name="plain")
    bench.add(name="measured", metadata={"offset": 100.0, "gain": 2.2})
    bench.find("peak").setText("33")
    assert bench.find("offset").value() == 100
    again = ReconstructWidget(bench.viewer)
    bench.viewer.layers.selection.active = bench.viewer.layers["plain"]
    assert bench.find("offset").value() == 90
    assert bench.find("gain").value() == 1
    bench.viewer.layers.clear()
    assert again.findChild(QWidget, "offset").value() == 90
    assert ReconstructWidget(bench.viewer).findChild(QWidget, "peak").text() == "auto"


def test_a_number_changed_by_the_user_is_hers_also_on_an_image_with_its_own(bench: Any) -> None:
    spin = bench.find("offset")
    fill(spin, 100.0)
    spin.setValue(80.0)
    fill(spin, None)
    assert spin.value() == 80
    assert ReconstructWidget(bench.viewer).findChild(QWidget, "offset").value() == 80


@pytest.mark.usefixtures("_kept")
def test_what_makes_no_sense_any_more_is_passed_over(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    store = settings.open_store("reconstruct")
    store.write("model", "a model that is gone")
    again = ReconstructWidget(bench.viewer)
    assert again.findChild(QWidget, "model").currentText() == "default"
    with caplog.at_level(logging.WARNING, logger="napari_deqmd"):
        fill(again.findChild(QWidget, "strength"), "much")
    assert "strength makes no sense" in caplog.text
    assert again.findChild(QWidget, "strength").value() == 1


def test_a_broken_file_is_replaced(
    make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(napari_settings, "get_plugin_settings", raising=False)
    viewer = make_napari_viewer()
    place = QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-deqmd", "napari-deqmd")
    path = Path(place.fileName())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[reconstruct\nstrength\x00\n]][")
    with caplog.at_level(logging.WARNING, logger="napari_deqmd"):
        form = ReconstructWidget(viewer)
    assert "cannot be read" in caplog.text
    form.findChild(QWidget, "strength").setValue(2.0)
    assert ReconstructWidget(viewer).findChild(QWidget, "strength").value() == 2


def test_a_full_disk_is_no_matter(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, name: str, value: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(settings._Preferences, "write", full)
    monkeypatch.setattr(settings._File, "write", full)
    bench.find("strength").setValue(2.0)
    assert bench.find("strength").value() == 2


def test_a_closed_form_that_lists_the_models_again_changes_no_choice(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    closed, form = ReconstructWidget(viewer), ReconstructWidget(viewer)
    viewer.window.remove_dock_widget(viewer.window.add_dock_widget(closed, name="Reconstruct"))
    models = form.findChild(QWidget, "model")
    models.setCurrentText("fluorescence-2d")
    closed.findChild(QWidget, "model").refresh()
    assert models.currentText() == "fluorescence-2d"


def test_another_window_keeps_its_form(make_napari_viewer: Any) -> None:
    first, second = (ReconstructWidget(make_napari_viewer()) for _ in range(2))
    put(first.findChild(QWidget, "offset"), 123.0)
    put(first.findChild(QWidget, "psf_sigma"), "3.3")
    assert take(second.findChild(QWidget, "offset")) == 0
    assert take(second.findChild(QWidget, "psf_sigma")) != "3.3"
    assert take(ReconstructWidget(make_napari_viewer()).findChild(QWidget, "offset")) == 123
