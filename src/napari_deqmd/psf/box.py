"""How large the box of a microscope's PSF must be for a stack.

A wide-field microscope collects the same light from every plane: a share of all the light says nothing there, and a PSF
that ends before the stack does leaves what is further away as haze. So the box grows until a plane has faded, or is as
far as the stack can see.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from napari_deqmd.psf.lens import Volume, cut
from napari_deqmd.psf.optics import LARGEST, LARGEST_VOLUME, Microscope, cone
from napari_deqmd.psf.prepare import FADED, light_at_ends

Make = Callable[[Microscope, Any, int], Volume]

# Share of a plane's light that the cone holds across, where the image is so wide.
_CONE = 0.1


def fit_stack(
    make: Make, scope: Microscope, voxel_size: Any, ndim: int, image_shape: Sequence[int] | None
) -> Volume:
    """Make a PSF, for a stack as tall and wide as that needs unless its size is given.

    Parameters
    ----------
    make : callable
        ``(microscope, voxel_size, ndim)`` to the PSF.
    scope, voxel_size, ndim
        What it gets.
    image_shape : sequence of int or None
        ``(Z, Y, X)`` of the stack.

    Returns
    -------
    ndarray
        ``(Z, Y, X)``: of at most 2 Z - 1 planes, for none of the stack's is further from another, and no wider than
        `make` has it or the image is.
    """
    psf = make(scope, voxel_size, ndim)
    if image_shape is None or scope.size is not None or ndim == 2:
        return psf
    planes = min(2 * image_shape[0] - 1, LARGEST)
    if len(psf) >= planes or light_at_ends(psf) < FADED:
        return cut(psf, (min(len(psf), planes), *psf.shape[1:]))
    least, slope = psf.shape[-1], cone(scope, voxel_size, _CONE)

    def box(planes: int) -> tuple[int, ...]:
        reach = least + 2 * math.ceil(slope * (planes // 2))
        widest = (math.isqrt(LARGEST_VOLUME // planes) - 1) | 1
        return (planes, *(max(least, min(side | 1, reach, widest)) for side in image_shape[1:]))

    psf = make(dataclasses.replace(scope, size=box(planes)), voxel_size, ndim)
    light = psf.sum(axis=(1, 2))
    bright = np.flatnonzero(light >= FADED * light.max())
    return cut(psf, box(2 * int(np.abs(bright - planes // 2).max()) + 1))
