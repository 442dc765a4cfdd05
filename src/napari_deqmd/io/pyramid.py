"""The coarser levels of an image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

# Pixels along Y and X from which on there is a coarser level.
_WIDE = 256


def levels_of(data: Any, axes: str, scale: list[float]) -> Iterator[tuple[Any, list[float]]]:
    """Yield ever coarser pixels, with their distances."""
    yield data, scale
    while max(data.shape[-2:]) > _WIDE and min(data.shape[-2:]) > 1:
        halved = [letter in "YX" for letter in axes]
        if "Z" in axes:
            z = axes.index("Z")
            halved[z] = data.shape[z] > 1 and scale[z] <= max(scale[-2:])
        for axis, yes in enumerate(halved):
            data = _halved(data, axis) if yes else data
        scale = [step * (2 if yes else 1) for step, yes in zip(scale, halved, strict=True)]
        yield data, scale


def _halved(data: Any, axis: int) -> Any:
    """Return the means of pairs along an axis; of an odd length, the last is left out."""
    pairs = data.shape[axis] // 2
    first, second = (
        data[(slice(None),) * axis + (slice(start, 2 * pairs, 2),)].astype(np.float32) for start in (0, 1)
    )
    mean = (first + second) / 2
    return mean.astype(data.dtype) if data.dtype.kind == "f" else np.rint(mean).astype(data.dtype)


def placed(full: list[float], scale: list[float], start: list[float]) -> list[dict[str, Any]]:
    """Return where a level's pixels lie: the middle of the first is that of all that it is the mean of."""
    found: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    middle = [first + (coarse - fine) / 2 for first, coarse, fine in zip(start, scale, full, strict=True)]
    if any(middle):
        found.append({"type": "translation", "translation": middle})
    return found
