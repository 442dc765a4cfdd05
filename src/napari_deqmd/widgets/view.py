"""What of a layer the viewer shows: previews are of that and no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_deqmd.widgets.region import SPATIAL, world_to_data

Index = tuple[int | slice, ...]
ALL = slice(None)


@dataclass(frozen=True)
class Shown:
    """One index, or all of it, along every axis of the data.

    Attributes
    ----------
    axes : str
        One letter per axis.
    where : tuple of int or slice
        As NumPy indexes the data.
    """

    axes: str
    where: Index

    def of(self, index: tuple[int, ...]) -> Index | None:
        """Return what is shown of the item at a place of the T and C axes, along its own; ``None``: nothing."""
        outer = (where for letter, where in zip(self.axes, self.where, strict=True) if letter not in SPATIAL)
        if any(where not in (ALL, here) for where, here in zip(outer, index, strict=True)):
            return None
        return tuple(where for letter, where in zip(self.axes, self.where, strict=True) if letter in SPATIAL)


def place(axes: str, index: tuple[int, ...], part: Index | None = None) -> Index:
    """Return where a part of an item lies in the data, all of the item by default."""
    outer, inner = iter(index), iter(part if part is not None else (ALL,) * len(axes))
    return tuple(next(inner) if letter in SPATIAL else next(outer) for letter in axes)


def shown_of(viewer: Any, layer: Any, axes: str) -> Shown:
    """Return what a viewer shows of a layer, however its dimensions are rolled; all of it where that is no slice."""
    dims = viewer.dims
    outer = dims.ndim - layer.ndim
    shown = {axis - outer for axis in dims.displayed}
    hidden = [axis for axis in range(layer.ndim) if axis not in shown]
    everything = Shown(axes, (ALL,) * layer.ndim)
    if not hidden or any(dims.margin_left) or any(dims.margin_right):
        return everything
    here = world_to_data(viewer, layer, dims.point)
    aside = [x + (axis in dims.displayed) for axis, x in enumerate(dims.point)]
    there = world_to_data(viewer, layer, aside)
    if not np.allclose(here[hidden], there[hidden]):
        return everything  # an oblique plane
    last = np.array(layer.data.shape) - 1
    index = np.clip(np.round(here), 0, last).astype(int)
    return Shown(axes, tuple(int(index[axis]) if axis in hidden else ALL for axis in range(layer.ndim)))
