"""Two exposures of one field: brought over each other, and how bright one is in terms of the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from napari_deqmd.core.errors import UserError
from napari_deqmd.training.rendering import Image

LARGEST_SHIFT = 20.0
"""Pixels; further apart, most of a patch is not on both exposures."""

SEEN = 0.25
"""Fractions of a pixel below are within the error at few photons, and correcting them costs more than they do."""

SHORTER = 0.9
"""Exposures of a target, in its image's, below which the two were swapped; an average of many short ones has 1."""
_SMOOTHING = 3.0
_SATURATED, _BRIGHT = 1e-3, 50.0


@dataclass(frozen=True)
class Pair:
    """A low and a high exposure, registered.

    Attributes
    ----------
    low : array (Y, X)
        Photo-electrons as they were counted, cut to what both show.
    high : array (Y, X)
        Photo-electrons, moved by `shift` and with `offset` added: on average `exposure` times the low ones.
    shift : tuple of float
        By how many pixels the high exposure was moved along Y and X.
    exposure, offset : float
        Ratio of the exposures, and what the high one lacked of being proportional, photo-electrons.
    """

    low: Image
    high: Image
    shift: tuple[float, float]
    exposure: float
    offset: float


def register(low: Image, high: Image, *, name: str = "the pair") -> Pair:
    """Bring the high exposure of a field over the low one and compare their brightness.

    The shift is the peak of the windowed cross-correlation of the images' square roots, where photon noise is even, to
    a twentieth of a pixel. Exposure and offset are the least-squares line of the low over the high one, both
    smoothed: the high one has the smaller error, and smoothing leaves little of it to flatten the line.

    Raises
    ------
    UserError
        Different shapes, a shift above `LARGEST_SHIFT`, a saturated high exposure, different fields, one image
        twice, or a high exposure that is the shorter one.
    """
    if low.shape != high.shape:
        raise UserError(
            f"The images of {name} have the shapes {low.shape} and {high.shape}: give pairs of one field and one size."
        )
    if np.array_equal(low, high):
        raise UserError(
            f"The images of {name} are the same: give another exposure of the field as the target."
        )
    if high.max() > _BRIGHT and float(np.mean(high == high.max())) > _SATURATED:
        raise UserError(f"The target of {name} is saturated: give one whose brightest pixels still differ.")
    whole = tuple(round(part) for part in _shift(low, high))
    if math.hypot(*whole) > LARGEST_SHIFT:
        raise UserError(
            f"The images of {name} are shifted by {math.hypot(*whole):.0f} pixels: align them to within "
            f"{LARGEST_SHIFT:.0f} first, or check that they show the same field."
        )
    first, second = _overlap(low, whole), _overlap(high, tuple(-part for part in whole))
    # Windowed images seem less far apart than they are: what is left is measured on their overlap.
    rest = [part if abs(part) > SEEN else 0.0 for part in _shift(first, second)]
    dy, dx = (n + part for n, part in zip(whole, rest, strict=True))
    if any(rest):
        second = np.clip(ndimage.shift(second, rest, order=3, mode="nearest"), 0, None)
        edge = tuple(
            slice(max(0, math.ceil(d)), n + min(0, math.floor(d)))
            for d, n in zip(rest, first.shape, strict=True)
        )
        first, second = first[edge], second[edge]
    smooth = [ndimage.gaussian_filter(image.astype(float), _SMOOTHING).ravel() for image in (second, first)]
    slope, intercept = np.polyfit(smooth[0], smooth[1], 1)
    if slope <= 0:
        raise UserError(f"The images of {name} do not show the same field: check the order of the files.")
    offset, exposure = float(intercept / slope), float(1 / slope)
    if exposure < SHORTER:
        raise UserError(
            f"The target of {name} has {exposure:.2g} times the photo-electrons of its image: give the long exposures "
            "as targets."
        )
    return Pair(
        first,
        np.clip(second + np.float32(offset), 0, None),
        (dy, dx),
        exposure=exposure,
        offset=offset,
    )


def _shift(low: Image, high: Image) -> tuple[float, float]:
    """Return by how much to move the high exposure along Y and X, pixels."""
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in low.shape))
    found = phase_cross_correlation(  # type: ignore[no-untyped-call]
        window * _contrast(low), window * _contrast(high), upsample_factor=20, normalization=None
    )[0]
    return float(found[0]), float(found[1])


def _overlap(image: Image, shift: tuple[int, ...]) -> Image:
    """Return the part of an image that another, moved over it by `shift`, covers."""
    return image[tuple(slice(max(0, d), n + min(0, d)) for d, n in zip(shift, image.shape, strict=True))]


def _contrast(image: Image) -> Image:
    root = ndimage.gaussian_filter(np.sqrt(image), 1.0)
    return np.asarray(root - root.mean(), dtype=np.float32)
