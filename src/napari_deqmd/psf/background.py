"""What of a PSF is not light: negative values and a constant background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.caution import caution
from napari_deqmd.core.errors import UserError

# Share of negative energy that passes for the noise of a background subtraction.
NEGATIVE = 0.05
# And how far below 0 it may take a voxel, as a share of the maximum.
DEEP = 0.1
# Share of the sum that a constant pedestal may have.
PEDESTAL = 0.1


def clip_negatives(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    """Set negative values to 0, and say so where they are many."""
    positive = psf.clip(min=0)
    total = positive.sum()
    if not total > 0:
        raise UserError("The PSF is zero everywhere: choose a PSF with a bright spot in it.")
    negative, deep = negative_share(psf), float(-psf.min() / psf.max())
    if negative > NEGATIVE or deep > DEEP:
        caution(
            f"Negative values ({negative:.2g} of all values, down to {deep:.2g} of the maximum) were set to 0: check "
            "the PSF's background subtraction.",
            stacklevel=3,
        )
    return positive


def negative_share(psf: NDArray[np.float64]) -> float:
    """Return the share of negative values in the sum of all without their signs."""
    total = np.abs(psf).sum()
    return float((total - psf.sum()) / 2 / total)


def pedestal_of(psf: NDArray[np.float64]) -> tuple[float, float]:
    """Return the constant background of a PSF without negative values, and its share of the sum.

    A camera's offset left in a measured PSF is small beside the peak, but most of the sum. It is what even the
    darkest places have, averaged over blocks against noise; a flat kernel has none.
    """
    blocks = psf
    for axis, size in enumerate(psf.shape):
        width = max(1, size // 8)
        starts = np.arange(0, size - width + 1, width)
        blocks = np.add.reduceat(blocks, starts, axis=axis)
        counts = np.diff([*starts, size])
        blocks = blocks / counts.reshape([-1 if one == axis else 1 for one in range(psf.ndim)])
    pedestal = float(np.percentile(blocks, 2))
    if pedestal > 0.1 * psf.max():
        return 0.0, 0.0
    return pedestal, float(pedestal * psf.size / psf.sum())


def without_pedestal(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract a constant background that is much of the sum, and say so."""
    pedestal, share = pedestal_of(psf)
    if share <= PEDESTAL:
        return psf
    caution(
        f"The PSF lies on a background of {pedestal:.3g}, {share:.0%} of its sum, which was subtracted: check it.",
        stacklevel=3,
    )
    return (psf - pedestal).clip(min=0)
