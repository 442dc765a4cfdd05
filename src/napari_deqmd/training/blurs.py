"""Random point-spread functions for training: optical, motion and uniform kernels."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from napari_deqmd.training.rendering import Floats, Image, splat, worms

LARGEST = 25
"""Largest side of a random kernel, pixels."""


def _trim(kernel: Floats) -> Image:
    """Centre on the centroid (whole pixels), cut to the odd square with 99.5 % of the energy, sum 1."""
    half = LARGEST // 2
    middle = np.rint(ndimage.center_of_mass(kernel)).astype(int)
    padded = np.pad(kernel, LARGEST)
    y, x = middle + LARGEST
    window = padded[y - half : y + half + 1, x - half : x + half + 1]
    total = window.sum()
    for reach in range(1, half + 1):
        inner = window[half - reach : half + reach + 1, half - reach : half + reach + 1]
        if inner.sum() >= 0.995 * total:
            break
    return np.asarray(inner / inner.sum(), dtype=np.float32)


def _gaussian(sigma: float, ratio: float = 1.0, angle: float = 0.0) -> Floats:
    y, x = np.mgrid[-15:16, -15:16].astype(float)
    along, across = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
    kernel = np.exp(-0.5 * ((along / sigma) ** 2 + (across / (sigma * ratio)) ** 2))
    return np.asarray(kernel / kernel.sum())


def gaussian(rng: np.random.Generator) -> Image:
    """Gaussian of deviation 0.6 to 2.5 pixels, one in three slightly elliptic."""
    ratio = rng.uniform(0.7, 1.4) if rng.random() < 1 / 3 else 1.0
    return _trim(_gaussian(rng.uniform(0.6, 2.5), ratio, rng.uniform(0, np.pi)))


def wide_gaussian(rng: np.random.Generator) -> Image:
    """Round Gaussian of deviation 1.5 to 2.5 pixels: where least of an object is left."""
    return _trim(_gaussian(rng.uniform(1.5, 2.5)))


def skirted(rng: np.random.Generator) -> Image:
    """Narrow core on a wide skirt, as one plane of a wide-field image has it."""
    sigma = rng.uniform(0.7, 1.8)
    core, skirt = _gaussian(sigma), _gaussian(min(5.0, sigma * rng.uniform(2, 4)))
    share = rng.uniform(0.15, 0.55)
    return _trim((1 - share) * core + share * skirt)


def pupil(rng: np.random.Generator) -> Image:
    """Incoherent PSF of a round pupil, ``|FFT(P exp(i phi))|^2``: random defocus, little astigmatism."""
    n = 64
    y, x = np.meshgrid(fft.fftfreq(n), fft.fftfreq(n), indexing="ij")
    radius = np.hypot(y, x) / rng.uniform(
        0.09, 0.24
    )  # the field's cut-off, cycles per pixel; intensity has twice
    phase = rng.normal(0, 1.6) * (2 * radius**2 - 1) + rng.normal(0, 0.3) * radius**2 * np.cos(
        2 * np.arctan2(y, x) + rng.uniform(0, np.pi)
    )
    field = np.where(radius <= 1, np.exp(1j * phase), 0)
    kernel = np.abs(fft.fftshift(fft.fft2(field))) ** 2
    return _trim(ndimage.gaussian_filter(kernel, 0.4))


def motion(rng: np.random.Generator) -> Image:
    """Exposure along a smooth random path of 4 to 25 pixels."""
    start = np.full((1, 2), 24.0)
    path = worms(rng, start, length=rng.uniform(4, 25), persistence=np.exp(rng.uniform(1.5, 4)), step=0.1)[0]
    speed = np.exp(0.7 * ndimage.gaussian_filter1d(rng.standard_normal(len(path)), 8, mode="nearest") * 4)
    kernel = splat((49, 49), path, speed)
    return _trim(ndimage.gaussian_filter(kernel, rng.uniform(0.3, 0.7)))


def uniform(rng: np.random.Generator) -> Image:
    """Square box of 3, 5, 7 or 9 pixels."""
    side = int(rng.choice([3, 5, 7, 9]))
    return np.full((side, side), 1 / side**2, np.float32)


def random_psf(rng: np.random.Generator) -> Image:
    """Draw a kernel: half Gaussian, a fifth skirted or from a defocused pupil, the rest motion and uniform.

    Returns
    -------
    array of float32, (K, K)
        K odd, at most 25; >= 0, sum 1, centroid within a pixel of the middle.
    """
    kinds = (gaussian, skirted, pupil, motion, uniform)
    return kinds[int(rng.choice(len(kinds), p=(0.5, 0.1, 0.1, 0.15, 0.15)))](rng)


def gaussian_stack(rng: np.random.Generator) -> Image:
    """3D Gaussian: lateral deviation 0.6 to 2 pixels, the axial one 0.7 to 2.5 times as many slices, at most 3."""
    lateral = rng.uniform(0.6, 2.0)
    axial = min(3.0, lateral * float(np.exp(rng.uniform(np.log(0.7), np.log(2.5)))))
    z, y, x = np.mgrid[-9:10, -9:10, -9:10].astype(float)
    kernel = np.exp(-0.5 * ((z / axial) ** 2 + (y**2 + x**2) / lateral**2))
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def pupil_stack(rng: np.random.Generator) -> Image:
    """Through-focus intensities of a round pupil, squared half of the time as a confocal microscope's nearly are."""
    n, reach = 64, 9
    y, x = np.meshgrid(fft.fftfreq(n), fft.fftfreq(n), indexing="ij")
    radius = np.hypot(y, x) / rng.uniform(0.09, 0.2)
    defocus = rng.uniform(0.5, 2.0) * np.arange(-reach, reach + 1)[:, None, None] * (2 * radius**2 - 1)
    spherical = rng.normal(0, 0.3) * (6 * radius**4 - 6 * radius**2 + 1)
    field = np.where(radius <= 1, np.exp(1j * (defocus + spherical)), 0)
    kernel = np.abs(fft.fftshift(fft.fft2(field), axes=(-2, -1))) ** 2
    kernel = ndimage.gaussian_filter(kernel ** rng.choice([1, 2]), (0, 0.4, 0.4))
    middle = kernel[:, n // 2 - reach : n // 2 + reach + 1, n // 2 - reach : n // 2 + reach + 1]
    return np.asarray(middle / middle.sum(), dtype=np.float32)


def random_stack_psf(rng: np.random.Generator) -> Image:
    """Draw a 3D kernel, 19 voxels a side, of sum 1: two in three Gaussian, the rest of a through-focus pupil."""
    return gaussian_stack(rng) if rng.random() < 2 / 3 else pupil_stack(rng)
