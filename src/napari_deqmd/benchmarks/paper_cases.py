"""Cases of the paper's experiment: colour photographs under three periodic blurs at three peaks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_deqmd.benchmarks.conditions import Condition, named_rng, retold
from napari_deqmd.benchmarks.fluorescence_cases import AS_IS, Case
from napari_deqmd.benchmarks.kernels import KERNELS, kernel
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.operators import Blur
from napari_deqmd.psf.theory import make_psf
from napari_deqmd.training.data import load_natural
from napari_deqmd.training.measurements import Measurement

SET3C, TEST, VALIDATION = "natural/set3c", "natural/bsds500/test", "natural/bsds500/val"
"""Folders of data."""
TUNING = "validation"
"""First word of the labels of images on which numbers are chosen."""
PEAKS = (100.0, 60.0, 40.0)
SHOWN = ("butterfly", "levin", 100.0)
UNSEEN = "levin:3"
WIDTH = 1.2


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes
    ----------
    kernels, peaks
        Conditions.
    seeds : int
        Noise seeds of Set3C; the other images have one.
    crops, tuning : int
        Test and validation images.
    side : int
        Of the centre crops, pixels; smaller images are left out.
    max_iter, long : int
        Evaluations of our solvers, and of those that stop by their papers' rules.
    robust : bool
        Whether methods are told wrong things, too.
    colours : int
        3, or 1 for gray images.
    """

    kernels: tuple[str, ...] = KERNELS
    peaks: tuple[float, ...] = PEAKS
    seeds: int = 3
    crops: int = 45
    tuning: int = 4
    side: int = 256
    max_iter: int = 400
    long: int = 2000
    robust: bool = True
    colours: int = 3

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.crops < 0:
            raise UserError(
                f"{self.seeds} seeds and {self.crops} crops cannot be measured: "
                "give 1 seed or more, and 0 crops or more."
            )
        if self.side < 8 or self.side % 2:
            raise UserError(f"Crops of {self.side} pixels cannot be measured: give an even number from 8 on.")
        if not all(0 < peak < math.inf for peak in self.peaks):
            raise UserError("Peaks of 0 or less cannot be measured: give photo-electrons above 0.")


QUICK = Extent(("gaussian:sigma=1.2",), (100.0,), 1, 1, 1, 32, 12, 12, False)
"""Enough to see that everything runs."""


@dataclass(frozen=True, eq=False)
class PaperCase(Case):
    """One photograph as methods are given it; `first`: with the first of its noise seeds."""

    first: bool = False

    @property
    def shown(self) -> bool:
        """Whether the figure shows it."""
        condition = self.condition
        image, kernel = condition.image.partition(",")[0], condition.label.split()[-1]
        return self.first and not self.variation and (image, kernel, condition.peak) == SHOWN


def cases(data: Path, extent: Extent, *, seed: int = 0) -> Iterator[Case]:
    """Yield validation images, Set3C, the variations of one of its images, then test images.

    Raises
    ------
    UserError
        A folder of images, or a kernel, is not there; a seed below 0.
    """
    if seed < 0:
        raise UserError(f"{seed} is no seed of noise: give 0 or more.")
    for part in (SET3C, TEST, VALIDATION):
        if not (data / part).is_dir():
            raise UserError(f"{data} has no folder {part}: give the folder that holds it.")
    psfs = {text: kernel(text, data) for text in extent.kernels}
    sets = (
        (TUNING, VALIDATION, extent.tuning, 1),
        ("Set3C", SET3C, None, extent.seeds),
        ("BSDS", TEST, extent.crops, 1),
    )
    for name, folder, most, seeds in sets:
        read = load_natural(data / folder, colours=extent.colours)
        images = dict(list(_crops(read, extent.side).items())[:most])
        if most != 0 and not images:
            raise UserError(
                f"No image in {data / folder} has {extent.side} pixels a side: give a smaller side."
            )
        for text, psf in psfs.items():
            kind = text.partition(":")[0] if text in KERNELS else text
            for peak in extent.peaks:
                for stem, image in images.items():
                    for draw in range(seed, seed + seeds):
                        told = f"{stem}, noise {draw}"
                        condition = counted(f"{name} {kind}", image, psf, peak, image_name=told, seed=draw)
                        yield PaperCase(condition, condition.measurement, kernel=text, first=draw == seed)
        if name == "Set3C" and extent.robust:
            yield from variations(images, data, seed)


def counted(
    label: str,
    image: NDArray[np.float32],
    psf: NDArray[np.float32],
    peak: float,
    *,
    image_name: str = "",
    seed: int = 0,
    downsample: int = 1,
) -> Condition:
    """Blur an image ``(C, Y, X)`` periodically and draw its photons, as the paper does: no background, white is 1."""
    truth = torch.from_numpy(image)[None]
    kernel_ = torch.from_numpy(psf)[None, None]
    shape = tuple(n // downsample for n in image.shape[1:])
    operator = Blur(kernel_, shape, boundary="periodic", downsample=downsample)
    expected = peak * operator.forward(truth).clamp_min(0).double().numpy()
    noise = named_rng(seed, f"{label} {image_name} {peak:g}")
    electrons = torch.from_numpy(noise.poisson(expected).astype(np.float32))
    told = torch.tensor([peak]), torch.zeros(1)
    protocol = {"boundary": "periodic", "upper": 1.0, "shifted": False, "downsample": downsample}
    data = Measurement(electrons, kernel_, *told, truth, **protocol)  # type: ignore[arg-type]
    return Condition(label, data, image_name, upper=1.0, white=1.0)


def variations(images: Mapping[str, NDArray[np.float32]], data: Path, seed: int) -> Iterator[Case]:
    """Yield one image with numbers, PSFs and starts that are wrong or unusual: to models, the Gaussian's."""
    name = next(iter(images))
    image, peak = images[name], PEAKS[0]
    case = partial(PaperCase, kernel=KERNELS[0])
    told = f"{name}, noise {seed}"

    def condition(psf: NDArray[np.float32], downsample: int = 1) -> Condition:
        return counted("robustness", image, psf, peak, image_name=told, seed=seed, downsample=downsample)

    gaussian = make_psf("gaussian", sigma=WIDTH)
    usual = condition(gaussian)
    given = usual.measurement
    yield case(usual, given, AS_IS)
    for start in ("flat", "random"):
        yield case(usual, given, f"{start} start", start)
    for words, factor in (("peak told × 2", 2.0), ("peak told / 2", 0.5)):
        # A box of white in units of the true peak: it is the numbers that are wrong, not the display.
        yield case(replace(usual, upper=1 / factor), retold(given, factor * given.peak), words)
    for words, factor in (("PSF told 10 % too narrow", 0.9), ("PSF told 10 % too wide", 1.1)):
        psf = torch.from_numpy(make_psf("gaussian", sigma=factor * WIDTH))[None, None]
        yield case(usual, replace(given, psf=psf), words)
    unusual = {"an unseen motion": condition(kernel(UNSEEN, data)), "2 × finer": condition(gaussian, 2)}
    for words, found in unusual.items():
        yield case(found, found.measurement, words)


def _crops(images: Mapping[str, NDArray[np.float32]], side: int) -> dict[str, NDArray[np.float32]]:
    """Return the centres ``(C, side, side)`` of the images that are large enough, by name."""
    whole = {name: image.reshape(-1, *image.shape[-2:]) for name, image in sorted(images.items())}
    return {name: centre(image, side) for name, image in whole.items() if min(image.shape[1:]) >= side}


def centre(image: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the middle ``(C, side, side)`` of an image."""
    y, x = ((n - side) // 2 for n in image.shape[1:])
    return np.ascontiguousarray(image[:, y : y + side, x : x + side])
