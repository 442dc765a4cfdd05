"""Small reconstruction problems that the tests of numerics share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from napari_deqmd.core.operators import Blur
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import NoRegularizer, Red, Regularizer, Scalar, ThreeScale, TotalVariation
from napari_deqmd.core.solvers import Step
from napari_deqmd.training.scenes import make_scene


def random_psf(
    shape: tuple[int, ...], *, seed: int = 0, dtype: torch.dtype = torch.float64, batch: int = 0
) -> Tensor:
    """A lop-sided positive kernel: a wrong flip or shift shows."""
    rng = torch.Generator().manual_seed(seed)
    full = (batch, 1, *shape) if batch else shape
    psf = torch.rand(full, generator=rng, dtype=torch.float64) ** 2 + 0.01
    dims = tuple(range(-len(shape), 0))
    return (psf / psf.sum(dims, keepdim=True)).to(dtype)


def gaussian(sigma: float, ndim: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    reach = round(3 * sigma)
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64)
    line = torch.exp(-0.5 * (axis / sigma) ** 2)
    psf = line
    for _ in range(ndim - 1):
        psf = psf[..., None] * line
    return (psf / psf.sum()).to(dtype)


def identity(ndim: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.ones((1,) * ndim, dtype=dtype)


def scene(kind: str, side: int, seed: int = 0) -> Tensor:
    """A clean scene (1, 1, side, side), float64."""
    return torch.from_numpy(make_scene(kind, (side, side), np.random.default_rng(seed)).astype(float))[
        None, None
    ]


def measured(
    clean: Tensor,
    psf: Tensor,
    *,
    peak: float | tuple[float, ...] = 60.0,
    share: float = 0.05,
    seed: int = 0,
    regularizer: Regularizer | None = None,
    boundary: str = "periodic",
    dtype: torch.dtype = torch.float64,
    **options: float,
) -> Problem:
    """Blur clean images (B, 1, Y, X) periodically, draw photons, and pose the problem of finding them again."""
    peaks = torch.as_tensor(peak, dtype=torch.float64).expand(clean.shape[0]).clone()
    simulated = Blur(psf.double(), tuple(clean.shape[2:]), boundary="periodic")
    blurred = simulated.forward(clean).clamp_min(0)
    blurred = blurred / blurred.flatten(1).amax(1).reshape(-1, *(1,) * (clean.ndim - 1))
    scale = peaks.reshape(-1, *(1,) * (clean.ndim - 1))
    electrons = np.random.default_rng(seed).poisson((scale * (blurred + share)).numpy()).astype(float)
    return Problem.from_electrons(
        torch.from_numpy(electrons).to(dtype),
        Blur(psf.to(dtype), tuple(clean.shape[2:]), boundary=boundary),
        regularizer if regularizer is not None else NoRegularizer(),
        peak=peaks.to(dtype),
        background=(share * peaks).to(dtype),
        **options,
    )


def tiny_red(seed: int = 0, *, gain: float = 1.0, dtype: torch.dtype = torch.float64) -> Red:
    """An untrained three-scale RED: smooth, not convex, cheap."""
    torch.manual_seed(seed)
    network = ThreeScale(channels=(4, 6, 8))
    with torch.no_grad():
        network.tail.weight.mul_(gain)
    return Red(network).to(dtype).requires_grad_(False)


def tiny_scalar(seed: int = 0, *, convex: bool = False, dtype: torch.dtype = torch.float64) -> Scalar:
    torch.manual_seed(seed)
    return Scalar(channels=4, depth=2, convex=convex).to(dtype).requires_grad_(False)


def tv() -> TotalVariation:
    """A light weight: at the default one the plain iteration is too slow to compare against."""
    return TotalVariation(weight=0.012)


def run(steps: Iterable[Step]) -> list[Step]:
    return list(steps)


def kkt_violation(problem: Problem, x: Tensor) -> Tensor:
    """Return the first-order conditions' violation at `x` per pixel, from the value's autograd.

    ``|u g|`` inside the box; at a bound only the part that points inwards counts.
    """
    leaf = x.detach().clone().requires_grad_()
    like = problem.likelihood
    z = like.operator.forward(leaf) + like.beta.reshape(-1, *(1,) * (x.ndim - 1)).to(x.dtype)
    kl = z - torch.xlogy(like.y, z)
    energy = problem.regularizer.energy(leaf, problem.peak)
    (gradient,) = torch.autograd.grad(kl.sum() + problem.strength * energy.sum(), leaf)
    u = problem.burg.to_u(x)
    lower, upper = problem.burg.bounds(u)
    inwards = torch.where(u <= lower * (1 + 1e-9), gradient.clamp_max(0), gradient)
    inwards = torch.where(u >= upper * (1 - 1e-9), gradient.clamp_min(0), inwards)
    return (u * inwards).abs()
