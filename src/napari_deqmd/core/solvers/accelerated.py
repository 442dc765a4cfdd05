"""Accelerated mirror descent: quasi-Newton steps in the metric of EM, safeguarded by mirror steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_deqmd.core.device import widest
from napari_deqmd.core.poisson import per_image, sum_images
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.solvers.mirror_descent import ACCEPTANCE, SHRINK, first_step
from napari_deqmd.core.solvers.state import State, advance, begin, finished
from napari_deqmd.core.solvers.step import Step

MEMORY = 8
ARMIJO = 1e-4
CUT = 0.3
PATIENCE = 3


@dataclass(frozen=True)
class Pair:
    """A secant pair: step, change of the gradient, and one over their product (0: unusable), ``(B,)``."""

    s: Tensor
    y: Tensor
    rho: Tensor


def accelerated_mirror_descent(
    problem: Problem,
    start: Tensor | None = None,
    *,
    max_iter: int = 200,
    tol: float = 1e-4,
    pairs: deque[Pair] | None = None,
) -> Generator[Step, None, None]:
    """Yield the iterates of a projected limited-memory quasi-Newton method that falls back on mirror steps.

    BFGS builds the curvature of the objective from its diagonal model `Problem.metric` at the iterate (that of
    expectation maximisation plus the regularizer's) on the pixels that the box leaves free. Every image of the batch
    has its own curvature, step length and acceptance.

    Safeguard: a quasi-Newton step must decrease the objective by Armijo's rule; an image at which `PATIENCE` trials in
    a row fail forgets its curvature and takes plain mirror steps, with the plain acceptance rule, until one is
    accepted. So the objective never rises, and where quasi-Newton steps fail the iteration is the plain one.

    Parameters and yields are those of `mirror_descent`. `pairs` holds the secant pairs and is updated in place: given
    again with the last iterate, it resumes a solve of the same or a slightly changed problem at full speed.

    Notes
    -----
    BFGS: Nocedal and Wright, Numerical Optimization, algorithm 7.4; active bounds: Bertsekas, SIAM J. Control Optim.
    20 (1982), 221.
    """
    burg = problem.burg
    state = begin(problem, start)
    del start  # its memory: a caller that keeps none has given it away
    tau = first_step(problem, state)
    length = torch.ones_like(tau)
    failures = torch.zeros_like(tau, dtype=torch.int64)
    pairs = deque(maxlen=MEMORY) if pairs is None else pairs
    yield (step := state.step(0, length, "converged" if bool((state.residual < tol).all()) else ""))
    for iteration in range(1, max_iter + 1):
        if step.stopped_by:
            return
        plain = failures >= PATIENCE
        moved = burg.project(state.u + per_image(length, state.u) * direction(problem, state, pairs))
        if bool(plain.any()):
            mirror = burg.step(state.u, state.gradient, tau)
            moved = torch.where(per_image(plain, moved) > 0, mirror, moved)
        trial = problem.evaluate(moved, near=state.point)
        change = state.change(trial)
        along = trial.u - state.u
        needed = -ARMIJO * sum_images(state.gradient * along)
        if bool(plain.any()):
            needed = torch.where(plain, ACCEPTANCE / tau * burg.divergence(trial.u, state.u), needed)
        moving = ~state.settled(tol)  # an image that has converged rests until the batch has
        accept = moving & (-change >= needed) & (needed > 0)
        previous = state
        state = advance(problem, state, trial, change, accept)
        step = state.step(
            iteration, torch.where(plain, tau, length), finished(state, tau, iteration, max_iter, tol)
        )
        if bool(accept.any()):
            pairs.append(secant(along, previous, state, accept))
        tau = torch.where(plain & moving, torch.where(accept, tau * 1.2, tau * SHRINK), tau)
        length = torch.where(accept, 1, torch.where(moving, length * CUT, length))
        failures = torch.where(moving & ~accept, failures + 1, 0)
        if bool((failures == PATIENCE).any()):
            forget(pairs, failures == PATIENCE)
        # Of a rejected trial the network's graph, before the next one is built; arrays of the object.
        del trial, previous, along
        if bool(accept.any()) or step.stopped_by:
            yield step


def direction(problem: Problem, state: State, pairs: deque[Pair]) -> Tensor:
    """Return the quasi-Newton direction on the free pixels, downhill for every image."""
    free = problem.burg.free(state.u, state.gradient)
    gradient = torch.where(free, state.gradient, 0)
    metric = problem.metric(state.u)
    newton = apply_inverse(pairs, gradient, free, metric)
    downhill = sum_images(newton * gradient) > 0
    return -torch.where(per_image(downhill, newton) > 0, newton, gradient / metric)


def secant(along: Tensor, old: State, new: State, accept: Tensor) -> Pair:
    """Return the pair of an accepted step; images that did not move, or without curvature, get weight 0."""
    y = new.gradient - old.gradient
    product = sum_images(along * y)
    usable = accept & (product > 1e-8 * (sum_images(along**2) * sum_images(y**2)).sqrt())
    return Pair(along, y, torch.where(usable, 1 / product, 0))


def forget(pairs: deque[Pair], images: Tensor) -> None:
    """Drop the curvature of some images of the batch."""
    for i, pair in enumerate(pairs):
        pairs[i] = Pair(pair.s, pair.y, torch.where(images, 0, pair.rho))


def apply_inverse(pairs: deque[Pair], gradient: Tensor, free: Tensor, metric: Tensor) -> Tensor:
    """Return the BFGS inverse Hessian times the gradient on the free entries (two-loop recursion)."""
    q = gradient
    scale = gradient.new_ones(len(gradient), dtype=widest(gradient.device))
    alphas = []
    for pair in reversed(pairs):
        alpha = pair.rho * sum_images(pair.s * q)  # q is 0 where it is not free
        q = torch.where(free, q - per_image(alpha, q) * pair.y, 0)
        alphas.append(alpha)
    for pair in pairs:
        curvature = pair.rho * sum_images(torch.where(free, pair.y**2 / metric, 0))
        scale = torch.where(pair.rho > 0, 1 / curvature.clamp_min(1e-12), scale)
    r = per_image(scale, q) * q / metric
    for pair, alpha in zip(pairs, reversed(alphas), strict=True):
        beta = pair.rho * sum_images(pair.y * r)
        r = r + per_image(alpha - beta, r) * torch.where(free, pair.s, 0)
    return r
