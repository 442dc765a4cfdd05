"""The mean of aligned beads, and what of it is light."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_deqmd.psf.bead_finding import Bead, Volume, far

# Standard deviations of the smoothed rim, for a smoothed voxel to be light.
_NOISE_LEFT = 2.0
_MARGIN = 6
_CORE = 0.1
# A voxel further from the beads' median than so many standard deviations is not the bead's.
_CLIP = 3.5
# Beads from which their scatter says what is noise.
_SOME = 4


def aligned(image: Volume, bead: Bead, beads: list[Bead], half: tuple[int, ...]) -> Volume:
    """Return a bead's box, moved to the middle, without its background, its height 1.

    NaN where the image ends or another bead is nearer.
    """
    where = [round(at) for at in bead.place]
    # A margin for what the shift mirrors, as far as the image goes.
    wide = [h + _MARGIN for h in half]
    inside = [slice(max(0, at - w), at + w + 1) for at, w in zip(where, wide, strict=True)]
    missing = [
        (max(0, w - at), max(0, at + w + 1 - n)) for at, w, n in zip(where, wide, image.shape, strict=True)
    ]
    box = np.pad(image[tuple(inside)], missing, mode="edge")
    theirs = np.pad(np.zeros(image[tuple(inside)].shape, bool), missing, constant_values=True)
    grids = np.ogrid[tuple(slice(at - w, at + w + 1) for at, w in zip(where, wide, strict=True))]

    def distance(one: Bead) -> Volume:
        return np.asarray(
            sum(((grid - at) / h) ** 2 for grid, at, h in zip(grids, one.place, half, strict=True))
        )

    own = distance(bead)
    for other in beads:
        if other is not bead and far(other.place, bead.place, half) < 3:
            theirs |= distance(other) < own
    for axis, (at, exact) in enumerate(zip(where, bead.place, strict=True)):
        box = _shift(box, at - exact, axis)
    middle = tuple(slice(_MARGIN, -_MARGIN) for _ in half)
    box = np.where(theirs, np.nan, box)[middle]
    return np.asarray((box - _background(box)) / bead.height)


def _shift(box: Volume, by: float, axis: int) -> Volume:
    """Shift by a part of a voxel; a mirror keeps the two ends of the axis from meeting at a step."""
    n = box.shape[axis]
    double = np.concatenate([box, np.flip(box, axis)], axis=axis)
    phase = np.exp(-2j * np.pi * np.fft.rfftfreq(2 * n) * by)
    phase = phase.reshape([-1 if one == axis else 1 for one in range(box.ndim)])
    moved = np.fft.irfft(np.fft.rfft(double, axis=axis) * phase, 2 * n, axis=axis)
    return np.take(moved, range(n), axis=axis)


def _background(box: Volume) -> float:
    """Return the level of the box's corners."""
    grids = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in box.shape)]
    distance = np.asarray(sum(grid**2 for grid in grids))
    return float(np.nanmedian(box[distance >= np.percentile(distance[np.isfinite(box)], 80)]))


def mean_of(boxes: NDArray[np.float64], heights: NDArray[np.float64]) -> tuple[Volume, float, float]:
    """Return the mean, the norm of its noise, and how far a bead is from it; NaN where one bead cannot tell."""
    weights = np.where(np.isfinite(boxes), heights.reshape(-1, *[1] * (boxes.ndim - 1)), 0.0)
    filled = np.nan_to_num(boxes)
    if len(boxes) >= _SOME:
        with np.errstate(invalid="ignore"):
            middle = _nan_median(boxes)
            spread = 1.4826 * _nan_median(np.abs(boxes - middle))
        # One scale of noise for the whole box where single voxels have too few beads to tell.
        spread = np.maximum(spread, np.median(spread))
        weights = np.where(np.abs(filled - middle) <= _CLIP * spread, weights, 0.0)
    total = weights.sum(axis=0)
    mean = (weights * filled).sum(axis=0) / np.where(total > 0, total, 1)
    # What no bead shows is as on the other side.
    mirror = (slice(None, None, -1),) * mean.ndim
    mean = np.where(total > 0, mean, mean[mirror])
    if len(boxes) < 2:
        return mean, math.nan, math.nan
    off = np.where(weights > 0, filled - mean, 0.0)
    core = mean > _CORE * mean.max()
    residual = float(np.median(np.linalg.norm(off[:, core], axis=1)) / np.linalg.norm(mean[core]))
    variance = (weights**2 * off**2).sum(axis=0) / np.where(total > 0, total, 1) ** 2
    return mean, float(np.sqrt(variance.sum() * len(boxes) / (len(boxes) - 1))), residual


def _nan_median(values: NDArray[np.float64]) -> Volume:
    """Return the median over the first axis of what is there, 0 where nothing is."""
    empty = np.isnan(values).all(axis=0)
    return np.asarray(np.nanmedian(np.where(empty, 0.0, values), axis=0))


def denoised(psf: Volume) -> Volume:
    """Set to 0 what does not rise above the noise of the rim, and what does not hang together with the middle.

    What is left of the noise would only be its positive half, which adds up in a large box.
    """
    psf = psf - float(np.median(_rim(psf)))
    smooth = ndimage.gaussian_filter(psf, 1.0)
    rim = _rim(smooth)
    noise = 1.4826 * float(np.median(np.abs(rim - np.median(rim))))
    labels, _ = ndimage.label(smooth > _NOISE_LEFT * noise)
    middle = labels[tuple(n // 2 for n in psf.shape)]
    return np.where(labels == middle, psf, 0.0) if middle else psf


def _rim(psf: Volume) -> Volume:
    return np.concatenate([psf.take([0, -1], axis=axis).ravel() for axis in range(psf.ndim)])
