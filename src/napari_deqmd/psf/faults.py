"""What a user is told of a PSF by those who look at it and by those who use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from napari_deqmd.psf.measures import middle_of, profiles_through_peak, widths_of

# Voxels from which on a shift is told, and by which the middles at other heights may be elsewhere.
_SHIFT = 0.15
_ELSEWHERE = 0.1
# A spot further off was left there on purpose: `prepare_psf` brings every other one nearer.
_NO_SPOT = 0.75
_HEIGHTS = (0.25, 0.5, 0.75)
# Both Abbe's limit and Nyquist's: a spot of 0.51 wavelength / NA needs pixels of 0.25 wavelength / NA.
_UNDERSAMPLED = 2.0


def faults(psf: NDArray[Any]) -> tuple[str, ...]:
    """Return what is wrong with a PSF in use, a sentence each."""
    return (*shifted(psf), *undersampled(widths_of(psf)))


def undersampled(fwhm: Sequence[float]) -> tuple[str, ...]:
    """Say along which axes a PSF is too narrow, in voxels, to be sampled."""
    few = [axis for axis, width in zip("ZYX"[-len(fwhm) :], fwhm, strict=True) if width < _UNDERSAMPLED]
    if not few:
        return ()
    return (
        f"The PSF is less than {_UNDERSAMPLED:g} voxels wide along {', '.join(few)}: an image of these voxels is "
        "undersampled there, and finer detail cannot come back.",
    )


def shift_of(psf: NDArray[Any]) -> tuple[float, ...]:
    """Return by how many voxels a spot is off the middle, ``size // 2``, along each axis.

    That of a lop-sided one (coma, a focus deep in a sample), whose middle is elsewhere at every height, is 0 along
    that axis, and so is that of a kernel without a spot near the middle: what their origin is, is a convention.
    """
    shifts = []
    for line in profiles_through_peak(psf):
        low, half, high = (middle_of(line, height) - line.size // 2 for height in _HEIGHTS)
        if abs(half) > _NO_SPOT:
            return (0.0,) * psf.ndim
        shifts.append(half if max(low, half, high) - min(low, half, high) <= _ELSEWHERE else 0.0)
    return tuple(shifts)


def shifted(psf: NDArray[Any]) -> tuple[str, ...]:
    """Say by how much a PSF, centred by whole voxels, shifts the result."""
    told = [
        f"{-shift:+.2f} voxels along {axis}"
        for axis, shift in zip("ZYX"[-psf.ndim :], shift_of(psf), strict=True)
        if abs(shift) > _SHIFT
    ]
    if not told:
        return ()
    return (
        f"The PSF's spot is not in the middle of a voxel, which shifts the result by {', '.join(told)}: move the spot "
        "there if places matter.",
    )
