"""Richardson-Lucy: plain, and accelerated by vector extrapolation (Biggs and Andrews)."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from napari_deqmd.core.device import widest
from napari_deqmd.core.poisson import per_image, sum_images
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.solvers.step import Step

SMALLEST = 1e-12
LEAST_SENSITIVITY = 1e-3


def richardson_lucy(
    problem: Problem,
    start: Tensor | None = None,
    *,
    max_iter: int = 50,
    tol: float = 0.0,
    accelerated: bool = False,
) -> Generator[Step, None, None]:
    """Yield the iterates ``x+ = x A^T(y / (A x + beta)) / A^T 1`` of expectation maximisation.

    Where ``A^T 1`` vanishes, outside the field of view or behind many bad pixels, the object is flat.

    Parameters
    ----------
    problem : Problem
        Its likelihood and upper bound; the regularizer is not used.
    start : Tensor, optional
        First object; by default flat, at the mean of the image without its background.
    max_iter : int
        Number of iterations.
    tol : float
        Relative change ``||x+ - x|| / ||x||`` below which the iteration has converged. Early stopping is what
        regularizes this method: by default it runs all iterations.
    accelerated : bool
        Extrapolate along the last step before each multiplication.

    Yields
    ------
    Step
        Objective and certificate are those of the point at which the step started, so that one ``A`` and one ``A^T``
        an iteration are enough.

    Notes
    -----
    Richardson (1972), Lucy (1974), with background as in Snyder; Biggs and Andrews, Applied Optics 36 (1997), 1766.
    """
    like = problem.likelihood
    sensitivity = problem.sensitivity.clamp_min(LEAST_SENSITIVITY)
    flat = flat_start(problem)
    # A conjugate prior of the weight that is missing there: otherwise nothing would hold the object.
    held = (1 - problem.sensitivity / sensitivity) * flat
    x = flat.clone() if start is None else start.clamp_min(SMALLEST)
    del start  # its memory: a caller that keeps none has given it away
    step_size = torch.ones(x.shape[0], dtype=widest(x.device), device=x.device)
    constant = sum_images(torch.xlogy(like.y, like.y) - like.y)
    previous = x
    change = old_change = None
    factor = torch.zeros_like(step_size)
    for iteration in range(1, max_iter + 1):
        if accelerated and change is not None and old_change is not None:
            factor = sum_images(change * old_change) / sum_images(old_change**2).clamp_min(1e-30)
            factor = factor.clamp(0, 1 - 1e-3)
        point = x + per_image(factor, x) * (x - previous) if accelerated else x
        point = point.clamp(SMALLEST, problem.upper)
        z = like.told(like.expect(point))
        objective = constant + sum_images(z - torch.xlogy(like.y, z))
        x_new = (point * like.operator.adjoint(like.y / z) / sensitivity + held).clamp_(
            SMALLEST, problem.upper
        )
        old_change, change = change, x_new - point
        residual = (sum_images(change**2) / sum_images(point**2).clamp_min(1e-30)).sqrt()
        healthy = bool(torch.isfinite(residual).all())
        previous, x = (x, x_new) if healthy else (previous, x)
        stopped_by = "diverged" if not healthy else "converged" if bool((residual < tol).all()) else ""
        if not stopped_by and iteration == max_iter:
            stopped_by = "max_iter"
        yield Step(iteration, x, objective, residual, 1 + factor, stopped_by)
        if stopped_by:
            return


def flat_start(problem: Problem) -> Tensor:
    """Return a flat object that explains the mean of the image; a view of one number an image."""
    like, mean = problem.likelihood, problem.level
    if mean is None:
        signal = sum_images(like.y - per_image(like.beta, like.y))
        mean = signal / (like.y.shape[1] * sum_images(problem.sensitivity).clamp_min(1))
    return per_image(mean.clamp_min(1e-3), like.y).expand(*like.y.shape[:2], *like.operator.object_shape)
