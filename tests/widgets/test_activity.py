"""A run shows in napari's activity dock, and leaves it however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from napari.utils import progress

from napari_deqmd.core.errors import UserError
from widgets.jobs import FakeJob


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Return the progress bars that are made; none may be left open."""
    made: list[Any] = []

    class Watched(progress):
        closed = False

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

        def close(self) -> None:
            self.closed = True
            super().close()

    monkeypatch.setattr("napari_deqmd.widgets.activity.progress", Watched)
    yield made
    assert all(bar.closed for bar in made)


def test_it_counts_with_the_form(bench: Any, bars: list[Any]) -> None:
    bench.add()
    bench.run(max_iter=20)
    (bar,) = bars
    assert not bar.closed
    assert bar.desc.startswith("DEQ-MD reconstruct")
    bench.wait_idle()
    assert bar.closed
    assert bar.total == 20


def test_it_is_not_busier_than_the_form(bench: Any, bars: list[Any], qtbot: Any) -> None:
    bench.add()
    form: list[int] = []
    dock: list[int] = []
    bench.run()
    bench.find("progress").valueChanged.connect(form.append)
    bars[0].events.value.connect(lambda event: dock.append(event.value))
    qtbot.waitUntil(lambda: bars[0].n > 50, timeout=10_000)
    assert bars[0].total == bench.find("progress").maximum()
    # Each value of the dock is one the form had, and none is missed but for newer ones.
    assert set(dock) <= set(form)
    assert len(dock) <= len(form)
    bench.find("stop").click()
    bench.wait_idle()
    assert bars[0].closed


def test_a_failed_run_leaves_none(bench: Any, bars: list[Any], notices: list[str]) -> None:
    class Broken(FakeJob):
        error = UserError("No.")

    bench.widget.job_factory = Broken
    bench.add()
    bench.run(max_iter=10)
    bench.wait_idle()
    assert notices == ["No."]
    assert bars[0].closed


def test_a_closed_dock_leaves_none(bench: Any, bars: list[Any]) -> None:
    bench.add()
    bench.run()
    bench.viewer.window.remove_dock_widget(bench.dock)
    assert bars[0].closed


def test_a_closed_viewer_leaves_none(bench: Any, bars: list[Any], qtbot: Any) -> None:
    bench.add()
    bench.run()
    bench.viewer.close()
    qtbot.waitUntil(lambda: bars[0].closed, timeout=5000)


def test_the_dock_paints_outside_of_the_handling_of_news(bench: Any, bars: list[Any], qtbot: Any) -> None:
    """napari handles other events while it paints its bar; the end of a run must not come within its last news."""
    bench.add()
    inside: list[bool] = []
    handling: list[int] = []
    shown = bench.widget.runner.show_news

    def show_news(*arguments: Any) -> None:
        handling.append(1)
        shown(*arguments)
        handling.pop()

    bench.widget.runner.show_news = show_news
    bench.run(max_iter=200)
    bars[0].events.value.connect(lambda event: inside.append(bool(handling)))
    bench.wait_idle()
    assert inside
    assert not any(inside)


def test_training_too(train: Any, bars: list[Any], qtbot: Any) -> None:
    train.add()
    train.run()
    qtbot.waitUntil(lambda: bool(bars), timeout=10_000)
    train.find("train_stop").click()
    train.wait_idle()
    assert bars[0].closed
    assert bars[0].desc.startswith("DEQ-MD train")
