"""Hands that know only the names of the controls, and nothing of what they are for."""

from __future__ import annotations

import gc
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import pytest
from qtpy.QtCore import QCoreApplication, QEvent, QThreadPool
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_deqmd.widgets.compare import CompareWidget
from napari_deqmd.widgets.psf import PsfWidget
from napari_deqmd.widgets.reconstruct import ReconstructWidget
from napari_deqmd.widgets.train import TrainWidget
from widgets.jobs import FakeJob, FakeTrainJob

# Twice at least, so 200 in all.
ACTIONS = 100
_MEGABYTES = 60
_ROUNDS = 3


@dataclass(frozen=True)
class Form:
    """A dock widget, and what hands find in it: names of buttons, combo boxes, fields with texts, and numbers."""

    kind: type[QWidget]
    buttons: str
    combos: str
    texts: dict[str, tuple[str, ...]]
    numbers: dict[str, tuple[float, ...]] = field(default_factory=dict)
    job: type | None = None


_PSF_FILES = ("", "/nowhere/psf.tif")
_SIGMAS = ("1.8", "3, 1.4, 1.4", "wide")
_PEAKS = ("auto", "40", "-3", "much", "")
_ITERATIONS = (1, 5, 200)
FORMS = {
    "Reconstruct": Form(
        ReconstructWidget,
        "run run run preview preview pause resume stop estimate warm_start",
        "image_layer psf_layer psf_source psf_kind roi method model solver boundary mask_layer",
        {
            "axes": ("YX", "ZYX", "TYX", "", "XY"),
            "peak": _PEAKS,
            "background": ("auto", "2", "few"),
            "tol": ("1e-4", "soon"),
            "psf_sigma": _SIGMAS,
            "psf_file": _PSF_FILES,
            "time_choice": ("all", "current", "0-1", "9-12"),
            "channel_choice": ("all", "current", "5"),
        },
        {"strength": (0, 0.7, 3), "max_iter": _ITERATIONS},
        FakeJob,
    ),
    "Compare": Form(
        CompareWidget,
        "compare_run compare_run compare_stop compare_profile compare_winner compare_frc",
        "compare_image_layer compare_psf_source compare_psf_layer compare_roi compare_reference compare_mask_layer",
        {"compare_axes": ("YX", "ZYX", ""), "compare_peak": _PEAKS, "compare_psf_sigma": _SIGMAS},
        {"compare_strength": (0, 1.5), "compare_max_iter": _ITERATIONS, "compare_rl_iterations": (1, 10)},
        FakeJob,
    ),
    "PSF": Form(
        PsfWidget,
        "make_psf distill_psf",
        "psf_tabs make_image beads_layer inspect_layer",
        {"make_voxel_size": ("0.3, 0.1, 0.1", "", "wide"), "bead_diameter": ("", "200nm", "big")},
    ),
    "Train": Form(
        TrainWidget,
        "train_run train_run train_stop train_save train_use",
        "train_kind train_data train_target train_psf_source train_psf_layer base_model",
        {
            "train_data": ("", "cells", "cells; nuclei", "/nowhere"),
            "train_axes": ("YX", "TYX", "", "XY"),
            "train_peak": (*_PEAKS, "20:200"),
            "train_psf_sigma": _SIGMAS,
            "model_name": ("mine", "", "../up"),
        },
        {"minutes": (0.01, 3)},
        FakeTrainJob,
    ),
}


class Hands:
    """A user of one viewer, at random but the same each time."""

    def __init__(self, viewer: Any, seed: int) -> None:
        self.viewer, self.random = viewer, random.Random(seed)
        self.jobs: list[FakeJob | FakeTrainJob] = []
        self.docks: dict[str, tuple[Any, Any]] = {}
        self.open("Reconstruct")

    def open(self, name: str) -> tuple[Any, Any]:
        """Open a form, as napari does that opens each once, and return its dock and widget."""
        if name not in self.docks:
            widget, kind = FORMS[name].kind(self.viewer), FORMS[name].job

            def factory(*arguments: Any) -> Any:
                assert kind is not None
                self.jobs.append(kind(*arguments))
                return self.jobs[-1]

            widget.job_factory = factory
            self.docks[name] = self.viewer.window.add_dock_widget(widget, name=name), widget
        return self.docks[name]

    def close(self, name: str) -> None:
        self.viewer.window.remove_dock_widget(self.docks.pop(name)[0])

    def control(self, name: str) -> Any:
        found = (widget.findChild(QWidget, name) for _, widget in self.docks.values())
        return next((control for control in found if control is not None), None)

    def find(self, name: str) -> Any:
        found = self.control(name)
        assert found is not None, name
        return found

    def runs(self, kind: type) -> int:
        """Return how many jobs of a kind came to their first step."""
        return sum(isinstance(job, kind) and job.began for job in self.jobs)

    def wait_for(self, kind: type, qtbot: Any) -> None:
        qtbot.waitUntil(lambda: self.runs(kind) > 0, timeout=30_000)

    def form(self) -> Form:
        """Return one that is open."""
        return FORMS[self.random.choice(list(self.docks))]

    def act(self, count: int) -> None:
        """Do everything once, and some things often, in any order."""
        names = [name for name in dir(self) if name.startswith("do_")]
        most = ("do_press", "do_mend", "do_add", "do_wait")
        often = self.random.choices((*most * 4, *names), k=count - len(names))
        for name in self.random.sample([*names, *often], count):
            getattr(self, name)()
            QTest.qWait(self.random.choice((0, 1, 5)))

    def layer(self) -> Any:
        return self.random.choice(list(self.viewer.layers)) if self.viewer.layers else None

    def do_press(self) -> None:
        self.find(self.random.choice(self.form().buttons.split())).click()

    def do_wait(self) -> None:
        QTest.qWait(self.random.choice((20, 60)))

    def do_add(self) -> None:
        shape = self.random.choice([(24, 24), (4, 16, 16), (2, 3, 16, 16), (2, 2, 3, 12, 12)])
        data = np.random.default_rng(0).poisson(20, shape).astype(np.uint16)
        self.viewer.add_image(data, name=self.random.choice(("cells", "nuclei", "psf")))

    def do_add_other(self) -> None:
        kind = self.random.choice(("labels", "shapes", "rgb", "levels"))
        if kind == "labels":
            self.viewer.add_labels(np.ones((16, 16), dtype=int))
        elif kind == "shapes":
            self.viewer.add_shapes([np.array([[2, 2], [2, 9], [9, 9], [9, 2]])])
        elif kind == "rgb":
            self.viewer.add_image(np.zeros((16, 16, 3), dtype=np.uint8), rgb=True)
        else:
            levels = [np.ones((size, size), dtype=np.uint8) for size in (64, 32)]
            self.viewer.add_image(levels, multiscale=True)

    def do_remove(self) -> None:
        if self.viewer.layers:
            self.viewer.layers.remove(self.layer())

    def do_remove_many(self) -> None:
        while len(self.viewer.layers) > 6:
            self.viewer.layers.remove(self.layer())

    def do_rename(self) -> None:
        if self.viewer.layers:
            self.layer().name = self.random.choice(("cells", "other", "my PSF"))

    def do_move(self) -> None:
        if len(self.viewer.layers) > 1:
            self.viewer.layers.move(0, len(self.viewer.layers))

    def do_activate(self) -> None:
        self.viewer.layers.selection.active = self.layer()

    def do_exchange_data(self) -> None:
        layer = self.layer()
        if plain(layer):
            layer.data = np.ones(self.random.choice([(16, 16), (4, 12, 12)]), dtype=np.uint16)

    def do_choose(self) -> None:
        combo = self.find(self.random.choice(self.form().combos.split()))
        if combo.count():
            combo.setCurrentIndex(self.random.randrange(combo.count()))

    def do_type(self) -> None:
        name, texts = self.random.choice(list(self.form().texts.items()))
        control, text = self.find(name), self.random.choice(texts)
        (control.setText if hasattr(control, "setText") else control.setCurrentText)(text)

    def do_number(self) -> None:
        for name, values in self.form().numbers.items():
            control = self.find(name)
            control.setValue(type(control.value())(self.random.choice(values)))

    def do_roll(self) -> None:
        self.viewer.dims.roll()

    def do_slide(self) -> None:
        for axis, steps in enumerate(self.viewer.dims.nsteps):
            self.viewer.dims.set_current_step(axis, self.random.randrange(int(steps)))

    def do_turn(self) -> None:
        self.viewer.dims.ndisplay = self.random.choice((2, 2, 3))

    def do_zoom(self) -> None:
        self.viewer.reset_view()

    def do_mend(self) -> None:
        """Run with a form that makes sense."""
        self.mend("Reconstruct")

    def do_mend_another(self) -> None:
        name = self.random.choice(("Compare", "Train"))
        self.open(name)
        self.mend(name)

    def mend(self, name: str) -> None:
        if "cells" in self.viewer.layers and not plain(self.viewer.layers["cells"]):
            self.viewer.layers["cells"].name = "other"
        if "cells" not in self.viewer.layers:
            self.viewer.add_image(np.arange(4 * 16 * 16, dtype=np.uint16).reshape(4, 16, 16), name="cells")
        prefix = "" if name == "Reconstruct" else f"{name.lower()}_"
        layer = self.viewer.layers["cells"]
        self.find("train_data" if name == "Train" else f"{prefix}image_layer").setCurrentText("cells")
        for combo in "psf_source psf_kind roi time_choice channel_choice mask_layer reference kind".split():
            if (control := self.control(prefix + combo)) is not None:
                control.setCurrentIndex(0)
        axes = "TCZYX"[-layer.ndim :]
        for field_, text in (("peak", "auto"), ("background", "auto"), ("psf_sigma", "1.8"), ("axes", axes)):
            if (control := self.control(prefix + field_)) is not None:
                control.setText(text)
        self.find("tol").setText("1e-4")
        self.find(f"{prefix}run").click()

    def do_select_row(self) -> None:
        if "Compare" in self.docks:
            self.find("compare_table").selectRow(self.random.randrange(4))

    def do_reopen(self) -> None:
        self.close("Reconstruct")
        self.open("Reconstruct")

    def do_open(self) -> None:
        self.open(self.random.choice(list(FORMS)))

    def do_close(self) -> None:
        others = [name for name in self.docks if name != "Reconstruct"]
        if others:
            self.close(self.random.choice(others))


def plain(layer: Any) -> bool:
    """Whether a layer is something to deconvolve."""
    return type(layer).__name__ == "Image" and not layer.rgb and not layer.multiscale


def left_over(viewer: Any, qtbot: Any, seed: int, monkeypatch: Any) -> tuple[Counter[str], float]:
    """Act, end as a user would, and return the widgets that are there then, and megabytes."""
    hands = Hands(viewer, seed)
    with monkeypatch.context() as patch:
        opened = staticmethod(lambda _plugin, name, open_=hands.open, **_: open_(name))
        patch.setattr(type(viewer.window), "add_plugin_dock_widget", opened)
        hands.act(ACTIONS)
    assert hands.runs(FakeJob) > 5, "hardly anything ran"
    if not hands.runs(FakeTrainJob):  # closed each time before its thread came to it
        hands.open("Train")
        hands.mend("Train")
        hands.wait_for(FakeTrainJob, qtbot)
    # Still ready to run: the form made sane again, one small image.
    hands.find("stop").click()
    QTest.qWait(50)
    hands.do_reopen()
    viewer.dims.ndisplay = 2
    viewer.layers.clear()
    viewer.add_image(np.ones((16, 16), dtype=np.uint16), name="cells")
    hands.find("max_iter").setValue(3)
    hands.mend("Reconstruct")
    assert not hands.find("run").isEnabled(), hands.find("status").text()
    qtbot.waitUntil(hands.find("run").isEnabled, timeout=30_000)
    assert (viewer.layers["cells deconvolved"].data == 3).all()
    for name in list(hands.docks):
        hands.close(name)
    viewer.layers.clear()
    assert QThreadPool.globalInstance().waitForDone(30_000)
    QTest.qWait(300)
    assert all(job.closed.is_set() for job in hands.jobs if job.began)
    jobs = hands.jobs
    del hands, opened, jobs
    gc.collect()
    QTest.qWait(50)
    # Outside of a running application nothing deletes napari's closed docks but PyQt's qWait, which PySide's is not.
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    there = Counter(type(widget).__name__ for widget in QApplication.allWidgets())
    return there, psutil.Process().memory_info().rss / 1e6


# napari picks the colours of labels at random.
@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB:UserWarning")
def test_random_actions(
    make_napari_viewer: Any, qtbot: Any, notices: list[str], monkeypatch: Any, tmp_path: Any
) -> None:
    monkeypatch.setenv("DEQMD_MODELS", str(tmp_path / "models"))
    viewer = make_napari_viewer()
    before, megabytes = left_over(viewer, qtbot, 1, monkeypatch)
    # What leaks does so every time; a process that other tests have filled takes or gives back pages now and then.
    for seed in range(2, 2 + _ROUNDS):
        after, more = left_over(viewer, qtbot, seed, monkeypatch)
        assert not after - before, "widgets leaked"
        if more - megabytes < _MEGABYTES:
            break
        megabytes = more
    else:
        pytest.fail(f"memory grew {_ROUNDS} times")
    unexpected = [sentence for sentence in notices if "unexpectedly" in sentence]
    assert not unexpected
