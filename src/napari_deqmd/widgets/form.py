"""What the controls say, resolved into frozen values that another thread may read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np

from napari_deqmd.core.caution import caution
from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.photons import estimate_photons
from napari_deqmd.widgets.layers import LayerImage
from napari_deqmd.widgets.region import SPATIAL

# Where a preview ends: what is missing around it matters more than what it would still gain. The middle of 8 x 64 x 64
# voxels of the 3D sample was 7.6 % (rms) off the whole stack's result after 40 evaluations, and 7.4 % after 88.
PREVIEW_TOL = 1e-3


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


def hasty(config: ReconstructionConfig) -> ReconstructionConfig:
    """Return the configuration of a preview: it ends earlier, with nothing more to be seen coming."""
    return replace(config, tol=max(config.tol, PREVIEW_TOL))


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
    if len(image.channels) > 1 or basis.shape == part.shape:
        return config
    try:
        photons = estimate_photons(
            basis, offset=config.offset, gain=config.gain, read_noise=config.read_noise
        )
    except UserError:  # there may be holes elsewhere
        return config
    for sentence in photons.warnings:
        caution(sentence, stacklevel=2)
    photons = photons.settled(peak=config.peak, background=config.background)
    return replace(config, peak=photons.peak, background=photons.background)


def warn_of_haze(image: LayerImage, psf: np.ndarray) -> None:
    """Warn where a preview holds so few planes of a stack that its PSF ends before it has faded."""
    from napari_deqmd.psf.prepare import FADED, light_at_ends

    planes = dict(zip(image.axes, zip(image.part.shape, image.part.of, strict=True), strict=True))
    shown, there = planes.get("Z", (1, 1))
    if shown < there and psf.ndim == 3 and light_at_ends(psf) >= FADED:
        caution(
            f"A preview sees {shown} of {there} planes, and this PSF reaches further: here stays haze that Run "
            "removes.",
            stacklevel=2,
        )


class Spatial(Protocol):
    """What a PSF must know of its image: a layer's, or a file's."""

    @property
    def axes(self) -> str:
        """One letter per dimension."""

    @property
    def voxel_size(self) -> tuple[float, ...] | None:
        """Micrometres along the spatial axes."""

    @property
    def spatial_shape(self) -> tuple[int, ...] | None:
        """Pixels along the spatial axes, where known."""


@dataclass(frozen=True)
class Place:
    """That of no image in particular."""

    axes: str = "YX"
    voxel_size: tuple[float, ...] | None = None
    spatial_shape: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PsfChoice:
    """Where the PSF comes from: a theory as the command line writes it, a layer, or else a file."""

    theory: str = ""
    layer: LayerImage | None = None
    path: str = ""

    def __str__(self) -> str:
        return self.theory or (f"layer {self.layer.name!r}" if self.layer is not None else self.path)

    def load(self, image: Spatial) -> np.ndarray:
        """Return the PSF at the voxel size of an image; reads and computes, so it belongs into the other thread.

        Raises
        ------
        UserError
            The theory or the file cannot be read, or voxel sizes differ so much that a unit must be wrong.
        """
        if self.path and not self.theory and self.layer is None:
            from napari_deqmd.io.stack import Stack
            from napari_deqmd.psf_files import fit_file

            fitted = fit_file(self.path, Stack(None, image.axes, image.voxel_size))
        else:
            from napari_deqmd.psf.prepare import fit_voxels

            fitted = fit_voxels(*self.measured(image), image.voxel_size)
        return fitted if fitted.dtype.kind not in "uif" else np.asarray(fitted, dtype=np.float32)

    def measured(self, image: Spatial) -> tuple[np.ndarray, tuple[float, ...] | None]:
        """Return the PSF as it is, and its voxel size where that is known."""
        ndim = sum(letter in SPATIAL for letter in image.axes)
        if self.theory:
            from napari_deqmd.psf.theory import parse_psf

            psf = parse_psf(self.theory, ndim, image.voxel_size, image.spatial_shape)
            return psf, image.voxel_size
        if self.layer is not None:
            return _without_single(self.layer, ndim)
        from napari_deqmd.psf_files import read_psf

        stack = read_psf(self.path)
        return stack.data, stack.voxel_size


def _without_single(layer: LayerImage, ndim: int) -> tuple[np.ndarray, tuple[float, ...] | None]:
    """Return values and voxel size without what leading axes of length 1 there are more than an image has."""
    values, axes, sizes = layer.load(), layer.axes, layer.voxel_size
    while values.ndim > ndim and len(values) == 1:
        if sizes is not None and axes[0] in SPATIAL:
            sizes = sizes[1:]
        values, axes = values[0], axes[1:]
    if set(axes) - set(SPATIAL):
        raise UserError(f"The PSF {layer.name!r} has the axes {axes}: give one PSF, with the axes YX or ZYX.")
    return values, sizes
