"""An image in tiles: what each of them reads, and what of it is kept."""

from __future__ import annotations

import itertools
import math
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.fft import next_fast_len

from napari_deqmd.core.config import LEARNED
from napari_deqmd.core.errors import UserError

Slices = tuple[slice, ...]
Index = tuple[int | slice, ...]
Size = Literal["auto", "none"] | tuple[int, ...]
"""As in `napari_deqmd.core.config.ReconstructionConfig`."""

# Networks halve an image twice, and planes of a stack see their grid at four places in turn: what a tile reads begins
# where the grid of the whole image does.
GRID = 4
# How far a result depends on pixels outside of a tile: the PSF's half-width and twice as much again, or less where that
# is the reach of a cone, not the width of a spot; and some pixels, where a network looks around more of them. What that
# leaves of seams is in docs/design-notes.md.
_AGAIN, _MOST, _PIXELS, _NETWORK = 2, 32, 4, 8
# Sides of a tile, in pixels and in planes, below which nearly all of the work would be for its surroundings.
_LEAST, _LEAST_PLANES = 32, 8


@dataclass(frozen=True)
class Tile:
    """A part of an image that is reconstructed on its own.

    Attributes
    ----------
    core : tuple of slice
        The pixels it answers for: every pixel is in the core of one tile.
    read : tuple of slice
        The pixels it looks at: the core and what is around it, as far as the image goes.
    """

    core: Slices
    read: Slices

    @property
    def inner(self) -> Slices:
        """The core within what is read."""
        return tuple(
            slice(core.start - read.start, core.stop - read.start)
            for core, read in zip(self.core, self.read, strict=True)
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels that are read along each axis."""
        return tuple(read.stop - read.start for read in self.read)

    def on_object(self, shape: Sequence[int], margins: Sequence[tuple[int, int]]) -> Tile:
        """Return the same on the object's grid, which has `margins` before and after an image of this shape.

        The object reaches beyond what is read by the margins, and the cores at the image's border take those along.
        """
        cores = [
            slice(
                core.start + before if core.start else 0,
                core.stop + before + (after if core.stop == size else 0),
            )
            for core, size, (before, after) in zip(self.core, shape, margins, strict=True)
        ]
        reads = [
            slice(read.start, read.stop + before + after)
            for read, (before, after) in zip(self.read, margins, strict=True)
        ]
        return Tile(tuple(cores), tuple(reads))

    def overlap(self, shown: Index) -> tuple[Index, Index] | None:
        """Return where the core lies in a part of the image, and which of the core that is; ``None``: nowhere.

        `shown` is the part, an int or a slice without a step along every axis.
        """
        theirs: list[slice] = []
        ours: list[int | slice] = []
        for core, where in zip(self.core, shown, strict=True):
            if isinstance(where, slice):
                start, stop = where.start or 0, core.stop if where.stop is None else where.stop
                low, high = max(core.start, start), min(core.stop, stop)
                theirs.append(slice(low - start, high - start))
                ours.append(slice(low - core.start, high - core.start))
            else:
                low, high = max(core.start, where), min(core.stop, where + 1)
                ours.append(where - core.start)
            if low >= high:
                return None
        return tuple(theirs), tuple(ours)


def split(shape: Sequence[int], core: Sequence[int], halo: Sequence[int]) -> tuple[Tile, ...]:
    """Cut an image into tiles whose cores have a size, and which read a halo around it.

    All read the same number of pixels, the outer ones further inwards, so that one operator serves all. An axis that a
    tile would read as a whole is not cut.
    """
    axes = [_along(*sizes) for sizes in zip(shape, core, halo, strict=True)]
    return tuple(Tile(*zip(*parts, strict=True)) for parts in itertools.product(*axes))


def _along(size: int, core: int, halo: int) -> list[tuple[slice, slice]]:
    read = _read(size, core, halo)
    if read >= size:
        return [(slice(0, size), slice(0, size))]
    starts = [
        (first, min(max(0, first - halo) // GRID * GRID, size - read)) for first in range(0, size, core)
    ]
    return [(slice(first, min(first + core, size)), slice(at, at + read)) for first, at in starts]


def _read(size: int, core: int, halo: int) -> int:
    """Return what a tile reads along an axis, such that the first, the last and all others begin on the grid."""
    wanted = core + 2 * halo + (GRID - 1 if core % GRID or halo % GRID else 0)
    return min(size, wanted + (size - wanted) % GRID)


def halo_of(psf_shape: Sequence[int], method: str) -> tuple[int, ...]:
    """Return the pixels around a tile on which its result depends, as far as it matters."""
    more = _NETWORK if method in LEARNED else _PIXELS
    halves = [size // 2 for size in psf_shape]
    return tuple(_up(half + min(_AGAIN * half, _MOST) + more) for half in halves)


def _up(size: float) -> int:
    return math.ceil(size / GRID) * GRID


def require_tile(tile: Sequence[int], shape: Sequence[int], halo: Sequence[int], boundary: str) -> None:
    """Check the size of a tile that somebody chose.

    Raises
    ------
    UserError
        Another number of dimensions than the image's, smaller than its surroundings, or an object that wraps around.
    """
    if boundary == "periodic":
        raise UserError(
            "An object that wraps around cannot be cut into tiles: choose the extended boundary, or no tiles."
        )
    axes = "Z,Y,X"[-2 * len(shape) + 1 :]
    if len(tile) != len(shape):
        raise UserError(
            f"The tile has {len(tile)} numbers for the axes {axes}: give {len(shape)}, such as "
            f"{','.join(map(str, shape))}."
        )
    least = tuple(min(pair) for pair in zip(halo, shape, strict=True))
    if any(size < wanted for size, wanted in zip(tile, least, strict=True)):
        raise UserError(
            f"A tile of {text(tile)} is smaller than what has to be read around it: give at least {text(least)}."
        )


def largest(
    shape: Sequence[int],
    psf_shape: Sequence[int],
    halo: Sequence[int],
    fits: Callable[[tuple[int, ...]], bool],
) -> tuple[int, ...] | None:
    """Return the cores of the fewest tiles of which each fits into memory, of whole depth if that is possible.

    Parameters
    ----------
    shape, psf_shape, halo : sequence of int
    fits : callable
        Whether a tile that reads so many pixels along the axes does.

    Returns
    -------
    tuple of int or None
        ``None`` where not even small ones fit.
    """
    least = (_LEAST_PLANES, _LEAST, _LEAST)[-len(shape) :]
    choices = [_sizes(*sizes) for sizes in zip(shape, halo, least, strict=True)]
    for depth in choices[0] if len(shape) == 3 else [None]:
        found: list[tuple[int, ...]] = []
        for rows in choices[-2]:
            front = (rows,) if depth is None else (depth, rows)
            cores: list[tuple[int, ...]] = [(*front, columns) for columns in choices[-1]]
            # Smaller ones fit where larger ones do.
            first = bisect(cores, False, key=lambda core: fits(_reads(shape, core, halo)))
            found += cores[first : first + 1]
        if found:
            return min(found, key=lambda core: _work(shape, core, halo, psf_shape))
    return None


def _sizes(size: int, halo: int, least: int) -> list[int]:
    """Return the cores by which an axis can be cut evenly, the largest first."""
    most = max(1, size // max(halo, least))
    cores = [_up(size / count) for count in range(2, most + 1)]
    return [size, *(core for core in dict.fromkeys(cores) if _read(size, core, halo) < size)]


def _reads(shape: Sequence[int], core: Sequence[int], halo: Sequence[int]) -> tuple[int, ...]:
    return tuple(_read(*sizes) for sizes in zip(shape, core, halo, strict=True))


def _work(
    shape: Sequence[int], core: Sequence[int], halo: Sequence[int], psf_shape: Sequence[int]
) -> tuple[int, int]:
    """Return how many tiles there are, and the pixels of all their Fourier transforms."""
    tiles = math.prod(math.ceil(size / part) for size, part in zip(shape, core, strict=True))
    objects = [read + psf - 1 for read, psf in zip(_reads(shape, core, halo), psf_shape, strict=True)]
    return tiles, tiles * math.prod(next_fast_len(size, real=True) for size in objects)


def text(sizes: Sequence[int]) -> str:
    """Write a size for people: ``12 × 256 × 256``."""
    return " × ".join(map(str, sizes))
