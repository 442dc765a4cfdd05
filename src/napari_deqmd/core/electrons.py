"""From camera counts to photo-electrons."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.errors import UserError

_SATURATED_WARNING = 0.001
_LARGEST = {2**bits - 1 for bits in (8, 10, 12, 14, 16)}


def to_electrons(
    counts: Any, *, offset: float, gain: float, read_noise: float = 0.0
) -> tuple[NDArray[np.float32], float]:
    """Convert camera counts to photo-electrons, ``(counts - offset) / gain + read_noise^2`` clipped at 0.

    Parameters
    ----------
    counts : array_like
        Counts in ADU, any shape, real numbers.
    offset : float
        Camera offset in ADU, finite.
    gain : float
        ADU per photo-electron, > 0.
    read_noise : float
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
    if not (math.isfinite(gain) and gain > 0):
        raise UserError(f"gain is {gain:g}: give counts per photo-electron, a number above 0.")
    if not math.isfinite(offset):
        raise UserError(f"offset is {offset:g}: give a finite number of counts.")
    if not (math.isfinite(read_noise) and read_noise >= 0):
        raise UserError(f"read_noise is {read_noise:g}: give a number of electrons, 0 or more.")
    with np.errstate(over="ignore"):
        electrons = array.astype(np.float32)
    electrons -= np.float32(offset)
    if gain != 1:
        electrons /= np.float32(gain)
    if read_noise:
        electrons += np.float32(read_noise**2)
    # One pass finds NaN and infinities of either sign.
    if not math.isfinite(float(electrons.sum(dtype=np.float64))):
        raise UserError("The image holds NaN, infinite or far too large values: replace them first.")
    below = int(np.count_nonzero(electrons < 0))
    if below:
        np.maximum(electrons, 0, out=electrons)
    return electrons, below / electrons.size


def saturation(counts: NDArray[Any]) -> str:
    """Return a sentence on the pixels at the largest value a camera can give, or nothing where hardly any are.

    Parameters
    ----------
    counts : ndarray
        Camera counts in ADU, any shape, at least one.
    """
    largest = counts.max()
    if counts.dtype.kind not in "ui" or int(largest) not in _LARGEST:
        return ""
    saturated = float(np.count_nonzero(counts == largest)) / counts.size
    if saturated <= _SATURATED_WARNING:
        return ""
    return (
        f"{saturated:.1%} of the pixels are at {largest}, where the camera saturates: "
        "what is brighter there is lost."
    )
