"""Networks of the learned regularizers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_deqmd.core.errors import UserError

SHIFTS = ((0, 0), (1, 2), (2, 1), (3, 3))
"""For two halvings: waves of two and of four pixels along an axis, and of two along both, add up to nothing."""

SHARPNESS = 10.0
"""Of the softplus of scalar networks: at 1 it is nearly linear on images, at 100 (the paper's) it trains slower."""


def convolution(ndim: int) -> Callable[..., nn.Module]:
    """Return the layer that convolves planes or stacks."""
    if ndim not in (2, 3):
        raise UserError(f"A regularizer has no filters of {ndim!r} dimensions: give 2 or 3.")
    return nn.Conv2d if ndim == 2 else nn.Conv3d


class DnCNN(nn.Sequential):
    """Plain stack of ``depth`` 3x3 convolutions with SiLU between, no normalisation (arXiv:2507.11461: 5 x 64).

    With `ndim` 3 they are 3x3x3.
    """

    def __init__(self, *, channels: int = 64, depth: int = 5, colours: int = 1, ndim: int = 2) -> None:
        widths = [colours + 1, *[channels] * (depth - 1), colours]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            layers += [convolution(ndim)(a, b, 3, padding=1), *([nn.SiLU()] if i < depth - 1 else [])]
        super().__init__(*layers)
        self.reach = (depth,) * ndim


class ThreeScale(nn.Module):
    """Residual network on three scales: 2x2 strided down, 2x2 transposed up, additive skips, SiLU.

    Parameters
    ----------
    channels : sequence of int
        Channels at full, half and quarter resolution.
    colours : int
        Channels of the image.
    """

    shifts = SHIFTS

    def __init__(self, *, channels: Sequence[int] = (24, 48, 96), colours: int = 1) -> None:
        super().__init__()
        a, b, c = channels
        self.head = nn.Conv2d(colours + 1, a, 3, padding=1)
        self.encode_full = Block(a, 1)
        self.down1 = nn.Conv2d(a, b, 2, stride=2)
        self.encode_half = Block(b, 2)
        self.down2 = nn.Conv2d(b, c, 2, stride=2)
        self.quarter = Block(c, 3)
        self.up2 = nn.ConvTranspose2d(c, b, 2, stride=2)
        self.decode_half = Block(b, 1)
        self.up1 = nn.ConvTranspose2d(b, a, 2, stride=2)
        self.decode_full = Block(a, 1)
        self.tail = nn.Conv2d(a, colours, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C + 1, Y, X)`` to ``(B, C, Y, X)``; sides that 4 does not divide are padded by their edge."""
        height, width = x.shape[-2:]
        if pads := (-width % 4, -height % 4) if (height % 4 or width % 4) else None:
            x = functional.pad(x, (0, pads[0], 0, pads[1]), mode="replicate")
        full = self.encode_full(self.head(x))
        half = self.encode_half(self.down1(full))
        quarter = self.quarter(self.down2(half))
        half = self.decode_half(half + self.up2(quarter))
        out: Tensor = self.tail(self.decode_full(full + self.up1(half)))
        return out[..., :height, :width]


class Block(nn.Module):
    """Residual convolutions ``h + conv(silu(h))``."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(count))

    def forward(self, h: Tensor) -> Tensor:
        """Apply the convolutions one after the other."""
        for conv in self.convs:
            h = h + conv(functional.silu(h))
        return h


@torch.no_grad()
def _start_positive(weight: Tensor) -> None:
    """Map fresh weights, uniform about 0, to those of which the softplus takes weighted means.

    Positive weights of the usual size do not cancel: maps would grow a hundredfold in every layer.
    """
    positive = (1 + 0.9 * weight / weight.abs().max()) / weight[0].numel()
    weight.copy_(torch.log(torch.expm1(positive)))


class Strided(nn.Module):
    """Strided convolutions, each with a skip from the image at its resolution, to one energy per coarse position."""

    shifts = SHIFTS

    def __init__(self, *, channels: int, depth: int, colours: int, convex: bool) -> None:
        super().__init__()
        self.convex = convex
        self.first = nn.Conv2d(colours, channels, 3, padding=1)
        self.hidden = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, stride=2, bias=False) for _ in range(depth)
        )
        self.skips = nn.ModuleList(nn.Conv2d(colours, channels, 3, padding=1) for _ in range(depth))
        self.last = nn.Conv2d(channels, 1, 1, bias=False)
        if convex:
            for conv in (*self.hidden, self.last):
                _start_positive(conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, Y, X)`` to ``(B, 1, ceil(Y / 2^depth), ceil(X / 2^depth))``."""
        h, scaled = functional.softplus(self.first(x), SHARPNESS), x
        for conv, skip in zip(self.hidden, self.skips, strict=True):
            scaled = functional.avg_pool2d(scaled, 2, ceil_mode=True)
            h = functional.conv2d(h, self._weight(conv), stride=2, padding=1) + skip(scaled)
            h = functional.softplus(h, SHARPNESS)
        return functional.conv2d(h, self._weight(self.last))

    def _weight(self, conv: nn.Module) -> Tensor:
        weight: Tensor = conv.weight  # type: ignore[assignment]
        if not self.convex:
            return weight
        positive: Tensor = functional.softplus(weight)
        return positive
