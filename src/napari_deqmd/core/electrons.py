"""From camera counts to photo-electrons."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.errors import UserError

Level = float | NDArray[Any]
"""A number of all pixels, or an array of one for each."""

_SATURATED_WARNING = 0.001
_LARGEST = {2**bits - 1 for bits in (8, 10, 12, 14, 16)}
# Pixels that share a largest value no camera is known by, and grey levels just below it: of fewer of either, a few
# photo-electrons alone would look like saturation.
_PILED, _STEPS = 10, 3


def to_electrons(
    counts: Any, *, offset: Level, gain: Level, read_noise: Level = 0.0
) -> tuple[NDArray[np.float32], float]:
    """Convert camera counts to photo-electrons, ``(counts - offset) / gain + read_noise^2`` clipped at 0.

    Parameters
    ----------
    counts : array_like
        Counts in ADU, any shape, real numbers.
    offset : float or ndarray, shape (Y, X)
        Camera offset in ADU, finite; of every pixel where it is an array.
    gain : float or ndarray, shape (Y, X)
        ADU per photo-electron, > 0.
    read_noise : float or ndarray, shape (Y, X)
        Standard deviation of the camera's own noise, electrons. Its square is added, here and to the background: the
        sum of Poisson and Gaussian noise is then nearly Poisson, of the right mean and variance, and hardly ever
        negative (Snyder et al., JOSA A 12 (1995), 272).

    Returns
    -------
    electrons : ndarray of float32
        Same shape, >= 0.
    clipped_fraction : float
        Share of the pixels that lay below the offset, or below 0 with the read noise's share.

    Raises
    ------
    UserError
        No pixels, values that are not real finite numbers, or a gain or offset outside its domain.
    """
    array = np.asarray(counts)
    if array.dtype.kind not in "uif":
        raise UserError(f"The image has values of type {array.dtype}: give an image of real numbers.")
    if not array.size:
        raise UserError(f"The image is empty (shape {array.shape}): choose a region with pixels in it.")
    check_camera(offset=offset, gain=gain, read_noise=read_noise)
    with np.errstate(over="ignore"):
        electrons = array.astype(np.float32)
    electrons -= np.asarray(offset, np.float32)
    if np.any(np.not_equal(gain, 1)):
        electrons /= np.asarray(gain, np.float32)
    if np.any(read_noise):
        electrons += np.asarray(np.square(read_noise), np.float32)
    # One pass finds NaN and infinities of either sign.
    if not math.isfinite(float(electrons.sum(dtype=np.float64))):
        raise UserError("The image holds NaN, infinite or far too large values: replace them first.")
    below = int(np.count_nonzero(electrons < 0))
    if below:
        np.maximum(electrons, 0, out=electrons)
    return electrons, below / electrons.size


def check_camera(*, offset: Level = 0.0, gain: Level = 1.0, read_noise: Level = 0.0) -> None:
    """Raise `UserError` where a number of a camera, or of one of its pixels, is outside its domain."""
    for name, value, least, wanted in (
        ("gain", gain, math.ulp(0.0), "counts per photo-electron, a number above 0"),
        ("offset", offset, -math.inf, "a finite number of counts"),
        ("read_noise", read_noise, 0.0, "a number of electrons, 0 or more"),
    ):
        try:
            values = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise UserError(f"{name} is {value!r}: give {wanted}.") from None
        wrong = values[~(np.isfinite(values) & (values >= least))]
        if wrong.size:
            raise UserError(f"{name} is {wrong[0]:g}: give {wanted}.")


def saturation_level(counts: NDArray[Any]) -> float | None:
    """Return the largest value, where pixels pile up at it: what was brighter was cut off there.

    Parameters
    ----------
    counts : ndarray
        Camera counts in ADU, any shape, at least one.

    Returns
    -------
    float or None
        ``None`` where fewer pixels have it than lie within a hundredth below; one pixel alone is what stretching the
        grey values leaves. A value that is not the largest of any camera's converter, as a full well's or with an
        offset subtracted, must have many pixels, and some of the grey levels below it must be in use.
    """
    if counts.dtype.kind not in "uif":
        return None
    level = float(counts.max())
    converter = counts.dtype.kind in "ui" and int(level) in _LARGEST
    at = int(np.count_nonzero(counts == level))
    if at < (2 if converter else _PILED):
        return None
    near = counts[(counts < level) & (counts >= level - abs(level) / 100)]
    if at <= near.size or not (converter or len(np.unique(near)) >= _STEPS):
        return None
    return level


def saturation(counts: NDArray[Any]) -> str:
    """Return a sentence on the pixels that pile up at the largest value, or nothing where hardly any do.

    Parameters
    ----------
    counts : ndarray
        Camera counts in ADU, any shape, at least one.
    """
    level = saturation_level(counts)
    saturated = 0.0 if level is None else float(np.count_nonzero(counts == level)) / counts.size
    if saturated <= _SATURATED_WARNING:
        return ""
    return (
        f"{saturated:.1%} of the pixels are at {level:g}, where the camera saturates: "
        "what is brighter there is lost."
    )
