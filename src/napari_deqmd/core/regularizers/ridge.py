"""Ridge regularizers (fields of experts): potentials of the responses to one bank of filters, all learned."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_deqmd.core.allowed import expect
from napari_deqmd.core.poisson import per_image
from napari_deqmd.core.regularizers.learned import Learned
from napari_deqmd.core.regularizers.networks import convolution
from napari_deqmd.core.regularizers.tv import differences

SPECTRUM = 64
"""Frequencies along an axis at which the filters' gain is looked at; wider filters get more."""


class Ridge(Learned):
    """``potential(v) = sum_c psi_c((w_c * v)(position); peak)``: filters ``w_c`` of zero mean and unit norm.

    Parameters
    ----------
    ndim : {2, 3}
        Spatial dimensions of the filters: of planes, or of stacks.
    channels : sequence of int
        Output channels of the convolutions that make up the bank; the last are the filters.
    kernels : sequence of int or of sequence of int
        Their sides, along every axis the same or ``([Z,] Y, X)``.
    scales : int
        Summands of every profile ``psi_c``.
    convex : bool
        Profiles are convex, and so is the energy in ``v``: with the linear domain in the object. Otherwise they may
        bend down by a learned, limited amount: see `weak_convexity`.
    options
        Domain and weights of planes, as in `Learned`.

    Notes
    -----
    Roth and Black, CVPR 2005; convex: Goujon et al., IEEE Trans. Comput. Imaging 9 (2023), arXiv:2211.12461; weakly
    convex and conditional on the noise: Goujon, Neumayer, Unser, SIAM J. Imaging Sci. 17 (2024), arXiv:2308.10542.
    There profiles are splines; here they are analytic.
    """

    network: Filters

    def __init__(
        self,
        *,
        ndim: int = 2,
        channels: Sequence[int] = (4, 8, 32),
        kernels: Sequence[int | Sequence[int]] = (5, 5, 3),
        scales: int = 1,
        convex: bool = False,
        **options: Any,
    ) -> None:
        expect("convex", convex, bool)
        super().__init__(Filters(ndim=ndim, channels=channels, kernels=kernels), ndim=ndim, **options)
        *_, filters = channels
        self.profiles = Profiles(filters, scales=scales, convex=convex)

    def potential(self, v: Tensor, peak: Tensor) -> Tensor:
        """Return the sum of the profiles at every position."""
        out: Tensor = self.profiles(self.network(v), peak)
        return out

    def stiffness(self, peak: Tensor) -> Tensor:
        """Return the curvature where the image is flat: filters have unit norm."""
        return self.profiles.shapes(peak).bend.sum((0, 2, 3, 4))

    def weak_convexity(self, peak: Tensor) -> Tensor:
        """Return a bound ``rho`` of every image, ``(B,)``: ``potential(v) + rho / 2 ||v||^2``, summed, is convex.

        Notes
        -----
        The Hessian is ``sum_c W_c^T diag(psi_c'') W_c``, with ``psi_c'' >= -concavity_c``. `W_c` is a convolution of
        differences; the differences' squared norm is below 4 for every axis, and that of the weighted convolutions the
        largest gain over all frequencies. It is a trigonometric polynomial, bounded by its values on a grid (Ehlich and
        Zeller, Math. Z. 86 (1964), 41).
        """
        more = self.network.more
        points = [max(SPECTRUM, 8 * n) for n in more]
        concavity = self.profiles.shapes(peak).concavity.sum(0)[..., 0, 0]
        gain = concavity.new_zeros(())
        for share, kernels in zip(concavity.T, self.network.kernels().transpose(0, 1), strict=True):
            gains = (
                torch.fft.rfftn(kernels, s=points, dim=tuple(range(1, kernels.ndim))).abs().square().sum(0)
            )
            gain = gain + per_image(share, gains[None].expand(len(share), *gains.shape)) * gains
        between = math.prod(math.cos(math.pi * n / count) for n, count in zip(more, points, strict=True))
        return 4 * len(more) * gain.flatten(1).amax(1) / between


class Filters(nn.Module):
    """A composition of convolutions of the image's differences: filters of zero mean, scaled to unit norm.

    They start from differences so that a constant image has no response at all, at the border neither.

    Parameters
    ----------
    ndim, channels, kernels
        As in `Ridge`.

    Attributes
    ----------
    more : tuple of int
        Along every axis, how much longer the filters are than a difference.
    reach : tuple of int
        How far from a position its responses depend on the image.
    """

    def __init__(self, *, ndim: int, channels: Sequence[int], kernels: Sequence[int | Sequence[int]]) -> None:
        super().__init__()
        layer = convolution(ndim)
        sides = [(kernel,) * ndim if isinstance(kernel, int) else tuple(kernel) for kernel in kernels]
        widths = itertools.pairwise([ndim, *channels])
        self.convs = nn.ModuleList(
            layer(a, b, side, bias=False) for (a, b), side in zip(widths, sides, strict=True)
        )
        self.more = tuple(sum(along) - len(sides) for along in zip(*sides, strict=True))
        self.reach = tuple((n + 1) // 2 + 1 for n in self.more)

    def forward(self, v: Tensor) -> Tensor:
        """Return the responses to ``(B, 1, [Z,] Y, X)``: ``(B, channels[-1], [Z,] Y, X)``."""
        return self._convolve(torch.cat(differences(v), 1), self._norm(v))

    def kernels(self) -> Tensor:
        """Return the kernels of the differences, ``(axes, channels[-1], *sides)``, mirrored."""
        like = next(self.parameters())
        axes = len(self.more)
        impulses = torch.eye(axes).to(like).reshape(axes, axes, *(1,) * axes)
        return self._convolve(_framed(impulses, self.more), self._norm(like))

    def _norm(self, like: Tensor) -> Tensor:
        """Return the norms of the filters before scaling, ``(channels[-1], 1, *ones)``."""
        ones = (1,) * len(self.more)
        impulse = torch.cat(
            differences(_framed(like.new_ones(1, 1, *ones), [2 * n + 2 for n in self.more])), 1
        )
        responses = self._convolve(impulse, like.new_ones(()))
        return responses[0].flatten(1).square().sum(1).sqrt().reshape(-1, 1, *ones)

    def _convolve(self, fields: Tensor, norm: Tensor) -> Tensor:
        """Convolve ``(B, axes, ...)``, zero outside the image; norms are taken out of the last weights."""
        out = _framed(fields, self.more)
        *first, last = self.convs
        for conv in first:
            out = conv(out)
        weight: Tensor = last.weight  # type: ignore[assignment]
        convolve = functional.conv2d if len(self.more) == 2 else functional.conv3d
        return convolve(out, weight / norm).to(fields.dtype)


def _framed(maps: Tensor, more: Sequence[int]) -> Tensor:
    """Return maps in a frame of zeros that makes their sides longer by `more`."""
    return functional.pad(maps, [side for n in reversed(more) for side in (n // 2, n - n // 2)])


@dataclass(frozen=True)
class Shapes:
    """Profiles at the peaks of a batch, ``(scales, B or 1, channels, 1, 1)`` each.

    Attributes
    ----------
    weight, width : Tensor
        Of the convex part: its curvature at 0, and where it turns from a parabola to a straight line.
    share : Tensor
        Curvature of the concave part at 0, in units of `weight`, in [0, 1/2); the same for the whole batch.
    spread : Tensor
        Width of the concave part, in units of `width`, > 2; the same for the whole batch.
    """

    weight: Tensor
    width: Tensor
    share: Tensor
    spread: Tensor

    @property
    def bend(self) -> Tensor:
        """Curvature at 0."""
        return self.weight * (1 - self.share)

    @property
    def concavity(self) -> Tensor:
        """What the curvature is nowhere below, negated: with equality for a single summand; at most `weight` / 9."""
        turn = (self.spread**2 / self.share) ** 0.4
        outside = ((self.spread**2 - turn) / (self.spread**2 - 1)).clamp_min(0) ** 1.5
        return self.weight * outside * (self.share - turn**-1.5)


class Profiles(nn.Module):
    """Even analytic functions of a channel's response, ``psi(t) = sum weight (h(t; s) - share h(t; r))``, ``r > 2 s``.

    ``h(t; s) = s^2 (sqrt(1 + t^2 / s^2) - 1)`` is a parabola that turns into a straight line at ``s``, with a curvature
    in (0, 1]. With ``share = balance s / r``, ``balance < 1``, the difference still grows with ``|t|``, up to a plateau
    if the lines cancel; without it the profile is convex. Weights and widths are powers of the peak.

    Parameters
    ----------
    channels, scales : int
        Functions, and summands of each.
    convex : bool
        Nothing is subtracted.
    """

    def __init__(self, channels: int, *, scales: int, convex: bool) -> None:
        super().__init__()
        self.convex = convex
        shape = (scales, channels)
        # Noise of a peak of 60 where pretraining sees it; then every frequency is removed with a gain of about 1.
        widths = math.log(0.07) + torch.linspace(-1, 1, scales * channels).reshape(shape)
        self.width = nn.Parameter(widths)
        self.width_power = nn.Parameter(torch.full(shape, -0.5))
        self.weight = nn.Parameter(torch.full(shape, -math.log(scales * channels)))
        self.weight_power = nn.Parameter(torch.zeros(shape))
        if not convex:
            self.balance = nn.Parameter(torch.zeros(shape))
            self.spread = nn.Parameter(torch.zeros(shape))

    def extra_repr(self) -> str:
        """Return what the weights alone do not tell."""
        return f"scales={len(self.width)}, convex={self.convex}"

    def shapes(self, peak: Tensor) -> Shapes:
        """Return the profiles at the peaks of a batch."""
        level = torch.log(peak / 60).to(self.width.dtype)[:, None, None, None]

        def power(log: Tensor, exponent: Tensor) -> Tensor:
            return torch.exp(log[:, None, :, None, None] + exponent[:, None, :, None, None] * level)

        weight, width = power(self.weight, self.weight_power), power(self.width, self.width_power)
        if self.convex:
            return Shapes(weight, width, torch.zeros_like(weight[:, :1]), torch.full_like(weight[:, :1], 2))
        spread = 2 + torch.exp(self.spread)[:, None, :, None, None]
        return Shapes(weight, width, torch.sigmoid(self.balance)[:, None, :, None, None] / spread, spread)

    def forward(self, t: Tensor, peak: Tensor) -> Tensor:
        """Return the sum over the channels of ``(B, channels, [Z,] Y, X)``: ``(B, 1, [Z,] Y, X)``."""
        shapes, square = self.shapes(peak), t.flatten(2, -2) ** 2
        steep, wide = shapes.weight * shapes.width, shapes.width * shapes.spread
        parts = zip(steep, shapes.width, steep * shapes.share * shapes.spread, wide, strict=True)
        zero, ones = square.new_zeros(()), torch.ones_like(square[:1, :, :1, :1])
        total = torch.zeros_like(square[:, :1])
        with torch.autocast(t.device.type, enabled=False):
            for slope, width, less, wider in parts:
                value, flat = (_bent(t2, slope, width) for t2 in (square, zero))
                if not self.convex:
                    value, flat = value - _bent(square, less, wider), flat - _bent(zero, less, wider)
                total = total + functional.conv2d(value - flat, ones)
        return total.reshape(len(t), 1, *t.shape[2:])


def _bent(square: Tensor, slope: Tensor, width: Tensor) -> Tensor:
    """Return ``slope sqrt(t^2 + width^2)`` of ``t^2`` in two passes: on responses they are what takes time."""
    return torch.sqrt(torch.addcmul((slope * width) ** 2, slope**2, square))
