"""What the pixels of an image say about its background, its peak and its noise, photo-electrons in planes (N, Y, X)."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

# Pixels looked at: more of them change percentiles by nothing that matters.
_SAMPLE = 2**23
_BAND = 256

# Standard deviations, in pixels, of the smoothing before a low percentile and a first guess of the peak are taken.
_SMOOTH_LOW, _SMOOTH_HIGH = 2.5, 1.0
# How far, as shares of the range, the darkest tenth and half may rise above the noise of the lowest level before it is
# taken for less than background. Fitted, as the correction for the noise is, on a thousand simulated measurements.
_FLAT, _DARK = 0.01, 0.18
_NOISE_WIDTH, _NOISE_BELOW = 3.0, 1.5
_TOP = 99.95
# The kernel that keeps maxima, ``2 G(s) - G(sqrt(2) s)``, leaves this deviation of white noise, over s; s is so many
# pixels that this is a tenth of the peak, as far as the narrowest and the widest allow.
_LEFT, _NARROW, _WIDE, _SHARE = 0.382, 0.8, 1.7, 0.09
# In deviations: how far below the maximum the places lie that compete for it.
_RIVALS = 2.5

# Hot pixels are so many times as bright as the third or fourth brightest neighbour. A spot of deviation 1 pixel falls
# to 0.6 at its neighbours, or to 0.37 beside the four that it lies between.
_THIRD, _FOURTH = 2.0, 4.0
# Layers that clusters have at most, and pixels that are looked at in the smallest image.
_LAYERS, _FEW = 6, 64

# Blocks of pixels whose variance is compared with their mean; a quarter of Poisson blocks lies below 0.82.
_BLOCK, _QUARTER, _DIM, _ENOUGH = 8, 0.82, 0.5, 30


def noise_ratio(planes: NDArray[np.float32]) -> float:
    """Return the variance of the noise over its mean: 1 for photo-electrons, the gain's error otherwise.

    The diagonal difference of 2 x 2 pixels sees no slopes; the lower quartile over blocks sees none of the structures
    that are left. Where too little is lit to tell, the answer is 1.
    """
    corners = planes[:, :-1, :-1], planes[:, 1:, :-1], planes[:, :-1, 1:], planes[:, 1:, 1:]
    squared = np.square((corners[0] - corners[1] - corners[2] + corners[3]) * np.float32(0.5))
    variance, mean = _blocks(squared), _blocks(planes[:, :-1, :-1])
    lit = mean > _DIM
    if np.count_nonzero(lit) < _ENOUGH:
        return 1.0
    return float(np.percentile(variance[lit] / mean[lit], 25)) / _QUARTER


def _blocks(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    count, rows, columns = planes.shape[0], planes.shape[1] // _BLOCK, planes.shape[2] // _BLOCK
    whole = planes[:, : rows * _BLOCK, : columns * _BLOCK]
    return np.asarray(whole.reshape(count, rows, _BLOCK, columns, _BLOCK).mean(axis=(2, 4)))


def sample(electrons: NDArray[Any]) -> NDArray[Any]:
    """Return (N, Y, X): all planes, or evenly spread ones, or bands of rows of one huge plane."""
    planes = electrons.reshape(-1, *electrons.shape[-2:])
    if planes.size <= _SAMPLE:
        return planes
    height, width = planes.shape[-2:]
    if height * width > _SAMPLE and height > _BAND:
        planes = planes[len(planes) // 2]
        bands = max(1, _SAMPLE // (_BAND * width))
        starts = np.linspace(0, height - _BAND, min(bands, height // _BAND)).astype(int)
        return np.stack([planes[start : start + _BAND] for start in starts])
    chosen = np.linspace(0, len(planes) - 1, max(1, _SAMPLE // (height * width))).astype(int)
    return np.asarray(planes[chosen])


def without_hot_pixels(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace hot pixels, and clusters of a few, by the fourth brightest of their eight neighbours.

    They are far above that, or above the third brightest, as no blurred spot is. A pixel at a corner of a cluster has
    three bright neighbours, and the next one is at a corner when it is gone. Only the brightest half percent can reach
    the percentiles, so only that is looked at.
    """
    few = min(planes.size, max(_FEW, planes.size // 200))
    where = np.nonzero(planes > np.partition(planes, -few, axis=None)[-few])
    plane, y, x = where
    height, width = planes.shape[-2:]
    around = [
        (plane, _reflected(y + dy, height), _reflected(x + dx, width))
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if dy or dx
    ]
    cleaned = planes
    for _ in range(_LAYERS):
        fourth, third = np.sort([cleaned[at] for at in around], axis=0)[-4:-2]
        # Five deviations of Poisson noise on top.
        limits = (f * level + 5 * np.sqrt(level + 1) for f, level in ((_THIRD, third), (_FOURTH, fourth)))
        hot = cleaned[where] > np.minimum(*limits)
        if not hot.any():
            break
        if cleaned is planes:
            cleaned = planes.copy()
        cleaned[plane[hot], y[hot], x[hot]] = fourth[hot]
    return cleaned


def _reflected(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return np.asarray(size - 1 - np.abs(size - 1 - np.abs(index)))


def _smooth(planes: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    # Reflected: a border pixel repeated outwards would carry its noise into the lowest level.
    return np.asarray(gaussian_filter(planes, (0, sigma, sigma), mode="reflect", truncate=3.0))


def is_above(counts: NDArray[Any], level: float) -> bool:
    """Return whether all but a hundredth of the smoothed planes lies above a level: what is below it is noise."""
    return float(np.percentile(_smooth(counts.astype(np.float32), _SMOOTH_LOW), 1)) > level


def _noise(level: float, sigma: float) -> float:
    """Return the deviation of Poisson noise of mean `level` after a Gaussian of `sigma` pixels."""
    return math.sqrt(max(level, 0.0)) / (2 * math.sqrt(math.pi) * sigma)


def _within(height: float, limit: float) -> float:
    """Return 1 up to the limit, less and less above it."""
    return 1.0 if height <= limit else limit / height


def low_level(planes: NDArray[np.float32]) -> float:
    """Return the background: the lowest level of the smoothed image, or less where few pixels share it."""
    smooth = _smooth(planes, _SMOOTH_LOW)
    lowest, low, tenth, half, high = (float(v) for v in np.percentile(smooth, (0.1, 1, 10, 50, 99.5)))
    noise = _noise(low, _SMOOTH_LOW)
    floor, span = lowest + _NOISE_WIDTH * noise, high - lowest
    flat = math.sqrt(_within(tenth - floor, _FLAT * span))
    dark = _within(half - floor, _DARK * span)
    # On a plateau the lowest of many noisy values lies below its mean, and what else there is says nothing.
    return (lowest + _NOISE_BELOW * noise * flat**3) * flat * math.pow(dark, 1 - flat)


def high_level(planes: NDArray[np.float32], background: float) -> float:
    """Return the peak: the brightest place of the blurred object above the background, without the noise on it."""
    guess = float(np.percentile(_smooth(planes, _SMOOTH_HIGH), _TOP)) - background
    noise = math.sqrt(max(guess + background, 0.0))
    wanted = _LEFT * noise / (_SHARE * guess) if guess > 0 else _WIDE
    width = min(max(wanted, _NARROW), _WIDE)
    # A Gaussian alone lowers maxima by their curvature times its variance: what the second one gives back.
    kept = 2 * _smooth(planes, width) - _smooth(planes, math.sqrt(2) * width)
    top = float(kept.max())
    if top <= background:  # nothing rises above the background: all there is is noise
        return float(np.ptp(planes))
    deviation = _LEFT * math.sqrt(top) / width
    rivals = np.count_nonzero(kept > top - _RIVALS * deviation) / (4 * math.pi * width**2)
    # The largest of many noisy values lies above its mean.
    peak = top - deviation * NormalDist().inv_cdf(1 - 0.5 / max(rivals, 1.0)) - background
    return peak if peak > 0.1 * (top - background) else top - background
