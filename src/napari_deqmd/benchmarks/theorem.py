"""The convergence theorem at work: its conditions, measured along a run of mirror descent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from napari_deqmd.core.poisson import sum_images
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.solvers import Step


@dataclass(frozen=True)
class Moment:
    """What the theorem speaks of at one accepted step from ``x`` to ``x+``, of a single image.

    Attributes
    ----------
    iteration : int
        Evaluations so far.
    objective, certificate : float
        At ``x+``.
    step_size : float
        ``tau`` of the step.
    smoothness : float
        ``(Psi(x+) - Psi(x) - <grad Psi(x), x+ - x>) / D_h(x+, x)``: the relative smoothness constant that the step met.
    bound : float
        Largest Richardson-Lucy ratio ``rho = u A^T (y / z)`` at ``x``: of KL alone, where the image stays.
    divergence, total : float
        ``D_h(x+, x)`` and its sum so far, which the theorem bounds by ``(Psi(x_0) - inf Psi) tau / c``.
    lowest, highest : float
        Of ``x+``: inside the box.
    distance : float
        ``||x+ - x*|| / ||x*||`` to a fixed point found before.
    """

    iteration: int
    objective: float
    certificate: float
    step_size: float
    smoothness: float
    bound: float
    divergence: float
    total: float
    lowest: float
    highest: float
    distance: float


def follow(problem: Problem, steps: Iterable[Step], fixed_point: Tensor) -> Iterator[Moment]:
    """Yield the moments of a run on one image; each costs a gradient more than the run itself."""
    burg, total = problem.burg, 0.0
    known = None
    norm = float(fixed_point.norm())
    for step in steps:
        u = burg.to_u(step.iterate)
        point = problem.evaluate(u)
        if known is not None:
            gradient, kl = known.complete()
            divergence = float(burg.divergence(u, known.u))
            if divergence == 0:
                continue
            change = float(problem.difference(problem.evaluate(u, near=known), known))
            along = float(sum_images(gradient * (u - known.u)))
            total += divergence
            yield Moment(
                step.iteration,
                step.objective,
                step.residual,
                step.step_size,
                (change - along) / divergence,
                float((known.u * (problem.sensitivity - kl)).max()),
                divergence,
                total,
                float(step.iterate.min()),
                float(step.iterate.max()),
                float((step.iterate - fixed_point).norm()) / norm,
            )
        known = point
