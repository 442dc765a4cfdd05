"""A PSF distilled from an image of beads: find them, leave out the bad ones, align, average."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.ball import without_ball
from napari_deqmd.psf.bead_finding import Bead, far, find, full_scale, judge, none_left, outliers
from napari_deqmd.psf.bead_mean import aligned, denoised, mean_of
from napari_deqmd.psf.inspect import inspect_psf
from napari_deqmd.psf.parameters import voxels_of
from napari_deqmd.psf.prepare import check_values, crop_to_energy

# Of its diameter, the width of the Gaussian that fits a ball (0.67) or its shadow (0.64) best; blur makes it wider.
_SHARP = 0.64
# How many times as large as the box that a bead needs is the PSF's at most.
_TAILS = 2.0


@dataclasses.dataclass(frozen=True)
class Distilled:
    """A PSF from beads.

    Attributes
    ----------
    psf : ndarray of float32
        ``(Y, X)`` or ``(Z, Y, X)``; non-negative, odd-sized, centred, sum 1.
    voxel_size : tuple of float or None
        Micrometres.
    beads : tuple of Bead
        Those it is made of.
    rejected : tuple of Bead
        Those that were left out, with the reasons.
    fwhm : tuple of float
        Of the PSF, in voxels.
    fwhm_um : tuple of float or None
        The same in micrometres.
    residual : float
        Relative L2 distance of a single bead from the mean where that is above a tenth of its maximum (median over
        beads); NaN for one bead.
    warnings : tuple of str
        One sentence each.
    """

    psf: NDArray[np.float32]
    voxel_size: tuple[float, ...] | None
    beads: tuple[Bead, ...]
    rejected: tuple[Bead, ...]
    fwhm: tuple[float, ...]
    fwhm_um: tuple[float, ...] | None
    residual: float
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pixels, JSON-able."""
        names = [
            field.name for field in dataclasses.fields(self) if field.name not in ("psf", "beads", "rejected")
        ]
        return {name: getattr(self, name) for name in names} | {
            "shape": self.psf.shape,
            "beads": [dataclasses.asdict(bead) for bead in self.beads],
            "rejected": [dataclasses.asdict(bead) for bead in self.rejected],
        }


def distil_psf(
    stack: Any,
    voxel_size: Sequence[float] | None = None,
    *,
    bead_diameter: float | None = None,
    size: Sequence[int] | None = None,
    saturation: float | None = None,
) -> Distilled:
    """Make a PSF out of an image of beads.

    Parameters
    ----------
    stack : array_like
        ``(Y, X)`` or ``(Z, Y, X)``, camera counts, any offset.
    voxel_size : sequence of float, optional
        Micrometres along its axes; needed where `bead_diameter` is given.
    bead_diameter : float, optional
        Micrometres; the ball is deconvolved from the mean. Worth it from about half the PSF's width on.
    size : sequence of int, optional
        Odd voxels of the PSF; by default up to 10 widths of the beads, as far as their light goes.
    saturation : float, optional
        Counts at which the camera is full (by default the largest value of the type, or of the image if several
        voxels have it).

    Returns
    -------
    Distilled

    Raises
    ------
    UserError
        NaN, other than 2 or 3 axes, no beads, or none that is of use: the sentence says why.

    Notes
    -----
    Beads are maxima of the smoothed image. Each one's place, widths, height and background come from a least-squares
    fit of a Gaussian; boxes are moved to whole voxels by Fourier's shift, divided by the height, and averaged with the
    height as the weight, without voxels that are nearer to another bead, outside the image, or far from the median.
    """
    raw = np.asarray(stack)
    image = check_values(raw, "image of beads").squeeze()
    if image.ndim not in (2, 3):
        raise UserError(
            f"The image of beads has {image.ndim} dimensions: give one stack with the axes YX or ZYX."
        )
    voxels = voxels_of(voxel_size, image.ndim)
    if bead_diameter is not None:
        _check_diameter(bead_diameter, voxels)
    full = full_scale(raw, image) if saturation is None else saturation
    candidates, half = find(image)
    if size is not None and (len(size) != image.ndim or any(one < 3 or one % 2 == 0 for one in size)):
        raise UserError(f"The size {tuple(size)} is not possible: give {image.ndim} odd numbers of voxels.")
    fitted = [judge(image, place, candidates, half, full) for place in candidates]
    fitted = outliers(fitted)
    good = [bead for bead in fitted if not bead.reason]
    if not good:
        raise UserError(none_left(fitted))
    if bead_diameter is not None and voxels is not None:
        _compare_diameter(bead_diameter, np.median([bead.fwhm for bead in good], axis=0) * voxels)
    told = []
    if size is None:
        reach = _reach(good, fitted, half, image.shape)
    else:
        reach = tuple(one // 2 for one in size)
        told = _too_large(reach, good, fitted, image.shape)
    boxes = np.stack([aligned(image, bead, fitted, reach) for bead in good])
    psf, noise, residual = mean_of(boxes, np.array([bead.height for bead in good]))
    psf = denoised(psf)
    if bead_diameter is not None and voxels is not None:
        psf = without_ball(psf, noise, bead_diameter, voxels)
    psf = psf.clip(min=0)
    if size is None:
        psf = crop_to_energy(psf, 0.0)
    psf = psf / psf.sum()
    report = inspect_psf(psf, voxels)
    return Distilled(
        psf=psf.astype(np.float32),
        voxel_size=voxels,
        beads=tuple(good),
        rejected=tuple(bead for bead in fitted if bead.reason),
        fwhm=report.fwhm,
        fwhm_um=report.fwhm_um,
        residual=residual,
        warnings=(*told, *_warnings(good, residual, bead_diameter, report.fwhm_um), *report.warnings),
    )


def _reach(
    good: list[Bead], beads: list[Bead], half: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[int, ...]:
    """Return half the box of the PSF: the tails of a bead, as far as they are its own and inside the image."""
    factor = min(max(1.0, _apart(good, beads, half) / 2), _TAILS)
    return tuple(int(min(factor * h, (n - 1) // 2)) for h, n in zip(half, shape, strict=True))


def _apart(good: list[Bead], beads: list[Bead], half: tuple[int, ...]) -> float:
    """Return how far the next bead is, typically, in units of half a box."""
    return float(
        np.median(
            [
                min(
                    (far(bead.place, other.place, half) for other in beads if other is not bead),
                    default=np.inf,
                )
                for bead in good
            ]
        )
    )


def _too_large(
    reach: tuple[int, ...], good: list[Bead], beads: list[Bead], shape: tuple[int, ...]
) -> list[str]:
    size = " × ".join(str(2 * one + 1) for one in reach)
    found = []
    if any(2 * one + 1 > n for one, n in zip(reach, shape, strict=True)):
        image = " × ".join(map(str, shape))
        found.append(
            f"The size {size} is larger than the image ({image}): what no bead shows is 0 in the PSF."
        )
    if _apart(good, beads, reach) < 2:
        found.append(
            f"The size {size} reaches further than half-way to the next bead: what is nearer to that is from the few "
            "beads that stand alone, or 0."
        )
    return found


def _check_diameter(diameter: float, voxels: tuple[float, ...] | None) -> None:
    if not 0 < diameter < math.inf:
        raise UserError(f"The bead diameter is {diameter:g}: give micrometres above 0.")
    if voxels is None:
        raise UserError(
            "Beads of a known diameter need the voxel size along every axis: set it for the image "
            "(on the command line with --voxel-size)."
        )


def _compare_diameter(diameter: float, seen: NDArray[np.float64]) -> None:
    """Refuse a ball that would be wider than its image."""
    if _SHARP * diameter > seen.min():
        widths = " × ".join(f"{width:.2g}" for width in seen)
        raise UserError(
            f"The beads look {widths} µm wide, but of a diameter of {diameter:g} µm they would be at least "
            f"{_SHARP * diameter:.2g} µm: give the bead diameter in micrometres, or with its unit, such as 100nm."
        )


def _warnings(
    good: list[Bead], residual: float, diameter: float | None, fwhm_um: tuple[float, ...] | None
) -> list[str]:
    found = []
    if len(good) == 1:
        found.append("Only one bead could be used: its noise is in the PSF; image more beads.")
    if residual > 0.3:
        found.append(
            f"The beads differ from their mean by {residual:.0%}: noise, or a PSF that changes over the field."
        )
    if diameter is None and fwhm_um is not None:
        found.append(
            f"No bead diameter was given: beads above {0.5 * min(fwhm_um):.2g} µm make the PSF too wide."
        )
    return found
