"""What the controls say, resolved into frozen values that another thread may read."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.photons import estimate_photons
from napari_deqmd.widgets.layers import LayerImage

# Voxel sizes of image and PSF may differ by this much before it matters.
_VOXEL_TOLERANCE = 0.02


class Section(Protocol):
    """A part of the form that knows some of the configuration."""

    def values(self) -> dict[str, Any]:
        """Return keyword arguments of `ReconstructionConfig`."""


def collect(sections: Iterable[Section]) -> dict[str, Any]:
    """Merge what the sections say into keyword arguments of `ReconstructionConfig`."""
    merged: dict[str, Any] = {}
    for section in sections:
        merged |= section.values()
    return merged


def config_from(values: dict[str, Any]) -> ReconstructionConfig:
    """Return the frozen configuration; what is outside its domain raises `UserError`."""
    return ReconstructionConfig(**values)


def default(name: str) -> Any:
    """Return the default of one setting, so that no control declares it again."""
    return {field.name: field.default for field in fields(ReconstructionConfig)}[name]


def settled(image: LayerImage, config: ReconstructionConfig) -> ReconstructionConfig:
    """Return the configuration of a part of one channel with the peak and background of all of it, so they agree.

    It looks at many pixels, so it belongs into the other thread; what the estimate warns of becomes warnings.
    """
    if "auto" not in (config.peak, config.background) or not image.is_quick:
        return config
    basis, part = image.basis(), image.part
    several = "C" in image.axes and part.shape[image.axes.index("C")] > 1
    if several or basis.shape == part.shape:
        return config
    try:
        photons = estimate_photons(basis, offset=config.offset, gain=config.gain)
    except UserError:  # there may be holes elsewhere
        return config
    for sentence in photons.warnings:
        warnings.warn(sentence, stacklevel=2)
    return replace(
        config,
        peak=photons.peak if config.peak == "auto" else config.peak,
        background=photons.background if config.background == "auto" else config.background,
    )


class Spatial(Protocol):
    """What a PSF must know of its image: a layer's, or a file's."""

    @property
    def axes(self) -> str:
        """One letter per dimension."""

    @property
    def voxel_size(self) -> tuple[float, ...] | None:
        """Micrometres along the spatial axes."""


@dataclass(frozen=True, kw_only=True)
class PsfChoice:
    """Where the PSF comes from: the widths of a Gaussian, a layer, or else a file."""

    sigma: tuple[float, ...] | None = None
    layer: LayerImage | None = None
    path: str = ""

    def __str__(self) -> str:
        if self.sigma is not None:
            return f"gaussian:sigma={','.join(f'{value:g}' for value in self.sigma)}"
        return f"layer {self.layer.name!r}" if self.layer is not None else self.path

    def load(self, image: Spatial) -> np.ndarray:
        """Return the PSF for an image; reads files and computes, so it belongs into the other thread.

        Raises
        ------
        UserError
            The file cannot be read, or the voxel sizes of PSF and image are known and differ.
        """
        if self.sigma is not None:
            from napari_deqmd.psf.theory import make_psf

            spatial = sum(letter in "ZYX" for letter in image.axes)
            return make_psf(
                "gaussian", ndim=spatial, sigma=self.sigma if len(self.sigma) > 1 else self.sigma[0]
            )
        if self.layer is not None:
            _require_same_voxels(self.layer.voxel_size, image.voxel_size)
            return np.asarray(self.layer.data)
        from napari_deqmd.io.stack import read_stack

        stack = read_stack(self.path)
        _require_same_voxels(stack.voxel_size, image.voxel_size)
        return np.asarray(stack.data)


def _require_same_voxels(psf: tuple[float, ...] | None, image: tuple[float, ...] | None) -> None:
    if psf is None or image is None or len(psf) != len(image):
        return
    if not np.allclose(psf, image, rtol=_VOXEL_TOLERANCE):
        sizes = [" × ".join(f"{size:.3g}" for size in voxel) for voxel in (psf, image)]
        raise UserError(
            f"The PSF's voxels are {sizes[0]} µm but the image's are {sizes[1]} µm: resample the PSF to the image's."
        )
