"""What the camera recorded: counts, item by item along the T and C axes, and what is known of its pixels."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.electrons import saturation_level, to_electrons
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.images import check_image, resolve_axes
from napari_deqmd.core.photons import Photons, estimate_photons
from napari_deqmd.core.pixels import CAMERA, PixelMaps, areas, mended


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
        if maps.mask is not None:
            counts = mended(counts, maps.mask != 0)
        counts = check_image(counts, float(np.min(maps.given.get("offset", config.offset))))
        axes = resolve_axes(counts.shape, config.axes)
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

    def electrons(self, index: tuple[int, ...]) -> tuple[NDArray[Any], float]:
        """Return the photo-electrons of an item, and the share of its pixels that were clipped at 0."""
        return to_electrons(self.counts[index], **self.camera)

    def left_out(self, index: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], dict[str, int]]:
        """Return where an item has pixels that tell nothing, and that tell a bound, and how many.

        A saturated area is at least so bright, but a single saturated pixel may be hot.
        """
        full = np.zeros(self.shape, bool) if self.full is None else self.counts[index] == self.full
        bad = np.zeros(self.shape, bool) if self.bad is None else self.bad[index]
        full = full & ~bad
        counted = {"bad_pixels": int(bad.sum()), "saturated_pixels": int(full.sum())}
        lit = areas(full)
        return bad | (full & ~lit), lit, counted

    def photons(self, channel: int) -> Photons:
        """Return what the solver is told about a channel; numbers the user gave are taken as they are.

        Raises
        ------
        UserError
            A channel in which nothing can be found.
        """
        config = self.config
        counts = self.counts
        if "C" in self.looped:
            counts = np.take(counts, channel, axis=self.looped.index("C"))
        if config.peak != "auto" and config.background != "auto":
            return Photons(config.offset, config.gain, config.peak, config.background, 0.0, ())
        try:
            camera = {name: getattr(config, name) for name in CAMERA}
            if self.full is not None:
                counts = mended(counts, counts == self.full)
            counts = self.maps.levelled(counts, offset=config.offset, gain=config.gain)
            found = estimate_photons(counts, **camera)
        except UserError as error:
            if "C" not in self.looped:
                raise
            raise UserError(f"Channel {channel}: {error}") from error
        if config.peak != "auto":
            found = dataclasses.replace(found, peak=config.peak, peak_error=None)
        if config.background != "auto":
            found = dataclasses.replace(found, background=config.background, background_error=None)
        return found
