"""What every regularizer is: an energy per position, summed by the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Pixels of a plane whose graph is kept from the value for the gradient.
GRAPH = 2**22
# Pixels of a batch that are differentiated at once. On a CPU the maps of so many stay in the caches: 16 x 256 x 256
# take 5.0 s, with 2^20 pixels at once 7.8 s.
PIECE = {"cpu": 2**17}


class Regularizer(nn.Module):
    """``R(x; peak) = sum of energy(x, peak)``; subclasses give the energy, autograd its gradient.

    Notes
    -----
    The energy is extensive (a sum over positions), so a weight means the same on any image size, stacks are sums over
    their slices, and tiles add up.
    """

    ndim: int | None = 2
    """Spatial dimensions the energy couples; 2 sums over the planes of a stack, ``None`` takes any."""

    slice_weight: float = 1.0
    """Weight of every XY plane in the sum over a stack: what neighbouring ones tell is partly the same."""

    across_weight: float = 0.0
    """Weight of every XZ and of every YZ plane in it."""

    exact: bool = True
    """Whether energies have float32's precision: differences between close points can be told from them."""

    def energy(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return the energy of every position.

        Parameters
        ----------
        x : Tensor
            ``(B, 1, Y, X)``, in units of the peak, or ``(B, 1, [Z,] Y, X)`` where more than planes are coupled.
        peak : Tensor
            ``(B,)``, photo-electrons at ``x = 1``.

        Returns
        -------
        Tensor
            Of the shape of `x`, >= 0.
        """
        raise NotImplementedError

    def curvature(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return a typical curvature of the energy at every pixel of ``x``: a scale for metrics, not a bound."""
        return torch.zeros_like(x)


@dataclass(frozen=True)
class Evaluation:
    """Energy at a point, and its gradient once asked for."""

    energy: Tensor
    gradient: Callable[[], Tensor]


@dataclass(frozen=True)
class View:
    """One way to see an object as a batch of what a regularizer takes: whole, or planes of one orientation."""

    weight: float
    axes: tuple[int, ...] = ()
    """Of ``(B, 1, Z, Y, X)`` in the order that has those of the planes last; none: the object as it is."""

    def fold(self, x: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch, and the peak of each."""
        if not self.axes:
            return x, peak
        stack = x.permute(self.axes)
        planes = stack.reshape(-1, 1, *stack.shape[-2:])
        return planes, peak.repeat_interleave(len(planes) // len(x))

    def unfold(self, batch: Tensor, x: Tensor) -> Tensor:
        """Return a batch as an array of the shape of ``x``."""
        if not self.axes:
            return batch
        shape = [x.shape[axis] for axis in self.axes]
        return batch.reshape(shape).permute([self.axes.index(axis) for axis in range(x.ndim)])


XY, XZ, YZ = (0, 1, 2, 3, 4), (0, 1, 3, 2, 4), (0, 1, 4, 2, 3)


def views(regularizer: Regularizer, x: Tensor) -> list[View]:
    """Return how an object ``(B, 1, [Z,] Y, X)`` is seen: of a stack, planes along all axes that have a weight.

    What the blur along Z hides, a prior that sees XY planes alone would gather in single ones.
    """
    if regularizer.ndim != 2 or x.ndim == 4:
        return [View(1.0)]
    weights = {XY: regularizer.slice_weight, XZ: regularizer.across_weight, YZ: regularizer.across_weight}
    return [View(weight, axes) for axes, weight in weights.items() if weight]


def curvature(regularizer: Regularizer, x: Tensor, peak: Tensor) -> Tensor:
    """Return a typical curvature of ``R`` at every pixel of ``(B, 1, [Z,] Y, X)``: see `Regularizer.curvature`."""
    return sum(view.weight for view in views(regularizer, x)) * regularizer.curvature(x, peak)


def energies(regularizer: Regularizer, x: Tensor, peak: Tensor) -> Tensor:
    """Return the weighted energy of every position of ``(B, 1, [Z,] Y, X)``, differentiable."""
    total = torch.zeros_like(x)
    for view in views(regularizer, x):
        total = total + view.weight * view.unfold(regularizer.energy(*view.fold(x, peak)), x)
    return total


def evaluate(regularizer: Regularizer, x: Tensor, peak: Tensor) -> Evaluation:
    """Evaluate a regularizer at ``(B, 1, [Z,] Y, X)``; a 2D one is summed over the planes of a stack.

    The graph of the value is the graph of the gradient: asking for the gradient costs one backward pass, not asking
    (a rejected trial) costs none. Beyond `PIECE` pixels, all planes counted, a batch is differentiated piece by piece,
    for memory and speed.
    """
    seen = views(regularizer, x)
    piece = PIECE.get(x.device.type, GRAPH)
    lone = len(x) == 1 and x.ndim == 4 and x.numel() <= GRAPH
    if lone or len(seen) * x.numel() <= piece:
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            energy = energies(regularizer, point, peak)
            return Evaluation(energy.detach(), lambda: torch.autograd.grad(energy.sum(), point)[0])
    total, gradient = torch.zeros_like(x), torch.zeros_like(x)
    for view in seen:
        batch, peaks = view.fold(x.detach(), peak)
        step = max(1, piece * len(batch) // x.numel())
        found = [
            _differentiated(regularizer, batch[start : start + step], peaks[start : start + step])
            for start in range(0, len(batch), step)
        ]
        for sum_, parts in zip((total, gradient), zip(*found, strict=True), strict=True):
            sum_.add_(view.unfold(torch.cat(parts), x), alpha=view.weight)
    return Evaluation(total, lambda: gradient)


def _differentiated(regularizer: Regularizer, x: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        point = x.requires_grad_()
        energy = regularizer.energy(point, peak)
        (gradient,) = torch.autograd.grad(energy.sum(), point)
    return energy.detach(), gradient
