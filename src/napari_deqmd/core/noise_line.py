"""The line of noise over brightness: its fit, and every reason not to believe it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.noise_blocks import (
    BLOCK,
    BORDER,
    ORDERS,
    Blocks,
    grey_step,
    of_pairs,
    of_planes,
)

# Noise below this variance, in steps of the grey levels squared, is that of rounding.
_ROUNDED = 0.3
_OUTLIER, _FEWEST, _ITERATIONS = 4.0, 40, 20
# Blocks next to each other share pixels of their noise, which the scatter of the blocks does not show.
_SHARED = 1.35
# Relative errors: what no scatter shows, what may still be told, and what two orders may differ by in any case.
_SYSTEMATIC, _TOLERABLE, _ALIKE, _DEVIATIONS = 0.01, 0.048, 0.015, 2.5
# Structure makes noise grow with brightness, and of fine details the higher orders see little less: so in this
# direction the slopes may differ by hardly more than their usual deviation.
_STEEPER = 1.25
# Bending over a standard deviation of the levels, relative to the slope, and in its own errors.
_BENT, _BENT_ERRORS = 0.08, 3.0
# Logarithms of the ratios of the noise of the first to the second and the second to the fourth order, in the calmer
# third of the blocks: -0.05 if white.
_CALM, _WHITE = 30, ((-0.3, 0.11), (-0.25, 0.02))
_POINTS = 24
_CLIPPED = 0.002
# Relative to the gain: what the steps of the grey levels may differ from it by, and how well the brighter blocks alone
# must tell it to say anything of the darker ones.
_STEP, _VAGUE = 0.06, 0.2


class CannotTellError(Exception):
    """Carries the sentence that says why."""


@dataclasses.dataclass(frozen=True)
class Line:
    """Variance over level: slope, a point on the line, the errors of both, and the blocks that it is made of."""

    slope: float
    slope_error: float
    level: float
    variance: float
    variance_error: float
    kept: NDArray[np.bool_]
    order: int

    def at(self, level: float) -> float:
        """Return the variance at a level."""
        return self.variance + self.slope * (level - self.level)

    def error_at(self, level: float) -> float:
        """Return the standard error of `at`."""
        return math.hypot(self.variance_error, self.slope_error * (level - self.level))


@dataclasses.dataclass(frozen=True)
class Pin:
    """A point that the line must go through: the dark, with its variance in counts or in electrons."""

    level: float
    variance: float = 0.0
    read_noise: float = 0.0

    def at(self, slope: float) -> float:
        """Return the variance in squared counts, the slope being the gain."""
        return self.variance + (slope * self.read_noise) ** 2


def fit_line(counts: NDArray[Any], series: bool, gain: float | None, pin: Pin | None) -> tuple[Line, Blocks]:
    """Fit the line to as much detail as has no structure in it, and see whether it can be believed."""
    _look(counts)
    blocks = (of_pairs if series else of_planes)(counts, _saturated(counts))
    step = grey_step(counts)
    line = _believed(blocks, step, gain, pin)
    if gain is not None:
        return line, blocks
    if line.slope <= 0 or line.slope_error > 0.5 * line.slope:
        raise CannotTellError(
            "The gain cannot be told: the noise does not grow with the brightness, so the image holds too little "
            "range, too few pixels, or not the noise of photons; give offset and gain."
        )
    _straight(blocks, line)
    # Where the grey levels are those of whole photo-electrons there is no read noise that could have been cut off.
    if blocks.perhaps_clipped and not (step > 1 and abs(step - line.slope) < _STEP * line.slope):
        above = _believed(blocks.above_lowest(), step, gain, pin)
        off = abs(above.slope - line.slope)
        if off > 2 * above.slope_error or above.slope_error > _VAGUE * line.slope:
            raise CannotTellError(
                "The gain cannot be told: many dark pixels have the lowest value, so the background may have been "
                "clipped; give the raw image, or offset and gain."
            )
        line = dataclasses.replace(line, slope_error=math.hypot(line.slope_error, off))
    if line.slope_error > _TOLERABLE * line.slope:
        raise CannotTellError(
            f"The gain cannot be told well enough, it is about {line.slope:.2g} ± {line.slope_error:.1g}: give offset "
            "and gain, or a larger image, a time series, or dark and flat frames."
        )
    return line, blocks


def _believed(blocks: Blocks, step: float, gain: float | None, pin: Pin | None) -> Line:
    """Return the line of the lowest order of differences that agrees with all the higher ones."""
    fits = [_fit(blocks, order, step, gain, pin) for order in range(len(ORDERS))]
    _white(blocks, fits[-1].kept)
    line = fits[-1]
    for order in range(len(ORDERS) - 2, -1, -1):
        if not all(_agree(fits[order], finer) for finer in fits[order + 1 :]):
            break
        line = fits[order]
    if line is fits[-1]:
        raise CannotTellError(
            "The gain cannot be told: structure and noise cannot be separated, the finest details of the image are as "
            "fine as its noise; give offset and gain."
        )
    return line


def _look(counts: NDArray[Any]) -> None:
    """Refuse numbers that are no camera's any more."""
    low, high = counts.min(), counts.max()
    if low == high:
        raise CannotTellError("The gain cannot be told: every pixel is the same; give offset and gain.")
    if min(counts.shape[-2:]) < 2 * BORDER + 4 * BLOCK:
        raise CannotTellError(
            "The gain cannot be told: the image is too small to compare its dark and its bright places; give offset "
            "and gain."
        )
    if counts.dtype != np.uint8:
        return
    used = np.bincount(counts.ravel(), minlength=256) / counts.size
    inner = used[int(low) + 1 : int(np.percentile(counts, 98))]
    holes = len(inner) > 8 and np.count_nonzero(inner == 0) > 0.02 * len(inner)
    if holes or (low == 0 and high == 255 and min(used[0], used[255]) > _CLIPPED):
        raise CannotTellError(
            "The gain cannot be told: the 8-bit grey values were stretched for display; give the raw counts, or "
            "offset and gain."
        )


def _saturated(counts: NDArray[Any]) -> float:
    """Return the level of clipped pixels, infinite where there are none."""
    high = counts.max()
    return float(high) if np.count_nonzero(counts == high) > max(8, 1e-5 * counts.size) else math.inf


def _fit(blocks: Blocks, order: int, step: float, gain: float | None, pin: Pin | None) -> Line:
    """Fit variance over level, weighted by the variance of the variance, without outliers.

    Which blocks count, and how much, depends on the brightness around them only: a choice by their own noise is biased.
    """
    x, z, v = blocks.level, blocks.around[order], blocks.variance[order]
    if len(v) < _FEWEST:
        raise CannotTellError(
            "The gain cannot be told: hardly a place in the image is neither clipped nor saturated; give offset and "
            "gain."
        )
    low, high = np.percentile(z, (2, 99))
    slope = float(np.median(v)) / max(float(np.median(x)) - low, 0.1 * (high - low), 1e-12)
    intercept = float(np.percentile(v, 5)) - slope * low
    correlation = _correlation(ORDERS[order])
    for _ in range(_ITERATIONS):
        expected = slope * z + intercept
        scale = np.maximum(expected, max(0.05 * float(np.median(np.abs(expected))), 0.02 * step**2))
        residual = v - slope * x - intercept
        # Of the variance of a block: that of Gaussian noise, and what the few photons add.
        photons = np.maximum(scale / max(slope, 1e-12) ** 2, 0.05)
        spread = np.maximum(scale, slope * x + intercept) * np.sqrt(
            (2 * correlation + 1 / photons) / BLOCK**2
        )
        kept = (np.abs(residual) < _OUTLIER * spread) & (expected > _ROUNDED * step**2)
        if np.count_nonzero(kept) < _FEWEST:
            raise CannotTellError(
                "The gain cannot be told: the noise is hardly larger than the steps of the grey values; give offset "
                "and gain."
            )
        weight = kept / scale**2
        weight /= weight.sum()
        if pin is None:
            mean_x, mean_z, mean_v = (float((weight * values).sum()) for values in (x, z, v))
        else:
            mean_x, mean_z, mean_v = pin.level, pin.level, pin.at(slope)
        spanned = float((weight * (z - mean_z) * (x - mean_x)).sum())
        before = slope
        if gain is not None:
            slope = gain
        elif spanned > 0:
            slope = float((weight * (z - mean_z) * (v - mean_v)).sum()) / spanned
        else:
            raise CannotTellError(
                "The gain cannot be told: bright and dark places are too small or too few; give offset and gain."
            )
        intercept = mean_v - slope * mean_x
        if abs(slope - before) < 1e-4 * abs(slope):
            break
    residual = v - slope * x - intercept
    error = 0.0
    if gain is None:
        scatter = _SHARED * math.sqrt(float(np.square(weight * (z - mean_z) * residual).sum())) / spanned
        error = math.hypot(scatter, _SYSTEMATIC * slope)
    variance_error = _SHARED * math.sqrt(float(np.square(weight * residual).sum())) if pin is None else 0.0
    return Line(slope, error, mean_x, mean_v, variance_error, kept, order)


def _correlation(order: int) -> float:
    """Return by how much the neighbours' noise makes a mean of squared differences worse than one of squared noise."""
    ratios = [math.comb(2 * order, k) / math.comb(2 * order, order) for k in range(2 * order + 1)]
    return sum(ratio**2 for ratio in ratios) ** 2


def _agree(fit: Line, finer: Line) -> bool:
    """See whether two orders of difference find the same noise: the finer one's scatter includes the other's."""
    slope = math.sqrt(max(finer.slope_error**2 - fit.slope_error**2, 0))
    level = math.sqrt(max(finer.variance_error**2 - fit.variance_error**2, 0))
    off, steeper = abs(fit.at(finer.level) - finer.variance), fit.slope - finer.slope
    return -_DEVIATIONS * slope - _ALIKE * abs(
        finer.slope
    ) <= steeper <= _STEEPER * slope and off <= _DEVIATIONS * level + _ALIKE * abs(finer.variance)


def _white(blocks: Blocks, kept: NDArray[np.bool_]) -> None:
    """Refuse noise that neighbours share: structure has its calm places, processing has none."""
    for order, (low, high) in enumerate(_WHITE):
        rough, fine = blocks.variance[order][kept], blocks.variance[order + 1][kept]
        smallest = 1e-6 * float(fine.mean()) + 1e-30
        ratio = float(np.percentile(np.log((rough + smallest) / (fine + smallest)), _CALM))
        if not low < ratio < high:
            raise CannotTellError(
                "The gain cannot be told: neighbouring pixels vary together, because the image was smoothed, "
                "resampled, sharpened or compressed, or because its structure is too fine to be told from noise; "
                "give the raw image, or offset and gain."
            )


def _straight(blocks: Blocks, line: Line) -> None:
    """Refuse a curve: the slopes of the darker and of the brighter half differ."""
    kept = line.kept
    x, z, v = blocks.level[kept], blocks.around[line.order][kept], blocks.variance[line.order][kept]
    weight = 1 / np.maximum(line.slope * z + line.at(0.0), 0.05 * line.variance + 1e-30) ** 2
    weight /= weight.sum()
    square = np.square(z - line.level)
    design = np.stack([np.ones_like(x), x, np.square(x - line.level)])
    instruments = weight * np.stack([np.ones_like(x), z, square])
    matrix = instruments @ design.T
    inverse = np.linalg.pinv(matrix)
    coefficients = inverse @ (instruments @ v)
    residual = v - coefficients @ design
    error = _SHARED * np.sqrt(np.square((inverse @ instruments)[2] * residual).sum())
    span = float(np.sqrt((weight * np.square(z - (weight * z).sum())).sum()))
    bent = coefficients[2] * span
    if abs(bent) > _BENT * line.slope and abs(coefficients[2]) > _BENT_ERRORS * error:
        raise CannotTellError(
            "The gain cannot be told: the noise does not grow in proportion to the brightness, as after a gamma, a "
            "clipped background or other processing; give the raw image, or offset and gain."
        )


def points_of(blocks: Blocks, line: Line) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the means of groups of blocks, from dark to bright."""
    kept = line.kept
    ranks = np.argsort(blocks.around[line.order][kept])
    groups = [group for group in np.array_split(ranks, _POINTS) if len(group)]
    x, v = blocks.level[kept], blocks.variance[line.order][kept]
    return tuple(float(x[group].mean()) for group in groups), tuple(
        float(v[group].mean()) for group in groups
    )
