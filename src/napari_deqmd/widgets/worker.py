"""Work away from the window: a dull loop over the job's steps, and plain tasks.

superqt's generator worker loses a ``RuntimeError`` without a signal and leaves the generator open, and under PySide6
its ``errored`` signal raises. So `work` loops itself, never raises, and keeps what it found as attributes that the
window reads when ``finished`` arrives.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from napari.qt.threading import WorkerBase, WorkerBaseSignals
from qtpy.QtCore import QThreadPool, Signal

from napari_deqmd.core.caution import listening
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.watching import Interrupted, watched
from napari_deqmd.widgets.clock import PreviewClock
from napari_deqmd.widgets.messages import note
from napari_deqmd.widgets.reports import Done, Job, News, Point, Seen, TrainJob
from napari_deqmd.widgets.view import ALL, Index, Shown

# Seconds between two reports. Whatever is repainted, Qt composes the whole window anew because the canvas is OpenGL:
# 20 ms where that is done in software.
REPORT_INTERVAL = 0.25
# Seconds from which on a step is a long one, of which it is told how far it is.
LONG = 2.0


class QuietWorker(WorkerBase):
    """A worker whose ``finished`` always comes, and which says then how it ended.

    Its ``warned`` brings each `caution` of its work as ``(sentence,)``; other warnings stay with Python.

    Attributes
    ----------
    outcome : object or None
        What `perform` returned, or left when it failed.
    failure : str or None
        One sentence if it failed.
    expected : bool
        Whether the failure is one the user can put right.
    """

    def __init__(self, signals: type[WorkerBaseSignals] = WorkerBaseSignals) -> None:
        super().__init__(SignalsClass=signals)
        self.outcome: Any = None
        self.failure: str | None = None
        self.expected = False

    def run(self) -> None:
        """Work, and say that it began, what it warns of, and that it ended; called by Qt.

        superqt's own would put a ``warnings.showwarning`` of this worker in place, which all threads share: of two
        workers that overlap one gets the other's warnings, and the later one's stays for good.
        """
        self.started.emit()
        self._running = True
        with listening(lambda sentence: self.warned.emit((sentence,))):
            self.work()
        self._running = False
        with contextlib.suppress(RuntimeError):  # the application has ended, and with it who would hear
            self.finished.emit()
            self._finished.emit(self)

    def work(self) -> None:
        """Run in the other thread; never raises and keeps no traceback, which would hold the run's tensors."""
        try:
            self.outcome = self.perform()
        except Exception as error:  # every kind: the window must come to rest whatever happened
            self.failure, self.expected = note(error), isinstance(error, UserError)

    def perform(self) -> Any:
        """Do the work."""
        raise NotImplementedError


class TaskWorker(QuietWorker):
    """Calls one function in another thread."""

    def __init__(self, task: Callable[[], Any]) -> None:
        super().__init__()
        self._task = task

    def perform(self) -> Any:
        """Return what the task returns."""
        return self._task()


class _JobSignals(WorkerBaseSignals):
    news = Signal()
    #: Share of a long step that is done.
    share = Signal(float)


class JobWorker(QuietWorker):
    """Runs a job: pause, stop, and reports of which only the latest waits for the window.

    Qt queues signals without back-pressure, so a report is a signal without content: the window calls `take`, and
    no second signal is sent before it has.

    Parameters
    ----------
    make_job : callable
        Builds the job; called in the other thread, because it is what imports torch.
    """

    def __init__(self, make_job: Callable[[], Any]) -> None:
        super().__init__(_JobSignals)
        self._make_job = make_job
        self._stop = threading.Event()
        self._go = threading.Event()
        self._go.set()
        self._lock = threading.Lock()
        self._news: Any = None
        self._unread = False
        self._reported = self._stepped = 0.0
        self._total = 0

    def stop(self) -> None:
        """Stop within the current step, and keep what the one before reached."""
        self._stop.set()
        self._go.set()

    def abandon(self) -> None:
        """Stop; nobody wants the result."""
        self.quit()
        self.stop()

    def pause(self, paused: bool) -> None:
        """Wait after the current step, or go on."""
        if paused:
            self._go.clear()
        else:
            self._go.set()

    @property
    def stopping(self) -> bool:
        """Whether somebody asked for the end: our window, or napari which is closing."""
        return self._stop.is_set() or self.abort_requested

    def take(self) -> Any:
        """Return what happened since the last call, and allow the next report."""
        with self._lock:
            news, self._news = self._news, None
            self._unread = False
        return news

    def perform(self) -> Any:
        """Step to the end, or to the stop; ``None`` if there was no first step."""
        with _beside_the_others():
            return self._perform()

    def _perform(self) -> Any:
        job = self._make_job()
        self.begin(job)
        last = None
        self._stepped = time.perf_counter()
        with (
            _leave_a_core(),
            contextlib.suppress(Interrupted),
            watched(self._heed),
            contextlib.closing(job.steps()) as steps,
        ):
            if self.stopping:
                return None
            for last in steps:
                self._total += 1
                self._report(job, last)
                if not self._go.is_set():
                    self._report(job, last, held=True)
                    self._wait()
                if self.stopping:
                    break
                self._stepped = time.perf_counter()
        return None if last is None or self.abort_requested else job.result()

    def begin(self, job: Any) -> None:
        """Note what is known of a job before its first step."""

    def look(self, job: Any, progress: Any, waiting: Any, held: bool) -> Any:
        """Return what there is to see of a step, or ``None``; may take time.

        `waiting` are the news that the window has not taken, and the step is `held` while paused.
        """
        raise NotImplementedError

    def gather(self, waiting: Any, progress: Any, seen: Any) -> Any:
        """Return the news with a step added, and what was seen of it."""
        raise NotImplementedError

    def _heed(self, share: float) -> None:
        """Break an evaluation off when somebody asked for the end; else tell how far it is, if it is a long one."""
        if self.stopping:
            raise Interrupted
        now = time.perf_counter()
        if now - self._stepped > LONG and now - self._reported > REPORT_INTERVAL:
            self._reported = now
            self.share.emit(share)

    def _wait(self) -> None:
        while not self._go.wait(timeout=0.05):
            if self.stopping:
                return

    def _report(self, job: Any, progress: Any, *, held: bool = False) -> None:
        seen = self.look(job, progress, self._news, held)
        with self._lock:
            self._news = self.gather(self._news, progress, seen)
            now = time.perf_counter()
            tell = not self._unread and (seen is not None or now - self._reported > REPORT_INTERVAL)
            if tell:
                self._unread, self._reported = True, now
        if tell:
            self.news.emit()


class RunWorker(JobWorker):
    """Runs a reconstruction, with previews that stay rare and cheap."""

    def __init__(self, make_job: Callable[[], Job]) -> None:
        super().__init__(make_job)
        self._clock = PreviewClock()
        self._shown: Shown | None = None
        self._last: tuple[Job, Any] | None = None
        self._done: list[Done] = []
        self.device = ""

    def perform(self) -> Any:
        """Step to the end; the last iterate is not kept."""
        try:
            return super().perform()
        finally:
            self._last = None

    def begin(self, job: Job) -> None:
        """Note where it computes."""
        self.device = job.device

    def spend(self, seconds: float) -> None:
        """Account for the time the window took to show and paint a preview."""
        self._clock.spend(seconds)

    def watch(self, shown: Shown) -> tuple[np.ndarray, tuple[int, ...], Index] | None:
        """Preview this from now on; called by the window.

        Returns
        -------
        preview, index, part
            What the last step made of it: a step may take long, a slice of its iterate does not. ``None`` where that
            would have to wait for the device.
        """
        before, self._shown = self._shown, shown
        if before in (None, shown):  # the first preview was of all there is
            return None
        self._clock.hasten()
        last = self._last
        if last is None or self.device != "cpu":
            return None
        job, progress = last
        index = tuple(progress.index)
        part = shown.of(index)
        if part is None or (len(part) > 2 and all(where == ALL for where in part)):
            return None
        return job.preview(progress, part), index, part

    def look(self, job: Job, progress: Any, waiting: News | None, held: bool) -> Seen | None:
        """Return what is shown of the iterate when a preview is due, and always all of it while paused."""
        start = time.perf_counter()
        last, self._last = self._last, (job, progress)
        if last is not None and last[1].item != progress.item:
            part = last[1].part
            self._done.append(Done(tuple(last[1].index), job.preview(last[1], part), part))
            self._clock.spend(time.perf_counter() - start)
        if not held and (not self._clock.due() or _seen_in(waiting, progress) is not None):
            return None
        part = None
        if self._shown is not None and not held:
            part = self._shown.of(tuple(progress.index))
            if part is None:  # another item is shown
                return None
        seen = Seen(job.preview(progress, part), part)
        self._clock.spend(time.perf_counter() - start)
        self._clock.taken()
        return seen

    def gather(self, waiting: News | None, progress: Any, seen: Seen | None) -> News:
        """Return all points of the item, its latest preview, and the items that ended."""
        step = progress.step
        point = Point(step.iteration, float(step.objective), float(step.residual), float(step.step_size))
        earlier = waiting.points if waiting is not None and waiting.item == progress.item else ()
        again = bool(earlier) and earlier[-1].iteration == point.iteration
        done, self._done = tuple(self._done), []
        return News(
            item=progress.item,
            items=progress.items,
            iteration=step.iteration,
            total=self._total,
            seconds=progress.seconds,
            points=(*(earlier[:-1] if again else earlier), point),
            seen=seen or _seen_in(waiting, progress),
            index=tuple(progress.index),
            done=(*waiting.done, *done) if waiting is not None else done,
        )


def _seen_in(waiting: News | None, progress: Any) -> Seen | None:
    return waiting.seen if waiting is not None and waiting.item == progress.item else None


class TrainWorker(JobWorker):
    """Runs a fine-tuning; its news are the tuple of its steps, and scores are told at once."""

    job: TrainJob | None = None

    def perform(self) -> Any:
        """Step to the end; what is better than the base by then outlasts an error."""
        try:
            return super().perform()
        except Exception:
            if self.job is not None and self.job.scored:
                self.outcome = self.job.result()
            raise

    def begin(self, job: TrainJob) -> None:
        """Keep the job: it says what is measured, and saves the outcome."""
        self.job = job

    def look(self, job: TrainJob, progress: Any, waiting: Any, held: bool) -> np.ndarray | None:
        """Return the patch of a step that was scored."""
        return progress.patch

    def gather(self, waiting: tuple[Any, ...] | None, progress: Any, seen: Any) -> tuple[Any, ...]:
        """Return the steps so far."""
        return (*(waiting or ()), progress)


@contextlib.contextmanager
def _beside_the_others() -> Iterator[None]:
    """Keep no thread from short tasks: Qt's pool has one for each core, and a job lasts, or is paused, for long."""
    pool = QThreadPool.globalInstance()
    assert pool is not None
    pool.releaseThread()
    try:
        yield
    finally:
        pool.reserveThread()


@contextlib.contextmanager
def _leave_a_core() -> Iterator[None]:
    """Leave one core to the window; torch's thread count is of this thread.

    A thread of a team that the window's painting holds up holds up the whole team: on two busy cores one thread was
    four times faster than two.
    """
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else 0
    if torch is None or threads < 2:
        yield
        return
    torch.set_num_threads(threads - 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
