"""Mirror descent in Burg geometry with backtracking: the paper's iteration."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from napari_deqmd.core.device import wide
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.solvers.state import State, advance, begin, finished
from napari_deqmd.core.solvers.step import Step

ACCEPTANCE = 0.8
SHRINK = 0.5


def mirror_descent(
    problem: Problem,
    start: Tensor | None = None,
    *,
    max_iter: int = 200,
    tol: float = 1e-4,
    growth: float = 1.2,
) -> Generator[Step, None, None]:
    """Yield the iterates ``u+ = P(u / (1 + tau u grad Psi))`` with ``tau`` found by backtracking.

    Parameters
    ----------
    problem : Problem
        What to minimise; every image of the batch has its own step size.
    start : Tensor, optional
        First object ``x``; by default `Problem.start`.
    max_iter : int
        Largest number of evaluations, rejected trials included.
    tol : float
        Certificate (`Problem.certificate`) of every image below which the iteration has converged; near it, a
        relative fall of the objective by less than `tol` over ten evaluations is enough (`State.settled`).
    growth : float
        Factor on ``tau`` after an accepted step; 1 never lets it grow again, as in the paper.

    Yields
    ------
    Step
        The start as iteration 0, then every evaluation at which some image moved. The objective never rises.

    Notes
    -----
    arXiv:2507.11461, algorithm 1: a step is accepted when ``Psi(u) - Psi(u+) >= (c / tau) D_h(u+, u)``, ``c = 0.8``.
    The first ``tau`` is one over the largest Richardson-Lucy ratio ``u A^T (y / z)``, the local bound of KL relative to
    Burg's entropy.
    """
    state = begin(problem, start)
    del start  # its memory: a caller that keeps none has given it away
    tau = first_step(problem, state)
    yield (step := state.step(0, tau, "converged" if bool((state.residual < tol).all()) else ""))
    for iteration in range(1, max_iter + 1):
        if step.stopped_by:
            return
        trial = problem.evaluate(problem.burg.step(state.u, state.gradient, tau), near=state.point)
        change = state.change(trial)
        moving = ~state.settled(tol)  # an image that has converged rests until the batch has
        accept = moving & (-change >= ACCEPTANCE / tau * problem.burg.divergence(trial.u, state.u))
        state = advance(problem, state, trial, change, accept)
        step = state.step(iteration, tau, finished(state, tau, iteration, max_iter, tol))
        tau = torch.where(moving, torch.where(accept, tau * growth, tau * SHRINK), tau)
        del trial  # of a rejected trial the network's graph, before the next one is built
        if bool(accept.any()) or step.stopped_by:
            yield step


def first_step(problem: Problem, state: State) -> Tensor:
    """Return one over the largest local smoothness of KL relative to Burg's entropy, ``(B,)``."""
    return 1 / wide(ratio(problem, state).flatten(1).amax(1)).clamp_min(1e-12)


def ratio(problem: Problem, state: State) -> Tensor:
    """Return the Richardson-Lucy ratio ``rho = u A^T (y / z)``: ``Hess KL <= diag(rho / u^2)``."""
    return state.u * (problem.sensitivity - state.kl_gradient)
