"""How napari offers the plugin: menus, samples, and the menu of a layer."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from app_model import Application

from napari_deqmd.widgets import menus

NAPARI = """
import json
import sys
import napari
from app_model import Application
from qtpy.QtWidgets import QWidget

viewer = napari.Viewer(show=False)
app = Application.get_app("napari")

def commands(menu):
    entries = app.menus.get_menu(menu) if menu in app.menus else []
    return [entry.command.id for entry in entries if hasattr(entry, "command")]

found = {menu: commands(f"napari/layers/{menu}") for menu in ("filter", "measure")}
found["before"] = commands("napari/layers/context")
kinds = []
for name in ("Reconstruct", "Compare", "PSF", "Train"):
    _, widget = viewer.window.add_plugin_dock_widget("napari-deqmd", name)
    kinds.append(type(widget).__name__)
found["kinds"], found["torch"] = kinds, "torch" in sys.modules
viewer.open_sample("napari-deqmd", "sample_2d")
found["after"] = commands("napari/layers/context")
viewer.layers.selection.active = viewer.layers["Filaments truth"]
app.commands.execute_command("napari-deqmd.reconstruct_layer").result()
_, widget = viewer.window.add_plugin_dock_widget("napari-deqmd", "Reconstruct")
found["layer"] = widget.findChild(QWidget, "image_layer").currentText()
for name in ("train", "compare", "psf"):
    app.commands.execute_command(f"napari-deqmd.{name}").result()
    _, widget = viewer.window.add_plugin_dock_widget("napari-deqmd", "PSF" if name == "psf" else name.title())
    for combo in ("train_data", "compare_image_layer", "make_image", "beads_layer"):
        if (control := widget.findChild(QWidget, combo)) is not None:
            found[combo] = control.currentText()
print(json.dumps(found))
viewer.close()
"""


def test_napari_offers_it(tmp_path: Any) -> None:
    code = textwrap.dedent(NAPARI)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=_environment(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"napari-deqmd.reconstruct", "napari-deqmd.train"} <= set(found["filter"])
    assert {"napari-deqmd.compare", "napari-deqmd.psf"} <= set(found["measure"])
    assert "napari-deqmd.reconstruct_layer" not in found["before"]
    assert found["after"].count("napari-deqmd.reconstruct_layer") == 1
    assert found["kinds"] == ["ReconstructWidget", "CompareWidget", "PsfWidget", "TrainWidget"]
    assert not found["torch"], "opening the widgets must not wait for it"
    # On the selected layer, which is not the newest.
    for combo in ("layer", "train_data", "compare_image_layer", "make_image", "beads_layer"):
        assert found[combo] == "Filaments truth", combo


def test_the_entry_is_for_images_only() -> None:
    app = Application("deqmd-test")
    try:
        menus.register(app)
        (entry,) = app.menus.get_menu("napari/layers/context")
        assert entry.when is not None
        assert entry.when.eval({"active_layer_type": "image"})
        assert not entry.when.eval({"active_layer_type": "labels"})
    finally:
        Application.destroy("deqmd-test")


def test_nothing_without_napari(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(menus, "register", lambda app: pytest.fail("registered"))
    monkeypatch.setattr(Application, "get_app", lambda name: None)
    menus.activate()
    monkeypatch.setitem(sys.modules, "app_model", None)
    menus.activate()


def _environment(folder: Any) -> dict[str, str]:
    import os

    return os.environ | {"NAPARI_CONFIG": str(folder / "settings.yaml")}
