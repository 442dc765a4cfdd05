"""What a reconstruction found and measured, JSON-able, for its sidecar."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch

import napari_deqmd
from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.fit import Fit
from napari_deqmd.core.iterates import Iterates
from napari_deqmd.core.photons import Photons
from napari_deqmd.core.pixels import PixelMaps
from napari_deqmd.core.solvers import Step
from napari_deqmd.io.sidecar import fingerprint
from napari_deqmd.scale.memory import peak_memory

LEFT_OUT = ("bad_pixels", "saturated_pixels")


def item_report(
    step: Step,
    config: ReconstructionConfig,
    photons: Photons,
    *,
    index: Mapping[str, int],
    iterations_before: int,
    objectives: Sequence[float],
    clipped_fraction: float,
    left_out: Mapping[str, int],
    fit: Fit,
    held: int,
    upper: float,
    seconds: float,
) -> dict[str, Any]:
    """Return the report of one item of the T and C axes, after its last step; `held` voxels are at `upper`."""
    return {
        "index": dict(index),
        "iterations": step.iteration,
        "iterations_before": iterations_before,
        "stopped_by": step.stopped_by or "user",
        "objective_first": objectives[0],
        "objective_last": step.objective,
        "certificate": step.residual,
        "rule": _rule(step, config.tol),
        "peak": photons.peak,
        "background": photons.background,
        "clipped_fraction": clipped_fraction,
        "fit": fit.ratio,
        **left_out,
        "seconds": seconds,
        "warnings": [*photons.warnings, *_bounded(held, upper), *fit.warnings(objectives)],
    }


def whole_report(
    items: Sequence[dict[str, Any]],
    items_total: int,
    config: ReconstructionConfig,
    *,
    device: str,
    start: Iterates | None,
    card: Mapping[str, Any] | None,
    maps: PixelMaps,
    full: float | None,
    of_the_psf: Sequence[str],
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
    start : Iterates or None
        Where it went on from.
    card : mapping or None
        Of the model.
    maps : PixelMaps
    full : float or None
        Counts at which pixels are saturated.
    of_the_psf : sequence of str
        What is wrong with it, and what of the image it does not explain.
    """
    last = items[-1]
    left_out = {name: sum(report[name] for report in items) for name in LEFT_OUT}
    return {
        "seconds": last["seconds"],
        "iterations": sum(report["iterations"] for report in items),
        "started_from": _started_from(start),
        "objective_first": last["objective_first"],
        "objective_last": last["objective_last"],
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
            *sorted({sentence for report in items for sentence in report["warnings"]}),
        ],
        "maps": {
            name: {"shape": list(values.shape), "sha256": fingerprint(values)}
            for name, values in maps.given.items()
        },
        **left_out,
        "device": device,
        "peak_memory_bytes": peak_memory(device),
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


def _rule(step: Step, tol: float) -> str:
    """Name what ended an item: the certificate, or an objective that no longer fell near it."""
    if step.stopped_by != "converged":
        return step.stopped_by or "user"
    return "certificate" if step.residual < tol else "objective"


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


def _saturated(pixels: int, full: float | None) -> list[str]:
    """Say how many pixels the camera's saturation cost."""
    if not pixels:
        return []
    were = "saturated pixel was" if pixels == 1 else "saturated pixels were"
    return [
        f"{pixels} {were} left out, at {full:g} counts: only areas of them count, as no darker than that."
    ]
