"""What the controls say, resolved into frozen values that another thread may read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
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
    """Where the PSF comes from: a theory as the command line writes it, a layer, or else a file."""

    theory: str = ""
    layer: LayerImage | None = None
    path: str = ""

    def __str__(self) -> str:
        return self.theory or (f"layer {self.layer.name!r}" if self.layer is not None else self.path)

    def load(self, image: Spatial) -> np.ndarray:
        """Return the PSF for an image; reads files and computes, so it belongs into the other thread.

        Raises
        ------
        UserError
            The theory or the file cannot be read, or the voxel sizes of PSF and image are known and differ.
        """
        if self.theory:
            from napari_deqmd.psf.theory import parse_psf

            return parse_psf(self.theory, sum(letter in "ZYX" for letter in image.axes), image.voxel_size)
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
