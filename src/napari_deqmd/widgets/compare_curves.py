"""What the plots of a comparison show: the brightness along a line, and the agreement by spatial frequency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_deqmd.widgets.compare_order import Order
from napari_deqmd.widgets.comparison import Outcome, Scores
from napari_deqmd.widgets.curves import Curve
from napari_deqmd.widgets.profile import ProfileLine
from napari_deqmd.widgets.sections.compare import ComparePlots

if TYPE_CHECKING:
    from napari_deqmd.core.resolution import RingCorrelation


def draw_profile(
    plots: ComparePlots, order: Order | None, layers: Mapping[int, Any], line: ProfileLine
) -> None:
    """Draw the brightness along the line, of every layer by its place."""
    curves = [] if order is None else list(_profiles(order, layers, line))
    plots.profile.show_curves(curves, f"{_unit(order)} along the line")


def draw_rings(
    plots: ComparePlots, order: Order | None, outcomes: Mapping[int, Outcome], scores: Mapping[int, Scores]
) -> None:
    """Draw how far the results agree with the reference, or where there is none, their halves with each other."""
    unit = _unit(order)
    curves, legend, threshold = [], [], None
    for place, name, rings in () if order is None else _rings(order, outcomes, scores):
        assert order is not None
        color = order.colors[place]
        curves.append(Curve(np.asarray(rings.frequency), np.asarray(rings.correlation), color))
        legend.append((f"{name} {_resolution(rings, unit)}", color))
        threshold = rings.threshold
    plots.rings.show_curves(
        curves, f"cycles per {unit.removesuffix('s')}", span=(-0.1, 1.05), line=threshold, legend=legend
    )


def _profiles(order: Order, layers: Mapping[int, Any], line: ProfileLine) -> Iterator[Curve]:
    for place, layer in sorted(layers.items()):
        sampled = line.sample(layer)
        if sampled is not None:
            yield Curve(*sampled, order.colors[place], place == order.reference_place)


def _rings(
    order: Order, outcomes: Mapping[int, Outcome], scores: Mapping[int, Scores]
) -> Iterator[tuple[int, str, RingCorrelation]]:
    for place, contender in enumerate(order.contenders, start=1):
        outcome = outcomes.get(place - 1)
        if place in scores:
            yield place, contender.label, scores[place].rings
        elif not scores and outcome is not None and outcome.halves is not None:
            yield place, contender.label, outcome.halves


def _unit(order: Order | None) -> str:
    return "pixels" if order is None else order.unit


def _resolution(rings: RingCorrelation, unit: str) -> str:
    if rings.resolution is None:
        return "to the last pixel"
    if not np.isfinite(rings.resolution):
        return "not at all"
    return f"{rings.resolution:.2g} {unit}"
