"""The state that the descent solvers carry from step to step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.problem import Point, Problem
from napari_deqmd.core.solvers.step import Step

SMALLEST_STEP = 1e-20
WINDOW = 10
NEAR = 20.0


@dataclass(frozen=True)
class State:
    """An accepted point of every image, its gradients, objective and certificate."""

    problem: Problem
    point: Point
    gradient: Tensor
    kl_gradient: Tensor
    objective: Tensor
    residual: Tensor
    recent: tuple[Tensor, ...] = ()
    healthy: bool = True

    @property
    def u(self) -> Tensor:
        """Object plus shift."""
        return self.point.u

    def change(self, trial: Point) -> Tensor:
        """Return ``Psi`` at the trial point less ``Psi`` here, ``(B,)`` in the widest dtype."""
        return self.problem.difference(trial, self.point, self.gradient - self.kl_gradient)

    def settled(self, tol: float) -> Tensor:
        """Return which images have converged, ``(B,)`` bool.

        Their certificate is below `tol`; or it is near, within a factor `NEAR`, and the objective fell by less than
        `tol` of itself over the last `WINDOW` evaluations. Photon noise makes the objective of ``N`` pixels uncertain
        by ``sqrt(2 / N)`` of itself, 3e-3 for 512 x 512: what a step still gains is then far below that.
        """
        below = self.residual < tol
        if len(self.recent) < WINDOW:
            return below
        highest = torch.stack(self.recent).amax(0)
        still = highest - self.objective <= tol * self.objective.abs()
        return below | ((self.residual < NEAR * tol) & still)

    def step(self, iteration: int, tau: Tensor, stopped_by: str) -> Step:
        """Freeze the state for the caller."""
        x = self.problem.burg.to_x(self.u)
        return Step(iteration, x, self.objective, self.residual, tau, stopped_by)


def begin(problem: Problem, start: Tensor | None) -> State:
    """Evaluate the start."""
    x = problem.start() if start is None else start
    point = problem.evaluate(problem.burg.to_u(x))
    gradient, kl = point.complete()
    objective = problem.value(point)
    if not bool(torch.isfinite(objective).all() and torch.isfinite(gradient).all()):
        raise UserError(
            "The objective is not finite at the start: the model or the image holds invalid numbers."
        )
    return State(problem, point, gradient, kl, objective, problem.certificate(point.u, gradient))


def advance(problem: Problem, state: State, trial: Point, change: Tensor, accept: Tensor) -> State:
    """Return the state with the accepted images moved to the trial point.

    A gradient that is not finite at an accepted trial leaves the state where it was, marked unhealthy. A trial with an
    objective that is not finite compares false and is never accepted.
    """
    # An evaluation without a number is no evidence that nothing is left to gain.
    before = torch.where(torch.isfinite(change), state.objective, torch.inf)
    recent = (*state.recent, before)[-WINDOW:]
    if not bool(accept.any()):
        return replace(state, recent=recent)
    gradient, kl = trial.complete()
    finite = torch.isfinite(gradient).flatten(1).all(1)
    if not bool((finite | ~accept).all()):
        return replace(state, healthy=False)
    if bool(accept.all()):
        point = trial
    else:
        here = accept.reshape(-1, *(1,) * (trial.u.ndim - 1))
        point = Point(
            torch.where(here, trial.u, state.u),
            torch.where(here, trial.z, state.point.z),
            torch.where(here, trial.energy, state.point.energy),
            trial.complete,
        )
        gradient = torch.where(here, gradient, state.gradient)
        kl = torch.where(here, kl, state.kl_gradient)
    objective = torch.where(accept, state.objective + change, state.objective)
    residual = problem.certificate(point.u, gradient)
    return State(problem, point, gradient, kl, objective, residual, recent)


def finished(state: State, tau: Tensor, iteration: int, max_iter: int, tol: float) -> str:
    """Return why the solver stops here, or ``""``."""
    exhausted = tau < SMALLEST_STEP
    if not state.healthy:
        return "diverged"
    if bool(exhausted.any()) and state.recent:
        numbers = torch.isfinite(torch.stack(state.recent).amax(0))
        if bool((exhausted & ~numbers).any()):
            return "diverged"
    settled = state.settled(tol)
    if bool(settled.all()):
        return "converged"
    if bool((settled | exhausted).all()):
        # Rounding hides whatever a step would gain. An objective known to eps tells the object to the root of that.
        floor = math.sqrt(torch.finfo(state.u.dtype).eps)
        return "converged" if bool((settled | (state.residual < floor)).all()) else "max_iter"
    return "max_iter" if iteration == max_iter else ""
