"""Hand-made regularizers: smoothed total variation, and none."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from napari_deqmd.core.regularizers.base import Regularizer


def differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return forward differences of ``(B, C, Y, X)`` along y and x; the border is replicated.

    As one operator its squared norm is below 8.
    """
    dy = functional.pad(x[:, :, 1:] - x[:, :, :-1], (0, 0, 0, 1))
    dx = functional.pad(x[:, :, :, 1:] - x[:, :, :, :-1], (0, 1))
    return dy, dx


class TotalVariation(Regularizer):
    """``weight(peak) * sum sqrt(|grad x|^2 + eps^2) - eps``, isotropic, replicated border.

    Parameters
    ----------
    weight : float
        Weight at a peak of 60 photo-electrons.
    exponent : float
        ``weight(peak) = weight * (60 / peak) ** exponent``.
    eps : float
        Smoothing of the corner at zero, in units of the peak, > 0.
    """

    ndim = 2

    def __init__(self, *, weight: float = 0.032, exponent: float = 0.75, eps: float = 1e-2) -> None:
        super().__init__()
        self.weight = weight
        self.exponent = exponent
        self.eps = eps

    def energy(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return the smoothed gradient magnitude of every pixel, weighted."""
        dy, dx = differences(x)
        weight = self._weight(peak).reshape(-1, 1, 1, 1)
        return weight * (torch.sqrt(dy**2 + dx**2 + self.eps**2) - self.eps)

    def curvature(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return the curvature of a pixel whose gradients are a few `eps`."""
        weight = self._weight(peak).to(x.dtype) / self.eps
        return weight.reshape(-1, *(1,) * (x.ndim - 1)).expand_as(x)

    def _weight(self, peak: Tensor) -> Tensor:
        return self.weight * (60 / peak) ** self.exponent


class NoRegularizer(Regularizer):
    """``R = 0``: maximum likelihood."""

    ndim = None

    def energy(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return zeros that still depend on `x`, so that autograd works."""
        return 0 * x
