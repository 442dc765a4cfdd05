"""Pretraining of a regularizer as a gradient-step denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_deqmd.core.device import has_bfloat16
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.poisson import per_image
from napari_deqmd.core.regularizers import XY, Learned, Red, View
from napari_deqmd.core.regularizers.learned import DARK
from napari_deqmd.training.data import Sampler
from napari_deqmd.training.distributed import own
from napari_deqmd.training.progress import Report, Trainer, arithmetic

VARIANCE_AT_PEAK = 0.3
"""``sigma^2 peak``: white noise of deviation ``sigma`` stands for the noise at this peak."""


@dataclass(frozen=True)
class Noisy:
    """What a denoiser is shown: images, what it is told of their noise ``(B,)``, the metric of its step, and a weight.

    The weight, of each pixel's squared error, depends on the noisy image alone: the best denoiser remains the mean.
    """

    images: Tensor
    told: Tensor
    metric: Tensor
    weight: Tensor


def white(clean: Tensor, deviation: Tensor, jitter: Tensor, rng: torch.Generator) -> Noisy:
    """Add white noise; told is the peak that has such noise, within a factor 2 by `jitter` in [0, 1]."""
    noise = torch.randn(clean.shape, generator=rng)
    peak = VARIANCE_AT_PEAK / deviation**2 * 2 ** (2 * jitter - 1)
    images = clean + per_image(deviation.to(clean.device), clean) * noise.to(clean.device)
    return Noisy(images, peak, torch.ones_like(clean), torch.ones_like(clean))


def inverse_gamma(clean: Tensor, deviation: Tensor, jitter: Tensor, rng: torch.Generator) -> Noisy:
    """Draw ``1 / z``, ``z ~ Gamma(gamma - 1, rate gamma clean)``: its relative deviation is about ``gamma ** -0.5``.

    Told is ``gamma``, within a factor 2, and errors are relative, as the noise is. Hurault et al., arXiv:2306.03466,
    section 4.
    """
    gamma = deviation**-2
    draws = np.random.default_rng(int(torch.randint(2**31, (), generator=rng)))
    shape = (per_image(gamma, clean.cpu()) - 1).numpy()
    z = torch.from_numpy(draws.gamma(shape, size=clean.shape)).to(clean)
    images = clean * per_image(gamma.to(clean.device), clean) / z
    return Noisy(images, gamma * 2 ** (2 * jitter - 1), images**2, (images + DARK) ** -2)


NOISES: dict[str, Callable[[Tensor, Tensor, Tensor, torch.Generator], Noisy]] = {
    "white": white,
    "inverse-gamma": inverse_gamma,
}


def pretrain(
    regularizer: Learned,
    sampler: Sampler,
    *,
    steps: int,
    limit: float = math.inf,
    batch: int = 16,
    learning_rate: float = 5e-4,
    sigma: tuple[float, float] = (0.015, 0.3),
    brightest: float = 4.0,
    noise: str = "white",
    direct: int = 0,
    precision: str = "auto",
    device: str = "cpu",
    checkpoint: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    every: int = 100,
) -> Generator[Report, None, list[float]]:
    """Train ``D(z) = z - grad r(z)``, ``r`` the summed potential, to remove noise; yield a report a step.

    Of inverse-gamma noise ``D(z) = z - z^2 grad r(z)``, the Bregman score denoiser of Burg's entropy.

    Returns the losses of the first steps.

    Images and noise are in the regularizer's domain.

    Parameters
    ----------
    regularizer : Learned
        Trained in place; its strength is not touched.
    sampler : Sampler
        Clean patches.
    steps, limit, batch, learning_rate
        Optimiser's; the schedule also ends after `limit` seconds.
    sigma : tuple of float
        Deviations of the noise are drawn log-uniformly from this range. White: the network is told the peak that has
        such noise, ``VARIANCE_AT_PEAK / sigma^2``, within a factor 2. Inverse gamma: relative ones, and it is told
        ``gamma = 1 / sigma^2``, within a factor 2.
    brightest : float
        Patches are scaled by up to this factor: sharp structures exceed the blurred peak.
    noise : {"white", "inverse-gamma"}
        One of `NOISES`.
    direct : int
        In the first so many steps the residual network itself is the denoiser: `Red.slope` stands for the gradient.
        Such a step takes less than half the time, and teaches the network what its gradient step then needs.
    precision : {"auto", "bfloat16", "float32"}
        Arithmetic of the network; auto: direct steps in bfloat16 where the device has it, whose rounding is small
        beside the noise that the network removes. A gradient step's adds up over the network and back.
    device : str
        Torch device.
    checkpoint : path, optional
        Resumed from, and written every `every` steps.
    identity : mapping, optional
        As in `Trainer`.

    Raises
    ------
    UserError
        `direct` steps of what has no residual network.

    Notes
    -----
    arXiv:2507.11461, section 5.1: gradient-step denoiser, sigma in [0.025, 0.25], mean squared error, Adam 5e-4.
    Each patch's error is divided by its noise's deviation, so that clean and noisy patches both count.
    """
    if direct and not isinstance(regularizer, Red):
        raise UserError("Only residual networks remove noise directly: leave direct at 0.")
    where = torch.device(device)
    trainer = Trainer(
        regularizer.to(where),
        learning_rate=learning_rate,
        steps=steps,
        limit=limit,
        checkpoint=checkpoint,
        identity=identity,
    )
    quick = "bfloat16" if has_bfloat16(device) else "float32"
    directly, otherwise = (
        arithmetic(where, auto if precision == "auto" else precision) for auto in (quick, "float32")
    )
    while trainer.elapsed < 1:
        number = own(trainer.step)
        clean = sampler.batch(number, batch).to(where)
        rng = torch.Generator().manual_seed(sampler.seed * 1_000_003 + number)
        scale, level, jitter, share = torch.rand(4, batch, generator=rng)
        scale = torch.where(share < 0.5, torch.ones(batch), brightest**scale)
        deviation = sigma[0] * (sigma[1] / sigma[0]) ** level
        clean = trainer.model.to_domain(clean * per_image(scale.to(where), clean))
        shown = NOISES[noise](clean, deviation, jitter, rng)
        noisy = shown.images.requires_grad_()
        planes = View(axes=XY if noisy.ndim == 5 and regularizer.ndim == 2 else ())
        seen = planes.fold(noisy, shown.told.to(where))
        if trainer.step < direct:
            with directly():
                slope = trainer.model.slope(*seen).float().reshape(noisy.shape)
        else:
            with otherwise():
                potential = trainer.model.potential(*seen)
            (slope,) = torch.autograd.grad(potential.sum(), noisy, create_graph=True)
        errors = (shown.weight * (noisy.detach() - shown.metric * slope - clean) ** 2).flatten(1).mean(1)
        loss = (errors / deviation.to(where)).mean()
        loss.backward()
        trainer.update()
        if not math.isfinite(loss.item()):
            raise FloatingPointError("the loss is not finite: lower the learning rate")
        report = trainer.report(loss.item())
        if trainer.step % every == 0 or trainer.elapsed >= 1:
            trainer.save()
        yield report
    regularizer.load_state_dict(trainer.averaged.state_dict())
    return trainer.first_losses
