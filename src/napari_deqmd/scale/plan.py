"""Whether a reconstruction runs whole or in tiles, and what memory that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.errors import UserError
from napari_deqmd.scale import memory
from napari_deqmd.scale.shorter import affordable
from napari_deqmd.scale.tiles import Size, Tile, halo_of, largest, require_tile, split, text


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """How a reconstruction is going to run.

    Attributes
    ----------
    psf : ndarray of float32
        What it is deconvolved by: the prepared one, or its middle where memory allows no more.
    tiles : tuple of Tile
        One where it runs whole.
    tile : tuple of int or "none"
        The size of their cores, as a configuration has it.
    needed : int
        Predicted bytes.
    allowed : int, optional
        Bytes that there are, or that the user allows, as far as is known.
    whose : str
        Which of these it is.
    advice : str
        What to do where that is not enough.
    """

    psf: NDArray[np.float32]
    tiles: tuple[Tile, ...]
    tile: Size
    needed: int
    allowed: int | None
    whose: str
    advice: str

    @property
    def fits(self) -> bool:
        """Whether there is enough memory, as far as is known."""
        return self.allowed is None or self.needed <= self.allowed

    @property
    def cut(self) -> str:
        """What it is cut into, for a reader; nothing where it runs whole."""
        count = len(self.tiles)
        return f"in {count} tiles of {text(self.tiles[0].shape)}" if count > 1 else ""

    def require(self) -> None:
        """Refuse what does not fit.

        Raises
        ------
        UserError
            More memory is needed than there is.
        """
        if not self.fits:
            raise UserError(
                f"The reconstruction needs about {memory.format_bytes(self.needed)} and "
                f"{memory.format_bytes(self.allowed or 0)} {self.whose}: {self.advice}."
            )


def arrange(
    psf: NDArray[np.float32],
    shape: Sequence[int],
    tile: Size = "auto",
    *,
    limit: int | None = None,
    items: int = 1,
    itemsize: int = 4,
    **options: Any,
) -> Plan:
    """Plan a reconstruction: whole where that fits, else in tiles, else with less of a PSF that goes on beyond its box.

    Parameters
    ----------
    psf : ndarray of float32
        Prepared.
    shape : sequence of int
        Spatial shape of the image.
    tile : "auto", "none" or tuple of int
        As in `ReconstructionConfig`.
    limit : int, optional
        Bytes the user allows, where that is less than what is free.
    items, itemsize : int
        How many such images there are, and bytes of a pixel: all of them are held, and what comes of them.
    **options
        As for `napari_deqmd.scale.memory.predict_bytes`.

    Returns
    -------
    Plan
        Whether it fits is still to be asked.

    Raises
    ------
    UserError
        The tile is none for this image.

    Warns
    -----
    UserWarning
        The PSF was cut.
    """
    device, boundary = options.get("device", "cpu"), options.get("boundary", "extended")
    allowed, whose = memory.available_bytes(device), f"are free on {device}"
    if limit is not None and (allowed is None or limit < allowed):
        allowed, whose = limit, "are allowed"
    method = options.get("method", "deq-md")
    halo = halo_of(psf.shape, method)
    options |= {"items": items, "itemsize": itemsize}
    fewer = ["reconstruct fewer times or channels at once"] if items > 1 and device == "cpu" else []

    def predicted(read: Sequence[int]) -> int:
        return memory.predict_run_bytes(shape, psf.shape, read, **options)

    def advised(*first: str) -> str:
        return memory.advice(method, *first, *fewer)

    def in_tiles(core: Sequence[int]) -> Plan | None:
        tiles = split(shape, core, halo)
        if len(tiles) == 1:
            return None
        size = tuple(min(pair) for pair in zip(core, shape, strict=True))
        return Plan(
            psf=psf,
            tiles=tiles,
            tile=size,
            needed=predicted(tiles[0].shape),
            allowed=allowed,
            whose=whose,
            advice=advised("choose smaller tiles"),
        )

    plan, advice = None, advised()
    if not isinstance(tile, str):
        require_tile(tile, shape, halo, boundary)
        plan = in_tiles(tile)
    elif allowed is not None and predicted(shape) > allowed:
        if boundary == "periodic":
            advice = advised("choose the extended boundary, whose image can be cut into tiles")
        elif tile == "none":
            advice = advised("let it run in tiles (tile auto)")
        else:
            core = largest(shape, psf.shape, halo, lambda read: predicted(read) <= allowed)
            plan = in_tiles(core) if core is not None else None
    if plan is not None:
        return plan
    psf = affordable(psf, shape, limit=limit, **options)
    return Plan(
        psf=psf,
        tiles=split(shape, shape, halo),
        tile="none",
        needed=predicted(shape),
        allowed=allowed,
        whose=whose,
        advice=advice,
    )
