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

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.noise_blocks import difference, grey_step, rounding
from napari_deqmd.core.noise_line import CannotTellError, Pin, fit_line, points_of

_MOST_FRAMES = 64

SCALED = "The values are not above 1, so they were scaled: gain and offset are in these units."


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
        dark_noise = max(dark_variance - rounding(frames), 0.0)
        pin = Pin(known_offset, dark_variance)
    elif offset is not None and read_noise is not None:
        pin = Pin(offset, rounding(counts), read_noise)
    try:
        if flat is not None:
            frames = _checked(flat, "flat frame")
            line, blocks = fit_line(frames, frames.ndim > 2 and len(frames) > 1, gain, pin)
        else:
            axes = axes or ""
            series = len(axes) == counts.ndim and "T" in axes and counts.shape[axes.index("T")] > 1
            line, blocks = fit_line(
                np.moveaxis(counts, axes.index("T"), 0) if series else counts, series, gain, pin
            )
    except CannotTellError as reason:
        return Camera(
            gain=gain,
            offset=known_offset,
            read_noise=read_noise if gain is None or dark is None else math.sqrt(dark_noise) / gain,
            cannot_tell=str(reason),
            warnings=tuple(sentences),
        )
    found, found_error = line.slope, line.slope_error
    levels, variances = points_of(blocks, line)
    # Where the noise vanishes.
    zero = line.level - line.variance / found
    zero_error = math.hypot(line.variance_error, line.variance / found * found_error) / found
    told_noise, noise_error = read_noise, 0.0 if read_noise is not None else None
    if known_offset is not None:
        told_offset, offset_error = known_offset, 0.0
        if dark is not None or read_noise is None:
            excess = dark_noise if dark is not None else max(line.at(known_offset) - rounding(counts), 0.0)
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
        return [SCALED]
    step = grey_step(counts)
    if 1 / _MOST_FRAMES <= step < 0.9 and abs(1 / step - round(1 / step)) < 1e-3:
        return [
            f"The values come in steps of 1/{1 / step:.0f}: if frames were averaged, the gain is that of their mean."
        ]
    return []


def _dark(frames: NDArray[Any]) -> tuple[float, float]:
    """Return level and variance of frames without light; hot pixels and fixed patterns of several frames aside."""
    planes = frames.reshape(-1, *frames.shape[-2:]).astype(np.float32)
    noise = (planes[1:] - planes[:-1]) / np.float32(math.sqrt(2)) if len(planes) > 1 else planes
    low, high = np.percentile(planes, (0.5, 99.5))
    squared = np.square(difference(noise, 1))
    usual = squared[squared <= 25 * max(float(np.median(squared)), 1e-12) / 0.455]
    inside = planes[(planes >= low) & (planes <= high)]
    return float(inside.mean(dtype=np.float64)), float(usual.mean(dtype=np.float64))
