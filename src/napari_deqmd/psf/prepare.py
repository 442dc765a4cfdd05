"""Hygiene: what happens to every PSF before it blurs anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from napari_deqmd.core.caution import caution
from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.background import clip_negatives, without_pedestal

# Share of the energy that cropping may drop without a word.
ENERGY_LOST = 1e-3
# Voxel sizes of image and PSF may differ by this much before it matters; and by so much only by mistake.
SAME_VOXEL = 0.02
# A plane has faded when it has less than this share of the brightest one's light.
FADED = 0.1
_LARGEST_STEP = 8.0
# What makes a bright part a spot: the share of its bounding box that it fills (by dimensions), how far
# all the light goes with it, and the pixels by which a lop-sided spot may be off the middle.
_COMPACT = {2: 0.4, 3: 0.2}
_AGREE = 0.6
_LOPSIDED = 0.75


def prepare_psf(
    psf: Any, *, ndim: int, image_shape: Sequence[int], boundary: str = "extended", center: bool = True
) -> NDArray[np.float32]:
    """Clean, centre, crop and normalise a PSF.

    Parameters
    ----------
    psf : array_like
        Shape ``(Y, X)`` or ``(Z, Y, X)``, at the voxel size of the image. Its spot may be anywhere,
        also in the corner as FFTs want it.
    ndim : int
        Spatial dimensions of the image, 2 or 3.
    image_shape : sequence of int
        Spatial shape of the image, `ndim` numbers.
    boundary : {"extended", "periodic"}
        ``"extended"`` crops a PSF larger than what the image can see; ``"periodic"`` wraps it around, as the object is.
    center : bool
        Shift a spot that is off the middle there by whole pixels, by the centroid of what is brighter than
        half its maximum. A kernel without one compact spot (motion blur), and every kernel with ``False``,
        keeps the middle ``size // 2`` of the array as its origin.

    Returns
    -------
    ndarray of float32
        Non-negative, sum 1, centred on ``size // 2``, holding at least 99.9 % of the energy of a PSF that fits
        into the image. Odd-sized, at most 2 Z - 1 planes, and as wide as the image, or one more where that is even;
        where it was wrapped, exactly as long as the image's axes.

    Raises
    ------
    UserError
        Wrong number of dimensions, NaN or infinite values, complex values, or nothing above zero.

    Warns
    -----
    UserWarning
        The PSF is larger than the image and was cropped, has many or deep negative values, lay on a background, which
        was subtracted, or off the middle, whence it was moved.
    """
    array = clip_negatives(_match_dimensions(check_values(psf), ndim))
    array = without_pedestal(array)
    if center:
        array = from_corner(array)
        origin = _spot(array)
        _tell_moved(origin, array.shape)
    else:
        origin = _middle(array)
    array = _around(array, origin)
    array = crop_to_energy(array, ENERGY_LOST)
    if boundary == "periodic":
        array = _wrap_into_image(array, tuple(image_shape))
    else:
        array = _crop_to_image(array, tuple(image_shape))
    return np.asarray(array / array.sum(), dtype=np.float32)


def fit_voxels(
    psf: Any, voxel_size: Sequence[float] | None, image_voxel_size: Sequence[float] | None
) -> NDArray[Any]:
    """Resample a PSF to the voxel size of its image, where both are known and differ by more than 2 %.

    Parameters
    ----------
    psf : array_like
        ``(Y, X)`` or ``(Z, Y, X)``.
    voxel_size, image_voxel_size : sequence of float or None
        Micrometres along its axes; an axis along which one is NaN stays as it is.

    Returns
    -------
    ndarray
        The PSF as it was, or cubic splines through it: odd-sized, the centroid of its bright part in the middle.

    Raises
    ------
    UserError
        They differ so much that a unit must be wrong.
    """
    array = np.asarray(psf)
    if (
        voxel_size is None
        or image_voxel_size is None
        or not len(voxel_size) == len(image_voxel_size) == array.ndim
    ):
        return array
    steps = np.nan_to_num(np.divide(image_voxel_size, voxel_size), nan=1.0)
    if np.allclose(steps, 1, rtol=SAME_VOXEL):
        return array
    if steps.max() > _LARGEST_STEP or steps.min() < 1 / _LARGEST_STEP:
        raise UserError(
            "The PSF's voxels are {} but the image's are {}: check their units.".format(
                *known_sizes(voxel_size, image_voxel_size)
            )
        )
    array = from_corner(check_values(array))
    bright = np.where(array >= array.max() / 2, array, 0.0)
    places = []
    for size, step, profile in zip(array.shape, steps, profiles_of(bright), strict=True):
        middle = centroid(profile)
        half = int(max(middle, size - 1 - middle) / step)
        places.append(middle + step * np.arange(-half, half + 1))
    return np.asarray(map_coordinates(array, np.meshgrid(*places, indexing="ij"), order=3))


def known_sizes(voxel_size: Sequence[float], other: Sequence[float]) -> tuple[str, str]:
    """Return two voxel sizes as text, of the axes along which both are known."""
    known = np.isfinite(voxel_size) & np.isfinite(other)
    axes = ", ".join(name for name, yes in zip("ZYX"[-len(voxel_size) :], known, strict=True) if yes)
    one, two = (" × ".join(f"{size:.4g}" for size in np.array(sizes)[known]) for sizes in (voxel_size, other))
    return f"{one} µm ({axes})", f"{two} µm ({axes})"


def check_values(psf: Any, name: str = "PSF") -> NDArray[np.float64]:
    """Return the values of a PSF, or what one is made of, which must be real and finite."""
    array = np.asarray(psf)
    if array.dtype.kind in "US" and array.ndim == 0:
        raise UserError(f"The {name} is text ({str(array)[:40]!r}): give an array of intensities.")
    if array.dtype.kind not in "uif":
        raise UserError(f"The {name} has values of type {array.dtype}: give real numbers (intensities).")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise UserError(f"The {name} holds NaN or infinite values: give one with finite numbers only.")
    return array


def _match_dimensions(psf: NDArray[np.float64], ndim: int) -> NDArray[np.float64]:
    while psf.ndim > ndim and psf.shape[0] == 1:
        psf = psf[0]
    if psf.ndim == ndim and psf.size:
        return psf
    if psf.ndim == 3 and ndim == 2:
        raise UserError("The PSF is 3D but the image is 2D: give a 2D PSF, for example its plane in focus.")
    if psf.ndim == 2 and ndim == 3:
        raise UserError(
            "The PSF is 2D but the image is a 3D stack: give a 3D PSF, or name the first axis T, not Z."
        )
    raise UserError(f"The PSF has shape {psf.shape}: give {ndim} dimensions for this image.")


def centred(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring the spot into the middle of odd sides."""
    psf = from_corner(psf)
    return _around(psf, _spot(psf))


def _around(psf: NDArray[np.float64], origin: tuple[int, ...]) -> NDArray[np.float64]:
    """Bring a place into the middle of odd sides, by zeros: what is rolled would come back in at the other side."""
    pad = [
        (max(0, size - 1 - 2 * where), max(0, 2 * where - size + 1))
        for size, where in zip(psf.shape, origin, strict=True)
    ]
    return np.pad(psf, pad)


def _tell_moved(origin: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Say by how much a spot is off the middle."""
    off = np.subtract(origin, [size // 2 for size in shape])
    if off.any():
        axes = ", ".join("ZYX"[-len(shape) :])
        caution(
            f"The PSF's spot is {', '.join(f'{step:+d}' for step in off)} voxels ({axes}) off the middle: it was moved "
            "there, so that the result does not shift.",
            stacklevel=3,
        )


def from_corner(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring an origin that is in the corner, as FFTs want it, into the middle."""
    return np.fft.fftshift(psf) if psf.flat[0] == psf.max() else psf


def _middle(psf: NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(size // 2 for size in psf.shape)


def _spot(psf: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the pixel of the PSF's spot, or the middle where there is no single spot away from it.

    The kernel of a motion blur is a path whose brightest place says nothing about its origin: there the
    bright part is scattered, or the light as a whole is not where the bright part is.
    """
    middle = np.array(_middle(psf))
    bright = np.where(psf >= psf.max() / 2, psf, 0.0)
    places = np.argwhere(bright)
    compact = len(places) / np.prod(np.ptp(places, axis=0) + 1)
    shift = np.array([centroid(profile) for profile in profiles_of(bright)]) - middle
    # Below a tenth of the maximum a measured PSF may be background as well.
    light = (
        np.array([centroid(profile) for profile in profiles_of(np.where(psf >= psf.max() / 10, psf, 0.0))])
        - middle
    )
    same = light @ shift >= _AGREE * (shift @ shift)
    if np.abs(shift).max() <= _LOPSIDED or compact < _COMPACT[psf.ndim] or not same:
        return tuple(int(where) for where in middle)
    return tuple(int(where) for where in np.floor(middle + shift + 0.5))


def profiles_of(psf: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the sum over all other axes, for each axis."""
    axes = range(psf.ndim)
    return [psf.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]


def centroid(profile: NDArray[np.float64]) -> float:
    """Return the mean place of a profile without negative values."""
    return float(profile @ np.arange(profile.size) / profile.sum())


def light_at_ends(psf: NDArray[Any]) -> float:
    """Return the light of the first or last plane of a stack over that of the brightest."""
    light = psf.sum(axis=(1, 2))
    return float(max(light[0], light[-1]) / light.max())


def crop_to_energy(psf: NDArray[np.float64], lost: float) -> NDArray[np.float64]:
    """Crop each axis about the middle by as much as its share of `lost` allows."""
    allowed = lost / psf.ndim * psf.sum()
    keep = []
    for size, profile in zip(psf.shape, profiles_of(psf), strict=True):
        half = size // 2
        # tails[k]: what remains outside when k pixels are cut on either side.
        tails = np.cumsum(profile[:half] + profile[::-1][:half])
        cut = int(np.searchsorted(tails, allowed, side="right"))
        keep.append(slice(cut, size - cut))
    return psf[tuple(keep)]


def _crop_to_image(psf: NDArray[np.float64], image_shape: tuple[int, ...]) -> NDArray[np.float64]:
    # Along z all that a plane sees of the others counts, up to Z - 1 planes away: a cone of light does not fade there.
    limits = [
        2 * n - 1 if axis == "Z" else n | 1 for axis, n in zip("ZYX"[-psf.ndim :], image_shape, strict=True)
    ]
    keep = []
    for size, limit in zip(psf.shape, limits, strict=True):
        cut = max(0, (size - limit) // 2)
        keep.append(slice(cut, size - cut))
    cropped = psf[tuple(keep)]
    if cropped.shape != psf.shape:
        lost = 1 - cropped.sum() / psf.sum()
        caution(
            f"The PSF ({_text(psf.shape)}) is larger than the image ({_text(image_shape)}): "
            f"it was cropped to {_text(cropped.shape)}, which drops {lost:.1%} of its light.",
            stacklevel=3,
        )
    return cropped


def _wrap_into_image(psf: NDArray[np.float64], image_shape: tuple[int, ...]) -> NDArray[np.float64]:
    for axis, limit in enumerate(image_shape):
        size = psf.shape[axis]
        if size > limit:
            places = (np.arange(size) - size // 2 + limit // 2) % limit
            wrapped = np.zeros((limit, *np.delete(psf.shape, axis)))
            np.add.at(wrapped, places, np.moveaxis(psf, axis, 0))
            psf = np.moveaxis(wrapped, 0, axis)
    return psf


def _text(shape: Sequence[float]) -> str:
    return " x ".join(f"{size:.4g}" for size in shape)
