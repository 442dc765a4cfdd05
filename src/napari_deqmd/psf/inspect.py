"""What a PSF is like: widths, cut-offs, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len, rfftn

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.prepare import (
    FADED,
    NEGATIVE,
    PEDESTAL,
    SAME_VOXEL,
    centroid,
    check_values,
    fit_voxels,
    from_corner,
    light_at_ends,
    pedestal_of,
    profiles_of,
)
from napari_deqmd.psf.spectrum import disagreements

# The OTF ends where it is below this share of its maximum, or below what noise makes of it.
_OTF_END = 0.01
_NOISE = 4.0
# Both Abbe's limit and Nyquist's: a spot of 0.51 wavelength / NA needs pixels of 0.25 wavelength / NA.
_UNDERSAMPLED = 2.0
# Of the sub-voxel profiles.
_FINER = 32
# Voxels, and widths at half maximum.
_OFF_CENTRE = 0.25
_OFF_SHARE = 0.1
_ODD = 0.2
_OUTSIDE = 0.05
# Tails that fall slower than 1 / distance hold any amount of light.
_SUMMABLE = 1.0
# Samples from which their scatter tells something of the mean's.
_MANY = 12
_SHORTEST_FFT = 128
# Voxels that are drawn, in widths at half maximum, and at least.
_SHOWN = 7
_AT_LEAST = 15


@dataclasses.dataclass(frozen=True)
class PsfReport:
    """What was found in a PSF; sequences are in the order (z,) y, x.

    Attributes
    ----------
    shape : tuple of int
    voxel_size : tuple of float or None
        Micrometres.
    fwhm : tuple of float
        Full widths at half maximum through the brightest voxel, in voxels; NaN where the PSF has none.
    fwhm_um : tuple of float or None
        The same in micrometres, where the voxel size is known.
    cutoff : tuple of float
        Where the OTF ends, as a share of the Nyquist frequency; 1 where it does not end before.
    otf : tuple of ndarray
        Largest |OTF| at each frequency along one axis, from 0 to Nyquist, 1 at 0.
    outside : float
        Share of the light outside the box, extrapolated; NaN where the tails do not tell, or lie under a pedestal.
    offset : tuple of float
        Voxels from the middle, ``size // 2``, to the centroid of the bright part.
    odd : float
        Norm of the part that a mirror at the centre changes the sign of, as a share of the whole.
    pedestal : float
        Constant background, in the PSF's own values.
    pedestal_share : float
        Its share of the PSF's sum.
    negative : float
        Share of negative values, in units of the positive ones' sum.
    warnings : tuple of str
        One sentence each.
    """

    shape: tuple[int, ...]
    voxel_size: tuple[float, ...] | None
    fwhm: tuple[float, ...]
    fwhm_um: tuple[float, ...] | None
    cutoff: tuple[float, ...]
    otf: tuple[NDArray[np.float64], ...] = dataclasses.field(repr=False, compare=False)
    outside: float
    offset: tuple[float, ...]
    odd: float
    pedestal: float
    pedestal_share: float
    negative: float
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the curves, JSON-able."""
        return {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "otf"
        }


def inspect_psf(
    psf: Any,
    voxel_size: Sequence[float] | None = None,
    *,
    image_voxel_size: Sequence[float] | None = None,
    image: Any = None,
) -> PsfReport:
    """Measure a PSF and say what is wrong with it.

    Parameters
    ----------
    psf : array_like
        Shape ``(Y, X)`` or ``(Z, Y, X)``; any scale. Its spot may lie in the corner, as FFTs want it.
    voxel_size : sequence of float, optional
        Micrometres along its axes, > 0.
    image_voxel_size : sequence of float, optional
        Micrometres of the image that it is for, to be compared.
    image : ndarray, optional
        Counts ``(..., Y, X)`` of the image that it is for, whose blur is compared; see `disagreements`.

    Returns
    -------
    PsfReport

    Raises
    ------
    UserError
        NaN, infinite or complex values, nothing above zero, other than 2 or 3 axes, or an impossible voxel size.

    Notes
    -----
    The light outside is extrapolated from the outer third of each axis's marginal profile, taken to go on as
    1 / distance^2, as an aperture's diffraction does in focus, or faster where it does fall faster. Where it does not
    fall, as in a focus stack of a wide-field microscope, nothing can be said.
    """
    array = from_corner(check_values(psf).squeeze())
    if array.ndim not in (2, 3):
        raise UserError(f"The PSF has {array.ndim} dimensions: give one PSF with the axes YX or ZYX.")
    voxels = _voxels(voxel_size, array.ndim)
    positive = array.clip(min=0)
    total = positive.sum()
    if not total > 0:
        raise UserError("The PSF is zero everywhere: choose a PSF with a bright spot in it.")
    pedestal, share = pedestal_of(positive)
    # Real tails have a floor too: only what is far more than that is taken away before measuring.
    spot = array - pedestal if share > PEDESTAL else array
    bright = np.where(spot >= spot.max() / 2, spot, 0.0)
    centre = np.array([centroid(profile) for profile in profiles_of(bright)])
    fwhm = _fwhm(spot)
    tails = [_tail(*one) for one in zip(profiles_of(spot), centre, strict=True)]
    if spot.ndim == 3 and light_at_ends(spot) >= FADED:
        # A cone of light has no end along z, and only in focus one across.
        focus = spot[int(spot.max(axis=(1, 2)).argmax())]
        tails = [math.nan, *(_tail(*one) for one in zip(profiles_of(focus), centre[1:], strict=True))]
    curves, odd = _spectrum(_tapered(spot, tails), centre)
    report = PsfReport(
        shape=array.shape,
        voxel_size=voxels,
        fwhm=fwhm,
        fwhm_um=None if voxels is None else tuple(w * v for w, v in zip(fwhm, voxels, strict=True)),
        cutoff=tuple(_cutoff(curve) for curve in curves),
        otf=curves,
        outside=math.nan if share > PEDESTAL else 1 - 1 / (1 + sum(tails)),
        offset=tuple(float(c - n // 2) for c, n in zip(centre, array.shape, strict=True)),
        odd=odd,
        pedestal=pedestal,
        pedestal_share=share,
        negative=float((total - array.sum()) / total),
        warnings=(),
    )
    found = _warnings(report, tails, image_voxel_size)
    if image is not None:
        found += disagreements(image, fit_voxels(spot, voxels, image_voxel_size))
    return dataclasses.replace(report, warnings=tuple(found))


def middle_planes(psf: Any, report: PsfReport) -> tuple[tuple[str, NDArray[np.float32], float], ...]:
    """Return what to draw of a PSF around its brightest voxel.

    Parameters
    ----------
    psf : array_like
        As given to `inspect_psf`.
    report : PsfReport
        What that returned.

    Returns
    -------
    tuple of (str, ndarray, float)
        ``"XY"``, and ``"XZ"`` of a stack; the plane, whose brightness is the root of the PSF's, to show faint rings;
        height over width of its pixels.
    """
    array = from_corner(np.asarray(psf, np.float64).squeeze())
    middle = tuple(int(place) for place in np.unravel_index(int(array.argmax()), array.shape))
    voxel = report.voxel_size or (1.0,) * array.ndim
    planes = [("XY", array[middle[:-2]], (-2, -1))]
    if array.ndim == 3:
        planes.append(("XZ", array[:, middle[1]], (0, 2)))
    drawn = []
    for name, plane, axes in planes:
        keep = []
        for axis in axes:
            width = report.fwhm[axis]
            half = array.shape[axis] if math.isnan(width) else int(max(_AT_LEAST, _SHOWN * width)) // 2
            keep.append(slice(max(0, middle[axis] - half), middle[axis] + half + 1))
        part = plane[tuple(keep)].clip(min=0)
        root = np.sqrt(part / max(float(part.max()), 1e-300)).astype(np.float32)
        drawn.append((name, root, voxel[axes[0]] / voxel[axes[1]]))
    return tuple(drawn)


def _voxels(voxel_size: Sequence[float] | None, ndim: int) -> tuple[float, ...] | None:
    if voxel_size is None:
        return None
    sizes = tuple(float(size) for size in voxel_size)
    if len(sizes) != ndim:
        raise UserError(f"The voxel size has {len(sizes)} numbers for a PSF of {ndim} axes: give {ndim}.")
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        raise UserError(f"The voxel size {sizes} is not possible: give micrometres above 0.")
    return sizes


def _fwhm(spot: NDArray[np.float64]) -> tuple[float, ...]:
    peak = np.unravel_index(int(spot.argmax()), spot.shape)
    # The line through the brightest voxel along each axis.
    lines = [np.moveaxis(spot, axis, -1)[tuple(np.delete(peak, axis))] for axis in range(spot.ndim)]
    return tuple(width_of(line) for line in lines)


def width_of(profile: NDArray[np.float64]) -> float:
    """Return the full width at half maximum of a profile around its maximum, in samples; outside it is 0."""
    # Light is band-limited, so Fourier's interpolation is the right one; zeros keep the two ends apart.
    padded = np.pad(profile, profile.size // 2 + 2)
    curve = np.fft.irfft(np.fft.rfft(padded), padded.size * _FINER)
    top = int(curve.argmax())
    below = curve < curve[top] / 2
    left, right = np.flatnonzero(below[:top]), np.flatnonzero(below[top:])
    if not left.size or not right.size:
        return math.nan
    return (_crossing(curve, top + int(right[0]), -1) - _crossing(curve, int(left[-1]), +1)) / _FINER


def _crossing(curve: NDArray[np.float64], below: int, towards: int) -> float:
    """Return where the curve has half its maximum, between a place below it and the next one above."""
    half, low, high = curve.max() / 2, curve[below], curve[below + towards]
    return float(below + towards * (half - low) / (high - low))


def _tapered(spot: NDArray[np.float64], tails: Sequence[float]) -> NDArray[np.float64]:
    """Fade an endless PSF out: where its box ends says nothing of the OTF."""
    for axis, (size, tail) in enumerate(zip(spot.shape, tails, strict=True)):
        if math.isnan(tail) and size > 2:
            fade = np.hanning(size + 2)[1:-1]
            spot = spot * fade.reshape([-1 if one == axis else 1 for one in range(spot.ndim)])
    return spot


def _spectrum(
    spot: NDArray[np.float64], centre: NDArray[np.float64]
) -> tuple[tuple[NDArray[np.float64], ...], float]:
    """Return the OTF's outline along each axis, and the share of its imaginary part about the centre."""
    shape = [2 * next_fast_len(max(_SHORTEST_FFT, size + 1) // 2) for size in spot.shape]
    otf = rfftn(spot, shape, workers=1)
    magnitude = np.abs(otf)
    magnitude /= max(float(magnitude.flat[0]), 1e-300)
    for axis, (size, where) in enumerate(zip(shape, centre, strict=True)):
        frequency = np.fft.rfftfreq(size) if axis == spot.ndim - 1 else np.fft.fftfreq(size)
        ramp = np.exp(2j * np.pi * frequency * where)
        ramp[size // 2] = 0  # Nyquist's own frequency has no phase that a shift could turn
        otf *= ramp.reshape([-1 if one == axis else 1 for one in range(spot.ndim)])
    odd = float(np.linalg.norm(otf.imag) / np.linalg.norm(otf))
    curves = []
    for axis, size in enumerate(shape):
        outline = magnitude.max(axis=tuple(other for other in range(spot.ndim) if other != axis))
        half = outline[: size // 2 + 1]
        curves.append(half / half.max())
    return tuple(curves), odd


def _cutoff(curve: NDArray[np.float64]) -> float:
    """Return where the curve ends, as a share of Nyquist's frequency."""
    end = max(_OTF_END, _NOISE * _noise_of(curve))
    above = np.flatnonzero(curve > end)
    last = int(above[-1]) if above.size else 0
    if last == curve.size - 1:
        return 1.0
    step = (curve[last] - end) / max(float(curve[last] - curve[last + 1]), 1e-300)
    return float(min(1.0, (last + step) / (curve.size - 1)))


def _noise_of(curve: NDArray[np.float64]) -> float:
    """Return the scatter of the last eighth of a curve: noise is flat there and nothing else is."""
    tail = curve[-max(4, curve.size // 8) :]
    return float(np.std(np.diff(tail)) / math.sqrt(2))


def _tail(profile: NDArray[np.float64], where: float) -> float:
    """Return the light beyond both ends of a marginal profile over that between them; NaN where it does not tell."""
    distance = np.abs(np.arange(profile.size) - where)
    reach = float(distance.max())
    inner = (distance > reach / 3) & (distance <= reach * 2 / 3)
    outer = distance > reach * 2 / 3
    if profile.size == 1:
        return 0.0
    if not inner.any():
        return math.nan
    total = profile.sum()
    level = float(profile[outer].mean())
    noise = float(profile[outer].std()) / math.sqrt(outer.sum())
    if level < max(2 * noise if outer.sum() > _MANY else 0.0, 1e-4 * total / outer.sum()):
        return 0.0
    places = math.log(distance[outer].mean() / distance[inner].mean())
    power = math.log(max(float(profile[inner].mean()), level / 2) / level) / places
    if power < _SUMMABLE:
        return math.nan
    # Rings make the power uncertain: an aperture's is 2.
    power = power if power > 3 else 2.0
    scale = float((profile * distance**power)[outer].mean())
    return float(2 * scale * (reach + 0.5) ** (1 - power) / (power - 1) / total)


def _warnings(report: PsfReport, tails: Sequence[float], image: Sequence[float] | None) -> list[str]:
    names = "ZYX"[-len(report.shape) :]

    def axes(chosen: Sequence[bool]) -> str:
        return ", ".join(name for name, yes in zip(names, chosen, strict=True) if yes)

    found = []
    if report.pedestal_share > PEDESTAL:
        found.append(
            f"The PSF lies on a background of {report.pedestal:.3g}, {report.pedestal_share:.0%} of its sum: "
            "it is subtracted on use, else everything would count as haze."
        )
    if report.negative > NEGATIVE:
        found.append(
            f"Negative values make {report.negative:.0%} of the PSF and are set to 0 on use: check its background."
        )
    off = [
        abs(by) - max(_OFF_CENTRE, _OFF_SHARE * width)
        for by, width in zip(report.offset, report.fwhm, strict=True)
    ]
    if max(off) > 0:
        where = ", ".join(f"{offset:+.2f}" for offset in report.offset)
        found.append(
            f"The spot is off the middle by {where} voxels ({names}): on use it is centred by whole voxels, and what "
            "is left of it shifts the result."
        )
    if report.odd > _ODD:
        found.append(
            f"The PSF is lop-sided (odd part {report.odd:.0%}): aberrations, or a neighbour in its box."
        )
    # Along z a wide-field PSF never falls off: every plane has the same light.
    if report.pedestal_share <= PEDESTAL and any(endless := [math.isnan(tail) for tail in tails[-2:]]):
        found.append(
            f"The PSF does not fall off towards the ends of its box along "
            f"{axes([False] * (len(names) - 2) + endless)}: give a larger box if it goes on there."
        )
    elif report.outside > _OUTSIDE:
        found.append(
            f"About {report.outside:.0%} of the light lies outside the box: give a larger one, or haze stays."
        )
    if any(math.isnan(width) for width in report.fwhm):
        found.append("The PSF has no width at half maximum: it is no spot.")
    if (few := [width < _UNDERSAMPLED for width in report.fwhm]) and any(few):
        found.append(
            f"Less than {_UNDERSAMPLED:g} voxels per width along {axes(few)}: an image of these voxels is "
            "undersampled there, and finer detail cannot come back."
        )
    if any(even := [size % 2 == 0 for size in report.shape]):
        found.append(
            f"An even number of voxels along {axes(even)}: the voxel size // 2 counts as the middle unless the spot "
            "is elsewhere, and zeros are added to make it odd."
        )
    if image is not None and report.voxel_size is not None and len(image) == len(report.voxel_size):
        differ = [
            not math.isclose(a, b, rel_tol=SAME_VOXEL) for a, b in zip(report.voxel_size, image, strict=True)
        ]
        if any(differ):
            sizes = [" × ".join(f"{size:.3g}" for size in voxel) for voxel in (report.voxel_size, image)]
            found.append(
                f"The PSF's voxels are {sizes[0]} µm but the image's {sizes[1]} µm ({axes(differ)} differ): "
                "it is resampled on use."
            )
    return found
