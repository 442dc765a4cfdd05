"""What is restored of images whose truth is known: the minimiser, or the best iterate by the truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_deqmd.core.poisson import per_image
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import NoRegularizer, Regularizer
from napari_deqmd.core.solvers import SOLVERS, Step
from napari_deqmd.core.solvers.richardson_lucy import richardson_lucy
from napari_deqmd.training.measurements import Measurement

ROUNDING = 1e-9
"""Relative change of an objective that is no rise."""


def psnr(x: Tensor, truth: Tensor, white: float | None = None) -> Tensor:
    """Return the peak signal-to-noise ratio of every image in dB, the peak being `white` or the truth's maximum."""
    error = (x - truth).square().flatten(1).mean(1)
    peak = truth.flatten(1).amax(1) if white is None else torch.full_like(error, white)
    return 10 * torch.log10(peak.square() / error)


def scaled(x: Tensor, truth: Tensor) -> Tensor:
    """Return every image times the factor at which it is closest to the truth."""
    factor = (x * truth).flatten(1).sum(1) / x.square().flatten(1).sum(1).clamp_min(1e-30)
    return x * per_image(factor, x)


@dataclass(frozen=True)
class Restoration:
    """What a method made of one image.

    Attributes
    ----------
    image : Tensor
        ``(1, 1, [Z,] Y, X)``: the object in the field of view, in units of the peak.
    iterations : int
        Evaluations it took.
    seconds : float
        Spent by the solver up to there.
    certificate : float
        There.
    stopped_by : str
        Why it ended there; ``""`` for an iterate that the truth chose.
    rose : int
        Steps to a higher objective.
    """

    image: Tensor
    iterations: int
    seconds: float
    certificate: float
    stopped_by: str = ""
    rose: int = 0


def last(problem: Problem, steps: Iterator[Step]) -> Restoration:
    """Return where a run ends."""
    rose, before = 0, torch.inf
    for step, seconds in timed(steps):
        rose += step.objective > before + ROUNDING * abs(before)
        before = step.objective
        end = step, seconds
    return replace(_restoration(problem, *end), stopped_by=end[0].stopped_by, rose=rose)


def best(
    problem: Problem,
    runs: Iterable[Iterator[Step]],
    truth: Tensor,
    score: Callable[[Tensor, Tensor], Tensor] = psnr,
) -> Restoration:
    """Return the iterate of all runs on a problem that scores highest by the truth."""
    top, found = -torch.inf, None
    for steps in runs:
        for step, seconds in timed(steps):
            restoration = _restoration(problem, step, seconds)
            value = float(score(restoration.image, truth))
            if found is None or value > top:
                top, found = value, restoration
    assert found is not None
    return found


def restore(
    data: Measurement,
    regularizer: Regularizer,
    *,
    strength: float = 1.0,
    max_iter: int = 200,
    tol: float = 1e-4,
) -> tuple[Tensor, Tensor]:
    """Return PSNR and iterations of the minimiser, each ``(B,)``; one image after the other, as users run it."""
    values, iterations = [], []
    for i in range(len(data.peak)):
        problem = data[i : i + 1].problem(regularizer, strength=strength)
        end = last(problem, SOLVERS["accelerated"](problem, max_iter=max_iter, tol=tol))
        values.append(psnr(end.image, data.truth[i : i + 1]))
        iterations.append(end.iterations)
    return torch.cat(values), torch.tensor(iterations, dtype=torch.float)


def oracle_richardson_lucy(data: Measurement, *, max_iter: int = 200) -> Tensor:
    """Return the PSNR of the best iterate by the truth, of a flat and a data start, ``(B,)``."""
    values = []
    for i in range(len(data.peak)):
        one = data[i : i + 1]
        problem = one.problem(NoRegularizer())
        runs = (richardson_lucy(problem, start, max_iter=max_iter) for start in (None, problem.start()))
        values.append(psnr(best(problem, runs, one.truth).image, one.truth))
    return torch.cat(values)


def timed(
    steps: Iterator[Step], clock: Callable[[], float] = time.perf_counter
) -> Iterator[tuple[Step, float]]:
    """Yield steps with the seconds they took so far, less what the caller does between them."""
    seconds, began = 0.0, clock()
    for step in steps:
        seconds += clock() - began
        yield step, seconds
        began = clock()


def _restoration(problem: Problem, step: Step, seconds: float) -> Restoration:
    image = problem.likelihood.operator.crop(step.iterate)
    return Restoration(image, step.iteration, seconds, step.residual)
