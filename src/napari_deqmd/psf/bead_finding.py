"""Beads in an image: where they are, and which of them are of use."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import least_squares

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.measures import width_of

Volume = NDArray[np.float64]

# Of a bead over the noise around it, to be one.
_LEAST_SNR = 8.0
# The box of a bead, in widths at half maximum to either side, and at least in voxels.
_REACH = 2.5
_LEAST_HALF = 4
# A bead this much brighter or dimmer, wider or narrower than the middle one is a clump or dirt.
_BRIGHTNESS = 4.0
_WIDTH = 1.35
# Voxels at the top value from which on a bead is saturated.
_SATURATED = 3
_MANY = 500
# Of half a bead's box, inside the image.
_INSIDE = 0.6
_SIGMA = 2 * math.sqrt(2 * math.log(2))


@dataclasses.dataclass(frozen=True)
class Bead:
    """One bead: place in voxels, height over its background, widths at half maximum of its Gaussian fit in voxels.

    `reason` says why it was left out; empty where it was not.
    """

    place: tuple[float, ...]
    height: float
    fwhm: tuple[float, ...]
    reason: str = ""


def full_scale(raw: NDArray[Any], image: Volume) -> float:
    """Return the counts of a full camera: the type's end, or a largest value that many voxels have."""
    top = float(image.max())
    if raw.dtype.kind == "u" and raw.dtype.itemsize == 1:
        return 255.0
    return top if int((image == top).sum()) >= _SATURATED else math.inf


def find(image: Volume) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """Return the beads' voxels, brightest first, and half the box that one needs."""
    from skimage import feature

    peak_local_max: Any = feature.peak_local_max

    level = float(np.median(image))
    noise = 1.4826 * float(np.median(np.abs(image - level))) or float(image.std()) or 1.0
    smooth = ndimage.gaussian_filter(image, 1.0)
    spread = 1.4826 * float(np.median(np.abs(smooth - np.median(smooth)))) or noise / 4
    least = float(np.median(smooth)) + max(_LEAST_SNR * spread, 0.1 * float(smooth.max() - np.median(smooth)))
    places = peak_local_max(
        smooth, min_distance=2, threshold_abs=least, exclude_border=False, num_peaks=_MANY
    )
    contrast = float(smooth.max() - np.median(smooth))
    if not len(places) or contrast < _LEAST_SNR * spread or contrast <= 0:
        raise UserError("No beads were found: give an image of bright points on a dark ground.")
    widths = []
    for place in places[:20]:
        lines = [np.moveaxis(smooth, axis, -1)[tuple(np.delete(place, axis))] for axis in range(image.ndim)]
        widths.append([_width_around(line - level, int(at)) for line, at in zip(lines, place, strict=True)])
    typical = np.nanmedian(np.array(widths), axis=0)
    half = tuple(
        int(min(max(_LEAST_HALF, math.ceil(_REACH * width)), max(1, (length - 1) // 2)))
        for width, length in zip(np.nan_to_num(typical, nan=_LEAST_HALF), image.shape, strict=True)
    )
    # Maxima of noise on one bead's flank are no beads.
    kept: list[tuple[int, ...]] = []
    for place in places:
        near = any(
            sum(((a - b) / max(w, 1)) ** 2 for a, b, w in zip(place, other, typical, strict=True)) < 1
            for other in kept
        )
        if not near:
            kept.append(tuple(int(at) for at in place))
    return kept, half


def _width_around(line: Volume, at: int) -> float:
    """Return the width of the peak at a place of a profile that may hold others."""
    low = at - next((n for n in range(at + 1) if line[at - n] < 0.1 * line[at]), at)
    high = at + next((n for n in range(line.size - at) if line[at + n] < 0.1 * line[at]), line.size - 1 - at)
    return width_of(line[low : high + 1])


def judge(
    image: Volume,
    place: tuple[int, ...],
    all_places: list[tuple[int, ...]],
    half: tuple[int, ...],
    full: float,
) -> Bead:
    """Fit a bead and say what is wrong with it."""
    box = tuple(slice(max(0, at - h), at + h + 1) for at, h in zip(place, half, strict=True))
    part = image[box]
    bead = fit(part, tuple(one.start for one in box))
    if int((part >= full).sum()) >= _SATURATED:
        return dataclasses.replace(bead, reason="saturated")
    if any(min(at, n - 1 - at) < _INSIDE * h for at, h, n in zip(place, half, image.shape, strict=True)):
        return dataclasses.replace(bead, reason="at the edge")
    if any(other != place and far(other, place, half) < 1 for other in all_places):
        # The fit may have found the neighbour.
        return dataclasses.replace(bead, place=tuple(map(float, place)), reason="overlapping")
    if not all(abs(a - b) <= 2 for a, b in zip(bead.place, place, strict=True)) or bead.height <= 0:
        return dataclasses.replace(bead, reason="not of a bead's shape")
    return bead


def far(one: Sequence[float], other: Sequence[float], half: tuple[int, ...]) -> float:
    """Return a distance in units of the half axes of a bead's box."""
    return math.sqrt(sum(((a - b) / h) ** 2 for a, b, h in zip(one, other, half, strict=True)))


def fit(part: Volume, start: tuple[int, ...]) -> Bead:
    """Fit a Gaussian with its own width along each axis, on a constant."""
    ndim = part.ndim
    grids = np.meshgrid(*(np.arange(n, dtype=float) for n in part.shape), indexing="ij", sparse=True)
    low, high = float(np.median(part)), float(part.max())
    top = np.unravel_index(int(part.argmax()), part.shape)

    def model(p: Volume) -> Volume:
        exponent = sum(((grid - p[i]) / p[ndim + i]) ** 2 for i, grid in enumerate(grids))
        return np.asarray(p[-2] * np.exp(-0.5 * exponent) + p[-1])

    guess = np.array([*map(float, top), *(max(0.7, n / 8) for n in part.shape), high - low or 1.0, low])
    found = least_squares(lambda p: (model(p) - part).ravel() / (high - low or 1.0), guess, max_nfev=60).x
    return Bead(
        place=tuple(float(found[i] + start[i]) for i in range(ndim)),
        height=float(found[-2]),
        fwhm=tuple(float(_SIGMA * abs(found[ndim + i])) for i in range(ndim)),
    )


def outliers(beads: list[Bead]) -> list[Bead]:
    """Return the beads, those unlike the others with the reason why they are left out."""
    good = [bead for bead in beads if not bead.reason]
    if len(good) < 3:
        return beads
    height = float(np.median([bead.height for bead in good]))
    width = np.median([bead.fwhm for bead in good], axis=0)
    judged = []
    for bead in beads:
        reason = bead.reason
        if not reason and not 1 / _BRIGHTNESS < bead.height / height < _BRIGHTNESS:
            reason = (
                "much brighter than the others" if bead.height > height else "much dimmer than the others"
            )
        ratio = np.asarray(bead.fwhm) / width
        if not reason and (ratio.max() > _WIDTH or ratio.min() < 1 / _WIDTH):
            reason = "of another width than the others"
        judged.append(dataclasses.replace(bead, reason=reason))
    return judged


def none_left(beads: list[Bead]) -> str:
    """Say why no bead is left, for an error."""
    reasons = [bead.reason for bead in beads]
    told = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
    return f"None of the {len(beads)} beads can be used ({told}): give an image with single, whole, unsaturated beads."
