"""The grid of a network with strides: what it would draw into smooth objects, and a penalty on it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from napari_deqmd.core.regularizers import Red

# Pixels after which the grid of two halvings repeats, repetitions in a cell, and what the border may have to itself.
_PERIOD, _REPEATED, _RIM = 4, 4, 8
_KNOTS, _SIDE = 7, 64


def smooth_objects(batch: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return smooth objects in a regularizer's domain, ``(batch, 1, 64, 64)``, and peaks of 5 to 1000, ``(batch,)``."""
    sparse = torch.exp(0.7 * torch.randn(batch, 1, 1, 1, generator=rng))
    knots = torch.rand(batch, 1, _KNOTS, _KNOTS, generator=rng) ** sparse
    shape = functional.interpolate(knots, size=(_SIDE, _SIDE), mode="bicubic", align_corners=True)
    bright = torch.rand(batch, 1, 1, 1, generator=rng)
    level = torch.rand(batch, generator=rng)
    return 0.17 + bright * shape.clamp(0, 1.2), 5 * torch.exp(level * math.log(200))


def waves(regularizer: Red, v: Tensor, peak: Tensor) -> Tensor:
    """Return the mean square of the grid's waves in the residual of objects, in units of photon noise, ``(B,)``.

    In cells of 16 x 16 pixels the residual is averaged over all pixels at the same place of the grid. What these 16
    means have beside a plane through them no smooth residual has.

    Parameters
    ----------
    regularizer : Red
        Of the variance-stabilised domain, where noise has the deviation ``1 / (2 sqrt(peak))``.
    v : Tensor
        ``(B, 1, Y, X)``: smooth objects in that domain; of sides that leave whole cells within a rim of 8 pixels.
    peak : Tensor
        ``(B,)``, photo-electrons.
    """
    residual = regularizer.residual(v, peak)[..., _RIM:-_RIM, _RIM:-_RIM].float()
    batch, _, height, width = residual.shape
    rows, columns = (n // (_PERIOD * _REPEATED) for n in (height, width))
    cells = residual.reshape(batch, rows, _REPEATED, _PERIOD, columns, _REPEATED, _PERIOD)
    means = cells.mean((2, 5)).transpose(2, 3)  # (B, rows, columns, place in Y, place in X)
    means = means - means.mean((-2, -1), keepdim=True)
    ramp = torch.arange(_PERIOD, dtype=means.dtype, device=means.device) - (_PERIOD - 1) / 2
    for slope in (ramp[:, None], ramp):
        tilt = (means * slope).sum((-2, -1), keepdim=True) / (_PERIOD * ramp.square().sum())
        means = means - tilt * slope
    return means.square().mean((1, 2, 3, 4)) * 4 * peak


def penalty(regularizer: Red, step: int, *, batch: int = 8) -> Tensor:
    """Return the mean of the waves of the smooth objects of a training step."""
    objects, peak = smooth_objects(batch, torch.Generator().manual_seed(step))
    device = next(regularizer.parameters()).device
    return waves(regularizer, objects.to(device), peak.to(device)).mean()
