"""What a PSF is like: widths, cut-offs, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.background import NEGATIVE, PEDESTAL, negative_share, pedestal_of
from napari_deqmd.psf.faults import shifted, undersampled
from napari_deqmd.psf.measures import cutoff_of, light_beyond, otf_of, tapered, widths_of
from napari_deqmd.psf.parameters import voxels_of
from napari_deqmd.psf.prepare import (
    FADED,
    SAME_VOXEL,
    centred,
    centroid,
    check_values,
    fit_voxels,
    from_corner,
    known_sizes,
    light_at_ends,
    profiles_of,
)
from napari_deqmd.psf.spectrum import disagreements

# Voxels from which on a spot is centred on use.
_OFF_CENTRE = 0.75
_ODD = 0.2
_OUTSIDE = 0.05
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
        Share of negative values in the sum of all without their signs.
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
        Micrometres along its axes, > 0; NaN for an axis along which it is not known.
    image_voxel_size : sequence of float, optional
        Micrometres of the image that it is for, to be compared along the axes where both are known.
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
    array = from_corner(check_values(psf))
    while array.ndim > (3 if voxel_size is None else len(voxel_size) or 3) and array.shape[0] == 1:
        array = array[0]
    if array.ndim not in (2, 3):
        raise UserError(f"The PSF has {array.ndim} dimensions: give one PSF with the axes YX or ZYX.")
    voxels = voxels_of(voxel_size, array.ndim, partly=True)
    positive = array.clip(min=0)
    if not positive.any():
        raise UserError("The PSF is zero everywhere: choose a PSF with a bright spot in it.")
    pedestal, share = pedestal_of(positive)
    # Real tails have a floor too: only what is far more than that is taken away before measuring.
    spot = array - pedestal if share > PEDESTAL else array
    bright = np.where(spot >= spot.max() / 2, spot, 0.0)
    centre = np.array([centroid(profile) for profile in profiles_of(bright)])
    fwhm = widths_of(spot)
    tails = [light_beyond(*one) for one in zip(profiles_of(spot), centre, strict=True)]
    if spot.ndim == 3 and light_at_ends(spot) >= FADED:
        # A cone of light has no end along z, and only in focus one across.
        focus = spot[int(spot.max(axis=(1, 2)).argmax())]
        across = zip(profiles_of(focus), centre[1:], strict=True)
        tails = [math.nan, *(light_beyond(*one) for one in across)]
    curves, odd = otf_of(tapered(spot, tails), centre)
    report = PsfReport(
        shape=array.shape,
        voxel_size=voxels,
        fwhm=fwhm,
        fwhm_um=None if voxels is None else tuple(w * v for w, v in zip(fwhm, voxels, strict=True)),
        cutoff=tuple(cutoff_of(curve) for curve in curves),
        otf=curves,
        outside=math.nan if share > PEDESTAL else 1 - 1 / (1 + sum(tails)),
        offset=tuple(float(c - n // 2) for c, n in zip(centre, array.shape, strict=True)),
        odd=odd,
        pedestal=pedestal,
        pedestal_share=share,
        negative=negative_share(array),
        warnings=(),
    )
    found = [*_warnings(report, tails, image_voxel_size), *shifted(centred(spot.clip(min=0)))]
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
    array = from_corner(np.asarray(psf, np.float64)).reshape(report.shape)
    middle = tuple(int(place) for place in np.unravel_index(int(array.argmax()), array.shape))
    voxel = report.voxel_size or (math.nan,)
    if any(map(math.isnan, voxel)):
        voxel = (1.0,) * array.ndim
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
            f"Negative values make {report.negative:.0%} of all values and are set to 0 on use: check the PSF's "
            "background."
        )
    if max(map(abs, report.offset)) > _OFF_CENTRE:
        where = ", ".join(f"{offset:+.2f}" for offset in report.offset)
        found.append(
            f"The spot is off the middle by {where} voxels ({names}): on use it is centred by whole voxels."
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
    found += undersampled(report.fwhm)
    if any(even := [size % 2 == 0 for size in report.shape]):
        found.append(
            f"An even number of voxels along {axes(even)} has no middle: the first voxel of the second half counts as "
            "such unless the spot is elsewhere, and zeros are added to make it odd."
        )
    if image is not None and report.voxel_size is not None and len(image) == len(report.voxel_size):
        differ = [abs(a / b - 1) > SAME_VOXEL for a, b in zip(report.voxel_size, image, strict=True)]
        if any(differ):
            own, theirs = known_sizes(report.voxel_size, image)
            found.append(
                f"The PSF's voxels are {own} but the image's {theirs}, and differ along {axes(differ)}: "
                "it is resampled on use."
            )
    return found
