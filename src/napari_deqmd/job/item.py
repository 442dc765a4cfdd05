"""One image to reconstruct, an item of the T and C axes or a tile of one: the same here and on a cluster."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.device import resolve_device
from napari_deqmd.core.fit import Fit
from napari_deqmd.core.methods import regularizer_of, solve
from napari_deqmd.core.operators import Blur
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import Regularizer
from napari_deqmd.core.solvers import Step
from napari_deqmd.scale.tiles import Slices

StoppedBy = Literal["converged", "max_iter", "user", "diverged"]
WORST: tuple[StoppedBy, ...] = ("diverged", "user", "max_iter", "converged")


class Row(NamedTuple):
    """Numbers of one step; of a tile's objective the share of the pixels that it answers for."""

    objective: float
    certificate: float
    step_size: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Item:
    """What is to be reconstructed.

    Attributes
    ----------
    electrons : ndarray of float32
        ``([Z,] Y, X)``.
    bad, full : ndarray of bool
        Where a pixel tells nothing, and where it tells that there were at least so many.
    peak : float
        Photo-electrons.
    background : float or ndarray of float32
        Photo-electrons, of all pixels or of each.
    level : float
        Mean of an object that explains the whole image, photo-electrons.
    inner : tuple of slice
        The pixels that it answers for: the others are those of other tiles.
    start : ndarray of float32, optional
        The object to begin with, photo-electrons; by default at the data.
    """

    electrons: NDArray[np.float32]
    bad: NDArray[np.bool_]
    full: NDArray[np.bool_]
    peak: float
    background: Any
    level: float
    inner: Slices
    start: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Bench:
    """What all items of a job share.

    Attributes
    ----------
    psf : ndarray of float32
        Prepared.
    shape : tuple of int
        Of an item.
    config : ReconstructionConfig
    learned : Regularizer, optional
        Of a model, where the method has one.
    """

    psf: NDArray[np.float32]
    shape: tuple[int, ...]
    config: ReconstructionConfig
    learned: Regularizer | None

    def tools(self) -> Tools:
        """Make ready what computes, on the device of this machine."""
        device = resolve_device(self.config.device)
        operator = Blur(torch.from_numpy(self.psf).to(device), self.shape, boundary=self.config.boundary)
        return Tools(operator, regularizer_of(self.config, self.learned, device), self.config, device)


@dataclass(frozen=True, eq=False)
class Tools:
    """Operator and regularizer on a device."""

    operator: Blur
    regularizer: Regularizer
    config: ReconstructionConfig
    device: str

    def images(self, values: NDArray[Any]) -> Tensor:
        """Return an image as a batch of one on the device."""
        return torch.from_numpy(np.ascontiguousarray(values))[None, None].to(self.device)

    def problem(self, item: Item) -> Problem:
        """Return what is solved for an item."""
        if np.ndim(item.background):
            background = self.images(item.background)
        else:
            background = torch.tensor([item.background], dtype=torch.float32, device=self.device)
        return Problem.from_electrons(
            self.images(item.electrons),
            self.operator,
            self.regularizer,
            peak=torch.tensor([item.peak], device=self.device),
            background=background,
            bad=self.images(item.bad) if item.bad.any() else None,
            full=self.images(item.full) if item.full.any() else None,
            strength=self.config.strength,
            upper=self.config.upper,
            level=torch.tensor([item.level], device=self.device),
        )


@dataclass(frozen=True)
class Ending:
    """How an item ended, or the tiles of one.

    Attributes
    ----------
    iterations : int
    stopped_by : str
    rows : tuple of Row
        Of all steps.
    fit : Fit
        Of the pixels that it answers for.
    held : int
        Voxels at the upper bound.
    upper : float
        The bound, as a multiple of the peak.
    device : str
        Where it was computed.
    """

    iterations: int
    stopped_by: StoppedBy
    rows: tuple[Row, ...]
    fit: Fit
    held: int
    upper: float
    device: str

    @property
    def objectives(self) -> list[float]:
        """Of all steps."""
        return [row.objective for row in self.rows]

    @property
    def certificate(self) -> float:
        """Of the last step."""
        return self.rows[-1].certificate

    @property
    def seconds(self) -> float:
        """When it ended."""
        return self.rows[-1].seconds

    def at(self, seconds: float) -> Ending:
        """Return the same with its end at another time, counted from another beginning."""
        later = seconds - self.seconds
        return replace(self, rows=tuple(row._replace(seconds=row.seconds + later) for row in self.rows))

    @classmethod
    def together(cls, endings: Sequence[Ending]) -> Ending:
        """Return how the tiles of one image ended: objectives add up, of everything else the worst counts."""
        if len(endings) == 1:
            return endings[0]
        steps = zip_longest(*(ending.rows for ending in endings))
        rows = [[row or ending.rows[-1] for row, ending in zip(step, endings, strict=True)] for step in steps]
        return replace(
            endings[-1],
            iterations=max(ending.iterations for ending in endings),
            stopped_by=worst(ending.stopped_by for ending in endings),
            rows=tuple(_together(step) for step in rows),
            fit=Fit.together([ending.fit for ending in endings]),
            held=sum(ending.held for ending in endings),
        )


def _together(rows: Sequence[Row]) -> Row:
    objectives, certificates, sizes, seconds = zip(*rows, strict=True)
    return Row(sum(objectives), max(certificates), min(sizes), max(seconds))


class Running:
    """An item that is being reconstructed.

    Parameters
    ----------
    item : Item
    tools : Tools
    began : float
        `time.monotonic` of the beginning that seconds count from.

    Attributes
    ----------
    step : Step or None
        The last one.
    """

    def __init__(self, item: Item, tools: Tools, began: float) -> None:
        self._item, self._tools, self._began = item, tools, began
        self._problem = tools.problem(item)
        # An objective is a sum over all that is read, of which other tiles sum their parts as well.
        self._share = item.electrons[item.inner].size / item.electrons.size
        self._rows: list[Row] = []
        self.step: Step | None = None

    def steps(self) -> Generator[Step, None, None]:
        """Solve, yielding after every accepted step. Closing the generator keeps the current iterate."""
        with closing(solve(self._problem, self._tools.config, self._start())) as steps:
            for step in steps:
                self.step = step
                objective = step.objective * self._share
                self._rows.append(Row(objective, step.residual, step.step_size, self.seconds))
                yield step

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def ending(self) -> Ending:
        """Say how it ended; one that was not exhausted was stopped by the user."""
        assert self.step is not None
        x, item, tools = self.step.iterate, self._item, self._tools
        left_out = item.bad | item.full
        if item.inner != tuple(slice(0, size) for size in left_out.shape):
            others = np.ones(left_out.shape, bool)
            others[item.inner] = False
            left_out = left_out | others
        upper = self._problem.upper
        seen = tools.operator.crop(x)[0, 0][item.inner]
        return Ending(
            iterations=self.step.iteration,
            stopped_by=self.step.stopped_by or "user",  # type: ignore[arg-type]
            rows=tuple(self._rows),
            fit=Fit.of(self._problem, x, tools.images(left_out)),
            held=int((seen >= upper * (1 - 1e-5)).sum()),
            upper=upper,
            device=tools.device,
        )

    def _start(self) -> Tensor | None:
        if self._item.start is None:
            return None
        return self._tools.images(self._item.start) / self._item.peak


def run(bench: Bench, item: Item) -> tuple[Step, Ending]:
    """Reconstruct an item to its end, and return the last step in memory of the CPU."""
    running = Running(item, bench.tools(), time.monotonic())
    for _ in running.steps():
        pass
    assert running.step is not None
    return replace(running.step, iterate=running.step.iterate.cpu()), running.ending()


def worst(endings: Any) -> StoppedBy:
    """Return the worst of some endings."""
    found = set(endings)
    return next(ending for ending in WORST if ending in found)
