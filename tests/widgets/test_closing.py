"""Closing things in the middle of a run."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from napari.qt.threading import WorkerBase
from qtpy.QtCore import QThreadPool

from widgets.jobs import FakeJob


def start(bench: Any) -> None:
    bench.add()
    bench.run()
    bench.wait_preview()


def test_closing_the_viewer_stops_the_run(
    bench: Any, jobs: list[FakeJob], qtbot: Any, notices: list[str]
) -> None:
    start(bench)
    bench.viewer.close()
    qtbot.waitUntil(jobs[0].closed.is_set, timeout=5000)
    assert QThreadPool.globalInstance().waitForDone(5000)
    qtbot.wait(50)
    assert not notices


def test_closing_the_dock_stops_the_run_and_leaks_nothing(
    bench: Any, jobs: list[FakeJob], qtbot: Any, notices: list[str]
) -> None:
    start(bench)
    widget = weakref.ref(bench.widget)
    bench.viewer.window.remove_dock_widget(bench.dock)
    bench.widget = bench.dock = None
    bench.find = bench.run = bench.wait_idle = None
    qtbot.waitUntil(jobs[0].closed.is_set, timeout=5000)
    assert QThreadPool.globalInstance().waitForDone(5000)
    qtbot.wait(100)
    gc.collect()
    # Layers still come and go without the widget being asked.
    bench.add(name="more")
    bench.viewer.theme = "light"
    bench.viewer.layers.clear()
    assert widget() is None
    assert not notices


def test_closing_the_dock_of_an_idle_widget(bench: Any, qtbot: Any) -> None:
    bench.add()
    bench.viewer.window.remove_dock_widget(bench.dock)
    bench.add(name="more")
    assert bench.widget.image.layer_combo.count() == 1


def test_napari_quitting_waits_for_the_run(bench: Any, jobs: list[FakeJob]) -> None:
    start(bench)
    WorkerBase.await_workers(5000)
    assert jobs[0].closed.is_set()
    bench.wait_idle()
