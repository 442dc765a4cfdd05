"""What the camera recorded: counts, item by item along the T and C axes, and what is known of its pixels."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.electrons import saturation_level, to_electrons
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.images import check_image, resolve_axes
from napari_deqmd.core.photons import Photons, estimate_photons, given_photons
from napari_deqmd.core.pixels import CAMERA, PixelMaps, areas, mended
from napari_deqmd.job.item import Item
from napari_deqmd.scale.tiles import Slices, Tile


@dataclasses.dataclass(frozen=True, eq=False)
class LeftOut:
    """Where pixels tell nothing, and where they tell a bound; and how many were said or seen to be so."""

    bad: NDArray[np.bool_]
    full: NDArray[np.bool_]
    bad_pixels: int
    saturated_pixels: int


@dataclasses.dataclass(frozen=True)
class Survey:
    """What there is to say of all of an item.

    Attributes
    ----------
    clipped_fraction : float
        Share of the pixels that were clipped at 0.
    level : float
        Mean of an object that explains the image, photo-electrons.
    bad_pixels, saturated_pixels : int
    """

    clipped_fraction: float
    level: float
    bad_pixels: int
    saturated_pixels: int


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """An image as the items that are reconstructed one after the other.

    Attributes
    ----------
    counts : ndarray
        T and C axes first, then ``([Z,] Y, X)``; pixels that are known to be bad are filled in.
    order : tuple of int
        Which of the image's axes these are.
    looped : str
        Letters of those before ``([Z,] Y, X)``.
    config : ReconstructionConfig
        With the image's axes, and typical numbers in the place of maps.
    maps : PixelMaps
        What is known of the camera's single pixels.
    bad : ndarray of bool, optional
        Where pixels are known to be bad, in the shape of `counts`.
    full : float, optional
        Counts at which pixels are saturated, where that matters and some are.
    """

    counts: NDArray[Any]
    order: tuple[int, ...]
    looped: str
    config: ReconstructionConfig
    maps: PixelMaps
    bad: NDArray[np.bool_] | None
    full: float | None

    @classmethod
    def of(cls, image: Any, config: ReconstructionConfig, maps: PixelMaps) -> Recording:
        """Check an image, its maps and what is said of its axes.

        Raises
        ------
        UserError
            Maps of another image, counts that no camera gives, or axes or a voxel size that do not fit.
        """
        counts = np.asarray(image)
        maps.require(counts.shape)
        config = dataclasses.replace(config, **maps.typical)
        axes = resolve_axes(counts.shape, config.axes)
        if maps.mask is not None:
            counts = mended(counts, maps.mask != 0, axes)
        counts = check_image(counts, float(np.min(maps.given.get("offset", config.offset))))
        spatial = tuple(axes.index(a) for a in "ZYX" if a in axes)
        loops = tuple(i for i in range(counts.ndim) if i not in spatial)
        if config.voxel_size is not None and len(config.voxel_size) != len(spatial):
            raise UserError(
                f"The voxel size has {len(config.voxel_size)} numbers for the axes {axes}: give {len(spatial)}."
            )
        order = loops + spatial
        bad = None
        if maps.mask is not None:
            bad = np.transpose(np.broadcast_to(maps.mask != 0, counts.shape), order)
        return cls(
            counts=np.transpose(counts, order),
            order=order,
            looped="".join(axes[i] for i in loops),
            config=dataclasses.replace(config, axes=axes),
            maps=maps,
            bad=bad,
            full=saturation_level(counts) if config.mask_saturated else None,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """``([Z,] Y, X)`` of an item."""
        return self.counts.shape[len(self.looped) :]

    @property
    def indices(self) -> list[tuple[int, ...]]:
        """Where the items are along the T and C axes, in their order."""
        return list(itertools.product(*(range(n) for n in self.counts.shape[: len(self.looped)])))

    @property
    def camera(self) -> dict[str, Any]:
        """Offset, gain and read noise, each a number or a map."""
        return {name: getattr(self.config, name) for name in CAMERA} | {
            name: values for name, values in self.maps.given.items() if name in CAMERA
        }

    def channel(self, index: tuple[int, ...]) -> int:
        """Return the place of an item along C."""
        return index[self.looped.index("C")] if "C" in self.looped else 0

    def electrons(self, index: tuple[int, ...], part: Slices = ()) -> tuple[NDArray[np.float32], float]:
        """Return the photo-electrons of an item or a part of it, and the share of its pixels that were clipped at 0."""
        camera = {
            name: values[part[-2:]] if np.ndim(values) else values for name, values in self.camera.items()
        }
        return to_electrons(self.counts[index][part], **camera)

    def background(self, photons: Photons, part: Slices = ()) -> float | NDArray[np.float32]:
        """Return the light of no object, of an item or of each pixel of a part; read noise counts as such."""
        level = photons.background + np.square(self.camera["read_noise"])
        if not np.ndim(level):
            return float(level)
        return np.array(np.broadcast_to(level, self.shape)[part], np.float32)

    def item(
        self, index: tuple[int, ...], tile: Tile, photons: Photons, left_out: LeftOut, survey: Survey
    ) -> Item:
        """Return a tile of an item, ready to be reconstructed."""
        return Item(
            electrons=self.electrons(index, tile.read)[0],
            bad=left_out.bad[tile.read],
            full=left_out.full[tile.read],
            peak=photons.peak,
            background=self.background(photons, tile.read),
            level=survey.level,
            inner=tile.inner,
        )

    def survey(
        self, index: tuple[int, ...], tiles: Sequence[Tile], photons: Photons, left_out: LeftOut
    ) -> Survey:
        """Look at all of an item, tile by tile."""
        signal, clipped, good = 0.0, 0, 0
        for tile in tiles:
            told = ~left_out.bad[tile.core]
            electrons, share = self.electrons(index, tile.core)
            clipped += round(share * electrons.size)
            electrons -= self.background(photons, tile.core)
            signal += float(electrons.sum(dtype=np.float64, where=told))
            good += int(told.sum())
        level = max(signal / max(good, 1), 1e-3 * photons.peak)
        return Survey(clipped / math.prod(self.shape), level, left_out.bad_pixels, left_out.saturated_pixels)

    def left_out(self, index: tuple[int, ...]) -> LeftOut:
        """Return where an item has pixels that tell nothing, and that tell a bound.

        A saturated area is at least so bright, but a single saturated pixel may be hot.
        """
        if self.full is None and self.bad is None:
            none = np.broadcast_to(np.False_, self.shape)
            return LeftOut(none, none, 0, 0)
        full = np.zeros(self.shape, bool) if self.full is None else self.counts[index] == self.full
        bad = np.zeros(self.shape, bool) if self.bad is None else self.bad[index]
        full = full & ~bad
        lit = areas(full)
        return LeftOut(bad | (full & ~lit), lit, int(bad.sum()), int(full.sum()))

    def photons(self, channel: int) -> Photons:
        """Return what the solver is told about a channel; numbers the user gave are taken as they are.

        Raises
        ------
        UserError
            A channel in which nothing can be found, or rises above the background.
        """
        config = self.config
        counts = self.counts
        if "C" in self.looped:
            counts = np.take(counts, channel, axis=self.looped.index("C"))
        camera = {name: getattr(config, name) for name in CAMERA}
        try:
            if config.peak != "auto" and config.background != "auto":
                counts = self.maps.levelled(counts, offset=config.offset, gain=config.gain)
                return given_photons(counts, **camera, peak=config.peak, background=config.background)
            if self.full is not None:
                counts = mended(counts, counts == self.full)
            counts = self.maps.levelled(counts, offset=config.offset, gain=config.gain)
            return estimate_photons(counts, **camera).settled(peak=config.peak, background=config.background)
        except UserError as error:
            if "C" not in self.looped:
                raise
            raise UserError(f"Channel {channel}: {error}") from error
