"""Accelerated mirror descent: quasi-Newton steps in the flat coordinates of the Burg metric, safeguarded."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_deqmd.core.poisson import per_image, sum_images
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.solvers.mirror_descent import ACCEPTANCE, SHRINK, first_step, ratio
from napari_deqmd.core.solvers.state import State, advance, begin, finished
from napari_deqmd.core.solvers.step import Step

MEMORY = 8
ARMIJO = 1e-4
LONGEST = 1.5


@dataclass(frozen=True)
class Pair:
    """A secant pair in ``log u``: step, change of the gradient, and one over their product (0: unusable), ``(B,)``."""

    s: Tensor
    y: Tensor
    rho: Tensor


def accelerated_mirror_descent(
    problem: Problem,
    start: Tensor | None = None,
    *,
    max_iter: int = 200,
    tol: float = 1e-4,
    memory: int = MEMORY,
) -> Generator[Step, None, None]:
    """Yield the iterates of a limited-memory quasi-Newton method in the geometry of Burg's entropy.

    The metric ``diag(1 / u^2)`` of the entropy is flat in ``t = log u``: its geodesics are ``u exp(d)``, gradients are
    ``u grad Psi``, and secant pairs of different iterates live in one space. There BFGS builds the curvature of the
    objective, starting from the local bound ``diag(rho)`` of KL (``rho`` the Richardson-Lucy ratio) plus the
    regularizer's. Every image of the batch has its own curvature, step length and acceptance.

    Safeguard: a quasi-Newton step must decrease the objective by Armijo's rule; an image at which two in a row fail
    forgets its curvature and takes plain mirror steps, with the plain acceptance rule, until one is accepted. So the
    objective never rises and every limit point is stationary, as for the plain iteration.

    Parameters and yields are those of `mirror_descent`; `memory` is the number of secant pairs.

    Notes
    -----
    BFGS: Nocedal and Wright, Numerical Optimization, algorithm 7.4; active bounds as in Bertsekas (1982).
    """
    burg = problem.burg
    state = begin(problem, start)
    tau = first_step(problem, state)
    length = torch.ones_like(tau)
    failures = torch.zeros_like(tau, dtype=torch.int64)
    pairs: deque[Pair] = deque(maxlen=memory)
    yield (step := state.step(0, tau, "converged" if bool((state.residual < tol).all()) else ""))
    for iteration in range(1, max_iter + 1):
        if step.stopped_by:
            return
        plain = failures >= 2
        free = burg.free(state.u, state.gradient)
        gamma = torch.where(free, state.u * state.gradient, 0)
        direction = -apply_inverse(pairs, gamma, free, metric(problem, state))
        uphill = sum_images(direction * gamma) >= 0
        direction = torch.where(per_image(uphill, gamma) > 0, -gamma / metric(problem, state), direction)
        moved = burg.project(
            state.u * torch.exp((per_image(length, direction) * direction).clamp(-LONGEST, LONGEST))
        )
        if bool(plain.any()):
            mirror = burg.step(state.u, state.gradient, tau)
            moved = torch.where(per_image(plain, moved) > 0, mirror, moved)
        trial = problem.evaluate(moved, near=state.point)
        change = problem.difference(trial, state.point)
        along = torch.log(trial.u / state.u)
        needed = torch.where(
            plain,
            ACCEPTANCE / tau * burg.divergence(trial.u, state.u),
            -ARMIJO * sum_images(state.u * state.gradient * along),
        )
        accept = (-change >= needed) & (needed > 0)
        previous = state
        state = advance(problem, state, trial, change, accept)
        step = state.step(
            iteration, torch.where(plain, tau, length), finished(state, tau, iteration, max_iter, tol)
        )
        if bool(accept.any()):
            pairs.append(secant(along, previous, state, accept))
        tau = torch.where(plain, torch.where(accept, tau * 1.2, tau * SHRINK), tau)
        length = torch.where(accept, torch.ones_like(length), length * 0.3)
        failures = torch.where(accept, 0, failures + 1)
        if bool((failures == 2).any()):
            forget(pairs, failures == 2)
        if bool(accept.any()) or step.stopped_by:
            yield step


def metric(problem: Problem, state: State) -> Tensor:
    """Return a diagonal majorant of the Hessian in ``log u``: KL's ``rho`` and the regularizer's ``u^2``."""
    return ratio(problem, state) + per_image(problem.curvature(), state.u) * state.u**2 + 1e-3 * state.u


def secant(along: Tensor, old: State, new: State, accept: Tensor) -> Pair:
    """Return the pair of an accepted step; images that did not move, or without curvature, get weight 0."""
    y = new.u * new.gradient - old.u * old.gradient
    product = sum_images(along * y)
    usable = accept & (product > 1e-8 * (sum_images(along**2) * sum_images(y**2)).sqrt())
    return Pair(along, y, torch.where(usable, 1 / product, 0))


def forget(pairs: deque[Pair], images: Tensor) -> None:
    """Drop the curvature of some images of the batch."""
    for i, pair in enumerate(pairs):
        pairs[i] = Pair(pair.s, pair.y, torch.where(images, 0, pair.rho))


def apply_inverse(pairs: deque[Pair], gamma: Tensor, free: Tensor, diagonal: Tensor) -> Tensor:
    """Return the BFGS inverse Hessian times `gamma` on the free entries (two-loop recursion)."""
    q = gamma
    alphas = []
    for pair in reversed(pairs):
        alpha = pair.rho * sum_images(pair.s * q)
        q = q - per_image(alpha, q) * torch.where(free, pair.y, 0)
        alphas.append(alpha)
    scale = torch.ones(gamma.shape[0], dtype=torch.float64, device=gamma.device)
    for pair in pairs:
        curvature = sum_images(torch.where(free, pair.y, 0) ** 2 / diagonal)
        latest = (1 / pair.rho.clamp_min(1e-300)) / curvature.clamp_min(1e-300)
        scale = torch.where(pair.rho > 0, latest, scale)
    r = per_image(scale, q) * q / diagonal
    for pair, alpha in zip(pairs, reversed(alphas), strict=True):
        beta = pair.rho * sum_images(torch.where(free, pair.y, 0) * r)
        r = r + per_image(alpha - beta, r) * torch.where(free, pair.s, 0)
    return torch.where(free, r, 0)
