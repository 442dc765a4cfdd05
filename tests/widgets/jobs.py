"""Jobs that stand in for a reconstruction and a fine-tuning: no torch, and as slow or broken as a test wants."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import numpy as np

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.watching import tell

SPATIAL = "ZYX"


class FakeJob:
    """Each iteration adds one to the item; the objective falls, the certificate too."""

    device = "cpu"
    delay = 0.002
    #: An iteration tells so often how far it is.
    pieces = 0
    #: Raised at this iteration, if any.
    error: Exception | None = None
    error_at = 3
    warnings: tuple[str, ...] = ()
    ending = "max_iter"

    def __init__(
        self,
        image: np.ndarray,
        psf: np.ndarray,
        config: ReconstructionConfig,
        start: Any = None,
        maps: Any = None,
    ) -> None:
        self.config, self.input, self.psf, self.start, self.maps = config, image, psf, start, maps
        axes = config.axes or ""
        self.where = [axes.index(letter) for letter in axes if letter not in SPATIAL]
        self.shape = tuple(size for size, letter in zip(image.shape, axes, strict=True) if letter in SPATIAL)
        self.outer = tuple(image.shape[axis] for axis in self.where)
        self.image = np.zeros(image.shape, dtype=np.float32)
        self.iteration = 0
        self.looks: list[Any] = []
        self.stopped_by = "user"
        self.closed = threading.Event()

    @property
    def began(self) -> bool:
        return self.iteration > 0

    def steps(self) -> Generator[Any, None, None]:
        start = time.perf_counter()
        try:
            indices = list(np.ndindex(self.outer))
            for item, index in enumerate(indices):
                for iteration in range(1, self.config.max_iter + 1):
                    time.sleep(self.delay)
                    for piece in range(1, self.pieces + 1):
                        time.sleep(self.delay)
                        tell(piece / self.pieces)
                    if self.error is not None and iteration == self.error_at:
                        raise self.error
                    self.iteration = iteration
                    step = SimpleNamespace(
                        iteration=iteration,
                        objective=1 / iteration,
                        residual=0.1**iteration,
                        step_size=1.0,
                    )
                    yield SimpleNamespace(
                        item=item,
                        items=len(indices),
                        index=index,
                        part=None,
                        step=step,
                        seconds=time.perf_counter() - start,
                    )
                np.moveaxis(self.image, self.where, range(len(self.where)))[index] = self.iteration
            self.stopped_by = self.ending
        finally:
            self.closed.set()

    def preview(self, progress: Any, shown: Any = None) -> np.ndarray:
        self.looks.append((progress.index, shown))
        whole = np.full(self.shape, progress.step.iteration, dtype=np.float32)
        return whole if shown is None else whole[shown].copy()

    def result(self) -> Any:
        assert self.closed.is_set(), "result() before the generator was closed"
        if self.stopped_by == "user":
            self.image[...] = self.iteration
        report = {
            "iterations": self.iteration,
            "seconds": 0.1,
            "stopped_by": self.stopped_by,
            "warnings": list(self.warnings),
        }
        return SimpleNamespace(
            image=self.image,
            stopped_by=self.stopped_by,
            config=self.config,
            report=report,
            history={},
            iterates=("iterates", self.iteration),
        )


class FakeTrainJob:
    """Every third step is scored; from the sixth on it is better than the base."""

    delay = 0.005
    steps_ = 100_000
    helps = True
    notes: tuple[str, ...] = (
        "The images hold fractions of photo-electrons: they were rounded to whole ones.",
    )

    def __init__(self, order: Any) -> None:
        self.order = order
        held_out = SimpleNamespace(
            figure="PSNR, dB",
        )
        self.source = SimpleNamespace(held_out=held_out, notes=self.notes)
        self.measured = np.ones((16, 16), np.float32)
        self.step = 0
        self.saved: list[Any] = []
        self.closed = threading.Event()

    @property
    def began(self) -> bool:
        return self.step > 0

    @property
    def scored(self) -> bool:
        return self.began

    def best(self, step: int) -> float:
        return 30.0 + (0.1 * (step // 3) if self.helps and step >= 6 else 0.0)

    def steps(self) -> Generator[Any, None, None]:
        start = time.perf_counter()
        try:
            for step in range(self.steps_ + 1):
                time.sleep(self.delay)
                self.step = step
                scored = step % 3 == 0
                yield SimpleNamespace(
                    step=step,
                    seconds=time.perf_counter() - start,
                    loss=1 / step if step else float("nan"),
                    score=self.best(step) if scored else None,
                    best=self.best(step - step % 3),
                    patch=np.full((16, 16), 1.0 + step, np.float32) if scored else None,
                )
        finally:
            self.closed.set()

    def result(self) -> Any:
        assert self.closed.is_set(), "result() before the generator was closed"
        kept = self.best(self.step) > 30
        verdict = "Fine-tuning helped: PSNR." if kept else "Fine-tuning did not help: nothing was better."
        return SimpleNamespace(kept=kept, steps=self.step, notes=(*self.source.notes, verdict))

    def save(self, target: Any, outcome: Any) -> Any:
        self.saved.append((target, outcome))
        return target
