"""Learned regularizers: what they share, RED, Bregman score denoisers, and the scalar potential."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from napari_deqmd.core.allowed import NotNegative, expect
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.poisson import per_image
from napari_deqmd.core.regularizers.base import Regularizer
from napari_deqmd.core.regularizers.networks import Strided

DOMAINS = ("linear", "root")
SHARED = frozenset({"ndim", "domain", "slice_weight", "across_weight"})
"""Options of every `Learned` regularizer."""
FLOOR = 0.03
"""What is dark in the root's domain, in units of the peak: below it the root is nearly linear."""

DARK = 0.01
"""What is dark to a Bregman denoiser, in units of the peak."""

MEAN_OVER = 64**2
"""Pixels of an image at which a spatial mean weighs as the sum does."""


class Strength(nn.Module):
    """``strength(peak) = exp(a - p log(peak / 60))``: a fixed prior under MAP scaling has ``p = 1``."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(()))
        self.p = nn.Parameter(torch.ones(()))

    def forward(self, peak: Tensor) -> Tensor:
        """Return the weight of every image, ``(B,)``."""
        weight: Tensor = torch.exp(self.a - self.p * torch.log(peak / 60))
        return weight


class Learned(Regularizer):
    """``R(x; peak) = strength(peak) * sum potential(v; peak)`` of the object in a domain, ``v = to_domain(x)``.

    Subclasses give the potential, whose gradient step can be pretrained as a denoiser.

    Parameters
    ----------
    network : nn.Module
        What the potential is made of.
    ndim : {2, 3}
        Spatial dimensions that the potential couples.
    domain : {"linear", "root"}
        ``v = x``, or ``v = sqrt(x + FLOOR)``: there Poisson noise has the deviation ``1 / (2 sqrt(peak))`` wherever it
        is brighter than the floor, and the prior bends where the data do, by about ``1 / x``.
    slice_weight, across_weight : float
        Weights of a stack's XY planes, and of its XZ and its YZ planes.

    Notes
    -----
    Root: the variance-stabilising transform, Bartlett, Suppl. J. R. Stat. Soc. 3 (1936), 68; Euclidean distance there
    is Hellinger's.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        ndim: int = 2,
        domain: str = "linear",
        slice_weight: float = 1.0,
        across_weight: float = 0.0,
    ) -> None:
        super().__init__()
        expect("ndim", ndim, Literal[2, 3])
        expect("slice_weight", slice_weight, NotNegative)
        expect("across_weight", across_weight, NotNegative)
        if domain not in DOMAINS:
            raise UserError(
                f"Unknown domain {domain!r} of a regularizer: this version knows {', '.join(DOMAINS)}."
            )
        self.network = network
        self.ndim = ndim
        self.domain = domain
        self.slice_weight = slice_weight
        self.across_weight = across_weight
        self.strength = Strength()
        self.shifts = getattr(network, "shifts", self.shifts)
        self.reach = getattr(network, "reach", self.reach)

    def extra_repr(self) -> str:
        """Return what the weights alone do not tell."""
        weights = f"slice_weight={self.slice_weight:g}, across_weight={self.across_weight:g}"
        return f"ndim={self.ndim}, domain={self.domain}, {weights}"

    def to_domain(self, x: Tensor) -> Tensor:
        """Return ``v`` of an object ``x >= 0``."""
        return x if self.domain == "linear" else torch.sqrt(x + FLOOR)

    def potential(self, v: Tensor, peak: Tensor) -> Tensor:
        """Return the energy of every position at strength 1, ``(B, 1, [Z,] Y, X)``, >= 0, in the precision of `v`."""
        raise NotImplementedError

    def stiffness(self, peak: Tensor) -> Tensor:
        """Return a typical curvature of the summed potential in a pixel of ``v``, ``(B,)``."""
        return torch.ones_like(peak)

    def energy(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return the potential of every position, weighted."""
        return per_image(self.strength(peak), x) * self.potential(self.to_domain(x), peak)

    def curvature(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return the weighted stiffness, seen through the domain."""
        weight = per_image(self.strength(peak) * self.stiffness(peak), x).detach()
        return weight.expand_as(x) if self.domain == "linear" else weight / (4 * (x.clamp_min(0) + FLOOR))


class Red(Learned):
    """``potential(v) = 1/2 (v - N(v))^2`` with a residual network ``N(v) = v - f(v, log peak)``.

    Its stiffness is 1: ``v - N(v)`` passes high frequencies with a gain near 1.

    Parameters
    ----------
    network : nn.Module
        ``f``, from ``(B, C + 1, [Z,] Y, X)`` (``v``, and a constant map of ``log(peak / 60)``) to
        ``(B, C, [Z,] Y, X)``.
    peaks : pair of float
        The peaks it knows, photo-electrons: of others the network is told the nearest. The strength follows them all.
    options
        Domain and weights of planes, as in `Learned`.

    Notes
    -----
    arXiv:2507.11461, section 4.1 ("DEQ-RED", linear), made conditional on the peak.
    """

    def __init__(
        self, network: nn.Module, *, peaks: Sequence[float] = (0.0, math.inf), **options: Any
    ) -> None:
        super().__init__(network, **options)
        try:
            low, high = map(float, peaks)
        except (TypeError, ValueError):
            low, high = math.nan, math.nan
        if not 0 <= low < high:
            raise UserError(f"A regularizer knows no peaks {peaks!r}: give the lowest and the highest.")
        self.peaks = low, high

    def extra_repr(self) -> str:
        """Return what the weights alone do not tell."""
        return f"{super().extra_repr()}, peaks={self.peaks}"

    def residual(self, v: Tensor, peak: Tensor) -> Tensor:
        """Return ``v - N(v)``, of the shape of `v`."""
        level = per_image(torch.log(peak.clamp(*self.peaks) / 60), v).expand_as(v[:, :1])
        out: Tensor = self.network(torch.cat([v, level], 1))
        return out

    def slope(self, v: Tensor, peak: Tensor) -> Tensor:
        """Return what the gradient of the summed potential is where ``N`` changes little: the residual."""
        return self.residual(v, peak)

    def potential(self, v: Tensor, peak: Tensor) -> Tensor:
        """Return half the squared residual of every pixel."""
        return 0.5 * self.residual(v, peak).to(v.dtype) ** 2


class Bregman(Red):
    """``R(x; peak) = strength(peak) gamma / 60 sum g(x; gamma)``, the potential of a Bregman score denoiser.

    ``g = 1/2 (u - N(u; gamma))^2`` of ``u = log(x + DARK)`` is told the precision ``gamma`` of inverse-gamma noise in
    place of the peak, and ``B(x) = x - x^2 grad g(x)`` removes it: then ``gamma g`` is about ``-log p_gamma(x)``, which
    a strength of 1 at 60 photo-electrons weighs as maximum a posteriori does.

    That noise is a factor on every pixel. Its logarithm is the same everywhere, as is a step of the mirror map, so the
    network sees that; the reference's sees ``x``, and would have to give ``1 / x`` where it is dark.

    Parameters
    ----------
    network, options
        As in `Red`; the domain is linear.

    Notes
    -----
    Hurault et al., arXiv:2306.03466, section 4.
    """

    gamma: float = 500.0

    def __init__(self, network: nn.Module, **options: Any) -> None:
        super().__init__(network, **options)
        if self.domain != "linear":
            raise UserError("A Bregman denoiser sees the object itself: choose the domain linear.")

    def residual(self, v: Tensor, peak: Tensor) -> Tensor:
        """Return ``u - N(u)``, of the shape of `v`, the object."""
        return super().residual(torch.log(v.clamp_min(0) + DARK), peak)

    def slope(self, v: Tensor, peak: Tensor) -> Tensor:
        """Return what the gradient of the summed potential is where ``N`` changes little."""
        return self.residual(v, peak) / (v.clamp_min(0) + DARK)

    def at(self, gamma: float) -> Bregman:
        """Return the same weights at another precision of the noise."""
        other = copy.copy(self)
        other.gamma = gamma
        return other

    def weight(self, peak: Tensor) -> Tensor:
        """Return the factor on ``g``, ``(B,)``: (H)'s ``1 / lambda``."""
        strength: Tensor = self.strength(peak)
        return strength * (self.gamma / 60)

    def energy(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return the weighted potential of every position."""
        return per_image(self.weight(peak), x) * self.potential(x, torch.full_like(peak, self.gamma))

    def curvature(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return the weighted ``1 / x^2`` of a denoiser that removes a pixel's noise, of dark pixels less."""
        return per_image(self.weight(peak), x).detach() / (x.clamp_min(0) + DARK) ** 2


class Scalar(Learned):
    """Scalar-output network: its potential is the output of strided convolutions with input skips ("DEQ-S").

    Parameters
    ----------
    channels : int
        Width of the hidden layers.
    depth : int
        Number of 2x strided layers.
    colours : int
        Channels of the image.
    convex : bool
        Use non-negative weights on hidden maps: with convex increasing activations the energy is then convex in ``v``.
    mean : bool
        Take the mean over positions instead of the sum, times `MEAN_OVER`: then the weight falls with the image size.
    options
        Domain and weights of planes, as in `Learned`.

    Notes
    -----
    arXiv:2507.11461, section 4.2, takes the mean.
    """

    network: Strided

    def __init__(
        self,
        *,
        channels: int = 32,
        depth: int = 3,
        colours: int = 1,
        convex: bool = False,
        mean: bool = False,
        **options: Any,
    ) -> None:
        expect("convex", convex, bool)
        expect("mean", mean, bool)
        super().__init__(Strided(channels=channels, depth=depth, colours=colours, convex=convex), **options)
        self.mean = mean
        if self.ndim != 2:
            raise UserError("A scalar network sees planes: leave ndim out of its options.")

    def extra_repr(self) -> str:
        """Return what the weights alone do not tell."""
        return f"{super().extra_repr()}, convex={self.network.convex}, mean={self.mean}"

    def potential(self, v: Tensor, peak: Tensor) -> Tensor:
        """Return the coarse energies, spread evenly over the pixels and colours they stand for."""
        factor = 2 ** len(self.network.hidden)
        coarse = self.network(v).to(v.dtype)
        fine = coarse.repeat_interleave(factor, -2).repeat_interleave(factor, -1) / factor**2
        height, width = v.shape[-2:]
        share = 1 / v.shape[1] * (MEAN_OVER / (height * width) if self.mean else 1)
        energy: Tensor = share * fine[..., :height, :width].expand_as(v)
        return energy
