"""Mirror map of Burg's entropy, shifted by the background, with the exact projection on a box."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_deqmd.core.device import wide
from napari_deqmd.core.poisson import SUMMED, per_image, sum_images

SMALL = 0.01


@dataclass(frozen=True)
class Burg:
    """``h(x) = -sum log(x + shift)`` on the box ``floor - shift <= x <= upper``.

    Parameters
    ----------
    shift : Tensor
        ``(B,)``, >= 0 and at most the background ``beta``: then ``KL(y, A x + beta)`` stays smooth relative to
        ``h`` with the same constants, ``x = 0`` is an ordinary boundary point, and steps on a dark background do not
        vanish.
    upper : float
        Upper bound of ``x``.
    floor : float
        Smallest value of ``x + shift``; without a shift zero would be absorbing.

    Notes
    -----
    arXiv:2507.11461, section 3, is the case ``shift = 0``. Solvers work in ``u = x + shift``.
    """

    shift: Tensor
    upper: float = 10.0
    floor: float = 1e-6

    def to_u(self, x: Tensor) -> Tensor:
        """Return ``x + shift``, projected on the box."""
        return self.project(x + per_image(self.shift, x))

    def to_x(self, u: Tensor) -> Tensor:
        """Return ``u - shift``."""
        return (u - per_image(self.shift, u)).clamp_min_(0)

    def bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the box of ``u``, each ``(B, 1, ...)``."""
        shift = per_image(self.shift, like)
        return shift.clamp_min(self.floor), shift + self.upper

    def project(self, u: Tensor) -> Tensor:
        """Project on the box. The Bregman projection of a separable entropy is the clipping of every entry."""
        return torch.clamp(u, *self.bounds(u))

    def dual(self, u: Tensor) -> Tensor:
        """Return ``grad h = -1 / u``."""
        return -1 / u

    def primal(self, p: Tensor) -> Tensor:
        """Return the inverse of `dual`."""
        return -1 / p

    def step(self, u: Tensor, gradient: Tensor, tau: Tensor) -> Tensor:
        """Return the mirror step ``u / (1 + tau u g)`` projected on the box.

        Where ``1 + tau u g <= u / upper`` the minimiser over the box is the upper bound itself; this includes the
        non-positive denominators, at which the unprojected step does not exist.
        """
        lower, upper = self.bounds(u)
        denominator = 1 + per_image(tau, u) * u * gradient
        moved = u / torch.maximum(denominator, u / upper)
        return torch.clamp(moved, lower, upper)

    def divergence(self, u_new: Tensor, u: Tensor) -> Tensor:
        """Return ``D_h(u_new, u) = sum q - log(1 + q)`` with ``q = (u_new - u) / u``, ``(B,)``."""
        parts = zip(*(values.flatten(1).split(SUMMED, 1) for values in (u_new, u)), strict=True)
        return torch.stack(
            [sum_images(_excess((wide(new) - wide(old)) / wide(old))) for new, old in parts]
        ).sum(0)

    def free(self, u: Tensor, gradient: Tensor) -> Tensor:
        """Return where ``-gradient`` does not push out of the box, as a bool mask."""
        lower, upper = self.bounds(u)
        return ~(((u <= lower) & (gradient > 0)) | ((u >= upper) & (gradient < 0)))


def _excess(q: Tensor) -> Tensor:
    """Return ``q - log(1 + q)``, where `q` is small by its series: of the difference rounding leaves nothing there."""
    series = q**2 * (1 / 2 - q * (1 / 3 - q * (1 / 4 - q / 5)))
    return torch.where(q.abs() < SMALL, series, q - torch.log1p(q))
