"""What every regularizer is: an energy per position, summed by the caller."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Pixels whose network graph may be alive at once; larger batches are differentiated in pieces.
PIECE = 2**22


class Regularizer(nn.Module):
    """``R(x; peak) = sum of energy(x, peak)``; subclasses give the energy, autograd its gradient.

    Notes
    -----
    The energy is extensive (a sum over positions), so a weight means the same on any image size, stacks are sums over
    their slices, and tiles add up.
    """

    ndim: int | None = 2
    """Spatial dimensions the energy couples; 2 sums over the slices of a stack, ``None`` takes any."""

    slice_weight: float = 1.0
    """Weight of every slice in the sum over a stack: what neighbouring slices tell is partly the same."""

    context: int = 0
    """Slices on either side that the energy of a slice sees; 2D only. Beyond the stack the outermost is repeated."""

    exact: bool = True
    """Whether energies have float32's precision: differences between close points can be told from them."""

    def energy(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return the energy of every position.

        Parameters
        ----------
        x : Tensor
            ``(B, 1 + 2 context, Y, X)``, in units of the peak: slices, the one the energy belongs to in the middle; or
            ``(B, 1, [Z,] Y, X)`` where more than planes are coupled.
        peak : Tensor
            ``(B,)``, photo-electrons at ``x = 1``.

        Returns
        -------
        Tensor
            ``(B, 1, [Z,] Y, X)``, >= 0.
        """
        raise NotImplementedError

    def between(self, x: Tensor, peak: Tensor) -> Tensor | None:
        """Return the energy between every slice of a stack ``(B, 1, Z, Y, X)`` and the next, or None; 2D only."""
        return None

    def curvature(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return a typical curvature of ``R`` at every pixel of ``x``: a scale for metrics, not a bound."""
        return torch.zeros_like(x)


@dataclass(frozen=True)
class Evaluation:
    """Energy at a point, and its gradient once asked for."""

    energy: Tensor
    gradient: Callable[[], Tensor]


def energies(regularizer: Regularizer, x: Tensor, peak: Tensor) -> Tensor:
    """Return the weighted energy of every position of ``(B, 1, [Z,] Y, X)``, differentiable."""
    energy: Tensor = regularizer.energy(*fold(regularizer, x, peak))
    return _stacked(regularizer, x, peak, slice_weight(regularizer, x) * energy.reshape(x.shape))


def _stacked(regularizer: Regularizer, x: Tensor, peak: Tensor, energy: Tensor) -> Tensor:
    """Add what couples the slices of a stack, if anything does."""
    between = regularizer.between(x, peak) if regularizer.ndim == 2 and x.ndim == 5 else None
    return energy if between is None else energy + between


def evaluate(regularizer: Regularizer, x: Tensor, peak: Tensor) -> Evaluation:
    """Evaluate a regularizer at ``(B, 1, [Z,] Y, X)``; a 2D one is summed over the slices of a stack.

    The graph of the value is the graph of the gradient: asking for the gradient costs one backward pass, not asking
    (a rejected trial) costs none. Batches beyond `PIECE` pixels are differentiated piece by piece to bound memory.
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        if x.numel() <= PIECE:
            energy = energies(regularizer, point, peak)
            return Evaluation(energy.detach(), lambda: torch.autograd.grad(energy.sum(), point)[0])
    items = math.prod(x.shape[:-2]) if regularizer.ndim == 2 else len(x)
    step = max(1, PIECE * items // x.numel())
    found, gradient = [], torch.zeros_like(x)
    for start in range(0, items, step):
        with torch.enable_grad():
            part = regularizer.energy(*fold(regularizer, point, peak, slice(start, start + step)))
            gradient += torch.autograd.grad(part.sum(), point)[0]
        found.append(part.detach())
    weight = slice_weight(regularizer, x)
    gradient *= weight
    with torch.enable_grad():
        energy = _stacked(regularizer, point, peak, weight * torch.cat(found).reshape(x.shape))
        if energy.requires_grad:
            gradient += torch.autograd.grad(energy.sum(), point)[0]
    return Evaluation(energy.detach(), lambda: gradient)


def slice_weight(regularizer: Regularizer, x: Tensor) -> float:
    """Return the weight of the energy of an object: 1 unless slices of a stack are summed."""
    return regularizer.slice_weight if regularizer.ndim == 2 and x.ndim == 5 else 1.0


def fold(
    regularizer: Regularizer, x: Tensor, peak: Tensor, part: slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """Return what a regularizer takes, or a part of its batch, with the peak of each.

    Slices of a stack become a batch, each with its context as channels, when planes are coupled only.
    """
    if regularizer.ndim != 2 or (x.ndim == 4 and not regularizer.context):
        return x[part], peak[part]
    depth = math.prod(x.shape[1:-2])
    planes, peaks = x.reshape(-1, *x.shape[-2:]), peak.repeat_interleave(depth)
    if not regularizer.context:
        return planes[part, None], peaks[part]
    around = torch.arange(-regularizer.context, regularizer.context + 1, device=x.device)
    within = (torch.arange(depth, device=x.device)[:, None] + around).clamp(0, depth - 1)
    first = depth * torch.arange(len(x), device=x.device)[:, None, None]
    return planes[(first + within).reshape(-1, len(around))[part]], peaks[part]
