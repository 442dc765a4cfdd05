"""Reading the numbers that describe a PSF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_deqmd.core.errors import UserError

Values = float | Sequence[float]

_LARGEST = 2049


def per_axis(name: str, values: Any, ndim: int) -> list[float]:
    """Return one finite number for each axis; one alone serves all."""
    try:
        numbers = [float(value) for value in np.atleast_1d(values)]
    except (TypeError, ValueError):
        raise UserError(f"{name} is {values!r}: give a number, or one per axis.") from None
    if not all(math.isfinite(number) for number in numbers):
        raise UserError(f"{name} is {values!r}: give finite numbers.")
    if len(numbers) not in (1, ndim):
        axes = "z, y, x" if ndim == 3 else "y, x"
        raise UserError(
            f"{name} has {len(numbers)} values for {ndim} axes: give one, or one each for {axes}."
        )
    return numbers * ndim if len(numbers) == 1 else numbers


def within(name: str, value: Any, low: float, high: float, example: str) -> float:
    """Return one number above `low` and up to `high`."""
    number = per_axis(name, value, 1)[0]
    if not low < number <= high:
        raise UserError(f"{name} is {number:g}: give {example}.")
    return number


def voxels_of(
    voxel_size: Sequence[float] | None, ndim: int, *, partly: bool = False, name: str = "voxel size"
) -> tuple[float, ...] | None:
    """Return the micrometres of a voxel, where they are known; `partly` allows NaN for an axis."""
    sizes = tuple(float(size) for size in (() if voxel_size is None else voxel_size))
    if all(map(math.isnan, sizes)):
        return None
    if len(sizes) != ndim:
        raise UserError(f"The {name} has {len(sizes)} numbers for a PSF of {ndim} axes: give {ndim}.")
    if not all(0 < size < math.inf or (partly and math.isnan(size)) for size in sizes):
        raise UserError(f"The {name} {sizes} is not possible: give micrometres above 0.")
    return sizes


def limit_size(size: int) -> None:
    """Refuse a PSF that can only be a mistake in the units."""
    if size > _LARGEST:
        raise UserError(f"This PSF would be {size} pixels wide: give widths in pixels, at most {_LARGEST}.")
