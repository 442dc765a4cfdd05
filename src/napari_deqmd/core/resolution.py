"""How fine the detail is on which two images agree: Fourier ring and shell correlation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal.windows import tukey

from napari_deqmd.core.errors import UserError

THRESHOLD = 1 / 7
"""Correlation of two noisy halves below which detail is not resolved."""
THRESHOLD_TO_TRUTH = 0.5
"""The same against a noise-free image: ``sqrt(2 c / (1 + c))`` at ``c`` = 1/7 (Rosenthal & Henderson 2003)."""

# Share of an axis that the window tapers, a quarter at either end (an eighth leaks over three rings), and the fewest
# samples that are tapered at all.
_TAPER = 0.5
_FEWEST = 16


@dataclasses.dataclass(frozen=True)
class RingCorrelation:
    """Agreement of two images by spatial frequency.

    Attributes
    ----------
    frequency : ndarray
        Mean frequency of each ring or shell, cycles per unit of the voxel size; ascending.
    correlation : ndarray
        In [-1, 1].
    threshold : float
        Where `resolution` is read.
    resolution : float or None
        One over the frequency at which the curve first falls below the threshold for two rings, in the unit of the
        voxel size; infinite where it starts below, ``None`` where it never falls below.
    """

    frequency: NDArray[np.float64]
    correlation: NDArray[np.float64]
    threshold: float
    resolution: float | None


def fourier_ring_correlation(
    a: Any, b: Any, voxel_size: float | Sequence[float] = 1.0, *, threshold: float = THRESHOLD
) -> RingCorrelation:
    """Correlate two images ring by ring (2D) or shell by shell (3D) in Fourier space.

    Two noisy measurements of one object agree up to the detail that noise leaves of it. The mean is subtracted and
    the borders are tapered by a Tukey window, which would otherwise correlate as a cross through all frequencies.

    Parameters
    ----------
    a, b : array_like, shape (Y, X) or (Z, Y, X)
        Images of one shape.
    voxel_size : float or sequence of float
        Distance of samples along each axis. Rings are round in physical frequency; they reach to the limit of the
        finest axis, and hold beyond the limit of a coarser one what the others know.
    threshold : float
        0.143 for two noisy halves, `THRESHOLD_TO_TRUTH` for an image and its truth.

    Returns
    -------
    RingCorrelation
        Rings as wide as the frequency step of the shorter side of the plane, without the one at zero.

    Raises
    ------
    UserError
        Shapes that differ, other than 2 or 3 dimensions, planes below 4 x 4, or values that are not finite.

    References
    ----------
    M. van Heel and M. Schatz, Fourier shell correlation threshold criteria, J. Struct. Biol. 151 (2005).
    R. P. J. Nieuwenhuizen et al., Measuring image resolution in optical nanoscopy, Nat. Methods 10 (2013).
    """
    first, second = (np.asarray(image, dtype=np.float32) for image in (a, b))
    if first.shape != second.shape:
        raise UserError(
            f"The images have the shapes {first.shape} and {second.shape}: compare like with like."
        )
    if first.ndim not in (2, 3) or min(first.shape[-2:]) < 4:
        raise UserError(
            f"Images of shape {first.shape} have no rings: give planes of at least 4 x 4, or stacks."
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise UserError("The images hold NaN or infinite values: replace them first.")
    sizes = np.broadcast_to(np.asarray(voxel_size, dtype=float), (first.ndim,))
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise UserError(f"The voxel size is {voxel_size}: give positive numbers, one for each axis.")
    frequency = _frequency(first.shape, sizes)
    width = max(1 / (n * d) for n, d in zip(first.shape[-2:], sizes[-2:], strict=True))
    rings = np.rint(frequency / width).astype(np.intp).ravel()
    count = int(np.floor(0.5 / sizes.min() / width * (1 + 1e-9))) + 1
    # The half spectrum stands for the whole: all but the columns at zero and at the limit count twice.
    weight = np.full(frequency.shape, 2.0, dtype=np.float32)
    weight[..., 0] = 1
    if first.shape[-1] % 2 == 0:
        weight[..., -1] = 1

    def total(values: NDArray[Any]) -> NDArray[np.float64]:
        sums = np.bincount(rings, (weight * values).ravel(), minlength=count)
        return sums[1:count].astype(np.float64)

    left, right = (_spectrum(image) for image in (first, second))
    cross = total((left * right.conj()).real)
    power = total(np.abs(left) ** 2) * total(np.abs(right) ** 2)
    correlation = np.divide(cross, np.sqrt(power), out=np.zeros_like(cross), where=power > 0)
    samples = total(np.ones_like(weight))
    filled = samples > 0
    mean = total(frequency)[filled] / samples[filled]
    correlation = correlation[filled].clip(-1, 1)
    return RingCorrelation(mean, correlation, threshold, _crossing(mean, correlation, threshold))


def split_photons(
    electrons: Any, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Deal the photo-electrons of an image out to two images, each to either with the same chance.

    The parts of a Poisson variable thinned binomially are independent Poisson variables: two measurements of half the
    exposure, out of one.

    Parameters
    ----------
    electrons : array_like
        Photo-electrons, >= 0; fractions are rounded to whole ones.
    rng : numpy.random.Generator

    Returns
    -------
    first, second : ndarray of float32
        Of the same shape; their sum is the rounded image.
    """
    whole = np.rint(np.asarray(electrons)).astype(np.int64)
    first = rng.binomial(whole, 0.5)
    return first.astype(np.float32), (whole - first).astype(np.float32)


def _frequency(shape: tuple[int, ...], sizes: NDArray[np.float64]) -> NDArray[np.float32]:
    squares = np.float32(0)
    for axis, (n, d) in enumerate(zip(shape, sizes, strict=True)):
        steps = fft.rfftfreq(n, d) if axis == len(shape) - 1 else fft.fftfreq(n, d)
        squares = squares + (steps.astype(np.float32) ** 2).reshape(
            [-1 if other == axis else 1 for other in range(len(shape))]
        )
    return np.asarray(np.sqrt(squares))


def _spectrum(image: NDArray[np.float32]) -> NDArray[np.complex64]:
    windowed = image - image.mean()
    for axis, n in enumerate(image.shape):
        if n >= _FEWEST:
            taper = tukey(n, _TAPER).astype(np.float32)
            windowed = windowed * taper.reshape([-1 if other == axis else 1 for other in range(image.ndim)])
    return np.asarray(fft.rfftn(windowed))


def _crossing(
    frequency: NDArray[np.float64], correlation: NDArray[np.float64], threshold: float
) -> float | None:
    below = correlation < threshold
    # Two rings in a row: the innermost hold so few samples that one of them alone says nothing.
    lost = np.flatnonzero(below & np.append(below[1:], True))
    if not lost.size:
        return None
    ring = int(lost[0])
    if ring == 0:
        return math.inf
    (f0, f1), (c0, c1) = frequency[ring - 1 : ring + 1], correlation[ring - 1 : ring + 1]
    return float(1 / (f0 + (f1 - f0) * (c0 - threshold) / (c0 - c1)))
