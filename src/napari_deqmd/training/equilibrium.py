"""Deep equilibrium training: the fixed point of mirror descent, then its implicit gradient."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_deqmd.core.allowed import Count, Positive, check
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.methods import in_precision
from napari_deqmd.core.poisson import per_image, sum_images
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import Regularizer, energies
from napari_deqmd.core.solvers.accelerated import MEMORY, Pair, accelerated_mirror_descent
from napari_deqmd.core.watching import tell
from napari_deqmd.training.distributed import own
from napari_deqmd.training.measurements import Observation
from napari_deqmd.training.progress import Report, Trainer, arithmetic

Draw = Callable[[int, int], Observation]
"""``draw(number, batch)``: a batch of measurements, the same whenever its number is asked for."""


@dataclass(frozen=True)
class Solve:
    """Inner solves of the training.

    Attributes
    ----------
    tol : float
        Certificate at which they stop.
    first, again : int
        Largest number of evaluations, of new measurements and warm-started.
    enough : float
        Images whose certificate is above this have no part in the step; the next visit takes their solve further.
    """

    tol: Positive = 1e-4
    first: Count = 40
    again: Count = 10
    enough: Positive = 1e-2

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Visited:
    """A batch of measurements with its last fixed point and the curvature its solver has seen."""

    version: int
    data: Observation
    x: Tensor | None
    w: Tensor | None
    pairs: deque[Pair]


def fixed_point(
    problem: Problem,
    start: Tensor | None = None,
    *,
    max_iter: int,
    tol: float,
    pairs: deque[Pair] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the fixed point ``x`` of a problem and the certificate of every image; no graph is kept.

    Who watches may break it off between two iterations.
    """
    for parameter in problem.regularizer.parameters():
        parameter.requires_grad_(False)
    try:
        for step in accelerated_mirror_descent(problem, start, max_iter=max_iter, tol=tol, pairs=pairs):
            last = step
            tell(step.iteration / max_iter)
    finally:
        for parameter in problem.regularizer.parameters():
            parameter.requires_grad_(True)
    return last.iterate, last.residuals


def loss_and_slope(problem: Problem, x: Tensor, data: Observation) -> tuple[float, Tensor, Tensor]:
    """Return the mean loss at a fixed point, its gradient in ``x``, and which pixels the box leaves free (bool).

    The gradient is zero where the box holds a pixel, and where the loss does not look, as outside the field of view;
    there the object is free.
    """
    u = problem.burg.to_u(x)
    gradient, _ = problem.evaluate(u).complete()
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        loss = data.loss(problem, leaf).mean()
        (slope,) = torch.autograd.grad(loss, leaf)
    free = problem.burg.free(u, gradient)
    return loss.item(), torch.where(free, slope, 0), free


@dataclass(frozen=True)
class Adjoint:
    """Solution of the adjoint system, and the flattest direction met on the way.

    Attributes
    ----------
    w : Tensor
        ``(B, 1, ...)``: ``H w = slope`` on the free pixels, approximately.
    convex : Tensor
        ``(B,)`` bool: no direction of negative curvature was met; elsewhere `w` says nothing.
    flattest : Tensor
        Direction of the lowest curvature met, of unit length in the problem's metric.
    curvature : Tensor
        ``(B,)``: curvature of ``Psi`` along it.
    """

    w: Tensor
    convex: Tensor
    flattest: Tensor
    curvature: Tensor


def solve_adjoint(
    problem: Problem,
    x: Tensor,
    slope: Tensor,
    free: Tensor,
    curve: Callable[[Tensor], Tensor],
    *,
    steps: int,
    start: Tensor | None = None,
) -> Adjoint:
    """Solve ``H w = slope`` with the Hessian of ``Psi`` on the pixels the box leaves free, by conjugate gradients.

    Parameters
    ----------
    problem : Problem
        Its metric at the fixed point is the preconditioner.
    x : Tensor
        Fixed point, ``(B, 1, ...)``.
    slope, free : Tensor
        Gradient of the loss, zero where the box holds a pixel, and where it does not.
    curve : callable
        Product of the regularizer's Hessian and a vector.
    steps : int
        Conjugate-gradient steps. 0 gives ``slope / metric``: Jacobian-free backpropagation, an approximation that
        weighs down what the blur hides, where only the regularizer decides.
    start : Tensor, optional
        ``w`` of a nearby fixed point.

    Notes
    -----
    The gradient of the loss in the weights is ``-w^T d grad R / d theta`` (implicit function theorem). Images stop at
    the first direction of negative curvature. JFB: Fung et al., arXiv:2103.12803; arXiv:2507.11461, section 4.3.
    """
    like = problem.likelihood
    weight = like.y / like.expect(x) ** 2
    metric = problem.metric(problem.burg.to_u(x))

    def hessian(v: Tensor) -> Tensor:
        data = like.operator.adjoint(weight * like.operator.forward(v))
        return torch.where(free, data + problem.strength * curve(v), 0)

    w = torch.zeros_like(slope) if start is None else torch.where(free, start, 0)
    r = slope if start is None else slope - hessian(w)
    p = z = r / metric
    rz = sum_images(r * z)
    convex = torch.ones_like(rz, dtype=torch.bool)
    flattest, lowest = torch.zeros_like(z), torch.full_like(rz, torch.inf)
    if steps == 0:
        return Adjoint(z, convex, flattest, lowest)
    for _ in range(steps):
        product = hessian(p)
        bend, length = sum_images(p * product), sum_images(p**2 * metric).clamp_min(1e-30)
        flatter = bend / length < lowest
        lowest = torch.where(flatter, bend / length, lowest)
        flattest = torch.where(per_image(flatter, p) > 0, p / per_image(length.sqrt(), p), flattest)
        convex &= bend > 0
        alpha = torch.where(convex, rz / bend.clamp_min(1e-30), 0)
        w = w + per_image(alpha, p) * p
        r = r - per_image(alpha, p) * product
        z = r / metric
        new = sum_images(r * z)
        p = z + per_image(new / rz.clamp_min(1e-30), p) * p
        rz = new
    return Adjoint(w, convex, flattest, lowest)


def balanced(w: Tensor, metric: Tensor, usable: Tensor) -> Tensor:
    """Return ``w`` of the usable images, none longer in the metric than their median.

    The length of ``w`` grows as the Hessian gets singular: a few images would make up the whole gradient.
    """
    length = sum_images(w**2 * metric).sqrt()
    longest = length[usable].median() if bool(usable.any()) else length
    factor = (longest / length.clamp_min(1e-30)).clamp_max(1)
    return w * per_image(torch.where(usable, factor, 0), w)


def train_equilibrium(
    regularizer: Regularizer,
    draw: Draw,
    *,
    steps: int,
    limit: float = math.inf,
    batch: int = 12,
    learning_rate: float = 5e-5,
    numbers: float = 10.0,
    warm_up: int = 50,
    groups: int = 2,
    lifetime: int = 3,
    solve: Solve | None = None,
    gradient_steps: int = 4,
    flatness: float = 0.03,
    stiffening: float = 0.1,
    precision: str = "float32",
    penalty: Callable[[Any, int], Tensor] | None = None,
    validate: Callable[[Regularizer], Mapping[str, float]] | None = None,
    enough: Callable[[], bool] = lambda: False,
    checkpoint: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    every: int = 50,
) -> Generator[Report, None, list[float]]:
    """Train a regularizer through the fixed points of its reconstructions; yield a report a step.

    Returns the losses of the first steps.

    Parameters
    ----------
    regularizer : Regularizer
        Trained in place; holds the averaged weights at the end.
    draw : callable
        Source of measurements, such as ``partial(measure, sampler)``; their mean loss is minimised.
    steps, limit, learning_rate, numbers, warm_up
        Schedule of the optimiser, as in `Trainer`.
    batch : int
        Images of a step.
    groups, lifetime : int
        So many batches of measurements are kept and visited in turn. A visit starts from the batch's last fixed point,
        which the weights have moved little since; after `lifetime` visits a batch is drawn anew. A few visits pay for
        the first solve; more of them tell little new: a trained model fell back with 12 visits to each of 4 batches and
        gained with 3 to each of 2, though at a lower rate.
    solve : Solve
        Inner solves, to a certificate: cut short they train the iteration, not the equilibrium.
    gradient_steps : int
        Conjugate-gradient steps of the implicit gradient, from the last visit's solution; 0 is Jacobian-free
        backpropagation.
    flatness, stiffening : float
        Where the objective curves by less than `flatness` (in the metric of the problem, where the data term has about
        1) along the flattest direction met, the weights are moved to curve it more, with this weight: a flat landscape
        makes fixed points slow to find and their gradients meaningless.
    precision : {"float32", "bfloat16"}
        Arithmetic of the network. In bfloat16 certificates do not fall below some 0.005: half of the images of a batch
        are then not converged enough to learn from.
    penalty : callable, optional
        What is added to the loss, of the model and the number of the step.
    validate : callable, optional
        Figures of the averaged weights, measured every `every` steps.
    enough : callable, optional
        Asked before every step whether to end before the schedule does.
    checkpoint : path, optional
        Resumed from, and written every `every` steps.
    identity : mapping, optional
        As in `Trainer`.

    Raises
    ------
    FloatingPointError
        The weights have run away: an objective or a loss is not finite.
    """
    solve = solve or Solve()
    trainer = Trainer(
        regularizer,
        learning_rate=learning_rate,
        steps=steps,
        limit=limit,
        numbers=numbers,
        warm_up=warm_up,
        checkpoint=checkpoint,
        identity=identity,
    )
    device = next(regularizer.parameters()).device
    context = arithmetic(device, precision)
    kept: dict[int, Visited] = {}
    while trainer.elapsed < 1 and not enough():
        slot, round_ = trainer.step % groups, trainer.step // groups
        version = (round_ + slot * lifetime // groups) // lifetime
        known = kept.get(slot)
        if known is None or known.version != version:
            data = draw(own(version * groups + slot), batch).to(device)
            known = Visited(version, data, None, None, deque(maxlen=MEMORY))
        problem = known.data.problem(in_precision(trainer.model, precision))
        budget = solve.first if known.x is None else solve.again
        try:
            x, residuals = fixed_point(problem, known.x, max_iter=budget, tol=solve.tol, pairs=known.pairs)
        except UserError as error:
            raise FloatingPointError("the objective is not finite: lower the learning rate") from error
        loss, slope, free = loss_and_slope(problem, x, known.data)
        if not math.isfinite(loss):
            raise FloatingPointError("the loss is not finite: lower the learning rate")
        leaf = x.detach().requires_grad_()
        with context():
            energy = energies(trainer.model, leaf[problem.seen], known.data.peak).float().sum()
        (gradient,) = torch.autograd.grad(energy, leaf, create_graph=True)
        curve = partial(_product, gradient, leaf)
        adjoint = solve_adjoint(problem, x, slope, free, curve, steps=gradient_steps, start=known.w)
        kept[slot] = replace(known, x=x, w=torch.where(per_image(adjoint.convex, x) > 0, adjoint.w, 0))
        usable = adjoint.convex & (residuals < solve.enough)
        objective = -(balanced(adjoint.w, problem.metric(problem.burg.to_u(x)), usable) * gradient).sum()
        flat = adjoint.curvature < flatness
        if stiffening > 0 and bool(flat.any()):
            v = torch.where(per_image(flat, x) > 0, adjoint.flattest, 0)
            (bent,) = torch.autograd.grad(gradient, leaf, v, create_graph=True)
            objective = objective - stiffening * (v * bent.float()).sum()
        figures = {
            "certificate": residuals.median().item(),
            "unused": 1 - usable.float().mean().item(),
            "flat": flat.float().mean().item(),
        }
        if penalty is not None:
            added = penalty(trainer.model, trainer.step)
            figures["penalty"] = added.item()
            objective = objective + added
        objective.backward()
        trainer.update(known.data.teaches)
        due = trainer.step % every == 0 or trainer.elapsed >= 1
        if due and validate is not None:
            figures |= validate(trainer.averaged)
        report = trainer.report(loss, figures)
        if due:
            trainer.save()
        yield report
    regularizer.load_state_dict(trainer.averaged.state_dict())
    return trainer.first_losses


def _product(gradient: Tensor, leaf: Tensor, vector: Tensor) -> Tensor:
    """Return the Hessian of an energy times a vector; the gradient's graph is kept."""
    (product,) = torch.autograd.grad(gradient, leaf, vector, retain_graph=True)
    return product.float()
