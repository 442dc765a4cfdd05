"""Gain, offset and read noise of a camera, from how the noise of an image grows with its brightness.

Counts ``c = offset + gain (n + read noise)`` of photo-electrons ``n ~ Poisson`` have the variance
``gain (mean - offset) + (gain read noise)^2``: a line, whose slope is the gain.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from napari_deqmd.core.errors import UserError

Floats = NDArray[np.float64]

# Pixels looked at, the side of the blocks whose noise and brightness are compared, and the border that both need.
_SAMPLE = 2**22
_BLOCK, _BORDER = 8, 12
# The brightness next to a block: the mean of a frame of these sides around it, which shares no pixel with its noise.
_RING = (24, 14)
# Finite differences along both axes, by their order: the higher see less of the structure, and less of the noise.
_ORDERS = (1, 2, 4, 6)

# Noise below this variance, in steps of the grey levels squared, is that of rounding.
_ROUNDED = 0.3
_OUTLIER, _FEWEST, _ITERATIONS = 4.0, 40, 20
# Blocks next to each other share pixels of their noise, which the scatter of the blocks does not show.
_SHARED = 1.35
# Relative errors: what no scatter shows, what may still be told, and what two orders may differ by in any case.
_SYSTEMATIC, _TOLERABLE, _ALIKE, _DEVIATIONS = 0.01, 0.045, 0.015, 2.5
# Bending over a standard deviation of the levels, relative to the slope, and in its own errors.
_BENT, _BENT_ERRORS = 0.08, 3.0
# Share of the pixels around a block that may have the lowest value: more of them may have been clipped.
_LOWEST = 0.02
# Logarithms of the ratios of the noise of the first to the second and the second to the fourth order, in the calmer
# third of the blocks: -0.05 if white.
_CALM, _WHITE = 30, ((-0.3, 0.11), (-0.25, 0.02))
_POINTS = 24
_CLIPPED, _MOST_FRAMES = 0.002, 64


@dataclasses.dataclass(frozen=True)
class Camera:
    """What the noise tells about a camera; what cannot be told is None.

    Attributes
    ----------
    gain : float or None
        Counts (ADU) per photo-electron.
    offset : float or None
        Counts to subtract. Without a dark frame or a given read noise: the level at which the noise vanishes, which
        is ``offset - gain read_noise^2``. Counts above that level have Poisson statistics, variance equal to mean.
    read_noise : float or None
        Standard deviation in electrons; only a given offset or a dark frame tells it from the offset.
    gain_error, offset_error, read_noise_error : float or None
        Standard errors, of numbers that were given 0.
    levels, variances : tuple of float
        The points of the fit, counts and squared counts.
    slope, intercept : float or None
        The line through them.
    cannot_tell : str
        One sentence that says why there is no gain, and what to do; empty where there is one.
    warnings : tuple of str
        Sentences for the user.
    """

    gain: float | None = None
    offset: float | None = None
    read_noise: float | None = None
    gain_error: float | None = None
    offset_error: float | None = None
    read_noise_error: float | None = None
    levels: tuple[float, ...] = ()
    variances: tuple[float, ...] = ()
    slope: float | None = None
    intercept: float | None = None
    cannot_tell: str = ""
    warnings: tuple[str, ...] = ()


class _CannotTellError(Exception):
    """Carries the sentence that says why."""


@dataclasses.dataclass(frozen=True)
class _Blocks:
    """Means of blocks and brightness around them ``(n,)``, variances ``(orders, n)`` of their noise.

    And the share of the pixels around them that have the lowest value ``(n,)``.
    """

    level: Floats
    around: Floats
    variance: Floats
    lowest: Floats

    def above_lowest(self) -> _Blocks:
        """Return the blocks around which hardly a pixel has the lowest value."""
        kept = self.lowest <= _LOWEST
        return _Blocks(self.level[kept], self.around[kept], self.variance[:, kept], self.lowest[kept])


@dataclasses.dataclass(frozen=True)
class _Line:
    """Variance over level: slope, a point on the line, the errors of both, and the blocks that it is made of."""

    slope: float
    slope_error: float
    level: float
    variance: float
    variance_error: float
    kept: NDArray[np.bool_]
    order: int

    def at(self, level: float) -> float:
        return self.variance + self.slope * (level - self.level)

    def error_at(self, level: float) -> float:
        return math.hypot(self.variance_error, self.slope_error * (level - self.level))


@dataclasses.dataclass(frozen=True)
class _Pin:
    """A point that the line must go through: the dark, with its variance in counts or in electrons."""

    level: float
    variance: float = 0.0
    read_noise: float = 0.0

    def at(self, slope: float) -> float:
        return self.variance + (slope * self.read_noise) ** 2


def estimate_camera(
    image: Any,
    *,
    axes: str | None = None,
    gain: float | None = None,
    offset: float | None = None,
    read_noise: float | None = None,
    dark: Any = None,
    flat: Any = None,
) -> Camera:
    """Estimate gain, offset and read noise from the noise of images, whatever structure they have.

    Parameters
    ----------
    image : array_like, shape (..., Y, X)
        Camera counts.
    axes : str, optional
        One letter per dimension. With a ``T`` the noise is the difference of frames that follow each other; otherwise
        it is what only the highest spatial frequencies of every plane hold.
    gain, offset, read_noise : float, optional
        What is known: counts per photo-electron, counts, electrons.
    dark : array_like, optional, shape (..., Y, X)
        One or more frames without light. They tell offset and read noise.
    flat : array_like, optional, shape (..., Y, X)
        One or more evenly lit frames of the same camera: the gain is told from them instead of the image. Of several
        the differences count, so that uneven pixels do no harm.

    Returns
    -------
    Camera
        With `Camera.cannot_tell` where the image does not tell the gain.

    Raises
    ------
    UserError
        Arrays that are no images of real, finite numbers.

    Notes
    -----
    Means and variances of small blocks lie on the same line as those of single pixels, whatever lies in a block.
    The level of a block is as noisy as its variance, and in Poisson data the two err together: so the line is fitted
    with the brightness around a block as instrument, which has nothing to do with the noise in it. After Foi et al.,
    IEEE TIP 17 (2008), 1737, where the levels are segmented instead.
    """
    counts = _checked(image, "image")
    sentences = _history(counts)
    known_offset, pin, dark_noise = offset, None, 0.0
    if dark is not None:
        frames = _checked(dark, "dark frame")
        dark_level, dark_variance = _dark(frames)
        known_offset = dark_level if offset is None else offset
        dark_noise = max(dark_variance - _rounding(frames), 0.0)
        pin = _Pin(known_offset, dark_variance)
    elif offset is not None and read_noise is not None:
        pin = _Pin(offset, _rounding(counts), read_noise)
    try:
        if flat is not None:
            frames = _checked(flat, "flat frame")
            line, blocks = _line(frames, frames.ndim > 2 and len(frames) > 1, gain, pin)
        else:
            axes = axes or ""
            series = len(axes) == counts.ndim and "T" in axes and counts.shape[axes.index("T")] > 1
            line, blocks = _line(
                np.moveaxis(counts, axes.index("T"), 0) if series else counts, series, gain, pin
            )
    except _CannotTellError as reason:
        return Camera(
            gain=gain,
            offset=known_offset,
            read_noise=read_noise if gain is None or dark is None else math.sqrt(dark_noise) / gain,
            cannot_tell=str(reason),
            warnings=tuple(sentences),
        )
    found, found_error = line.slope, line.slope_error
    levels, variances = _points(blocks, line)
    # Where the noise vanishes.
    zero = line.level - line.variance / found
    zero_error = math.hypot(line.variance_error, line.variance / found * found_error) / found
    told_noise, noise_error = read_noise, 0.0 if read_noise is not None else None
    if known_offset is not None:
        told_offset, offset_error = known_offset, 0.0
        if dark is not None or read_noise is None:
            excess = dark_noise if dark is not None else max(line.at(known_offset) - _rounding(counts), 0.0)
            doubt = (0.02 * excess if dark is not None else line.error_at(known_offset)) / found**2
            told_noise = math.sqrt(excess) / found
            noise_error = min(math.sqrt(doubt), doubt / (2 * told_noise + 1e-12))
    else:
        told_offset, offset_error = zero, zero_error
        if read_noise is None:
            sentences.append(
                f"Offset and read noise cannot be told apart without a dark frame: {zero:.4g} is the level where the "
                "noise vanishes, the offset less gain times the read noise squared."
            )
        else:
            told_offset += found * read_noise**2
    return Camera(
        gain=found,
        offset=told_offset,
        read_noise=told_noise,
        gain_error=0.0 if gain is not None else found_error,
        offset_error=offset_error,
        read_noise_error=noise_error,
        levels=levels,
        variances=variances,
        slope=line.slope,
        intercept=line.at(0.0),
        warnings=tuple(sentences),
    )


def _checked(image: Any, name: str) -> NDArray[Any]:
    counts = np.asarray(image)
    if counts.dtype.kind not in "uif" or counts.ndim < 2 or not counts.size:
        raise UserError(
            f"The {name} has {counts.dtype} values of shape {counts.shape}: give camera counts, (Y, X)."
        )
    if not math.isfinite(float(counts.sum(dtype=np.float64))):
        raise UserError(f"The {name} holds NaN or infinite values: replace them first.")
    return counts


def _history(counts: NDArray[Any]) -> list[str]:
    """Say what was done to the numbers, as far as they show it."""
    if counts.dtype.kind != "f":
        return []
    if float(counts.max()) <= 1:
        return ["The values are not above 1, so they were scaled: gain and offset are in these units."]
    step = _step(counts)
    if 1 / _MOST_FRAMES <= step < 0.9 and abs(1 / step - round(1 / step)) < 1e-3:
        return [
            f"The values come in steps of 1/{1 / step:.0f}: if frames were averaged, the gain is that of their mean."
        ]
    return []


def _step(counts: NDArray[Any]) -> float:
    """Return the smallest distance of two grey levels, on a part of the pixels."""
    levels = np.unique(counts.ravel()[:: max(1, counts.size // 2**18)])
    return float(np.diff(levels.astype(np.float64)).min()) if len(levels) > 1 else 1.0


def _rounding(counts: NDArray[Any]) -> float:
    return _step(counts) ** 2 / 12


def _line(counts: NDArray[Any], series: bool, gain: float | None, pin: _Pin | None) -> tuple[_Line, _Blocks]:
    """Fit the line to as much detail as has no structure in it, and see whether it can be believed."""
    _look(counts)
    blocks = (_pairs if series else _planes)(counts, _saturated(counts))
    step = _step(counts)
    line = _believed(blocks, step, gain, pin)
    if gain is not None:
        return line, blocks
    if line.slope <= 0 or line.slope_error > 0.5 * line.slope:
        raise _CannotTellError(
            "The gain cannot be told: the noise does not grow with the brightness, so the image holds too little "
            "range, too few pixels, or not the noise of photons; give offset and gain."
        )
    _straight(blocks, line)
    if np.count_nonzero(blocks.lowest > _LOWEST) > _LOWEST * len(blocks.lowest):
        above = _believed(blocks.above_lowest(), step, gain, pin)
        if abs(above.slope - line.slope) > 2 * above.slope_error:
            raise _CannotTellError(
                "The gain cannot be told: the dark pixels have all the same value, so the background was clipped; give "
                "the raw image, or offset and gain."
            )
    if line.slope_error > _TOLERABLE * line.slope:
        raise _CannotTellError(
            f"The gain cannot be told well enough, it is about {line.slope:.2g} ± {line.slope_error:.1g}: give offset "
            "and gain, or a larger image, a time series, or dark and flat frames."
        )
    return line, blocks


def _believed(blocks: _Blocks, step: float, gain: float | None, pin: _Pin | None) -> _Line:
    """Return the line of the lowest order of differences that agrees with all the higher ones."""
    fits = [_fit(blocks, order, step, gain, pin) for order in range(len(_ORDERS))]
    _white(blocks, fits[-1].kept)
    line = fits[-1]
    for order in range(len(_ORDERS) - 2, -1, -1):
        if not all(_agree(fits[order], finer) for finer in fits[order + 1 :]):
            break
        line = fits[order]
    if line is fits[-1]:
        raise _CannotTellError(
            "The gain cannot be told: structure and noise cannot be separated, the finest details of the image are as "
            "fine as its noise; give offset and gain."
        )
    return line


def _look(counts: NDArray[Any]) -> None:
    """Refuse numbers that are no camera's any more."""
    low, high = counts.min(), counts.max()
    if low == high:
        raise _CannotTellError("The gain cannot be told: every pixel is the same; give offset and gain.")
    if min(counts.shape[-2:]) < 2 * _BORDER + 4 * _BLOCK:
        raise _CannotTellError(
            "The gain cannot be told: the image is too small to compare its dark and its bright places; give offset "
            "and gain."
        )
    if counts.dtype != np.uint8:
        return
    used = np.bincount(counts.ravel(), minlength=256) / counts.size
    inner = used[int(low) + 1 : int(np.percentile(counts, 98))]
    holes = len(inner) > 8 and np.count_nonzero(inner == 0) > 0.02 * len(inner)
    if holes or (low == 0 and high == 255 and min(used[0], used[255]) > _CLIPPED):
        raise _CannotTellError(
            "The gain cannot be told: the 8-bit grey values were stretched for display; give the raw counts, or "
            "offset and gain."
        )


def _saturated(counts: NDArray[Any]) -> float:
    """Return the level of clipped pixels, infinite where there are none."""
    high = counts.max()
    return float(high) if np.count_nonzero(counts == high) > max(8, 1e-5 * counts.size) else math.inf


def _planes(counts: NDArray[Any], top: float) -> _Blocks:
    """Measure evenly spread planes, of a huge one the middle rows."""
    planes = counts.reshape(-1, *counts.shape[-2:])
    chosen = np.linspace(0, len(planes) - 1, max(1, min(len(planes), _SAMPLE // planes[0].size))).astype(int)
    part = _middle(planes[np.unique(chosen)]).astype(np.float32)
    return _blocks(part, part, part >= top)


def _pairs(counts: NDArray[Any], top: float) -> _Blocks:
    """Measure the differences of frames that follow each other; of a single frame's noise."""
    frames = counts.reshape(len(counts), -1, *counts.shape[-2:])
    number = max(1, min(len(frames) // 2, _SAMPLE // frames[0].size))
    first = np.unique(np.linspace(0, len(frames) - 2, number).astype(int) // 2 * 2)
    one, other = (
        _middle(frames[index])
        .astype(np.float32)
        .reshape(-1, min(frames.shape[-2], _rows(frames)), frames.shape[-1])
        for index in (first, first + 1)
    )
    return _blocks((one + other) / 2, (one - other) / np.float32(math.sqrt(2)), np.maximum(one, other) >= top)


def _rows(planes: NDArray[Any]) -> int:
    return max(2 * _BORDER + 4 * _BLOCK, 2 * _SAMPLE // int(planes.shape[-1]))


def _middle(planes: NDArray[Any]) -> NDArray[Any]:
    start = max(0, (planes.shape[-2] - _rows(planes)) // 2)
    return planes[..., start : start + _rows(planes), :]


def _blocks(level: Any, noise: Any, clipped: Any) -> _Blocks:
    rows, columns = ((size - 2 * _BORDER) // _BLOCK for size in level.shape[-2:])

    def averages(values: Any, reach: int) -> Floats:
        start = _BORDER - reach
        inside = values[:, start : start + rows * _BLOCK, start : start + columns * _BLOCK]
        split = inside.reshape(-1, rows, _BLOCK, columns, _BLOCK)
        return np.asarray(split.mean((2, 4), dtype=np.float64).ravel())

    middle = _BORDER + _BLOCK // 2
    middles = (slice(None), *(slice(middle, middle + n * _BLOCK, _BLOCK) for n in (rows, columns)))

    def around(values: Any) -> Floats:
        outer, inner = (
            side**2 * uniform_filter(values, (0, side, side))[middles].astype(np.float64) for side in _RING
        )
        return np.asarray((outer - inner).ravel() / (_RING[0] ** 2 - _RING[1] ** 2))

    variance = [averages(np.square(_difference(noise, order)), order // 2) for order in _ORDERS]
    whole = averages(clipped, 0) == 0
    lowest = around((level == level.min()).astype(np.float32))
    return _Blocks(
        averages(level, 0)[whole], around(level)[whole], np.array(variance)[:, whole], lowest[whole]
    )


def _difference(planes: Any, order: int) -> Any:
    """Return the differences of an order along Y and X, of the variance of white noise."""
    return np.diff(np.diff(planes, order, axis=-2), order, axis=-1) / np.float32(math.comb(2 * order, order))


def _fit(blocks: _Blocks, order: int, step: float, gain: float | None, pin: _Pin | None) -> _Line:
    """Fit variance over level, weighted by the variance of the variance, without outliers.

    Which blocks count, and how much, depends on the brightness around them only: a choice by their own noise is biased.
    """
    x, z, v = blocks.level, blocks.around, blocks.variance[order]
    if len(v) < _FEWEST:
        raise _CannotTellError(
            "The gain cannot be told: hardly a place in the image is neither clipped nor saturated; give offset and "
            "gain."
        )
    low, high = np.percentile(z, (2, 99))
    slope = float(np.median(v)) / max(float(np.median(x)) - low, 0.1 * (high - low), 1e-12)
    intercept = float(np.percentile(v, 5)) - slope * low
    correlation = _correlation(_ORDERS[order])
    for _ in range(_ITERATIONS):
        expected = slope * z + intercept
        scale = np.maximum(expected, max(0.05 * float(np.median(np.abs(expected))), 0.02 * step**2))
        residual = v - slope * x - intercept
        # Of the variance of a block: that of Gaussian noise, and what the few photons add.
        photons = np.maximum(scale / max(slope, 1e-12) ** 2, 0.05)
        spread = np.maximum(scale, slope * x + intercept) * np.sqrt(
            (2 * correlation + 1 / photons) / _BLOCK**2
        )
        kept = (np.abs(residual) < _OUTLIER * spread) & (expected > _ROUNDED * step**2)
        if np.count_nonzero(kept) < _FEWEST:
            raise _CannotTellError(
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
            raise _CannotTellError(
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
    return _Line(slope, error, mean_x, mean_v, variance_error, kept, order)


def _correlation(order: int) -> float:
    """Return by how much the neighbours' noise makes a mean of squared differences worse than one of squared noise."""
    ratios = [math.comb(2 * order, k) / math.comb(2 * order, order) for k in range(2 * order + 1)]
    return sum(ratio**2 for ratio in ratios) ** 2


def _agree(fit: _Line, finer: _Line) -> bool:
    """See whether two orders of difference find the same noise: the finer one's scatter includes the other's."""
    slope = math.sqrt(max(finer.slope_error**2 - fit.slope_error**2, 0))
    level = math.sqrt(max(finer.variance_error**2 - fit.variance_error**2, 0))
    return abs(fit.slope - finer.slope) <= _DEVIATIONS * slope + _ALIKE * abs(finer.slope) and abs(
        fit.at(finer.level) - finer.variance
    ) <= _DEVIATIONS * level + _ALIKE * abs(finer.variance)


def _white(blocks: _Blocks, kept: NDArray[np.bool_]) -> None:
    """Refuse noise that neighbours share: structure has its calm places, processing has none."""
    for order, (low, high) in enumerate(_WHITE):
        rough, fine = blocks.variance[order][kept], blocks.variance[order + 1][kept]
        smallest = 1e-6 * float(fine.mean()) + 1e-30
        ratio = float(np.percentile(np.log((rough + smallest) / (fine + smallest)), _CALM))
        if not low < ratio < high:
            raise _CannotTellError(
                "The gain cannot be told: neighbouring pixels vary together, because the image was smoothed, "
                "resampled, sharpened or compressed, or because its structure is too fine to be told from noise; "
                "give the raw image, or offset and gain."
            )


def _straight(blocks: _Blocks, line: _Line) -> None:
    """Refuse a curve: the slopes of the darker and of the brighter half differ."""
    kept = line.kept
    x, z, v = blocks.level[kept], blocks.around[kept], blocks.variance[line.order][kept]
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
        raise _CannotTellError(
            "The gain cannot be told: the noise does not grow in proportion to the brightness, as after a gamma, a "
            "clipped background or other processing; give the raw image, or offset and gain."
        )


def _dark(frames: NDArray[Any]) -> tuple[float, float]:
    """Return level and variance of frames without light; hot pixels and fixed patterns of several frames aside."""
    planes = frames.reshape(-1, *frames.shape[-2:]).astype(np.float32)
    noise = (planes[1:] - planes[:-1]) / np.float32(math.sqrt(2)) if len(planes) > 1 else planes
    low, high = np.percentile(planes, (0.5, 99.5))
    squared = np.square(_difference(noise, 1))
    usual = squared[squared <= 25 * max(float(np.median(squared)), 1e-12) / 0.455]
    inside = planes[(planes >= low) & (planes <= high)]
    return float(inside.mean(dtype=np.float64)), float(usual.mean(dtype=np.float64))


def _points(blocks: _Blocks, line: _Line) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the means of groups of blocks, from dark to bright."""
    kept = line.kept
    ranks = np.argsort(blocks.around[kept])
    groups = [group for group in np.array_split(ranks, _POINTS) if len(group)]
    x, v = blocks.level[kept], blocks.variance[line.order][kept]
    return tuple(float(x[group].mean()) for group in groups), tuple(
        float(v[group].mean()) for group in groups
    )
