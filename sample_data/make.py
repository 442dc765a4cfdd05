"""Simulates the sample stacks of this folder: ``python sample_data/make.py [FOLDER]``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import signal

from napari_deqmd.psf.theory import make_psf
from napari_deqmd.samples import SCENARIOS, Scenario
from napari_deqmd.training.planar import puncta
from napari_deqmd.training.rendering import blob, coverage, lines, lognormal, noise, nucleus, worms
from napari_deqmd.training.volumes import nuclei_3d

Image = NDArray[np.float32]
SHAPES = {"filaments": (256, 256), "nuclei": (24, 128, 128)}
SEEDS = {"filaments": 29, "nuclei": 23}


def draw_cells(shape: tuple[int, ...], rng: np.random.Generator) -> Image:
    """Three spread cells: microtubules from beside the nucleus, vesicles, faint cytoplasm and chromatin."""
    image = np.zeros(shape, np.float32)
    wobble, texture = noise(rng, shape, 30), noise(rng, shape, 1.8)
    grain = np.clip(1 + 0.3 * noise(rng, shape, 4), 0, None)
    vesicles = puncta(rng, shape)
    for place, bright in zip(((0.30, 0.28), (0.42, 0.80), (0.83, 0.46)), (1.0, 0.65, 0.8), strict=True):
        centre = np.asarray(place) * shape
        window, depth = blob(centre, rng.uniform(62, 88, 2), rng.uniform(0, np.pi), wobble, roughness=0.14)
        around = rng.uniform(0, 2 * np.pi, 75)
        ring = np.stack([np.sin(around), np.cos(around)], -1)
        curves = worms(
            rng,
            centre + rng.uniform(6, 22, (75, 1)) * ring,
            length=110,
            persistence=110,
            heading=around + rng.normal(0, 0.8, 75),
        )
        threads = lines(shape, curves, lognormal(rng, 75, 0.35), 0.5)
        body = 0.07 * grain + 0.6 * threads + 0.35 * vesicles
        cell = np.zeros(shape, np.float32)
        cell[window] = (np.clip(depth / 4, 0, 1) * body[window]).astype(np.float32)
        box, deep = blob(centre, rng.uniform(16, 21, 2), rng.uniform(0, np.pi), wobble, roughness=0.05)
        cell[box] = cell[box] * (1 - 0.75 * coverage(deep)) + 0.35 * nucleus(rng, deep, texture[box])
        image += np.float32(bright) * cell
    return image


def draw(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Image:
    """The sharp object, in any unit."""
    if name == "filaments":
        return draw_cells(shape, rng)
    haze = np.clip(1 + 0.5 * noise(rng, shape, 15, aspect=3), 0, None)
    return nuclei_3d(rng, shape, aspect=3.0, radius=15.0) + np.float32(0.01) * haze


def simulate(name: str, scenario: Scenario) -> tuple[NDArray[np.uint16], Image, Image]:
    """Counts, truth in photo-electrons, and PSF.

    The object is drawn larger by the PSF's reach on every side and cropped after the blur, as a camera sees it:
    light from outside enters, none leaves on one side to come back on the other. Truth and expectation are
    rounded, so that another processor's last digits change nothing.
    """
    rng = np.random.default_rng(SEEDS[name])
    shape = SHAPES[name]
    psf = make_psf("gaussian", ndim=len(shape), sigma=scenario.sigma)
    margin = [n // 2 for n in psf.shape]
    crop = tuple(slice(m, m + n) for m, n in zip(margin, shape, strict=True))
    sharp = draw(name, tuple(n + 2 * m for n, m in zip(shape, margin, strict=True)), rng).astype(np.float64)
    blurred = signal.fftconvolve(sharp, psf.astype(np.float64), mode="valid")
    sharp = np.round(sharp * (scenario.peak / blurred.max()) * 64) / 64
    blurred = signal.fftconvolve(sharp, psf.astype(np.float64), mode="valid")
    expected = np.round(np.clip(blurred, 0, None) + scenario.background, 4)
    counts = scenario.offset + scenario.gain * rng.poisson(expected)
    return counts.astype(np.uint16), sharp[crop].astype(np.float32), psf


def write(path: Path, image: NDArray[np.generic], scenario: Scenario) -> None:
    """ImageJ TIFF with axes and voxel size."""
    metadata: dict[str, object] = {"axes": scenario.axes, "unit": "um"}
    if len(scenario.axes) == 3:
        metadata["spacing"] = scenario.voxel_size[0]
    resolution = tuple(1 / size for size in scenario.voxel_size[:-3:-1])
    tifffile.imwrite(
        path,
        image,
        imagej=True,
        compression="zlib",
        resolution=resolution,
        resolutionunit=1,
        metadata=metadata,
    )


def main(folder: Path) -> None:
    """Write every sample's three files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, scenario in SCENARIOS.items():
        for part, image in zip(("raw", "truth", "psf"), simulate(name, scenario), strict=True):
            write(folder / f"{name}_{part}.tif", image, scenario)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
