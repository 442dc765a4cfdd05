"""Cost of one iteration over its floor: what the mathematics needs, measured in the same process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from napari_deqmd.core.device import resolve_device
from napari_deqmd.core.operators import Blur
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import Regularizer, evaluate, placed
from napari_deqmd.core.solvers import SOLVERS
from napari_deqmd.psf.theory import make_psf
from napari_deqmd.training.models import load_model
from napari_deqmd.training.scenes import make_scene

PEAK, BACKGROUND = 60.0, 3.0


def run(
    *, size: int = 512, rounds: int = 12, device: str = "auto", solver: str = "accelerated"
) -> dict[str, Any]:
    """Time iterations of the default model against their floor, in turn, and return the medians.

    The floor of an iteration is one network forward, its input gradient, and two real FFT round trips (``A`` and
    ``A^T``) on the object's grid.

    Parameters
    ----------
    size : int
        Side of the square image.
    rounds : int
        Iterations timed, each beside one floor.
    device : str
        Torch device.
    solver : str
        Name in `napari_deqmd.core.solvers.SOLVERS`.

    Returns
    -------
    dict
        ``iteration_seconds``, ``floor_seconds``, ``ratio`` (median of the ratios round by round), and what was run.
    """
    where = resolve_device(device)
    regularizer = placed(load_model("default").regularizer, where)
    problem = _problem(size, regularizer, where)
    steps = SOLVERS[solver](problem, max_iter=10 * rounds, tol=1e-12)
    floor = _floor(problem, regularizer)
    next(steps)
    for _ in range(3):
        next(steps)
        floor()
    iterations, floors = [], []
    before = next(steps).iteration
    for _ in range(rounds):
        began = _now(where)
        step = next(steps)
        iterations.append((_now(where) - began) / (step.iteration - before))
        before = step.iteration
        began = _now(where)
        floor()
        floors.append(_now(where) - began)
    return {
        "benchmark": "speed",
        "device": where,
        "threads": torch.get_num_threads(),
        "size": size,
        "solver": solver,
        "iteration_seconds": statistics.median(iterations),
        "floor_seconds": statistics.median(floors),
        "ratio": statistics.median(a / b for a, b in zip(iterations, floors, strict=True)),
    }


def _problem(size: int, regularizer: Regularizer, device: str) -> Problem:
    psf = torch.from_numpy(make_psf("gaussian", sigma=1.8))
    operator = Blur(psf.to(device), (size, size))
    rng = np.random.default_rng(0)
    clean = torch.from_numpy(make_scene("cells", operator.object_shape, rng))[None, None].to(device)
    blurred = operator.forward(clean).clamp_min(0)
    expected = PEAK * blurred / blurred.max() + BACKGROUND
    electrons = rng.poisson(expected.double().cpu().numpy()).astype(np.float32)
    return Problem.from_electrons(
        torch.from_numpy(electrons).to(device),
        operator,
        regularizer,
        peak=torch.tensor([PEAK], device=device),
        background=torch.tensor([BACKGROUND], device=device),
    )


def _floor(problem: Problem, regularizer: Regularizer) -> Callable[[], None]:
    x = problem.start()

    def once() -> None:
        evaluate(regularizer, x, problem.peak).gradient()
        for _ in range(2):
            torch.fft.irfftn(torch.fft.rfftn(x, dim=(-2, -1)), s=x.shape[-2:], dim=(-2, -1))

    return once


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
