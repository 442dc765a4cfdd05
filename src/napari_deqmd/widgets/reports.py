"""What the worker needs of a job, and what it tells the window."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from napari_deqmd.widgets.view import Index


class Job(Protocol):
    """What the worker needs of `napari_deqmd.api.Reconstruction`."""

    device: str

    def steps(self) -> Generator[Any, None, None]:
        """Yield a progress after each iteration."""

    def preview(self, progress: Any, shown: Index | None = None) -> np.ndarray:
        """Return the iterate of a progress, or a part of it, as an array of its own."""

    def result(self) -> Any:
        """Return the result, also of a run that was stopped."""


class TrainJob(Protocol):
    """What the worker needs of `napari_deqmd.training.finetune.Finetuning`."""

    source: Any

    @property
    def measured(self) -> np.ndarray:
        """A held-out patch as measured."""

    @property
    def scored(self) -> bool:
        """Whether there is a result."""

    def steps(self) -> Generator[Any, None, None]:
        """Yield a progress after each step."""

    def result(self) -> Any:
        """Return the best so far, also of a run that was stopped or failed."""

    def save(self, target: Path, outcome: Any) -> Path:
        """Write an outcome as a model, and return where it is."""


class Point(NamedTuple):
    """One iteration on the convergence plot."""

    iteration: int
    objective: float
    certificate: float
    step_size: float


class Seen(NamedTuple):
    """A preview, and the part of the item that it is; ``None`` is all of it."""

    image: np.ndarray
    part: Index | None


@dataclass(frozen=True, eq=False)
class Done:
    """An item that ended: its place along T and C, its image, and the part that this is; ``None`` is all of it."""

    index: tuple[int, ...]
    image: np.ndarray
    part: Index | None


@dataclass(frozen=True)
class News:
    """What happened since the window last looked.

    Attributes
    ----------
    item, items : int
        The item of the T and C axes, or a tile of it, and how many there are; `points` belong to it, `index` is its
        place.
    iteration, total : int
        Iterations of this item, and of all so far.
    seen : Seen, optional
        The latest preview.
    done : tuple of Done
        The items that ended.
    """

    item: int
    items: int
    iteration: int
    total: int
    seconds: float
    points: tuple[Point, ...]
    seen: Seen | None = None
    index: tuple[int, ...] = ()
    done: tuple[Done, ...] = ()
