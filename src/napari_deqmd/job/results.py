"""What a reconstruction yields on its way, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.iterates import Iterates
from napari_deqmd.core.solvers import Step
from napari_deqmd.job.assembly import Image
from napari_deqmd.job.item import StoppedBy
from napari_deqmd.scale.tiles import Slices


@dataclass(frozen=True)
class Progress:
    """One step of a job.

    Attributes
    ----------
    item, items : int
        Which item, and how many there are: one for each place along T and C, or each of its tiles.
    index : tuple of int
        Its place along T and C.
    step : Step
        The solver's.
    seconds : float
        Since the start.
    part : tuple of slice, optional
        The pixels of ``([Z,] Y, X)`` that it answers for, where it is a tile.
    """

    item: int
    items: int
    index: tuple[int, ...]
    step: Step
    seconds: float
    part: Slices | None = None


@dataclass(frozen=True)
class Result:
    """What a reconstruction gives.

    Attributes
    ----------
    image : ndarray of float32
        Shape of the input, photo-electrons: the scale of (counts - offset) / gain.
    history : dict of ndarray
        ``objective``, ``residual`` (the certificate), ``step_size`` and ``seconds`` of the last item's steps. In tiles
        the objective is an estimate: each tile's, halo included, times the share of its pixels that it answers for.
    stopped_by : str
        ``"converged"``, ``"max_iter"``, ``"user"`` or ``"diverged"``; the worst of all items.
    config : ReconstructionConfig
        Everything needed to run it again.
    report : dict
        JSON-able: what was found and measured, for a sidecar; ``objective_estimated`` where that is so.
    iterates : Iterates
        Where it ended, for another run to go on from.
    """

    image: Image
    history: dict[str, NDArray[np.float64]]
    stopped_by: StoppedBy
    config: ReconstructionConfig
    report: dict[str, Any]
    iterates: Iterates
