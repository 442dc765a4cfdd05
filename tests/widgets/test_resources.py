"""Where a run would compute and what memory it needs: said before it runs."""

from __future__ import annotations

import sys
import threading
import warnings
from typing import Any

import numpy as np
import pytest

from napari_deqmd.core.caution import caution
from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.scale import memory
from napari_deqmd.scale.memory import format_bytes, predict_bytes, predict_run_bytes
from napari_deqmd.widgets import resources
from napari_deqmd.widgets.form import PsfChoice
from napari_deqmd.widgets.layers import LayerImage
from napari_deqmd.widgets.resources import Resources, find_resources
from napari_deqmd.widgets.warm import RunOrder

VALUES = {
    "device": "auto",
    "method": "deq-md",
    "solver": "accelerated",
    "boundary": "extended",
    "orientations": "1",
}


def image(*shape: int, axes: str = "ZYX") -> LayerImage:
    return LayerImage(data=np.broadcast_to(np.uint16(1), shape), name="cells", axes=axes, voxel_size=None)


def test_what_is_needed_is_what_is_predicted() -> None:
    found = find_resources(image(5, 8, 64, 64, axes="TZYX"), PsfChoice(theory="gaussian:sigma=1"), VALUES)
    # 1 pixel of deviation: 9 wide, cropped to what holds 99.9 % of the light.
    stack = (8, 64, 64)
    assert found.needed == predict_run_bytes(stack, (7, 7, 7), stack, items=5, itemsize=2)
    assert found.free is not None
    assert found.fits
    less = find_resources(image(8, 64, 64), PsfChoice(theory="gaussian:sigma=1"), VALUES | {"method": "rl"})
    assert less.needed is not None
    assert less.needed < found.needed
    plane, gaussian = image(64, 64, axes="YX"), PsfChoice(theory="gaussian:sigma=1")
    one, four = (find_resources(plane, gaussian, VALUES | {"orientations": many}).needed for many in "14")
    assert one is not None
    assert four is not None
    assert four > 2 * one


def test_too_much_says_what_to_do() -> None:
    found = find_resources(image(2000, 2000, 2000), PsfChoice(theory="gaussian:sigma=1"), VALUES)
    assert not found.fits
    assert found.memory.startswith(f"Needs about {format_bytes(found.needed or 0)}, ")
    assert found.memory.endswith("free: crop the image, or choose method rl, which needs the least.")


def test_what_cannot_be_known_is_not_said() -> None:
    assert find_resources(None, None, VALUES).memory == ""
    assert find_resources(image(64, 64, axes="YX"), PsfChoice(path="/nowhere.tif"), VALUES).memory == ""
    assert Resources(device="", needed=2_000_000).memory == "Needs about 2 MB."


@pytest.mark.parametrize(
    ("setting", "text"),
    [("auto", "Device: a GPU if there is one"), ("cpu", "Device: cpu, chosen"), ("cuda:1", "Device: cuda:1")],
)
def test_device_before_torch_is_there(setting: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert find_resources(None, None, VALUES | {"device": setting}).device.startswith(text)
    assert "torch" not in sys.modules


def test_device_and_why() -> None:
    import torch

    found = find_resources(None, None, VALUES).device
    if torch.cuda.is_available():
        assert found == f"GPU {torch.cuda.get_device_name()}: chosen automatically."
    else:
        assert found == "CPU: no CUDA device found."
    assert find_resources(None, None, VALUES | {"device": "cpu"}).device == "CPU: chosen under Advanced."
    assert "not to be had" in find_resources(None, None, VALUES | {"device": "cuda:77"}).device


def test_the_form_says_it_and_follows(bench: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    label = bench.find("memory_label")
    qtbot.waitUntil(lambda: bench.find("device_label").text() != "", timeout=10_000)
    assert label.text() == ""
    bench.add((64, 64))
    qtbot.waitUntil(lambda: label.text().startswith("Needs about"), timeout=10_000)
    seen = label.text()
    for change in (
        lambda: bench.find("psf_sigma").setText("9"),
        lambda: bench.find("method").setCurrentText("rl"),
        lambda: bench.find("boundary").setCurrentText("periodic"),
        lambda: bench.add((256, 256), name="more"),
    ):
        change()
        qtbot.waitUntil(lambda seen=seen: label.text() not in ("", seen), timeout=10_000)
        seen = label.text()
    assert "color" not in label.styleSheet()
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    bench.find("method").setCurrentText("deq-md")
    qtbot.waitUntil(lambda: label.text().endswith("needs the least."), timeout=10_000)
    assert "color" in label.styleSheet()


def test_what_a_run_warns_of_is_heard_while_the_form_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, go = threading.Event(), threading.Event()

    class Slow(PsfChoice):
        def load(self, image: Any) -> np.ndarray:
            inside.set()
            go.wait(10)
            return super().load(image)

    def factory(*_: Any) -> None:
        caution("hear me")

    heard: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: heard.append(str(message)))
    monkeypatch.setattr(warnings, "filters", [])
    psf = PsfChoice(theory="gaussian:sigma=1")
    order = RunOrder(
        factory, image(16, 16, axes="YX"), psf, ReconstructionConfig(axes="YX", peak=9, background=1)
    )
    order()  # what it imports is there
    question = image(16, 16, axes="YX"), Slow(theory="gaussian:sigma=1"), VALUES
    asking = threading.Thread(target=find_resources, args=question)
    asking.start()
    assert inside.wait(10)
    running = threading.Thread(target=order)
    running.start()
    running.join(10)
    assert not running.is_alive()  # it does not wait for the form
    go.set()
    asking.join()
    assert heard == ["hear me"] * 2


def test_asking_stays_quiet_when_another_thread_sets_filters() -> None:
    class Disturbed(PsfChoice):
        def load(self, image: Any) -> np.ndarray:
            warnings.simplefilter("error")
            return np.pad(super().load(image), ((0, 2), (0, 2)))  # off the middle

    found = find_resources(image(64, 64, axes="YX"), Disturbed(theory="gaussian:sigma=1"), VALUES)
    assert found.needed is not None


def test_asking_chooses_nothing(bench: Any, qtbot: Any) -> None:
    bench.find("psf_source").setCurrentText("Layer")
    bench.add(name="first")
    bench.add(name="bead PSF")
    assert bench.find("psf_layer").currentText() == "bead PSF"
    qtbot.waitUntil(lambda: bench.find("memory_label").text() != "", timeout=10_000)
    bench.add(name="second")
    assert bench.find("image_layer").currentText() == "second"
    bench.add(name="newer PSF")
    assert bench.find("psf_layer").currentText() == "newer PSF"


def test_a_closed_dock_asks_no_more(bench: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(resources, "find_resources", lambda *question: asked.append(question))
    qtbot.wait(600)
    asked.clear()
    bench.find("strength").setValue(2.0)
    bench.viewer.window.remove_dock_widget(bench.dock)
    qtbot.wait(400)
    assert asked == []


def test_asking_warns_of_nothing() -> None:
    found = find_resources(
        image(4, 48, 48), PsfChoice(theory="gaussian:sigma=3"), VALUES
    )  # the PSF is larger than the image
    assert found.needed == predict_bytes((4, 48, 48), (7, 23, 23))
