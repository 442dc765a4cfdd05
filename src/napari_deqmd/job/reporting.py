"""What a reconstruction found and measured, JSON-able, for its sidecar."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import torch

import napari_deqmd
from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.iterates import Iterates
from napari_deqmd.core.photons import Photons
from napari_deqmd.core.pixels import PixelMaps
from napari_deqmd.core.solvers.bregman import LEAST
from napari_deqmd.io.sidecar import fingerprint
from napari_deqmd.job.item import Ending
from napari_deqmd.job.recording import Survey
from napari_deqmd.scale.tiles import Tile

LEFT_OUT = ("bad_pixels", "saturated_pixels")


def item_report(
    ending: Ending,
    config: ReconstructionConfig,
    photons: Photons,
    survey: Survey,
    *,
    index: Mapping[str, int],
    iterations_before: int,
) -> dict[str, Any]:
    """Return the report of one item of the T and C axes, after its last step."""
    return {
        "index": dict(index),
        "iterations": ending.iterations,
        "iterations_before": iterations_before,
        "stopped_by": ending.stopped_by,
        "objective_first": ending.objectives[0],
        "objective_last": ending.objectives[-1],
        "objective_rose": _rose(ending.objectives),
        "certificate": ending.certificate,
        "rule": _rule(ending, config.tol),
        "peak": photons.peak,
        "background": photons.background,
        "clipped_fraction": survey.clipped_fraction,
        "fit": ending.fit.ratio,
        **{name: getattr(survey, name) for name in LEFT_OUT},
        "seconds": ending.seconds,
        "warnings": [
            *photons.warnings,
            *_bounded(ending.held, ending.upper),
            *_misfit(ending, config.method),
            *_weighed(ending, config.method),
        ],
    }


def whole_report(
    items: Sequence[dict[str, Any]],
    items_total: int,
    config: ReconstructionConfig,
    *,
    device: str,
    held: int,
    start: Iterates | None,
    card: Mapping[str, Any] | None,
    maps: PixelMaps,
    full: float | None,
    of_the_psf: Sequence[str],
    tiles: Sequence[Tile],
) -> dict[str, Any]:
    """Return the report of a job from those of its items.

    Parameters
    ----------
    items : sequence of dict
        Of those that were begun.
    items_total : int
        How many there are.
    config : ReconstructionConfig
    device : str
    held : int
        The most bytes that this process has held.
    start : Iterates or None
        Where it went on from.
    card : mapping or None
        Of the model.
    maps : PixelMaps
    full : float or None
        Counts at which pixels are saturated.
    of_the_psf : sequence of str
        What is wrong with it, and what of the image it does not explain.
    tiles : sequence of Tile
        What every item was cut into.
    """
    last = items[-1]
    left_out = {name: sum(report[name] for report in items) for name in LEFT_OUT}
    return {
        "seconds": max(report["seconds"] for report in items),
        "iterations": sum(report["iterations"] for report in items),
        "started_from": _started_from(start),
        "objective_first": last["objective_first"],
        "objective_last": last["objective_last"],
        "objective_rose": any(report["objective_rose"] for report in items),
        "objective_estimated": len(tiles) > 1,
        "certificate": max(report["certificate"] for report in items),
        "peak": last["peak"],
        "background": last["background"],
        "offset": config.offset,
        "gain": config.gain,
        "read_noise": config.read_noise,
        "clipped_fraction": max(report["clipped_fraction"] for report in items),
        "fit": max(report["fit"] for report in items),
        "warnings": [
            *of_the_psf,
            *_saturated(left_out["saturated_pixels"], full),
            *_apart(config.method, tiles),
            *sorted({sentence for report in items for sentence in report["warnings"]}),
        ],
        "maps": {
            name: {"shape": list(values.shape), "sha256": fingerprint(values)}
            for name, values in maps.given.items()
        },
        **left_out,
        "device": device,
        "peak_memory_bytes": held,
        "tiles": _cut(tiles),
        "items": list(items),
        "items_total": items_total,
        "model": None if card is None else {key: card.get(key) for key in ("name", "sha256")},
        "config": config.to_dict(),
        "versions": {
            "napari_deqmd": napari_deqmd.__version__,
            "torch": torch.__version__,
            "numpy": version("numpy"),
            "python": platform.python_version(),
        },
    }


def _rose(objectives: Sequence[float]) -> bool:
    """Tell whether the objective ever rose, by more than rounding; descent never lets it."""
    rises = [after - before for before, after in pairwise(objectives)]
    return max(rises, default=0.0) > 1e-6 * abs(objectives[0] - min(objectives))


def _rule(ending: Ending, tol: float) -> str:
    """Name what ended an item: the certificate, or an objective that no longer fell near it."""
    if ending.stopped_by != "converged":
        return ending.stopped_by
    return "certificate" if ending.certificate < tol else "objective"


def _cut(tiles: Sequence[Tile]) -> dict[str, Any] | None:
    """Say how many tiles there were, and what each of them read; its core is in the configuration."""
    return {"count": len(tiles), "read": list(tiles[0].shape)} if len(tiles) > 1 else None


def _started_from(start: Iterates | None) -> dict[str, Any] | None:
    """Say what the run began with: with a regularizer that is not convex the end may depend on it."""
    return None if start is None else {"what": "an earlier result", "iterations": sum(start.iterations)}


def _bounded(held: int, upper: float) -> list[str]:
    """Say when the upper bound holds voxels: what is cut off is never cut off silently."""
    if not held:
        return []
    return [
        f"{held} voxels are held at the upper bound, {upper:g} times the peak: raise the bound if they may be brighter."
    ]


def _apart(method: str, tiles: Sequence[Tile]) -> list[str]:
    """Say when tiles take steps of their own: the factor of accelerated RL is one for all pixels of a run."""
    if method != "rl-accelerated" or len(tiles) == 1:
        return []
    return [
        "Accelerated RL finds its step lengths in every tile anew, and the longer it runs the more its result differs "
        "from that of the whole image: choose method rl for images in tiles."
    ]


def _misfit(ending: Ending, method: str) -> tuple[str, ...]:
    """Say what keeps an image from its expectation: where B-PnP runs away its steps do, else what was told."""
    if method == "b-pnp" and _rose(ending.objectives):
        return (
            "The objective rose: the steps of b-pnp, one over the strength, are too long for so many photons. A larger "
            "strength steadies it.",
        )
    return ending.fit.warnings(ending.objectives)


def _weighed(ending: Ending, method: str) -> list[str]:
    """Say when the strength is not what the prior of B-PnP weighs: its step, one over that, has a limit."""
    if method != "b-pnp" or ending.rows[-1].step_size < (1 - 1e-6) / LEAST:
        return []
    return [
        "b-pnp can weigh its prior no less at so many photons, whatever the strength: choose b-red for less of it."
    ]


def _saturated(pixels: int, full: float | None) -> list[str]:
    """Say how many pixels the camera's saturation cost."""
    if not pixels:
        return []
    were = "saturated pixel was" if pixels == 1 else "saturated pixels were"
    return [
        f"{pixels} {were} left out, at {full:g} counts: only areas of them count, as no darker than that."
    ]
