"""Poisson likelihood of counts behind a linear operator: value, exact differences, gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_deqmd.core.device import wide, widest
from napari_deqmd.core.operators import Operator

SUMMED = 2**20
"""Pixels that are summed at a time."""


def sum_images(values: Tensor) -> Tensor:
    """Sum every image of a batch, ``(B, ...)`` to ``(B,)``, in `widest`, without a copy of it in that."""
    parts = [part.sum(1, dtype=widest(values.device)) for part in values.flatten(1).split(SUMMED, 1)]
    return torch.stack(parts).sum(0)


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Shape ``(B,)`` values so that they broadcast against `like`, in its dtype; those of every pixel do so already."""
    return values.to(like.dtype).reshape(*values.shape, *(1,) * (like.ndim - values.ndim))


def poisson_deviance(counts: Tensor, expected: Tensor) -> Tensor:
    """Return the mean Poisson deviance of every image's pixels, ``2 (n log(n / mu) - n + mu)``, ``(B,)``.

    About 1 where the expectation is right and above a few counts.
    """
    n, mu = wide(counts), wide(expected)
    return 2 * (torch.xlogy(n, n) - n * torch.log(mu) + mu - n).flatten(1).mean(1)


@dataclass(frozen=True)
class PoissonLikelihood:
    """``KL(y, A x + beta)`` of photo-electrons ``n ~ Poisson(peak (A x + beta))``, ``y = n / peak``.

    Parameters
    ----------
    operator : Operator
        The image formation ``A``.
    y : Tensor
        ``(B, 1, *image_shape)``: photo-electrons over the peak, >= 0.
    beta : Tensor
        ``(B,)``, or of the shape of `y`: background over the peak, >= 0.
    ceiling : Tensor, optional
        Of the shape of `y`: `y` where a pixel is full, so that only an expectation below it is unlikely; else infinite.

    Notes
    -----
    arXiv:2507.11461, equation (2); the gradient is ``A^T (1 - y / (A x + beta))``. Pixels that tell nothing are a
    matter of the operator (`napari_deqmd.core.operators.Masked`): where it sees none and ``y = beta``, every term is 0.
    """

    operator: Operator
    y: Tensor
    beta: Tensor
    ceiling: Tensor | None = None

    def told(self, z: Tensor) -> Tensor:
        """Return what counts can tell of an expected image: to a full pixel every expectation above `y` is alike."""
        return z if self.ceiling is None else torch.minimum(z, self.ceiling)

    def expect(self, x: Tensor) -> Tensor:
        """Return ``z = A x + beta``."""
        return self.positive(self.operator.forward(x) + per_image(self.beta, x))

    def positive(self, z: Tensor) -> Tensor:
        """Keep an expected image above zero against rounding of the FFT."""
        return z.clamp_min(torch.finfo(z.dtype).eps)

    def value(self, z: Tensor) -> Tensor:
        """Return ``sum y log(y / z) + z - y`` of every image, ``(B,)`` in the widest dtype."""
        y, z = wide(self.y), wide(self.told(z))
        return sum_images(torch.xlogy(y, y / z) + z - y)

    def difference(self, z_new: Tensor, z: Tensor) -> Tensor:
        """Return ``KL(y, z_new) - KL(y, z)``, ``(B,)`` in the widest dtype, without cancellation between large sums."""
        z = self.told(z)
        change = self.told(z_new) - z
        return sum_images(change - self.y * torch.log1p(change / z))

    def gradient(self, z: Tensor) -> Tensor:
        """Return the gradient in ``x`` at the object whose expectation is `z`."""
        return self.operator.adjoint(1 - self.y / self.told(z))
