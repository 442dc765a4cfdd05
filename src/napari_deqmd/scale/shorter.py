"""A PSF that goes on beyond its box, cut to what memory allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.caution import caution
from napari_deqmd.psf.prepare import light_at_ends
from napari_deqmd.scale.memory import available_bytes, format_bytes, predict_run_bytes

# Share of the brightest plane's light: a narrow box has little of a cone far away from focus, one that ends has less.
_FADED = 0.01
# Planes that are left at least.
_FEWEST = 9


def affordable(
    psf: NDArray[np.float32], shape: Sequence[int], *, limit: int | None = None, **options: Any
) -> NDArray[np.float32]:
    """Return a PSF, or its middle if a stack's reconstruction with all of it does not fit into memory.

    Parameters
    ----------
    psf : ndarray of float32
        Prepared, shape ``(Y, X)`` or ``(Z, Y, X)``. One that has faded at its first and last plane is left whole: there
        a smaller box would be a wrong PSF, here it is a nearer end of what has none.
    shape : sequence of int
        Spatial shape of the image.
    limit : int, optional
        Bytes the user allows, where that is less than what is free.
    **options
        As for `napari_deqmd.scale.memory.predict_run_bytes`.

    Returns
    -------
    ndarray of float32
        Of sum 1; whether it fits is still to be asked.

    Warns
    -----
    UserWarning
        It was cut.
    """
    known = [size for size in (available_bytes(options.get("device", "cpu")), limit) if size is not None]
    needed = predict_run_bytes(shape, psf.shape, shape, **options)
    if not known or needed <= min(known) or psf.ndim != 3 or options.get("boundary") == "periodic":
        return psf
    if light_at_ends(psf) < _FADED:
        return psf
    cuts = (_middle(psf, planes) for planes in range(len(psf) - 2, _FEWEST - 1, -2))
    cut = next(
        (one for one in cuts if predict_run_bytes(shape, one.shape, shape, **options) <= min(known)), None
    )
    if cut is None:
        return psf
    caution(
        f"With a PSF of {_text(psf.shape)} voxels the reconstruction needs about {format_bytes(needed)}, and "
        f"{format_bytes(min(known))} are to be had: it was cut to {_text(cut.shape)}, and light from further away "
        "stays as haze.",
        stacklevel=3,
    )
    return np.asarray(cut / cut.sum(), dtype=np.float32)


def _middle(psf: NDArray[np.float32], planes: int) -> NDArray[np.float32]:
    """Return some planes, as much narrower as the light at their ends is."""
    first = (len(psf) - planes) // 2
    cut = psf[first : first + planes]
    for axis in (1, 2):
        half = psf.shape[axis] // 2
        narrower = min(half, math.ceil(half * _spread(cut, axis) / _spread(psf, axis)))
        cut = np.take(cut, range(half - narrower, half + narrower + 1), axis=axis)
    return cut


def _spread(psf: NDArray[np.float32], axis: int) -> float:
    """Return the mean distance of the light at both ends from the middle, along y or x."""
    profile = psf[[0, -1]].sum(axis=(0, 3 - axis))
    return float(profile @ np.abs(np.arange(profile.size) - profile.size // 2) / profile.sum())


def _text(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
