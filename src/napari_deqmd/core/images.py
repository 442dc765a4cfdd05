"""What an image must be before anything long begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.caution import caution
from napari_deqmd.core.errors import UserError

# So many times shorter than the others is an axis that is probably Z.
_BY_FAR = 4


def check_image(image: Any, offset: float) -> NDArray[Any]:
    """Return the image as an array of real numbers, or say in one sentence what is wrong with it.

    Parameters
    ----------
    image : array_like
        Camera counts.
    offset : float
        Camera offset; negative counts are possible only below a negative one.
    """
    counts = np.asarray(image)
    if counts.dtype.kind in "US" and counts.ndim == 0:
        raise UserError(f"The image is text ({str(counts)[:40]!r}): give an array of camera counts.")
    if counts.dtype.kind not in "uif":
        raise UserError(f"The image holds {counts.dtype} values: give camera counts as numbers.")
    if counts.ndim < 2 or 0 in counts.shape:
        raise UserError(
            f"The image has the shape {counts.shape}: give at least two dimensions, none of them empty."
        )
    low, high = counts.min(), counts.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError("The image holds NaN or infinite values: replace them before the reconstruction.")
    if low == high:
        raise UserError(f"The image is constant (all {low:g}): there is nothing to reconstruct.")
    check_negative(low, offset)
    return counts


def check_negative(low: float, offset: float) -> None:
    """Raise `UserError` where the lowest count is negative, as it can be only below a negative offset."""
    if low < min(0.0, offset):
        raise UserError(
            f"The image holds negative counts (down to {low:g}): give raw camera counts, or the offset they have."
        )


def perhaps_reversed(shape: Sequence[int]) -> bool:
    """Return whether the last of three axes is by far the shortest, as that of a stack of planes is if it is Z."""
    return len(shape) == 3 and shape[-1] * _BY_FAR <= min(shape[:-1])


def resolve_axes(shape: tuple[int, ...], axes: str | None) -> str:
    """Return one letter of ``TCZYX`` per dimension; 2D and 3D images need not be told.

    Raises
    ------
    UserError
        Wrong number of letters, or an image that needs to be told.

    Warns
    -----
    UserWarning
        An image that was not told looks as if its last axis were Z.
    """
    if axes is None:
        if len(shape) == 3 and shape[-1] in (3, 4):
            raise UserError("The image looks like RGB: convert it to one channel, or give its axes.")
        if len(shape) > 3:
            raise UserError(f"The image has {len(shape)} dimensions: give its axes, for example TZYX.")
        if perhaps_reversed(shape):
            caution(
                f"The image is {' x '.join(map(str, shape))} and taken to be ZYX: if its last axis is Z, move that to "
                "the front, and if not, give the axes ZYX.",
                stacklevel=3,
            )
        return "ZYX"[-len(shape) :]
    if len(axes) != len(shape):
        raise UserError(
            f"The axes {axes} name {len(axes)} dimensions and the image has {len(shape)}: correct the axes."
        )
    return axes
