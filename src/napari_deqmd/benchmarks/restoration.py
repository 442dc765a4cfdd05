"""Restoration quality on validation images: models against Richardson-Lucy and TV stopped or weighted by the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_deqmd.core.operators import Blur
from napari_deqmd.core.photons import estimate_photons
from napari_deqmd.core.poisson import per_image
from napari_deqmd.core.regularizers import NoRegularizer, Regularizer, TotalVariation
from napari_deqmd.core.solvers import SOLVERS
from napari_deqmd.core.solvers.richardson_lucy import richardson_lucy
from napari_deqmd.training.blurs import random_psf
from napari_deqmd.training.data import load_fluorescence, load_natural
from napari_deqmd.training.measurements import PSF_SIZE, Measurement, fit_psf
from napari_deqmd.training.scenes import make_scene

SIDE = 128
VOLUME = (16, 80, 80)
VOLUME_SIGMA = (1.5, 1.6, 1.6)
PEAKS = (30.0, 60.0, 200.0)
SCENES = ("filaments", "cells", "nuclei", "mixture")
VOLUME_SCENES = ("nuclei_3d", "filaments_3d", "vesicles_3d")
TV_WEIGHTS = (0.016, 0.032, 0.045, 0.064, 0.09, 0.13)


@dataclass(frozen=True)
class Condition:
    """One validation image: its label (kind and peak) and measurement, a batch of 1 whose PSNR is to be measured."""

    label: str
    measurement: Measurement


def conditions(data: Path, *, seed: int = 777) -> list[Condition]:
    """Draw validation images no model was trained on, blurred without wrapping around.

    Parameters
    ----------
    data : path
        Folder with ``fluorescence/train`` (its held-back files are used) and ``natural/bsds500/val``.
    seed : int
        Of scenes, crops and noise; the training draws from other seeds.
    """
    rng = np.random.default_rng(seed)
    side = SIDE + PSF_SIZE[0] - 1
    stacks = load_fluorescence(data / "fluorescence" / "train", held_back=True)
    held_back = [stacks[name] for name in sorted(stacks) if min(stacks[name].shape) >= side]
    photographs = load_natural(data / "natural" / "bsds500" / "val")
    names = sorted(photographs)
    blurs = [_gaussian((1.3, 1.3)), _gaussian((2.0, 2.0))]
    wider = [_gaussian((1.2, 1.2)), fit_psf(np.full((9, 9), 1 / 81, np.float32)), _gaussian((2.0, 2.0))]
    wider.append(fit_psf(random_psf(np.random.default_rng(3))))
    found = []
    for kind in SCENES:
        for peak in PEAKS:
            for psf in blurs:
                scene = make_scene(kind, (side, side), rng)
                found.append(_condition(f"simulated {kind}", scene, psf, peak, 0.04 * peak, rng))
    for i, peak in enumerate(PEAKS):
        for j in range(4):
            crop = _crop(held_back[(4 * i + j) % len(held_back)], side, rng)
            found.append(_condition("fluorescence", crop, blurs[j % 2], peak, 0.05 * peak, rng))
        for j in range(4):
            crop = _crop(photographs[names[4 * i + j]], side, rng)
            found.append(_condition("natural", crop, wider[j], peak, 0.01 * peak, rng))
    return found


def stacks(*, seed: int = 778) -> list[Condition]:
    """Draw simulated stacks, blurred in 3D without wrapping around, each scene at the lowest and highest peak."""
    rng = np.random.default_rng(seed)
    psf = _gaussian(VOLUME_SIGMA)
    shape = tuple(n + k - 1 for n, k in zip(VOLUME, psf.shape, strict=True))
    return [
        _condition(f"simulated {kind}", make_scene(kind, shape, rng), psf, peak, 0.04 * peak, rng)
        for kind in VOLUME_SCENES
        for peak in (min(PEAKS), max(PEAKS))
    ]


def batch(found: Sequence[Condition]) -> Measurement:
    """Stack conditions into one batch."""
    parts = [condition.measurement for condition in found]
    return Measurement(
        *(
            torch.cat([getattr(part, name) for part in parts])
            for name in ("electrons", "psf", "peak", "background", "truth")
        )
    )


def estimated(data: Measurement) -> Measurement:
    """Return the batch with peaks and backgrounds as the program finds them, and the truth in their units."""
    found = [estimate_photons(image[0].numpy()) for image in data.electrons]
    peak = torch.tensor([photons.peak for photons in found])
    background = torch.tensor([photons.background for photons in found])
    truth = data.truth * per_image(data.peak / peak, data.truth)
    return replace(data, peak=peak, background=background, truth=truth)


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of every image in dB, the peak being the truth's maximum."""
    error = (x - truth).square().flatten(1).mean(1)
    return 10 * torch.log10(truth.flatten(1).amax(1).square() / error)


def restore(
    data: Measurement,
    regularizer: Regularizer,
    *,
    strength: float = 1.0,
    max_iter: int = 200,
    tol: float = 1e-4,
) -> tuple[Tensor, Tensor]:
    """Return PSNR and iterations of the minimiser, each ``(B,)``; one image after the other, as users run it."""
    values, iterations = [], []
    for i in range(len(data.peak)):
        one = Measurement(
            *(getattr(data, name)[i : i + 1] for name in ("electrons", "psf", "peak", "background", "truth"))
        )
        problem = one.problem(regularizer, strength=strength)
        for step in SOLVERS["accelerated"](problem, max_iter=max_iter, tol=tol):
            last = step
        values.append(psnr(problem.likelihood.operator.crop(last.iterate), one.truth))
        iterations.append(last.iteration)
    return torch.cat(values), torch.tensor(iterations, dtype=torch.float)


def oracle_richardson_lucy(data: Measurement, *, max_iter: int = 200) -> Tensor:
    """Return the PSNR of the best iterate by the truth, of a flat and a data start, ``(B,)``."""
    problem = data.problem(NoRegularizer())
    best = torch.full(data.peak.shape, -torch.inf)
    for start in (None, problem.start()):
        for step in richardson_lucy(problem, start, max_iter=max_iter):
            best = torch.maximum(best, psnr(problem.likelihood.operator.crop(step.iterate), data.truth))
    return best


def total_variation(data: Measurement, weights: Sequence[float] = TV_WEIGHTS) -> dict[float, Tensor]:
    """Return the PSNR of every weight, each ``(B,)``."""
    return {
        weight: restore(data, TotalVariation(weight=weight), max_iter=150, tol=3e-4)[0] for weight in weights
    }


def by_label(found: Sequence[Condition], values: Tensor) -> dict[str, float]:
    """Return the mean of every label."""
    groups: dict[str, list[float]] = {}
    for condition, value in zip(found, values.tolist(), strict=True):
        groups.setdefault(condition.label, []).append(value)
    return {label: float(np.mean(group)) for label, group in groups.items()}


def table(
    found: Sequence[Condition],
    models: Mapping[str, Regularizer],
    *,
    report: Callable[[str], None],
    weights: Sequence[float] = TV_WEIGHTS,
) -> Iterator[str]:
    """Measure everything, saying through `report` what is under way; yield the lines of a Markdown table."""
    known = batch(found)
    auto = estimated(known)
    report("Richardson-Lucy")
    lucy = oracle_richardson_lucy(known)
    report("total variation")
    weighted = total_variation(known, weights)
    single = max(weighted, key=lambda weight: float(weighted[weight].mean()))
    oracle = torch.stack(list(weighted.values())).amax(0)
    columns = {
        "RL, oracle stop": lucy,
        f"TV, weight {single:g}": weighted[single],
        "TV, oracle weight": oracle,
    }
    for name, model in models.items():
        report(name)
        columns[name], iterations = restore(known, model)
        columns[f"{name}, automatic peak and background"], _ = restore(auto, model)
        columns[f"{name}, iterations"] = iterations
    yield "| condition | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    rows = {name: by_label(found, values) for name, values in columns.items()}
    for label in rows["RL, oracle stop"]:
        yield f"| {label} | " + " | ".join(f"{row[label]:.2f}" for row in rows.values()) + " |"
    for kind in ("simulated", "fluorescence", "natural", ""):
        chosen = torch.tensor([condition.label.startswith(kind) for condition in found])
        if not bool(chosen.any()):
            continue
        means = " | ".join(f"{values[chosen].mean():.2f}" for values in columns.values())
        yield f"| **{kind or 'all'}** | {means} |"


def _gaussian(sigma: Sequence[float]) -> np.ndarray:
    sides = PSF_SIZE if len(sigma) == 2 else [2 * math.ceil(4 * s) + 1 for s in sigma]
    squares = [((np.arange(n) - n // 2) / s) ** 2 for n, s in zip(sides, sigma, strict=True)]
    kernel = np.exp(-0.5 * sum(np.ix_(*squares)))
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def _crop(image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return the liveliest of eight random crops."""
    crops = []
    for _ in range(8):
        y, x = (int(rng.integers(0, n - side + 1)) for n in image.shape)
        crops.append(image[y : y + side, x : x + side])
    return max(crops, key=lambda crop: float(crop.std()))


def _condition(
    kind: str, scene: np.ndarray, psf: np.ndarray, peak: float, background: float, rng: np.random.Generator
) -> Condition:
    """Measure a scene at a brightness of 1 at the 99.8th percentile of its blur."""
    kernel = torch.from_numpy(psf)[None, None]
    operator = Blur(kernel, tuple(n - k + 1 for n, k in zip(scene.shape, psf.shape, strict=True)))
    clean = torch.from_numpy(np.ascontiguousarray(scene, dtype=np.float32))[None, None]
    blurred = operator.forward(clean).clamp_min(0)
    scale = 1 / float(np.percentile(blurred.numpy(), 99.8))
    expected = (peak * scale * blurred + background).double().numpy()
    electrons = torch.from_numpy(rng.poisson(expected).astype(np.float32))
    truth = operator.crop(clean) * scale
    told = torch.tensor([peak]), torch.tensor([background])
    return Condition(f"{kind}, peak {peak:g}", Measurement(electrons, kernel, *told, truth))
