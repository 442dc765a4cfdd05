"""A PSF as it is named: a theory, or a file; at the voxel size of its image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.caution import caution
from napari_deqmd.core.errors import UserError
from napari_deqmd.io.names import SUFFIXES
from napari_deqmd.io.stack import Stack, read_stack


def load_psf(text: str, stack: Stack) -> NDArray[np.float32]:
    """Return the PSF that ``--psf`` names, at the voxel size of the image."""
    from napari_deqmd.psf.theory import parse_psf

    if not text.strip() or not (text.lower().endswith(SUFFIXES) or Path(text).expanduser().exists()):
        return parse_psf(text, len(stack.spatial_axes), stack.voxel_size, stack.spatial_shape)
    return np.asarray(fit_file(text, stack), dtype=np.float32)


def read_psf(path: str) -> Stack:
    """Read a PSF as it is.

    Raises
    ------
    UserError
        It cannot be read, or has channels or times.
    """
    psf = read_stack(path).load()
    if psf.axes != psf.spatial_axes:
        raise UserError(f"The PSF {path} has the axes {psf.axes}: give one PSF, with the axes YX or ZYX.")
    return psf


def fit_file(path: str, image: Stack) -> NDArray[Any]:
    """Read a PSF and return it at the voxel size of an image, as far as both are known.

    Raises
    ------
    UserError
        As `read_psf`, or voxel sizes differ so much that a unit must be wrong.

    Warns
    -----
    UserWarning
        It was resampled, or one of the voxel sizes is not known.
    """
    from napari_deqmd.psf.prepare import fit_voxels, known_sizes

    psf = read_psf(path)
    own, wanted = known_voxels(psf, psf.axes), known_voxels(image, psf.axes)
    shared = np.array([axis in image.axes for axis in psf.axes])
    for name, other, silent in (
        ("PSF", "image", np.isnan(own) & np.isfinite(wanted)),
        ("image", "PSF", np.isnan(wanted) & np.isfinite(own)),
    ):
        if axes := ", ".join(np.array(list(psf.axes))[silent & shared]):
            caution(f"The {name} has no voxel size along {axes}: taken to be the {other}'s.", stacklevel=2)
    fitted = fit_voxels(psf.data, own, wanted)
    if fitted is not psf.data:
        before, after = known_sizes(own, wanted)
        caution(
            f"The PSF was resampled from voxels of {before} to those of the image, {after}.", stacklevel=2
        )
    return fitted


def known_voxels(stack: Stack, axes: str) -> tuple[float, ...]:
    """Return the micrometres along some axes, NaN where they are not known."""
    lateral = stack.metadata.get("lateral")
    known = stack.sizes or ({"Y": lateral, "X": lateral} if lateral else {})
    return tuple(known.get(axis, math.nan) for axis in axes)
