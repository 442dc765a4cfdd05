"""When previews are due, and how long a run may take."""

from __future__ import annotations

from typing import Any

import pytest

from napari_deqmd.widgets.clock import PREVIEW_INTERVAL, PreviewClock, duration, iterations_left
from napari_deqmd.widgets.reports import News, Point
from napari_deqmd.widgets.sections.run import RunSection


def test_preview_clock_keeps_previews_rare_and_cheap() -> None:
    now = 0.0
    clock = PreviewClock(now=lambda: now)
    assert clock.due()
    clock.taken()
    now = PREVIEW_INTERVAL - 0.01
    assert not clock.due()
    now = PREVIEW_INTERVAL + 0.01
    assert clock.due()
    clock.taken()
    clock.spend(0.5)
    now += 5.0
    assert not clock.due()
    now += 3.0
    assert clock.due()


@pytest.mark.parametrize(
    ("certificates", "left"),
    [
        ([0.1], None),
        ([10 ** (-k / 10) for k in range(21)], 20),
        ([0.1] * 20, None),
        ([0.1, 0.2] * 5, None),
        ([0.5**k for k in range(99)], 0),
        ([1.0, float("nan")] * 5, None),
        ([1 - 1e-6 * k for k in range(100)], None),
        ([1 - 1e-6 * k for k in range(50)], None),
        ([1e-320] * 9 + [1e-321], 0),
    ],
)
def test_iterations_left(certificates: list[float], left: int | None) -> None:
    assert iterations_left(certificates, 1e-4, 100) == left


def test_durations_read_well() -> None:
    assert [duration(s) for s in (3.21, 42.4, 600, 36_000)] == ["3.2 s", "42 s", "10 min", "10.0 h"]


def test_no_time_is_told_before_there_is_a_pace(qtbot: Any) -> None:
    section = RunSection()
    qtbot.addWidget(section)
    section.reset(203, 1e-4)
    for iteration, told in ((1, ""), (2, ""), (3, " · at most 3.3 h left")):
        point = Point(iteration, 1.0, 0.1, 1.0)
        section.show_progress(News(0, 1, iteration, iteration, 60.0 * iteration, (point,)))
        assert section.progress.format() == f"{iteration} / 203{told}"
