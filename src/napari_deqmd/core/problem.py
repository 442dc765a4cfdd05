"""The reconstruction problem: Poisson likelihood plus regularizer in Burg geometry, and its evaluation at a point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from napari_deqmd.core.burg import Burg
from napari_deqmd.core.operators import Masked, Operator, Window
from napari_deqmd.core.poisson import PoissonLikelihood, per_image, sum_images
from napari_deqmd.core.regularizers.base import Evaluation, Regularizer, curvature, evaluate

REACH = 12
"""Pixels beyond the field of view that the regularizer sees."""


@dataclass(frozen=True)
class Point:
    """The objective at a point, everything a solver reuses of it, and its gradient once asked for.

    Attributes
    ----------
    u : Tensor
        ``(B, 1, *object_shape)``: object plus shift.
    z : Tensor
        ``(B, 1, *image_shape)``: expected image over the peak.
    energy : Tensor
        Energy of the regularizer at every position, times the strength.
    complete : callable
        Returns ``(gradient of Psi, gradient of KL)``, each of the shape of `u`: one ``A^T`` and one backward pass.
    """

    u: Tensor
    z: Tensor
    energy: Tensor
    complete: Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Problem:
    """``min KL(y, A x + beta) + strength R(x; peak)`` over the box, arXiv:2507.11461 equation (3).

    Parameters
    ----------
    likelihood : PoissonLikelihood
        Data term; images are over the peak.
    regularizer : Regularizer
        ``R``.
    peak : Tensor
        ``(B,)``: photo-electrons where ``A x = 1``.
    strength : float
        Factor on the regularizer, >= 0.
    upper : float
        Upper bound of the object, which is in units of the peak.
    shifted : bool
        Use the background as the shift of the mirror map; ``False`` is the paper's protocol.
    level : Tensor, optional
        ``(B,)``: mean of an object that explains the image, or that of which this is a tile; by default found in it.
    """

    likelihood: PoissonLikelihood
    regularizer: Regularizer
    peak: Tensor
    strength: float = 1.0
    upper: float = 10.0
    shifted: bool = True
    level: Tensor | None = None

    @classmethod
    def from_electrons(
        cls,
        electrons: Tensor,
        operator: Operator,
        regularizer: Regularizer,
        *,
        peak: Tensor,
        background: Tensor,
        bad: Tensor | None = None,
        full: Tensor | None = None,
        strength: float = 1.0,
        upper: float = 10.0,
        level: Tensor | None = None,
    ) -> Problem:
        """Build the problem from photo-electrons ``(B, 1, *image_shape)``.

        `peak` is ``(B,)``, `background` too, or it broadcasts against `electrons`: a number for every pixel. Where
        `bad`, bool ``(B or 1, 1, *image_shape)``, a pixel tells nothing, and its `electrons` are not looked at. Where
        `full`, of the shape of `electrons`, it tells that there were at least so many. `level` is ``(B,)``,
        photo-electrons.

        `upper` is a multiple of the peak for what no plane of the PSF weakens. The peak is what the image shows, and a
        thin object is as much brighter as the light of one plane is spread over others: so is the bound.
        """
        y = electrons / per_image(peak, electrons)
        beta = background / per_image(peak, background)
        if bad is not None:
            y = torch.where(bad, per_image(beta, y), y)
            operator = Masked(operator, bad)
        ceiling = None if full is None else torch.where(full, y, torch.inf)
        return cls(
            PoissonLikelihood(operator, y, beta, ceiling),
            regularizer,
            peak,
            strength=strength,
            upper=upper / operator.in_plane,
            level=None if level is None else level / peak,
        )

    @property
    def burg(self) -> Burg:
        """The mirror map; ``A 1 <= 1`` for both boundaries, so the shift may be the background where that is least."""
        beta = self.likelihood.beta
        least = beta.reshape(len(beta), -1).amin(1)
        return Burg(least if self.shifted else torch.zeros_like(least), self.upper)

    @property
    def sensitivity(self) -> Tensor:
        """``A^T 1``, broadcastable against objects; less where pixels are bad or the object leaves the image."""
        return self.likelihood.operator.sensitivity

    @property
    def seen(self) -> Window:
        """Where the regularizer sees the object: in the field of view, and at most `REACH` pixels beyond.

        Of what lies further away the image has only the light that spreads so far, which the likelihood places as it
        needs it. Nobody looks there, and the box of a wide-field PSF makes it several times as large as what is seen.
        """
        return self.likelihood.operator.near(REACH)

    def prior(self, x: Tensor) -> Evaluation:
        """Evaluate the regularizer, without the strength, on what it sees of an object; elsewhere it is 0."""
        seen = evaluate(self.regularizer, x[self.seen].contiguous(), self.peak)

        def whole(part: Tensor) -> Tensor:
            if part.shape == x.shape:
                return part
            filled = torch.zeros_like(x)
            filled[self.seen] = part
            return filled

        return Evaluation(whole(seen.energy), lambda: whole(seen.gradient()))

    def metric(self, u: Tensor) -> Tensor:
        """Return a diagonal model of the curvature of ``Psi`` at ``u = x + shift``, of its shape, > 0.

        The Fisher information ``1 / u`` of the photons every pixel sent out, of which the image shows sums only: in
        this metric gradient steps on the likelihood are those of expectation maximisation (Richardson-Lucy). The
        regularizer adds its own. It depends on no step size. Of the margin of the object, outside the field of view,
        and behind bad pixels the image tells less (``A^T 1 / u``), or nothing, and the regularizer decides alone. Steps
        there stay as short as elsewhere, or it would run ahead.
        """
        x = self.burg.to_x(u)
        metric = 1 / u + 1e-3
        metric[self.seen] += self.strength * curvature(self.regularizer, x[self.seen], self.peak)
        return metric

    def certificate(self, u: Tensor, gradient: Tensor) -> Tensor:
        """Return the first-order certificate ``||u - P(u - g / metric)|| / ||x||``, ``(B,)`` in the widest dtype.

        The relative change that one projected Newton-like step of unit length would still make: it depends on no step
        size and no units, and is zero exactly at stationary points.
        """
        moved = self.burg.project(u - gradient / self.metric(u))
        size = sum_images(self.burg.to_x(u) ** 2).clamp_min(1e-30)
        return (sum_images((moved - u) ** 2) / size).sqrt()

    def start(self) -> Tensor:
        """Return the first object: the image without its background, spread back by ``A^T``."""
        like = self.likelihood
        signal = (like.y - per_image(like.beta, like.y)).clamp_min(0)
        floor = 1e-2 * signal.flatten(1).mean(1)
        x = like.operator.adjoint(signal) / self.sensitivity.clamp_min(0.1)
        return torch.maximum(x, per_image(floor, x))

    def evaluate(self, u: Tensor, near: Point | None = None) -> Point:
        """Evaluate the objective at ``u = x + shift``: one ``A`` and one forward pass.

        Near another point ``z`` moves by ``A (u - near.u)``: rounding is then relative to the move, and differences of
        the objective stay exact long after those of two blurred images would drown in the rounding of the FFT.
        """
        x = self.burg.to_x(u)
        like = self.likelihood
        z = like.expect(x) if near is None else like.positive(near.z + like.operator.forward(u - near.u))
        prior = self.prior(x)

        @cache
        def complete() -> tuple[Tensor, Tensor]:
            kl = self.likelihood.gradient(z)
            return kl + self.strength * prior.gradient(), kl

        return Point(u, z, self.strength * prior.energy, complete)

    def value(self, point: Point) -> Tensor:
        """Return ``Psi``, ``(B,)`` in the widest dtype."""
        return self.likelihood.value(point.z) + sum_images(point.energy)

    def difference(self, new: Point, old: Point, slope: Tensor | None = None) -> Tensor:
        """Return ``Psi(new) - Psi(old)``, ``(B,)``: differences are summed, sums are not subtracted.

        Close points drown in the `rounding` of a regularizer; its difference is then the trapezoidal rule along the
        move, with `slope`, its weighted gradient at the old point. Where both differ by more than rounding does, the
        move is too long for the rule, and the energies tell it.
        """
        data = self.likelihood.difference(new.z, old.z)
        told = sum_images(new.energy - old.energy)
        rounding = self.regularizer.rounding
        if not rounding or slope is None:
            return data + told
        gradient, kl = new.complete()
        ruled = sum_images(0.5 * (slope + gradient - kl) * (new.u - old.u))
        drowned = (told - ruled).abs() <= rounding * sum_images(new.energy + old.energy) / 2
        return data + torch.where(drowned, ruled, told)
