"""The worker: it always finishes, pauses, stops, and never floods the window."""

from __future__ import annotations

import gc
import threading
import time
import warnings
import weakref
from functools import partial
from typing import Any

import numpy as np
import pytest

from napari_deqmd.core.caution import caution
from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets import worker as worker_module
from napari_deqmd.widgets.clock import PREVIEW_ALLOWANCE, PREVIEW_SHARE
from napari_deqmd.widgets.messages import sentence
from napari_deqmd.widgets.worker import RunWorker, TaskWorker
from widgets.jobs import FakeJob


def make_worker(job: type[FakeJob] = FakeJob, **config: Any) -> RunWorker:
    settings = ReconstructionConfig(axes="YX", **config)
    return RunWorker(partial(job, np.ones((8, 8), dtype=np.float32), np.ones((3, 3)), settings))


def start(worker: Any) -> None:
    """Run in a Python thread, which the coverage measurement follows; the widget's tests use Qt's thread pool."""
    threading.Thread(target=worker.run, daemon=True).start()


def test_runs_to_the_end(qtbot) -> None:
    worker = make_worker(max_iter=30)
    with qtbot.waitSignal(worker.finished, timeout=5000):
        start(worker)
    assert worker.failure is None
    assert worker.outcome.stopped_by == "max_iter"
    assert worker.device == "cpu"


def test_reports_keep_every_point_and_only_the_latest_preview(qtbot) -> None:
    worker = make_worker(max_iter=60)
    news, signals = [], []
    worker.news.connect(lambda: signals.append(1))
    worker.news.connect(lambda: news.append(worker.take()))
    with qtbot.waitSignal(worker.finished, timeout=5000):
        start(worker)
    qtbot.wait(20)
    news.append(worker.take())
    iterations = [point.iteration for each in news if each is not None for point in each.points]
    assert iterations == list(range(1, 61))
    assert len(signals) < 10


def test_a_window_that_never_looks_gets_one_signal(qtbot) -> None:
    worker = make_worker(max_iter=200)
    signals = []
    worker.news.connect(lambda: signals.append(1))
    with qtbot.waitSignal(worker.finished, timeout=5000):
        start(worker)
    qtbot.wait(20)
    assert len(signals) == 1
    news = worker.take()
    assert news is not None
    assert news.seen is not None
    assert news.iteration == 200


def test_stop_keeps_the_iterate_and_closes_the_generator(qtbot) -> None:
    worker = make_worker(max_iter=10_000)
    worker.news.connect(worker.stop)
    with qtbot.waitSignal(worker.finished, timeout=5000):
        start(worker)
    assert worker.outcome.stopped_by == "user"
    assert 1 <= worker.outcome.report["iterations"] < 10_000


def test_stop_before_the_first_iteration_has_no_result(qtbot) -> None:
    worker = make_worker(max_iter=10_000)
    worker.stop()
    with qtbot.waitSignal(worker.finished, timeout=5000):
        start(worker)
    assert worker.outcome is None
    assert worker.failure is None


class Slow(FakeJob):
    """Each iteration takes twenty seconds."""

    pieces = 10_000


def test_a_long_iteration_tells_how_far_it_is_and_is_broken_off(qtbot, monkeypatch) -> None:
    monkeypatch.setattr(worker_module, "LONG", 0.1)
    worker, shares = make_worker(Slow, max_iter=5), []
    worker.share.connect(shares.append)
    with qtbot.waitSignal(worker.share, timeout=5000):
        start(worker)
    qtbot.wait(600)
    worker.stop()
    with qtbot.waitSignal(worker.finished, timeout=2000):
        pass
    assert worker.outcome is None
    assert worker.failure is None
    assert 2 <= len(shares) <= 5
    assert shares == sorted(shares)


def test_what_a_broken_off_iteration_found_before_is_kept(qtbot) -> None:
    class SlowLater(Slow):
        @property
        def pieces(self) -> int:
            return 10_000 if self.began else 0

    worker = make_worker(SlowLater, max_iter=5)
    with qtbot.waitSignal(worker.news, timeout=5000):
        start(worker)
    with qtbot.waitSignal(worker.finished, timeout=2000):
        worker.stop()
    assert worker.outcome.stopped_by == "user"
    assert worker.outcome.report["iterations"] == 1


def test_napari_closing_ends_the_run(qtbot) -> None:
    worker = make_worker(max_iter=100_000)
    with qtbot.waitSignal(worker.news, timeout=5000):
        start(worker)
    with qtbot.waitSignal(worker.finished, timeout=5000):
        worker.quit()
    assert worker.outcome is None


def test_pause_holds_the_iteration_and_shows_it(qtbot) -> None:
    worker = make_worker(max_iter=100_000)
    with qtbot.waitSignal(worker.news, timeout=5000):
        start(worker)
    worker.pause(True)
    qtbot.wait(100)
    held = worker.take()
    assert held is not None
    assert held.seen is not None
    assert held.seen.image[0, 0] == held.iteration
    qtbot.wait(100)
    assert worker.take() is None
    worker.pause(False)
    qtbot.waitUntil(lambda: worker.take() is not None, timeout=3000)
    worker.pause(True)
    with qtbot.waitSignal(worker.finished, timeout=5000):
        worker.stop()
    assert worker.outcome.report["iterations"] > held.iteration


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (RuntimeError("wrapped C/C++ object"), False, "unexpectedly (RuntimeError: wrapped"),
        (StopIteration("odd"), False, "unexpectedly"),
        (MemoryError(), False, "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), False, "not enough memory"),
        (
            UserError("The PSF is zero everywhere: choose another."),
            True,
            "The PSF is zero everywhere: choose another.",
        ),
    ],
)
def test_every_error_ends_as_one_sentence(qtbot, error: Exception, expected: bool, words: str) -> None:
    class Broken(FakeJob):
        pass

    Broken.error = error
    worker = make_worker(Broken, max_iter=10)
    with qtbot.waitSignal(worker.finished, timeout=5000):
        start(worker)
    assert worker.outcome is None
    assert worker.failure is not None
    assert words in worker.failure
    assert "\n" not in worker.failure
    assert worker.expected is expected


def test_an_error_does_not_keep_the_job(qtbot) -> None:
    class Broken(FakeJob):
        error = RuntimeError("broken")

    jobs: list[weakref.ref[FakeJob]] = []

    def make() -> FakeJob:
        job = Broken(np.ones((8, 8)), np.ones((3, 3)), ReconstructionConfig(axes="YX", max_iter=5))
        jobs.append(weakref.ref(job))
        return job

    worker = RunWorker(make)
    with qtbot.waitSignal(worker.finished, timeout=5000):
        start(worker)
    Broken.error = None
    gc.collect()
    assert jobs[0]() is None


def test_an_error_while_the_job_is_made(qtbot) -> None:
    def make() -> FakeJob:
        raise UserError("The image is constant: choose another.")

    worker = RunWorker(make)
    with qtbot.waitSignal(worker.finished, timeout=5000):
        start(worker)
    assert worker.failure == "The image is constant: choose another."


def test_task_runs_in_another_thread(qtbot) -> None:
    worker = TaskWorker(threading.get_ident)
    with qtbot.waitSignal(worker.finished, timeout=5000):
        start(worker)
    assert worker.outcome != threading.get_ident()


def test_of_workers_that_overlap_each_hears_its_own_cautions(qtbot) -> None:
    both, spoken = threading.Barrier(2), threading.Event()

    def first() -> None:
        both.wait(10)
        caution("of the first")
        spoken.set()

    def second() -> None:
        both.wait(10)
        spoken.wait(10)
        caution("of the second")

    heard: list[tuple[str, str]] = []
    workers = [TaskWorker(first), TaskWorker(second)]
    for name, worker in zip(("first", "second"), workers, strict=True):
        worker.warned.connect(lambda warning, name=name: heard.append((name, *warning)))
    shown = warnings.showwarning
    with qtbot.waitSignals([worker.finished for worker in workers], timeout=10_000):
        for worker in workers:
            start(worker)
    qtbot.waitUntil(lambda: len(heard) == 2, timeout=5000)
    assert sorted(heard) == [("first", "of the first"), ("second", "of the second")]
    assert warnings.showwarning is shown


def test_warnings_that_are_no_cautions_stay_with_python(qtbot, monkeypatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(warnings, "filters", [])
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: heard.append(str(message)))
    worker = TaskWorker(lambda: warnings.warn("of another library", stacklevel=1))
    with qtbot.waitSignal(worker.finished, timeout=5000):
        start(worker)
    assert heard == ["of another library"]


def test_previews_take_little_of_the_run(qtbot) -> None:
    class Costly(FakeJob):
        spent = 0.0

        def preview(self, progress: Any, shown: Any = None) -> np.ndarray:
            start = time.perf_counter()
            time.sleep(0.1)
            type(self).spent += time.perf_counter() - start
            return super().preview(progress, shown)

    worker = make_worker(Costly, max_iter=400)
    worker.news.connect(worker.take)
    began = time.perf_counter()
    with qtbot.waitSignal(worker.finished, timeout=10_000):
        start(worker)
    # The one that uses the budget up is let through, so one more than the budget.
    assert Costly.spent < PREVIEW_ALLOWANCE + PREVIEW_SHARE * (time.perf_counter() - began) + 0.15


def test_sentences_are_short_and_single() -> None:
    text = sentence(ValueError("first line\nsecond line " + 400 * "x"))
    assert "\n" not in text
    assert len(text) < 300
    assert sentence(OSError("No space left on device")) == "The file system refused: No space left on device."
