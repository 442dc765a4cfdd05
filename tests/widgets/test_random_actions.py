"""Hands that know only the names of the controls, and nothing of what they are for."""

from __future__ import annotations

import gc
import random
from collections import Counter
from typing import Any

import numpy as np
import psutil
import pytest
from qtpy.QtCore import QThreadPool
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_deqmd.widgets.reconstruct import ReconstructWidget
from widgets.jobs import FakeJob

# Twice, so 200 in all.
ACTIONS = 100
# What a window that is drawn in software may take for good the first time.
_MEGABYTES = 60
_TEXTS = {
    "axes": ("YX", "ZYX", "TYX", "", "XY"),
    "peak": ("auto", "40", "-3", "much", ""),
    "background": ("auto", "2", "few"),
    "tol": ("1e-4", "soon"),
    "psf_sigma": ("1.8", "3, 1.4, 1.4", "wide"),
    "psf_file": ("", "/nowhere/psf.tif"),
    "time_choice": ("all", "current", "0-1", "9-12"),
    "channel_choice": ("all", "current", "5"),
}
_COMBOS = "image_layer psf_layer psf_source psf_kind roi method model solver boundary".split()
_BUTTONS = "run run run preview preview pause resume stop estimate warm_start".split()


class Hands:
    """A user of one viewer, at random but the same each time."""

    def __init__(self, viewer: Any, seed: int) -> None:
        self.viewer, self.random = viewer, random.Random(seed)
        self.jobs: list[FakeJob] = []
        self.done: Counter[str] = Counter()
        self.widget: ReconstructWidget | None = None
        self.dock: Any = None
        self.open()

    def open(self) -> None:
        def factory(*arguments: Any) -> FakeJob:
            self.jobs.append(FakeJob(*arguments))
            return self.jobs[-1]

        self.widget = ReconstructWidget(self.viewer)
        self.widget.job_factory = factory
        self.dock = self.viewer.window.add_dock_widget(self.widget, name="Reconstruct")

    def close(self) -> None:
        self.viewer.window.remove_dock_widget(self.dock)
        self.widget = self.dock = None

    def find(self, name: str) -> Any:
        assert self.widget is not None
        return self.widget.findChild(QWidget, name)

    def act(self) -> None:
        names = [name for name in dir(self) if name.startswith("do_")]
        weights = [4 if name in ("do_press", "do_mend", "do_add", "do_wait") else 1 for name in names]
        (name,) = self.random.choices(names, weights)
        self.done[name] += 1
        getattr(self, name)()
        QTest.qWait(self.random.choice((0, 1, 5)))

    def layer(self) -> Any:
        return self.random.choice(list(self.viewer.layers)) if self.viewer.layers else None

    def do_press(self) -> None:
        self.find(self.random.choice(_BUTTONS)).click()

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
        if type(layer).__name__ == "Image" and not layer.rgb and not layer.multiscale:
            layer.data = np.ones(self.random.choice([(16, 16), (4, 12, 12)]), dtype=np.uint16)

    def do_choose(self) -> None:
        combo = self.find(self.random.choice(_COMBOS))
        if combo.count():
            combo.setCurrentIndex(self.random.randrange(combo.count()))

    def do_type(self) -> None:
        name, texts = self.random.choice(list(_TEXTS.items()))
        control, text = self.find(name), self.random.choice(texts)
        (control.setText if hasattr(control, "setText") else control.setCurrentText)(text)

    def do_number(self) -> None:
        self.find("strength").setValue(self.random.uniform(0, 3))
        self.find("max_iter").setValue(self.random.choice((1, 5, 200)))

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
        if "cells" not in self.viewer.layers:
            self.viewer.add_image(np.ones((4, 16, 16), dtype=np.uint16), name="cells")
        self.find("image_layer").setCurrentText("cells")
        for name in ("psf_source", "psf_kind", "roi", "time_choice", "channel_choice"):
            self.find(name).setCurrentIndex(0)
        for name in ("peak", "background"):
            self.find(name).setText("auto")
        self.find("psf_sigma").setText("1.8")
        self.find("tol").setText("1e-4")
        self.find("run").click()

    def do_reopen(self) -> None:
        self.close()
        self.open()


def left_over(viewer: Any, qtbot: Any, seed: int) -> tuple[Counter[str], float]:
    """Act, end as a user would, and return the widgets that are there then, and megabytes."""
    hands = Hands(viewer, seed)
    for _ in range(ACTIONS):
        hands.act()
    assert len(hands.done) == sum(name.startswith("do_") for name in dir(hands))
    assert sum(bool(job.iteration) for job in hands.jobs) > 5, "hardly anything ran"
    # Still ready to run: the form made sane again, one small image.
    hands.find("stop").click()
    QTest.qWait(50)
    hands.do_reopen()
    viewer.dims.ndisplay = 2
    viewer.layers.clear()
    viewer.add_image(np.ones((16, 16), dtype=np.uint16), name="cells")
    hands.find("max_iter").setValue(3)
    hands.do_mend()
    assert not hands.find("run").isEnabled(), hands.find("status").text()
    qtbot.waitUntil(hands.find("run").isEnabled, timeout=30_000)
    assert (viewer.layers["cells deconvolved"].data == 3).all()
    hands.close()
    viewer.layers.clear()
    assert QThreadPool.globalInstance().waitForDone(30_000)
    QTest.qWait(300)
    assert all(job.closed.is_set() for job in hands.jobs if job.iteration)
    jobs = hands.jobs
    del hands, jobs
    gc.collect()
    QTest.qWait(50)
    gc.collect()
    there = Counter(type(widget).__name__ for widget in QApplication.allWidgets())
    return there, psutil.Process().memory_info().rss / 1e6


# napari picks the colours of labels at random.
@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB:UserWarning")
def test_random_actions(make_napari_viewer: Any, qtbot: Any, notices: list[str]) -> None:
    viewer = make_napari_viewer()
    before, megabytes = left_over(viewer, qtbot, seed=1)
    after, more = left_over(viewer, qtbot, seed=2)
    assert not after - before, "widgets leaked"
    assert more - megabytes < _MEGABYTES
    unexpected = [sentence for sentence in notices if "unexpectedly" in sentence]
    assert not unexpected
