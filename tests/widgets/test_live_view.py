"""What is shown of a stack while it runs, and the plot."""

from __future__ import annotations

import csv
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_deqmd.widgets.plot import ConvergencePlot
from napari_deqmd.widgets.reports import Point
from napari_deqmd.widgets.view import ALL, Shown, place, shown_of
from widgets.driving import track
from widgets.jobs import FakeJob

STACK = (4, 16, 18)


@pytest.fixture(autouse=True)
def generous_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where painting is slow previews become rare; that is tested elsewhere."""
    monkeypatch.setattr("napari_deqmd.widgets.clock.PREVIEW_ALLOWANCE", 1000.0)


def start(bench: Any, shape: tuple[int, ...] = STACK, job: type[FakeJob] = FakeJob, **options: Any) -> Any:
    """Start an endless run; return its result layer and the jobs made."""
    jobs = track(bench.widget, job)
    bench.add(shape, **options)
    bench.run()
    return bench.wait_preview(), jobs


def end(bench: Any) -> None:
    bench.find("stop").click()
    bench.wait_idle()


def test_only_the_slice_in_sight_is_copied_and_written(bench: Any, qtbot: Any) -> None:
    result, jobs = start(bench, scale=(3.0, 1.0, 1.0), translate=(10.0, 0.0, 0.0))
    first = float(result.data[0, 0, 0])
    bench.viewer.dims.set_current_step(0, 2)
    qtbot.waitUntil(lambda: bool((result.data[2] > first).all()), timeout=5000)
    seen = float(result.data[2, 0, 0])
    qtbot.waitUntil(lambda: bool((result.data[2] > seen).all()), timeout=5000)
    assert (result.data[0] == first).all()
    assert jobs[0].looks[-1] == ((), (2, ALL, ALL))
    # While paused, and at the end, it is all there.
    bench.find("pause").click()
    qtbot.waitUntil(lambda: len(np.unique(result.data)) == 1 and result.data[0, 0, 0] > seen, timeout=5000)
    bench.find("pause").click()
    end(bench)
    assert len(np.unique(result.data)) == 1


def test_a_slice_moved_to_appears_before_a_slow_iteration_ends(bench: Any, qtbot: Any) -> None:
    gate = threading.Event()

    class Stuck(FakeJob):
        def steps(self) -> Any:
            for progress in super().steps():
                yield progress
                if progress.step.iteration == 40:
                    gate.wait(10)

    try:
        result, jobs = start(bench, job=Stuck)
        qtbot.waitUntil(lambda: jobs[0].iteration == 40, timeout=10_000)
        bench.viewer.dims.set_current_step(0, 3)
        qtbot.waitUntil(lambda: bool((result.data[3] == 40).all()), timeout=3000)
    finally:
        gate.set()
    end(bench)


def test_dimensions_rolled_mid_run(bench: Any, qtbot: Any) -> None:
    result, jobs = start(bench)
    bench.viewer.dims.roll()
    hidden = next(axis for axis in range(3) if axis not in bench.viewer.dims.displayed)
    assert hidden != 0
    bench.viewer.dims.set_current_step(hidden, 5)
    expected = tuple(5 if axis == hidden else ALL for axis in range(3))
    qtbot.waitUntil(lambda: jobs[0].looks[-1] == ((), expected), timeout=5000)
    bench.viewer.dims.transpose()
    bench.viewer.dims.ndisplay = 3
    before = len(jobs[0].looks)
    qtbot.waitUntil(
        lambda: len(jobs[0].looks) > before and jobs[0].looks[-1] == ((), (ALL,) * 3), timeout=5000
    )
    end(bench)
    assert len(np.unique(result.data)) == 1


def test_items_that_ended_are_written_whole(bench: Any, qtbot: Any) -> None:
    bench.add((3, *STACK), axis_labels=("t", "z", "y", "x"))
    bench.run(max_iter=150)
    result = bench.wait_preview()
    qtbot.waitUntil(lambda: bool((result.data[0] == 150).all()), timeout=10_000)
    assert not bench.find("run").isEnabled()
    end(bench)


def test_a_result_removed_mid_run_while_sliding(bench: Any, notices: list[str]) -> None:
    start(bench)
    bench.viewer.dims.set_current_step(0, 2)
    bench.viewer.layers.remove("cells deconvolved")
    bench.viewer.dims.set_current_step(0, 3)
    bench.wait_idle()
    assert notices == ["The result layer was removed, so the run was stopped."]
    assert bench.widget.runner.kept is None
    bench.viewer.dims.set_current_step(0, 1)


def test_what_is_shown_of_a_layer(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    stack = viewer.add_image(np.zeros((5, 6, 7, 8)), scale=(1, 2.0, 0.5, 0.5), translate=(0, 4.0, 0, 0))
    plane = viewer.add_image(np.zeros((7, 8)))
    viewer.dims.set_point(0, 3)
    viewer.dims.set_point(1, 8.2)
    assert shown_of(viewer, stack, "TZYX").where == (3, 2, ALL, ALL)
    assert shown_of(viewer, plane, "YX").where == (ALL, ALL)
    viewer.dims.order = (2, 0, 1, 3)
    viewer.dims.set_point(2, 1.0)
    assert shown_of(viewer, stack, "TZYX").where == (3, ALL, 2, ALL)
    with pytest.warns(UserWarning, match="Non-orthogonal"):
        stack.rotate = 20  # of the last two axes: the plane is oblique
    assert shown_of(viewer, stack, "TZYX").where == (ALL,) * 4
    viewer.dims.order = (0, 1, 2, 3)
    assert shown_of(viewer, stack, "TZYX").where == (3, 2, ALL, ALL)
    viewer.dims.ndisplay = 3
    assert shown_of(viewer, stack, "TZYX").where == (3, ALL, ALL, ALL)


@pytest.mark.parametrize(
    ("axes", "where", "index", "part", "at"),
    [
        ("ZYX", (2, ALL, ALL), (), (2, ALL, ALL), (2, ALL, ALL)),
        ("TZYX", (1, 2, ALL, ALL), (1,), (2, ALL, ALL), (1, 2, ALL, ALL)),
        ("TZYX", (1, 2, ALL, ALL), (0,), None, None),
        ("TZYX", (ALL, 2, 3, ALL), (4,), (2, 3, ALL), (4, 2, 3, ALL)),
        ("ZCYX", (2, 1, ALL, ALL), (1,), (2, ALL, ALL), (2, 1, ALL, ALL)),
    ],
)
def test_what_is_shown_of_an_item(axes: str, where: Any, index: Any, part: Any, at: Any) -> None:
    assert Shown(axes, where).of(index) == part
    if part is not None:
        assert place(axes, index, part) == at


def test_the_plot_shows_and_saves_every_iteration(qtbot: Any, tmp_path: Path, monkeypatch: Any) -> None:
    plot = ConvergencePlot()
    qtbot.addWidget(plot)
    points = [Point(k, 1 / k, 0.1**k, 0.5) for k in range(1, 6)]
    plot.add(points)
    plot.save_numbers(tmp_path / "run.csv")
    with (tmp_path / "run.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [Point(int(row.pop("iteration")), *map(float, row.values())) for row in rows] == points
    target = tmp_path / "run.png"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target), ""))
    picture = next(action for action in plot.actions() if "PNG" in action.text())
    picture.trigger()
    assert target.read_bytes().startswith(b"\x89PNG")
    target = tmp_path / "missing" / "run.png"
    seen: list[str] = []
    monkeypatch.setattr("napari_deqmd.widgets.plot.tell", lambda text, expected: seen.append(text))
    picture.trigger()
    assert len(seen) == 1
    assert "no folder" in seen[0]
