"""What every regularizer is: an energy per position, summed by the caller."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_deqmd.core.watching import tell

# Pixels of a plane whose graph is kept from the value for the gradient.
GRAPH = 2**22
# Pixels of a batch that are differentiated at once. On a CPU the maps of so many stay in the caches: 16 x 256 x 256
# take 5.0 s, with 2^20 pixels at once 7.8 s.
PIECE = {"cpu": 2**17}


Network = TypeVar("Network", bound=nn.Module)


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

    shifts: tuple[tuple[int, int], ...] = ((0, 0),)
    """Rows and columns by which the planes of a stack are shifted in turn, for what is not the same at every pixel."""

    reach: tuple[int, ...] = ()
    """Voxels around one on which its energy depends, along every axis, if that is known; else stacks are not cut."""

    orientations: int = 1
    """Quarter turns of the planes over which the energy is averaged, 1 or 4."""

    rounding: float = 0.0
    """Relative error of summed energies that differences between close points drown in; 0: float32's, in which they do
    not."""

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

    def averaged(self, orientations: int) -> Self:
        """Return the same weights, their energy averaged over so many quarter turns.

        What the network learned of one orientation and not of another averages out, as in an ensemble: the average is
        the same regularizer for an image and for the image turned, and a smooth one where the regularizer is. It is
        the Reynolds average that makes denoisers equivariant in Terris et al., arXiv:2312.01831.
        """
        other = copy.copy(self)
        other.orientations = orientations
        return other

    def curvature(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return a typical curvature of the energy at every pixel of ``x``: a scale for metrics, not a bound."""
        return torch.zeros_like(x)


def placed(network: Network, device: torch.device | str | None = None) -> Network:
    """Return a network, moved to a device if one is given, its weights in the order that is fastest."""
    if device is not None:
        network.to(device)
    if all(parameter.ndim <= 4 for parameter in network.parameters()):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


@dataclass(frozen=True)
class Evaluation:
    """Energy at a point, and its gradient once asked for."""

    energy: Tensor
    gradient: Callable[[], Tensor]


def _turned(planes: Tensor, turns: int) -> Tensor:
    return planes.rot90(turns, (-2, -1)) if turns else planes


XY, XZ, YZ = (0, 1, 2, 3, 4), (0, 1, 3, 2, 4), (0, 1, 4, 2, 3)


@dataclass(frozen=True)
class View:
    """One way to see an object as a batch of what a regularizer takes: whole, or planes of one orientation."""

    weight: float = 1.0
    axes: tuple[int, ...] = ()
    """Of ``(B, 1, Z, Y, X)`` in the order that has those of the planes last; none: the object as it is."""
    first: int = 0
    every: int = 1
    """Which of the planes: every so manieth from the first on."""
    shift: tuple[int, int] = (0, 0)
    """Rows and columns by which the regularizer's own grid lies before the planes' corner."""
    turns: int = 0
    """Quarter turns of the planes."""

    def of(self, x: Tensor) -> Tensor:
        """Return what is seen of an object, a view of its memory: ``(B, 1, planes, ...)``, or the object as it is."""
        return x.permute(self.axes)[:, :, self.first :: self.every] if self.axes else x

    def fold(self, x: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch, and the peak of each."""
        if not self.axes:
            return x, peak
        stack = self.of(x)
        planes = stack.reshape(-1, 1, *stack.shape[-2:])
        return planes, peak.repeat_interleave(len(planes) // len(x))

    def energy(self, regularizer: Regularizer, batch: Tensor, peak: Tensor) -> Tensor:
        """Return the energy of every position of a batch, not weighted; for the shift its edge is repeated."""
        rows, columns = self.shift
        batch = _turned(batch, self.turns)
        if rows or columns:
            batch = functional.pad(batch, (columns, 0, rows, 0), mode="replicate")
        return _turned(regularizer.energy(batch, peak)[..., rows:, columns:], -self.turns)

    def add(self, total: Tensor, batch: Tensor) -> None:
        """Add a batch, weighted, to where an array of the object's shape is seen."""
        seen = self.of(total)
        seen.add_(batch.reshape(seen.shape), alpha=self.weight)


@dataclass(frozen=True)
class Box:
    """A box of a stack: what is seen reaches beyond it, so that the energies inside are those of the whole."""

    seen: tuple[slice, slice, slice]
    own: tuple[slice, slice, slice]
    """The box itself, in what is seen."""
    weight: float = 1.0
    turns: int = 0

    def of(self, x: Tensor) -> Tensor:
        """Return what is seen of a stack, a view of its memory."""
        return x[:, :, *self.seen]

    def fold(self, x: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch, and the peak of each."""
        return self.of(x), peak

    def energy(self, regularizer: Regularizer, batch: Tensor, peak: Tensor) -> Tensor:
        """Return the energy of every position of a batch that lies in the box; 0 of the others."""
        inside = torch.zeros_like(batch)
        inside[:, :, *self.own] = 1
        energy = regularizer.energy(_turned(batch, self.turns), peak)
        return inside * _turned(energy, -self.turns)

    def add(self, total: Tensor, batch: Tensor) -> None:
        """Add a batch, weighted, to where an array of the object's shape is seen."""
        self.of(total).add_(batch, alpha=self.weight)


Seen = TypeVar("Seen", View, Box)


def boxes(shape: Sequence[int], reach: Sequence[int], most: int) -> list[Box]:
    """Cut a stack into boxes that see at most so many voxels, if that can be, and are long where they reach far."""
    sizes = list(shape)

    def seen() -> int:
        sides = zip(shape, sizes, reach, strict=True)
        return math.prod(min(length, size + 2 * more) for length, size, more in sides)

    while seen() > most and max(sizes) > 1:
        axis = max(range(len(sizes)), key=lambda i: sizes[i] / reach[i])
        sizes[axis] = -(-sizes[axis] // 2)
    axes = []
    for length, size, more in zip(shape, sizes, reach, strict=True):
        along = []
        for start in range(0, length, size):
            stop, first = min(start + size, length), max(0, start - more)
            along.append((slice(first, min(stop + more, length)), slice(start - first, stop - first)))
        axes.append(along)
    return [Box(*zip(*parts, strict=True)) for parts in itertools.product(*axes)]


def views(regularizer: Regularizer, x: Tensor) -> list[View]:
    """Return how an object ``(B, 1, [Z,] Y, X)`` is seen: of a stack, planes along all axes that have a weight.

    What the blur along Z hides, a prior that sees XY planes alone would gather in single ones. The grid of strides,
    which a prior leaves where the data say little, is shifted from plane to plane: no two agree on it.
    """
    seen = [View()]
    if regularizer.ndim == 2 and x.ndim == 5:
        shifts = regularizer.shifts
        seen = [
            View(weight, axes, first, len(shifts), shift)
            for axes, weight in _weights(regularizer).items()
            for first, shift in enumerate(shifts[: x.shape[axes[2]]])
            if weight
        ]
    return _all_around(regularizer, seen)


def _all_around(regularizer: Regularizer, seen: Sequence[Seen]) -> list[Seen]:
    """Return what is seen in every orientation of the regularizer."""
    many = regularizer.orientations
    return [replace(one, weight=one.weight / many, turns=turns) for one in seen for turns in range(many)]


def _weights(regularizer: Regularizer) -> dict[tuple[int, ...], float]:
    return {XY: regularizer.slice_weight, XZ: regularizer.across_weight, YZ: regularizer.across_weight}


def curvature(regularizer: Regularizer, x: Tensor, peak: Tensor) -> Tensor:
    """Return a typical curvature of ``R`` at every pixel of ``(B, 1, [Z,] Y, X)``: see `Regularizer.curvature`."""
    planes = regularizer.ndim == 2 and x.ndim == 5
    weight = sum(_weights(regularizer).values()) if planes else 1.0
    return weight * regularizer.curvature(x, peak)


def energies(regularizer: Regularizer, x: Tensor, peak: Tensor) -> Tensor:
    """Return the weighted energy of every position of ``(B, 1, [Z,] Y, X)``, differentiable."""
    total = torch.zeros_like(x)
    for view in views(regularizer, x):
        view.add(total, view.energy(regularizer, *view.fold(x, peak)))
    return total


def evaluate(regularizer: Regularizer, x: Tensor, peak: Tensor) -> Evaluation:
    """Evaluate a regularizer at ``(B, 1, [Z,] Y, X)``; a 2D one is summed over the planes of a stack.

    The graph of the value is the graph of the gradient: asking for the gradient costs one backward pass, not asking
    (a rejected trial) costs none. Beyond `PIECE` pixels, all planes counted, a batch is differentiated piece by piece,
    for memory and speed; who watches (`napari_deqmd.core.watching`) is told after each.
    """
    seen: Sequence[View | Box] = views(regularizer, x)
    piece = PIECE.get(x.device.type, GRAPH)
    lone = len(seen) == 1 and len(x) == 1 and x.ndim == 4 and x.numel() <= GRAPH
    if lone or len(seen) * x.numel() <= piece:
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            energy = energies(regularizer, point, peak)
            return Evaluation(energy.detach(), lambda: torch.autograd.grad(energy.sum(), point)[0])
    if regularizer.ndim == 3 and regularizer.reach:
        *across, rows, columns = regularizer.reach
        reach = *across, *2 * (max(rows, columns),)  # however it is turned
        seen = _all_around(regularizer, boxes(x.shape[2:], reach, piece))
    total, gradient = torch.zeros_like(x), torch.zeros_like(x)
    done, pixels = 0, sum(view.of(x).numel() for view in seen)
    for view in seen:
        batch, peaks = view.fold(x.detach(), peak)
        step = max(1, piece // batch[0].numel())
        found = []
        for start in range(0, len(batch), step):
            part = batch[start : start + step]
            found.append(_differentiated(view, regularizer, part, peaks[start : start + step]))
            tell((done := done + part.numel()) / pixels)
        for sum_, parts in zip((total, gradient), zip(*found, strict=True), strict=True):
            view.add(sum_, torch.cat(parts))
    return Evaluation(total, lambda: gradient)


def _differentiated(
    view: View | Box, regularizer: Regularizer, x: Tensor, peak: Tensor
) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        point = x.requires_grad_()
        energy = view.energy(regularizer, point, peak)
        (gradient,) = torch.autograd.grad(energy.sum(), point)
    return energy.detach(), gradient
