"""What models make of images, iterate by iterate: decibels against seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_deqmd.benchmarks.conditions import CROPS, SCENES, SIDE, Condition, conditions, estimated, stacks
from napari_deqmd.benchmarks.fluorescence import TV_WEIGHT, Job, Method, learned, tv_name
from napari_deqmd.benchmarks.fluorescence_cases import Case
from napari_deqmd.benchmarks.restoration import psnr, timed
from napari_deqmd.benchmarks.rows import Rows
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import NoRegularizer, TotalVariation
from napari_deqmd.core.solvers import SOLVERS, Step
from napari_deqmd.core.solvers.richardson_lucy import richardson_lucy
from napari_deqmd.training.models import BUNDLED, load_model

RL, RL_FROM_DATA = "RL", "RL, from the image"
REFERENCES = (RL, tv_name(TV_WEIGHT))
SEED = 911
"""Of scenes, crops and noise: not the one of the fluorescence benchmark, which is for models that are chosen."""
NEAR = 0.1
"""Decibels from its end at which a curve is as good as there."""
_POINTS, _SHORTEST = 400, 1e-4


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    peaks: tuple[float, ...] = (20.0, 200.0)
    scenes: tuple[str, ...] = SCENES
    side: int = SIDE
    volumes: tuple[str, ...] = ("nuclei", "filaments")
    volume: tuple[int, ...] = (16, 64, 64)
    large: int = 512
    peak: float = 100.0
    max_iter: int = 200


QUICK = Extent((30.0,), ("filaments",), 24, ("nuclei",), (8, 12, 12), 32, 100.0, 20)
"""Enough to see that everything runs."""


@dataclass(frozen=True)
class Trace:
    """One method on one image: evaluations, the solver's seconds of processor time, and PSNR in dB of every iterate.

    ``key`` names the image, what was told and the method, weights included.
    """

    key: str
    label: str
    image: str
    peak: float
    method: str
    iterations: Sequence[int]
    seconds: Sequence[float]
    psnr: Sequence[float]

    @property
    def scene(self) -> tuple[str, str, float]:
        """What it shows."""
        return self.label, self.image, self.peak

    @property
    def summary(self) -> str:
        """What it tells, in a line."""
        words = self.label, self.image, f"peak {self.peak:.0f}", self.method
        return f"{', '.join(filter(None, words))}: {self.psnr[-1]:.2f} dB after {self.seconds[-1]:.2f} s"


@dataclass(frozen=True)
class Curve:
    """Mean over images of what a method has gained after some time.

    Attributes
    ----------
    method : str
        Its name.
    seconds, gain : ndarray
        Decibels above the best iterate of Richardson-Lucy by the truth, at times.
    iterations : float
        Evaluations until a run stops by itself.
    """

    method: str
    seconds: NDArray[np.float64]
    gain: NDArray[np.float64]
    iterations: float

    @property
    def end(self) -> float:
        """Gain at the end."""
        return float(self.gain[-1])

    @property
    def soon(self) -> float:
        """Seconds from which on the gain is `NEAR` its end."""
        (away,) = np.nonzero(np.abs(self.gain - self.end) > NEAR)
        return float(self.seconds[min(away[-1] + 1, len(self.seconds) - 1)] if len(away) else self.seconds[0])


def cases(data: Path | None, extent: Extent) -> dict[str, list[Case]]:
    """Return the cases of every plot, with automatic numbers: images, stacks, and one large image.

    Parameters
    ----------
    data : path, optional
        Folder with ``fluorescence/train``, of which images that are held back from training are used.
    extent : Extent
        How many.

    Raises
    ------
    UserError
        The folder of data has no such folder.
    """
    if data and not (data / CROPS).is_dir():
        raise UserError(f"{data} has no folder {CROPS}: give the folder that holds it.")
    wide = conditions(peaks=(extent.peak,), side=extent.large, kinds=("mixture",), seed=SEED)[:1]
    found: dict[str, list[Condition]] = {
        "images": [
            one
            for one in conditions(data, peaks=extent.peaks, side=extent.side, kinds=extent.scenes, seed=SEED)
            if one.label != "natural"
        ],
        "stacks": stacks(peaks=(extent.peak,), shape=extent.volume, kinds=extent.volumes, seed=SEED + 1),
        f"{extent.large} x {extent.large}": wide,
    }
    return {name: [Case(one, estimated(one.measurement)) for one in ones] for name, ones in found.items()}


def methods(models: Sequence[str], *, max_iter: int) -> list[Method]:
    """Return Richardson-Lucy from two starts, total variation, and models by name; bundled ones say so."""
    lucy = partial(richardson_lucy, max_iter=max_iter)
    minimise = partial(SOLVERS["accelerated"], max_iter=max_iter)

    def from_data(problem: Problem, start: Tensor | None) -> Iterator[Step]:
        return lucy(problem, problem.start() if start is None else start)

    found = [
        Method(RL, lucy, NoRegularizer()),
        Method(RL_FROM_DATA, from_data, NoRegularizer()),
        Method(tv_name(TV_WEIGHT), minimise, TotalVariation(weight=TV_WEIGHT)),
    ]
    for name in models:
        model = load_model(name)
        method = learned(model, max_iter=max_iter)
        bundled = model.path.parent == BUNDLED
        found.append(replace(method, name=f"{method.name}, bundled") if bundled else method)
    return found


def trace(job: Job) -> Trace:
    """Run a job and return what every iterate is worth."""
    problem, data, condition = job.problem(), job.data, job.case.condition
    crop = problem.likelihood.operator.crop
    found = [
        (step.iteration, seconds, float(psnr(job.restored(crop(step.iterate)), data.truth, job.white)))
        for step, seconds in timed(job.method.steps(problem, None), time.process_time)
    ]
    iterations, seconds, values = zip(*found, strict=True)
    shown = condition.label, condition.image, condition.peak
    return Trace(job.key, *shown, job.method.name, iterations, seconds, values)


def run(jobs: Iterable[Job], record: Rows[Job, Trace]) -> Iterator[Trace]:
    """Run the jobs that are not on record, yielding their traces as they are made and recorded."""
    for job in jobs:
        if job not in record:
            found = trace(job)
            record.add(found)
            yield found


def curves(traces: Sequence[Trace]) -> list[Curve]:
    """Return the mean curve of every method that is through with all images, in the order of their first traces."""
    oracle: dict[tuple[str, str, float], float] = {}
    by_method: dict[str, list[Trace]] = {}
    for one in traces:
        by_method.setdefault(one.method, []).append(one)
        if one.method in (RL, RL_FROM_DATA):
            oracle[one.scene] = max(oracle.get(one.scene, -np.inf), *one.psnr)
    scenes = {one.scene for one in traces}
    through = [found for found in by_method.values() if len(found) == len(scenes) == len(oracle)]
    return [_curve(found, oracle) for found in through if found[0].method != RL_FROM_DATA]


def _curve(traces: Sequence[Trace], oracle: dict[tuple[str, str, float], float]) -> Curve:
    """Average traces, each of which keeps its value from one iterate to the next and after its end."""
    least = max(min(one.seconds[0] for one in traces), _SHORTEST)
    most = max(one.seconds[-1] for one in traces)
    times = np.geomspace(least, most, _POINTS)
    gains = []
    for one in traces:
        index = np.searchsorted(one.seconds, times, side="right") - 1
        gains.append(np.asarray(one.psnr)[index.clip(0)] - oracle[one.scene])
    iterations = float(np.mean([one.iterations[-1] for one in traces]))
    return Curve(traces[0].method, times, np.mean(gains, 0), iterations)
