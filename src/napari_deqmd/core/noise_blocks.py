"""The noise of small blocks of an image, and how bright it is around them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

Floats = NDArray[np.float64]

# Pixels looked at, the side of the blocks whose noise and brightness are compared, and the border that both need.
_SAMPLE = 2**22
BLOCK, BORDER = 8, 12
# Finite differences along both axes, by their order: the higher see less of the structure, and less of the noise.
ORDERS = (1, 2, 4, 6)
# The brightness next to a block: the mean of a frame of this width around what its differences see, so that it shares
# no pixel with their noise.
_FRAME = 4
# Share of the pixels around a block that may have the lowest value: more of them may have been clipped.
_LOWEST = 0.02


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Means of blocks ``(n,)``, and by the order of difference ``(orders, n)`` brightness around and variance of noise.

    And the share of the pixels around them that have the lowest value ``(n,)``.
    """

    level: Floats
    around: Floats
    variance: Floats
    lowest: Floats

    @property
    def perhaps_clipped(self) -> bool:
        """Whether too many of the blocks have too many pixels of the lowest value around them."""
        return bool(np.count_nonzero(self.lowest > _LOWEST) > _LOWEST * len(self.lowest))

    def above_lowest(self) -> Blocks:
        """Return the blocks around which hardly a pixel has the lowest value."""
        kept = self.lowest <= _LOWEST
        return Blocks(self.level[kept], self.around[:, kept], self.variance[:, kept], self.lowest[kept])


def of_planes(counts: NDArray[Any], top: float) -> Blocks:
    """Measure evenly spread planes, of a huge one the middle rows."""
    planes = counts.reshape(-1, *counts.shape[-2:])
    chosen = np.linspace(0, len(planes) - 1, max(1, min(len(planes), _SAMPLE // planes[0].size))).astype(int)
    part = _middle(planes[np.unique(chosen)]).astype(np.float32)
    return _blocks(part, part, part >= top)


def of_pairs(counts: NDArray[Any], top: float) -> Blocks:
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
    return max(2 * BORDER + 4 * BLOCK, 2 * _SAMPLE // int(planes.shape[-1]))


def _middle(planes: NDArray[Any]) -> NDArray[Any]:
    start = max(0, (planes.shape[-2] - _rows(planes)) // 2)
    return planes[..., start : start + _rows(planes), :]


def _blocks(level: Any, noise: Any, clipped: Any) -> Blocks:
    rows, columns = ((size - 2 * BORDER) // BLOCK for size in level.shape[-2:])

    def averages(values: Any, reach: int) -> Floats:
        start = BORDER - reach
        inside = values[:, start : start + rows * BLOCK, start : start + columns * BLOCK]
        split = inside.reshape(-1, rows, BLOCK, columns, BLOCK)
        return np.asarray(split.mean((2, 4), dtype=np.float64).ravel())

    middle = BORDER + BLOCK // 2
    middles = (slice(None), *(slice(middle, middle + n * BLOCK, BLOCK) for n in (rows, columns)))

    def mean(values: Any, side: int) -> Floats:
        return np.asarray(uniform_filter(values, (0, side, side))[middles].ravel(), np.float64)

    def around(order: int) -> Floats:
        inner = BLOCK + order + order % 2
        outer = inner + 2 * _FRAME
        return (outer**2 * mean(level, outer) - inner**2 * mean(level, inner)) / (outer**2 - inner**2)

    variance = [averages(np.square(difference(noise, order)), order // 2) for order in ORDERS]
    whole = averages(clipped, 0) == 0
    lowest = mean((level == level.min()).astype(np.float32), 2 * BORDER)
    return Blocks(
        averages(level, 0)[whole],
        np.array([around(order) for order in ORDERS])[:, whole],
        np.array(variance)[:, whole],
        lowest[whole],
    )


def difference(planes: Any, order: int) -> Any:
    """Return the differences of an order along Y and X, of the variance of white noise."""
    return np.diff(np.diff(planes, order, axis=-2), order, axis=-1) / np.float32(math.comb(2 * order, order))


def grey_step(counts: NDArray[Any]) -> float:
    """Return the smallest distance of two grey levels, on a part of the pixels."""
    levels = np.unique(counts.ravel()[:: max(1, counts.size // 2**18)])
    return float(np.diff(levels.astype(np.float64)).min()) if len(levels) > 1 else 1.0


def rounding(counts: NDArray[Any]) -> float:
    """Return the variance that rounding to grey levels adds."""
    return grey_step(counts) ** 2 / 12
