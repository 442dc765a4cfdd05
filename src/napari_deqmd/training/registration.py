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
"""Pixels: smaller shifts are within the error at few photons, and correcting them costs more sharpness than they do."""
_SMOOTHING = 2.0
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
        By how many pixels the high exposure was moved along Y and X; 0 where that is below `SEEN`.
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
        Different shapes, a shift above `LARGEST_SHIFT`, a saturated high exposure, or different fields.
    """
    if low.shape != high.shape:
        raise UserError(
            f"The images of {name} have the shapes {low.shape} and {high.shape}: give pairs of one field and one size."
        )
    if high.max() > _BRIGHT and float(np.mean(high == high.max())) > _SATURATED:
        raise UserError(f"The target of {name} is saturated: give one whose brightest pixels still differ.")
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in low.shape))
    first, second = (window * _contrast(image) for image in (low, high))
    found = phase_cross_correlation(  # type: ignore[no-untyped-call]
        first, second, upsample_factor=20, normalization=None
    )[0]
    dy, dx = (float(value) for value in found)
    if math.hypot(dy, dx) > LARGEST_SHIFT:
        raise UserError(
            f"The images of {name} are shifted by {math.hypot(dy, dx):.0f} pixels: align them to within "
            f"{LARGEST_SHIFT:.0f} first, or check that they show the same field."
        )
    moved, shift = high, (0.0, 0.0)
    if max(abs(dy), abs(dx)) > SEEN:
        shift = (dy, dx)
        moved = np.clip(ndimage.shift(high, (dy, dx), order=3, mode="nearest"), 0, None)
        inside = tuple(
            slice(max(0, math.ceil(d)), n + min(0, math.floor(d)))
            for d, n in zip((dy, dx), low.shape, strict=True)
        )
        low, moved = low[inside], moved[inside]
    smooth = [ndimage.gaussian_filter(image.astype(float), _SMOOTHING).ravel() for image in (moved, low)]
    slope, intercept = np.polyfit(smooth[0], smooth[1], 1)
    if slope <= 0:
        raise UserError(f"The images of {name} do not show the same field: check the order of the files.")
    offset = float(intercept / slope)
    return Pair(
        low, np.clip(moved + np.float32(offset), 0, None), shift, exposure=float(1 / slope), offset=offset
    )


def _contrast(image: Image) -> Image:
    root = ndimage.gaussian_filter(np.sqrt(image), 1.0)
    return np.asarray(root - root.mean(), dtype=np.float32)
