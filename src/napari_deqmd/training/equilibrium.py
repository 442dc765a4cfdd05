"""Deep equilibrium training: the fixed point of mirror descent, then its implicit gradient."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from napari_deqmd.core.poisson import per_image, sum_images
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import Regularizer
from napari_deqmd.core.solvers.accelerated import MEMORY, Pair, accelerated_mirror_descent
from napari_deqmd.training.data import Sampler
from napari_deqmd.training.measurements import Measurement, Ranges, measure
from napari_deqmd.training.progress import Report, Trainer, arithmetic


@dataclass(frozen=True)
class Solve:
    """Inner solves of the training: tolerance and largest number of evaluations, first and warm-started."""

    tol: float = 1e-3
    first: int = 80
    again: int = 20


@dataclass(frozen=True)
class Visited:
    """A batch of measurements with its last fixed point and the curvature its solver has seen."""

    version: int
    data: Measurement
    x: Tensor | None
    pairs: deque[Pair]


def fixed_point(
    problem: Problem,
    start: Tensor | None = None,
    *,
    max_iter: int,
    tol: float,
    pairs: deque[Pair] | None = None,
) -> tuple[Tensor, float]:
    """Return the fixed point ``x`` of a problem and its certificate; no graph is kept."""
    for parameter in problem.regularizer.parameters():
        parameter.requires_grad_(False)
    try:
        for step in accelerated_mirror_descent(problem, start, max_iter=max_iter, tol=tol, pairs=pairs):
            last = step
    finally:
        for parameter in problem.regularizer.parameters():
            parameter.requires_grad_(True)
    return last.iterate, last.residual


def image_loss(x: Tensor, truth: Tensor) -> Tensor:
    """Return the mean logarithm of every image's mean squared error: what the mean PSNR measures."""
    return torch.log((x - truth).square().flatten(1).mean(1) + 1e-6).mean()


def loss_and_slope(problem: Problem, x: Tensor, truth: Tensor) -> tuple[float, Tensor, Tensor]:
    """Return the loss at a fixed point, its gradient in ``x``, and which pixels the box leaves free (bool).

    The gradient is zero where the box holds a pixel, and outside the field of view; there the object is free.
    """
    u = problem.burg.to_u(x)
    gradient, _ = problem.evaluate(u).complete()
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        loss = image_loss(problem.likelihood.operator.crop(leaf), truth)
        (slope,) = torch.autograd.grad(loss, leaf)
    free = problem.burg.free(u, gradient)
    return loss.item(), torch.where(free, slope, 0), free


def adjoint_direction(
    problem: Problem,
    x: Tensor,
    slope: Tensor,
    free: Tensor,
    curve: Callable[[Tensor], Tensor],
    *,
    steps: int,
) -> Tensor:
    """Solve ``H w = slope`` with the Hessian of ``Psi`` on the pixels the box leaves free, by conjugate gradients.

    Parameters
    ----------
    problem : Problem
        Its metric is the preconditioner.
    x : Tensor
        Fixed point, ``(B, 1, ...)``.
    slope, free : Tensor
        Gradient of the loss, zero where the box holds a pixel, and where it does not.
    curve : callable
        Product of the regularizer's Hessian and a vector.
    steps : int
        Conjugate-gradient steps. 0 gives ``slope / metric``: Jacobian-free backpropagation, an approximation that
        weighs down what the blur hides, where only the regularizer decides.

    Notes
    -----
    The gradient of the loss in the weights is ``-w^T d grad R / d theta`` (implicit function theorem). Images stop at
    the first direction of negative curvature. JFB: Fung et al., arXiv:2103.12803; arXiv:2507.11461, section 4.3.
    """
    like = problem.likelihood
    weight = like.y / like.expect(x) ** 2
    z = slope / problem.metric
    if steps == 0:
        return z
    w, r, p = torch.zeros_like(z), slope, z
    rz = sum_images(r * z)
    alive = torch.ones_like(rz, dtype=torch.bool)
    for step in range(steps):
        product = like.operator.adjoint(weight * like.operator.forward(p)) + problem.strength * curve(p)
        product = torch.where(free, product, 0)
        curvature = sum_images(p * product)
        alive &= curvature > 1e-6 * sum_images(p**2 * problem.metric)
        if step == 0:
            w = torch.where(per_image(~alive, p) > 0, z, w)
        alpha = torch.where(alive, rz / curvature.clamp_min(1e-30), 0)
        w = w + per_image(alpha, p) * p
        r = r - per_image(alpha, p) * product
        z = r / problem.metric
        new = sum_images(r * z)
        p = z + per_image(new / rz.clamp_min(1e-30), p) * p
        rz = new
    return w


def train_equilibrium(
    regularizer: Regularizer,
    sampler: Sampler,
    *,
    steps: int,
    batch: int = 12,
    learning_rate: float = 2e-4,
    groups: int = 6,
    lifetime: int = 6,
    ranges: Ranges | None = None,
    solve: Solve | None = None,
    gradient_steps: int = 6,
    precision: str = "bfloat16",
    validate: Callable[[Regularizer], Mapping[str, float]] | None = None,
    checkpoint: Path | None = None,
    every: int = 50,
) -> Generator[Report, None, None]:
    """Train a regularizer through the fixed points of its reconstructions; yield a report a step.

    Parameters
    ----------
    regularizer : Regularizer
        Trained in place; holds the averaged weights at the end.
    sampler : Sampler
        Clean patches; the images are smaller by the PSF.
    steps, batch, learning_rate
        Optimiser's.
    groups, lifetime : int
        So many batches of measurements are kept and visited in turn. A visit starts from the batch's last fixed point,
        which the weights have moved little since; after `lifetime` visits a batch is drawn anew.
    ranges : Ranges
        PSFs, peaks and backgrounds.
    solve : Solve
        Inner solves, in float32, to a certificate: cut short they train the iteration, not the equilibrium.
    gradient_steps : int
        Conjugate-gradient steps of the implicit gradient; 0 is Jacobian-free backpropagation.
    precision : str
        Arithmetic of the differentiated step and of the Hessian's products.
    validate : callable, optional
        Figures of the averaged weights, measured every `every` steps.
    checkpoint : path, optional
        Resumed from, and written every `every` steps.
    """
    ranges, solve = ranges or Ranges(), solve or Solve()
    trainer = Trainer(regularizer, learning_rate=learning_rate, steps=steps, checkpoint=checkpoint)
    context = arithmetic(next(regularizer.parameters()).device, precision)
    kept: dict[int, Visited] = {}
    while trainer.step < steps:
        slot, round_ = trainer.step % groups, trainer.step // groups
        version = (round_ + slot * lifetime // groups) // lifetime
        known = kept.get(slot)
        if known is None or known.version != version:
            data = measure(sampler, version * groups + slot, batch, ranges)
            known = Visited(version, data, None, deque(maxlen=MEMORY))
        problem = known.data.problem(trainer.model)
        budget = solve.first if known.x is None else solve.again
        x, certificate = fixed_point(problem, known.x, max_iter=budget, tol=solve.tol, pairs=known.pairs)
        kept[slot] = replace(known, x=x)
        loss, slope, free = loss_and_slope(problem, x, known.data.truth)
        leaf = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        with context():
            energy = trainer.model.energy(leaf, known.data.peak).float().sum()
        (gradient,) = torch.autograd.grad(energy, leaf, create_graph=True)
        curve = partial(_product, gradient, leaf)
        w = adjoint_direction(problem, x, slope, free, curve, steps=gradient_steps)
        (-(w * gradient).sum()).backward()
        trainer.update()
        figures: dict[str, float] = {"certificate": certificate}
        if trainer.step % every == 0 or trainer.step == steps:
            if validate is not None:
                figures |= validate(trainer.averaged)
            trainer.save()
        yield trainer.report(loss, figures)
    regularizer.load_state_dict(trainer.averaged.state_dict())


def _product(gradient: Tensor, leaf: Tensor, vector: Tensor) -> Tensor:
    """Return the Hessian of an energy times a vector; the gradient's graph is kept."""
    (product,) = torch.autograd.grad(gradient, leaf, vector, retain_graph=True)
    return product.float()
