"""What came out of a job so far, put together from its items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.iterates import Iterates
from napari_deqmd.core.operators import margins, object_shape
from napari_deqmd.job.item import Ending, worst
from napari_deqmd.scale.tiles import Slices, Tile

Image = NDArray[np.float32]
Place = tuple[int, ...]
"""Along the T and C axes."""


class Assembly:
    """Image and objects of all places of the T and C axes, of which items hand in a tile each.

    Parameters
    ----------
    places : sequence of tuple of int
    shape : tuple of int
        ``([Z,] Y, X)``.
    tiles : sequence of Tile
        Of every place; one, where they are whole.
    psf_shape : tuple of int
    boundary : str
    start : Iterates, optional
        What there is before anything was handed in.

    Attributes
    ----------
    image : ndarray of float32
        T and C axes first, photo-electrons; 0 where nothing is known.
    """

    def __init__(
        self,
        places: Sequence[Place],
        shape: tuple[int, ...],
        tiles: Sequence[Tile],
        psf_shape: tuple[int, ...],
        boundary: str,
        start: Iterates | None = None,
    ) -> None:
        self._places, self._shape, self._tiles = places, shape, tiles
        self._margins = margins(psf_shape, boundary)
        self._on_object = [tile.on_object(shape, self._margins) for tile in tiles]
        self._object_shape = object_shape(shape, psf_shape, boundary)
        if start is not None:
            if not isinstance(start, Iterates):
                raise UserError(
                    f"The start has the type {type(start).__name__}: give the iterates of an earlier result, "
                    "result.iterates."
                )
            start = start.moved(shape, self._margins)
            start.require(len(places), self._object_shape)
        self._before = start or Iterates((None,) * len(places), (0,) * len(places))
        self._objects = list(self._before.objects)
        self._endings: dict[Place, dict[int, Ending]] = {}
        outer = tuple(max(along) + 1 for along in zip(*places, strict=True)) if places[0] else ()
        self.image = np.zeros((*outer, *shape), np.float32)

    def show_start(self) -> None:
        """Show in the image what there was before."""
        for place, known in zip(self._places, self._before.objects, strict=True):
            if known is not None:
                self.image[place] = known[self.seen(self._shape)]

    def start(self, item: int) -> Image | None:
        """Return the object that an item goes on from."""
        known = self._before.objects[item // len(self._tiles)]
        return None if known is None else known[self._on_object[item % len(self._tiles)].read]

    def before(self, place: Place) -> int:
        """Return the iterations that a place had before."""
        return self._before.iterations[self._places.index(place)]

    def seen(self, shape: tuple[int, ...]) -> Slices:
        """Return where an object is in the field of view of an image of this shape."""
        return tuple(
            slice(before, before + size) for size, (before, _) in zip(shape, self._margins, strict=True)
        )

    def keep(self, item: int, known: Image, ending: Ending, level: float) -> None:
        """Take the object of an item, photo-electrons; of a place with other tiles the rest begins at `level`."""
        number, cut = divmod(item, len(self._tiles))
        place, tile, there = self._places[number], self._tiles[cut], self._on_object[cut]
        first = place not in self._endings
        self._endings.setdefault(place, {})[cut] = ending
        self.image[place][tile.core] = known[self.seen(tile.shape)][tile.inner]
        whole = self._objects[number]
        if len(self._tiles) == 1:
            whole = known
        elif whole is None:
            whole = np.full(self._object_shape, level, np.float32)
        elif first:
            whole = whole.copy()  # the start is the caller's
        if whole is not known:
            whole[there.core] = known[there.inner]
        self._objects[number] = whole

    @property
    def reached(self) -> list[Place]:
        """Where items were begun."""
        return [place for place in self._places if place in self._endings]

    def ending(self, place: Place) -> Ending:
        """Return how it ended there; where tiles are missing, by the user."""
        endings = self._endings[place]
        together = Ending.together([endings[cut] for cut in sorted(endings)])
        if len(endings) < len(self._tiles):
            together = replace(together, stopped_by=worst((together.stopped_by, "user")))
        return together

    @property
    def iterates(self) -> Iterates:
        """Where each place is, or ended; in memory of the CPU, so that it outlives the device."""
        iterations = (
            before + (self.ending(place).iterations if place in self._endings else 0)
            for place, before in zip(self._places, self._before.iterations, strict=True)
        )
        return Iterates(tuple(self._objects), tuple(iterations), self._margins)
