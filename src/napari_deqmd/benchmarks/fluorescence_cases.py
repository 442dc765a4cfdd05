"""Cases of the fluorescence benchmark: images at several peaks, and some about which methods are told wrong things."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_deqmd.benchmarks.conditions import (
    BARS,
    CROPS,
    NATURAL,
    PEAKS,
    SCENES,
    SIDE,
    VOLUME,
    VOLUME_SCENES,
    Condition,
    bars,
    conditions,
    estimated,
    lit_scene,
    measured,
    named_rng,
    retold,
    stacks,
)
from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.theory import make_psf
from napari_deqmd.training.measurements import Measurement

ROBUST_SCENES = ("filaments", "nuclei")
ROBUST_PEAK, ROBUST_SIGMA, WIDE_SIGMA = 100.0, 1.6, 4.0
FAR_PEAKS = (3.0, 3000.0)
AS_IS = "nothing wrong"

SHOWN = (
    ("simulated filaments", "PSF 2"),
    ("simulated nuclei", "PSF 2"),
    ("fluorescence", "BPAE_actin"),
    ("stack nuclei", ""),
)
"""Label and image of what the figure shows, at `SHOWN_PEAK`."""
SHOWN_PEAK = 30.0


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    peaks: tuple[float, ...] = PEAKS
    scenes: tuple[str, ...] = SCENES
    volumes: tuple[str, ...] = VOLUME_SCENES
    robust: tuple[str, ...] = ROBUST_SCENES
    side: int = SIDE
    volume: tuple[int, ...] = VOLUME
    max_iter: int = 200
    bars: bool = True


QUICK = Extent((SHOWN_PEAK,), ("filaments",), ("nuclei",), ("filaments",), 24, (8, 12, 12), 20, False)
"""Enough to see that everything runs."""


@dataclass(frozen=True, eq=False)
class Case:
    """One image as methods are given it.

    Attributes
    ----------
    condition : Condition
        The image and its true numbers.
    given : Measurement
        The image and what methods are told: peak, background, PSF; the truth in units of that peak.
    variation : str
        What is wrong or unusual about it; ``""`` in the main tables.
    start : {"data", "flat", "random"}
        Where minimisers start.
    kernel : str
        The kernel whose models it is for, where models are trained for one.
    """

    condition: Condition
    given: Measurement
    variation: str = ""
    start: str = "data"
    kernel: str = ""

    @property
    def shown(self) -> bool:
        """Whether the figure shows it."""
        condition = self.condition
        return (
            not self.variation
            and condition.peak == SHOWN_PEAK
            and (condition.label, condition.image) in SHOWN
        )


def cases(data: Path | None, extent: Extent) -> Iterator[Case]:
    """Yield the cases of the main tables, with automatic numbers, then the variations.

    Raises
    ------
    UserError
        The folder of data holds none of the folders that are looked for.
    """
    if data and not any((data / part).is_dir() for part in (CROPS, NATURAL, BARS)):
        raise UserError(
            f"{data} has no folder {CROPS}, {NATURAL} or {BARS}: give the folder that holds them."
        )
    found = conditions(data, peaks=extent.peaks, side=extent.side, kinds=extent.scenes)
    found += stacks(peaks=extent.peaks, shape=extent.volume, kinds=extent.volumes)
    for condition in found:
        yield Case(condition, estimated(condition.measurement))
    if extent.bars and data and (data / BARS).is_dir():
        condition = bars(data / BARS)
        yield Case(condition, condition.measurement)
    for kind in extent.robust:
        yield from variations(kind, extent.side)


def variations(kind: str, side: int, *, seed: int = 903) -> Iterator[Case]:
    """Yield one simulated scene with numbers, PSFs and starts that are wrong or unusual."""

    def gaussian(sigma: float) -> NDArray[np.float32]:
        return make_psf("gaussian", sigma=sigma)

    widest = gaussian(WIDE_SIGMA).shape
    scene = lit_scene(kind, (side, side), widest, named_rng(seed, kind))

    def condition(peak: float, sigma: float) -> Condition:
        psf = gaussian(sigma)
        margin = (widest[0] - len(psf)) // 2
        inner = scene[margin : len(scene) - margin, margin : len(scene) - margin]
        return measured(f"simulated {kind}", inner, psf, peak, image=f"PSF {sigma:g}", seed=seed)

    usual = condition(ROBUST_PEAK, ROBUST_SIGMA)
    given = estimated(usual.measurement)
    yield Case(usual, given, AS_IS)
    for name, factor in (("peak told × 2", 2.0), ("peak told / 2", 0.5)):
        yield Case(usual, retold(given, factor * given.peak), name)
    for name, factor in (("PSF told 10 % too narrow", 0.9), ("PSF told 10 % too wide", 1.1)):
        psf = torch.from_numpy(gaussian(factor * ROBUST_SIGMA))[None, None]
        yield Case(usual, replace(given, psf=psf), name)
    for start in ("flat", "random"):
        yield Case(usual, given, f"{start} start", start)
    unusual = {f"PSF of sigma {WIDE_SIGMA:g}": condition(ROBUST_PEAK, WIDE_SIGMA)}
    unusual |= {f"peak {peak:g}": condition(peak, ROBUST_SIGMA) for peak in FAR_PEAKS}
    for name, found in unusual.items():
        yield Case(found, estimated(found.measurement), name)
