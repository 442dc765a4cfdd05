"""B-RED and B-PnP: the iterations of Hurault et al. with a Bregman score denoiser."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from napari_deqmd.core.device import wide
from napari_deqmd.core.poisson import per_image, sum_images
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import Bregman
from napari_deqmd.core.solvers.mirror_descent import mirror_descent
from napari_deqmd.core.solvers.step import Step

WARM_UP = 100
"""Iterations of the first stage of the reference."""
GAMMAS = (50.0, 500.0)
"""Precisions of the noise that the denoiser is told, of both stages."""
RELAXED = (1.0, 0.05)
"""Share of the denoiser's step that B-PnP takes, of both stages of the reference; without the first it takes all."""
LEAST = 1.0
"""Weight of the prior, against the data, that B-PnP has at least: its step in the data is one over it."""
STILL = 1e-7
"""Relative change of the objective from step to step below which the second stage has converged."""


def bregman_red(
    problem: Problem,
    start: Tensor | None = None,
    *,
    max_iter: int = 1000,
    tol: float = 1e-4,
    warm_up: int = 0,
    solver: Callable[..., Generator[Step, None, None]] = mirror_descent,
) -> Generator[Step, None, None]:
    """Yield the iterates ``x+ = x / (1 + tau x (lambda grad f + grad g))``.

    That is mirror descent on ``f + g / lambda``, with backtracking.

    Parameters
    ----------
    problem : Problem
        Its regularizer is a `Bregman`, told each stage's ``gamma``.
    start, max_iter, tol
        As in `mirror_descent`.
    warm_up : int
        Iterations of a first stage with a rough denoiser, half of all at most. The reference has `WARM_UP`; with the
        bundled denoiser, much smaller, that stage leads away from photographs, and what follows does not come back.
    solver : callable
        What minimises.

    Yields
    ------
    Step
        Objectives are those of the stage: they fall within each.

    Notes
    -----
    arXiv:2306.03466, algorithm 1 and appendix; its stages have step sizes and ``lambda`` from a table for each peak,
    ours those of `Bregman.weight` and backtracking.
    """
    done = 0
    for last, gamma, budget in zip((False, True), GAMMAS, _budgets(max_iter, warm_up), strict=True):
        if budget == 0:
            continue
        previous = torch.inf
        for step in solver(_at(problem, gamma), start, max_iter=budget, tol=tol):
            still = abs(previous - step.objective) < STILL * abs(step.objective)
            previous, start = step.objective, step.iterate
            ended = step.stopped_by or ("converged" if still else "")
            final = ended if last or ended == "diverged" else ""
            yield replace(step, iteration=done + step.iteration, stopped_by=final)
            if final:
                return
            if ended:
                break
        done += step.iteration


def bregman_pnp(
    problem: Problem,
    start: Tensor | None = None,
    *,
    max_iter: int = 1000,
    tol: float = 1e-4,
    warm_up: int = 0,
) -> Generator[Step, None, None]:
    """Yield the iterates ``x+ = B(x / (1 + lambda x grad f))`` with the denoiser as a relaxed Bregman proximal step.

    Parameters
    ----------
    problem : Problem
        Its regularizer is a `Bregman`; the mirror map is taken without a shift, as the denoiser's.
    start, max_iter, tol
        As in `mirror_descent`; the certificate is the relative change of a step that is not relaxed.
    warm_up : int
        As in `bregman_red`.

    Yields
    ------
    Step
        Objectives are those of the stage, ``f(x) + (g(z) - D_h(x, z) / a) / lambda`` with ``x = B(z)`` relaxed by
        ``a``; nothing but a small ``lambda`` makes them fall.

    Notes
    -----
    arXiv:2306.03466, algorithm 2; ``B`` relaxed is ``z - a z^2 grad g(z)``. Its theorem asks for ``lambda L < 1``, and
    near a solution the data are smooth relative to the entropy with an ``L`` of about 1, Richardson-Lucy's ratio: so a
    prior that would weigh less than `LEAST`, as that of many photons does, weighs that.
    """
    problem = replace(problem, shifted=False)
    burg, like = problem.burg, problem.likelihood
    x = burg.to_u(problem.start() if start is None else start)
    del start
    expected = like.expect(x)
    done = 0
    shares = RELAXED if warm_up else (1.0, 1.0)
    for last, gamma, relaxed, budget in zip(
        (False, True), GAMMAS, shares, _budgets(max_iter, warm_up), strict=True
    ):
        stage = _at(problem, gamma)
        weight = problem.strength * wide(cast(Bregman, stage.regularizer).weight(problem.peak))
        raised = (LEAST / weight).clamp_min(1.0)
        tau = relaxed / (raised * weight)
        previous, iteration = torch.inf, 0
        for iteration in range(1, budget + 1):
            z = burg.step(x, like.gradient(expected), tau)
            prior = stage.prior(z)
            moved = burg.project(
                z - per_image(relaxed / weight * problem.strength, z) * z**2 * prior.gradient()
            )
            expected = like.expect(moved)
            inverse = raised * problem.strength * sum_images(prior.energy) - burg.divergence(moved, z) / tau
            objective = like.value(expected) + inverse
            size = sum_images(x**2).clamp_min(1e-30)
            residual = (sum_images((moved - x) ** 2) / size).sqrt() / relaxed
            if not bool(torch.isfinite(objective).all() and torch.isfinite(residual).all()):
                yield Step(done + iteration, x, objective, residual, tau, "diverged")
                return
            x = moved
            total = float(objective.sum())
            still = abs(previous - total) < STILL * abs(total) or bool((residual < tol).all())
            previous = total
            stopped_by = "converged" if still else "max_iter" if iteration == budget else ""
            yield Step(done + iteration, x, objective, residual, tau, stopped_by if last else "")
            if stopped_by:
                break
        done += iteration


def _budgets(max_iter: int, warm_up: int) -> tuple[int, int]:
    """Return the iterations of both stages."""
    first = min(warm_up, max_iter // 2)
    return first, max_iter - first


def _at(problem: Problem, gamma: float) -> Problem:
    return replace(problem, regularizer=cast(Bregman, problem.regularizer).at(gamma))
