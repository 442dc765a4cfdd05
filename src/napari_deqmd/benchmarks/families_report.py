"""Table and plot of decibels against seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_deqmd.benchmarks.families import NEAR, REFERENCES, Curve
from napari_deqmd.benchmarks.fluorescence import Method
from napari_deqmd.benchmarks.fluorescence_report import head, line, opening

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOWEST = -2.0
"""Decibels at which the plot ends below."""
_INTRODUCTION = """\
What every iterate of every model is worth, on simulated scenes in 2D and 3D and on crops of fluorescence images that
are held back from training: decibels above Richardson-Lucy stopped by the truth (the better of a flat and a data
start), averaged over the images at all times. Peak and background are those that the program finds. Scenes, crops and
noise are others than those of the fluorescence benchmark. Seconds are the solver's, of processor time, all threads
added."""
_TABLE = f"""\
Gain: decibels above Richardson-Lucy stopped by the truth, at the end of the runs. Soon: seconds from which on the mean
gain is within {NEAR:g} dB of that."""


def markdown(
    found: Mapping[str, Sequence[Curve]],
    methods: Sequence[Method],
    *,
    figure: str = "",
    missing: int = 0,
    threads: int = 1,
) -> str:
    """Return the report, in Markdown.

    Parameters
    ----------
    found : mapping of str to sequence of Curve
        Of every plot, by its name.
    methods : sequence of Method
        Whose parameters are counted.
    figure, missing, threads
        As in `napari_deqmd.benchmarks.fluorescence_report.markdown`.
    """
    parts = opening(
        "Families of regularizers",
        _INTRODUCTION,
        figure=figure,
        missing=missing,
        shown="Gain in decibels against seconds",
    )
    count = {
        method.name: sum(parameter.numel() for parameter in method.regularizer.parameters())
        for method in methods
    }
    for name, curves in found.items():
        rows = [
            line(
                curve.method,
                f"{count[curve.method]:,}",
                f"{curve.end:+.2f}",
                f"{curve.soon:.2f}",
                f"{curve.seconds[-1]:.2f}",
                f"{curve.iterations:.0f}",
            )
            for curve in curves
        ]
        table = [*head("method", "parameters", "gain, dB", "soon, s", "longest run, s", "evaluations"), *rows]
        parts += [f"## {name[0].upper()}{name[1:]}", "\n".join(table)]
    parts.insert(len(parts) - 2 * len(found), f"{_TABLE} Threads: {threads}.")
    return "\n\n".join(parts) + "\n"


def draw(found: Mapping[str, Sequence[Curve]]) -> Figure:
    """Draw a plot of every kind of images, with a line a method; Richardson-Lucy and total variation are gray.

    A dot is where a curve comes near its end to stay.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(found) + 2, 4.5), layout="constrained")
    learned = dict.fromkeys(
        curve.method for curves in found.values() for curve in curves if curve.method not in REFERENCES
    )
    colours = {method: f"C{i}" for i, method in enumerate(learned)}
    lines = {}
    for axes, (name, curves) in zip(
        figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
    ):
        for curve in curves:
            style = "--" if curve.method in REFERENCES[1:] else "-"
            colour = colours.get(curve.method, "gray")
            (lines[curve.method],) = axes.plot(curve.seconds, curve.gain, style, color=colour)
            near = int(np.searchsorted(curve.seconds, curve.soon))
            axes.plot(curve.soon, curve.gain[near], "o", color=colour, markersize=4)
        axes.set(title=name, xscale="log", xlabel="seconds", ylabel="dB above RL stopped by the truth")
        axes.axhline(0, color="gray", linewidth=0.8)
        axes.set_ylim(LOWEST, max([0.0, *(curve.gain.max() for curve in curves)]) + 0.2)
        seen = [curve.seconds[curve.gain > LOWEST] for curve in curves]
        if begun := [times[0] for times in seen if len(times)]:
            axes.set_xlim(left=0.8 * min(begun))
        axes.grid(alpha=0.3)
    figure.legend(list(lines.values()), list(lines), loc="outside right center")
    return figure
