"""How runs converge: objective, certificate and distance to where they lead, against their evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_deqmd.core.solvers import Step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DENSITY = 1.1
"""Between the iterations whose iterates are kept until the end is known."""


@dataclass(frozen=True)
class Trace:
    """What became of one run.

    Attributes
    ----------
    iterations, objectives, certificates : ndarray
        Of every step; objectives as in `Step`, summed over images.
    seen, distances : ndarray
        Some of the iterations, and ``||x - x_end|| / ||x_end||`` there.
    """

    iterations: NDArray[np.float64]
    objectives: NDArray[np.float64]
    certificates: NDArray[np.float64]
    seen: NDArray[np.float64]
    distances: NDArray[np.float64]


def trace(steps: Iterable[Step]) -> Trace:
    """Follow a run to its end."""
    told: list[tuple[float, float, float]] = []
    kept: list[tuple[int, Tensor]] = []
    for step in steps:
        told.append((step.iteration, step.objective, step.residual))
        if not kept or step.iteration >= DENSITY * kept[-1][0]:
            kept.append((step.iteration, step.iterate.detach().clone()))
        end = step.iterate
    norm = float(end.norm()) or 1.0
    distances = [(iteration, float((x - end).norm()) / norm) for iteration, x in kept]
    return Trace(*np.array(told, float).T, *np.array(distances, float).T)


def draw(found: Mapping[str, Trace]) -> Figure:
    """Draw objective above its lowest, certificate and distance, with a line a method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(17, 4.5), layout="constrained")
    plots = figure.subplots(1, 3)
    lines = {}
    for number, (name, run) in enumerate(found.items()):
        style = {"color": f"C{number % 10}", "linestyle": ("-", "--", ":")[number // 10 % 3]}
        above = run.objectives - run.objectives.min()
        for axes, x, y in (
            (plots[0], run.iterations, above),
            (plots[1], run.iterations, run.certificates),
            (plots[2], run.seen, run.distances),
        ):
            (lines[name],) = axes.plot(x[y > 0], y[y > 0], **style)
    titles = "objective above the run's lowest", "certificate", "distance to the run's end, of its norm"
    for axes, title in zip(plots, titles, strict=True):
        axes.set(title=title, xlabel="evaluations", xscale="log", yscale="log")
        axes.grid(alpha=0.3)
    figure.legend(list(lines.values()), list(lines), loc="outside right center")
    return figure
