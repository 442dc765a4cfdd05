"""A PSF distilled from an image of beads: find them, leave out the bad ones, align, average."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import least_squares

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.ball import without_ball
from napari_deqmd.psf.inspect import inspect_psf, width_of
from napari_deqmd.psf.prepare import check_values

Volume = NDArray[np.float64]

# Of a bead over the noise around it, to be one.
_LEAST_SNR = 8.0
# The box of a bead, in widths at half maximum to either side, and at least in voxels.
_REACH = 2.5
_LEAST_HALF = 4
# A bead this much brighter or dimmer, wider or narrower than the middle one is a clump or dirt.
_BRIGHTNESS = 4.0
_WIDTH = 1.35
# Voxels at the top value from which on a bead is saturated.
_SATURATED = 3
_MANY = 500
# Standard deviations of the smoothed rim, for a smoothed voxel to be light.
_NOISE_LEFT = 2.0
_MARGIN = 6
_CORE = 0.1
# Of half a bead's box, inside the image.
_INSIDE = 0.6
# A voxel further from the beads' median than so many standard deviations is not the bead's.
_CLIP = 3.5
# Beads from which their scatter says what is noise.
_SOME = 4
_SIGMA = 2 * math.sqrt(2 * math.log(2))


@dataclasses.dataclass(frozen=True)
class Bead:
    """One bead: place in voxels, height over its background, widths at half maximum of its Gaussian fit in voxels.

    `reason` says why it was left out; empty where it was not.
    """

    place: tuple[float, ...]
    height: float
    fwhm: tuple[float, ...]
    reason: str = ""


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
        Odd voxels of the PSF; by default about 5 widths of the beads.
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
    image = check_values(raw).squeeze()
    if image.ndim not in (2, 3):
        raise UserError(
            f"The image of beads has {image.ndim} dimensions: give one stack with the axes YX or ZYX."
        )
    voxels = _voxels(voxel_size, image.ndim)
    if bead_diameter is not None and (voxels is None or bead_diameter <= 0):
        raise UserError("A bead diameter needs a voxel size, and is above 0: give both in micrometres.")
    full = _full(raw, image) if saturation is None else saturation
    candidates, half = _find(image)
    reach = half
    if size is not None:
        if len(size) != image.ndim or any(one < 3 or one % 2 == 0 for one in size):
            raise UserError(
                f"The size {tuple(size)} is not possible: give {image.ndim} odd numbers of voxels."
            )
        reach = tuple(one // 2 for one in size)
    fitted = [_judge(image, place, candidates, half, full) for place in candidates]
    fitted = _outliers(fitted)
    good = [bead for bead in fitted if not bead.reason]
    if not good:
        raise UserError(_none_left(fitted))
    boxes = np.stack([_aligned(image, bead, fitted, reach) for bead in good])
    psf, noise, residual = _mean(boxes, np.array([bead.height for bead in good]))
    psf = _denoised(psf)
    if bead_diameter is not None and voxels is not None:
        psf = without_ball(psf, noise, bead_diameter, voxels)
    psf = psf.clip(min=0)
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
        warnings=(*_warnings(good, residual, bead_diameter, report.fwhm_um), *report.warnings),
    )


def _voxels(voxel_size: Sequence[float] | None, ndim: int) -> tuple[float, ...] | None:
    if voxel_size is None:
        return None
    if len(voxel_size) != ndim or not all(math.isfinite(one) and one > 0 for one in voxel_size):
        raise UserError(f"The voxel size {tuple(voxel_size)} is not possible: give {ndim} numbers above 0.")
    return tuple(float(one) for one in voxel_size)


def _full(raw: NDArray[Any], image: Volume) -> float:
    """Return the counts of a full camera: the type's end, or a largest value that many voxels have."""
    top = float(image.max())
    if raw.dtype.kind == "u" and raw.dtype.itemsize == 1:
        return 255.0
    return top if int((image == top).sum()) >= _SATURATED else math.inf


def _find(image: Volume) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """Return the beads' voxels, brightest first, and half the box that one needs."""
    from skimage import feature

    peak_local_max: Any = feature.peak_local_max

    level = float(np.median(image))
    noise = 1.4826 * float(np.median(np.abs(image - level))) or float(image.std()) or 1.0
    smooth = ndimage.gaussian_filter(image, 1.0)
    spread = 1.4826 * float(np.median(np.abs(smooth - np.median(smooth)))) or noise / 4
    least = float(np.median(smooth)) + max(_LEAST_SNR * spread, 0.1 * float(smooth.max() - np.median(smooth)))
    places = peak_local_max(
        smooth, min_distance=2, threshold_abs=least, exclude_border=False, num_peaks=_MANY
    )
    contrast = float(smooth.max() - np.median(smooth))
    if not len(places) or contrast < _LEAST_SNR * spread or contrast <= 0:
        raise UserError("No beads were found: give an image of bright points on a dark ground.")
    widths = []
    for place in places[:20]:
        lines = [np.moveaxis(smooth, axis, -1)[tuple(np.delete(place, axis))] for axis in range(image.ndim)]
        widths.append([_width_around(line - level, int(at)) for line, at in zip(lines, place, strict=True)])
    typical = np.nanmedian(np.array(widths), axis=0)
    half = tuple(
        int(min(max(_LEAST_HALF, math.ceil(_REACH * width)), (length - 1) // 2))
        for width, length in zip(np.nan_to_num(typical, nan=_LEAST_HALF), image.shape, strict=True)
    )
    # Maxima of noise on one bead's flank are no beads.
    kept: list[tuple[int, ...]] = []
    for place in places:
        near = any(
            sum(((a - b) / max(w, 1)) ** 2 for a, b, w in zip(place, other, typical, strict=True)) < 1
            for other in kept
        )
        if not near:
            kept.append(tuple(int(at) for at in place))
    return kept, half


def _width_around(line: Volume, at: int) -> float:
    """Return the width of the peak at a place of a profile that may hold others."""
    low = at - next((n for n in range(at + 1) if line[at - n] < 0.1 * line[at]), at)
    high = at + next((n for n in range(line.size - at) if line[at + n] < 0.1 * line[at]), line.size - 1 - at)
    return width_of(line[low : high + 1])


def _judge(
    image: Volume,
    place: tuple[int, ...],
    all_places: list[tuple[int, ...]],
    half: tuple[int, ...],
    full: float,
) -> Bead:
    """Fit a bead and say what is wrong with it."""
    box = tuple(slice(max(0, at - h), at + h + 1) for at, h in zip(place, half, strict=True))
    part = image[box]
    bead = _fit(part, tuple(one.start for one in box))
    if int((part >= full).sum()) >= _SATURATED:
        return dataclasses.replace(bead, reason="saturated")
    if any(min(at, n - 1 - at) < _INSIDE * h for at, h, n in zip(place, half, image.shape, strict=True)):
        return dataclasses.replace(bead, reason="at the edge")
    if any(other != place and _far(other, place, half) < 1 for other in all_places):
        return dataclasses.replace(bead, reason="overlapping")
    if not all(abs(a - b) <= 2 for a, b in zip(bead.place, place, strict=True)) or bead.height <= 0:
        return dataclasses.replace(bead, reason="not of a bead's shape")
    return bead


def _far(one: Sequence[float], other: Sequence[float], half: tuple[int, ...]) -> float:
    """Return a distance in units of the half axes of a bead's box."""
    return math.sqrt(sum(((a - b) / h) ** 2 for a, b, h in zip(one, other, half, strict=True)))


def _fit(part: Volume, start: tuple[int, ...]) -> Bead:
    """Fit a Gaussian with its own width along each axis, on a constant."""
    ndim = part.ndim
    grids = np.meshgrid(*(np.arange(n, dtype=float) for n in part.shape), indexing="ij", sparse=True)
    low, high = float(np.median(part)), float(part.max())
    top = np.unravel_index(int(part.argmax()), part.shape)

    def model(p: Volume) -> Volume:
        exponent = sum(((grid - p[i]) / p[ndim + i]) ** 2 for i, grid in enumerate(grids))
        return np.asarray(p[-2] * np.exp(-0.5 * exponent) + p[-1])

    guess = np.array([*map(float, top), *(max(0.7, n / 8) for n in part.shape), high - low or 1.0, low])
    found = least_squares(lambda p: (model(p) - part).ravel() / (high - low or 1.0), guess, max_nfev=60).x
    return Bead(
        place=tuple(float(found[i] + start[i]) for i in range(ndim)),
        height=float(found[-2]),
        fwhm=tuple(float(_SIGMA * abs(found[ndim + i])) for i in range(ndim)),
    )


def _outliers(beads: list[Bead]) -> list[Bead]:
    good = [bead for bead in beads if not bead.reason]
    if len(good) < 3:
        return beads
    height = float(np.median([bead.height for bead in good]))
    width = np.median([bead.fwhm for bead in good], axis=0)
    judged = []
    for bead in beads:
        reason = bead.reason
        if not reason and not 1 / _BRIGHTNESS < bead.height / height < _BRIGHTNESS:
            reason = (
                "much brighter than the others" if bead.height > height else "much dimmer than the others"
            )
        ratio = np.asarray(bead.fwhm) / width
        if not reason and (ratio.max() > _WIDTH or ratio.min() < 1 / _WIDTH):
            reason = "of another width than the others"
        judged.append(dataclasses.replace(bead, reason=reason))
    return judged


def _none_left(beads: list[Bead]) -> str:
    reasons = [bead.reason for bead in beads]
    told = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
    return f"None of the {len(beads)} beads can be used ({told}): give an image with single, whole, unsaturated beads."


def _aligned(image: Volume, bead: Bead, beads: list[Bead], half: tuple[int, ...]) -> Volume:
    """Return a bead's box, moved to the middle, without its background, its height 1.

    NaN where the image ends or another bead is nearer.
    """
    where = [round(at) for at in bead.place]
    # A margin for what the shift mirrors, as far as the image goes.
    wide = [h + _MARGIN for h in half]
    inside = [slice(max(0, at - w), at + w + 1) for at, w in zip(where, wide, strict=True)]
    missing = [
        (max(0, w - at), max(0, at + w + 1 - n)) for at, w, n in zip(where, wide, image.shape, strict=True)
    ]
    box = np.pad(image[tuple(inside)], missing, mode="edge")
    theirs = np.pad(np.zeros(image[tuple(inside)].shape, bool), missing, constant_values=True)
    grids = np.ogrid[tuple(slice(at - w, at + w + 1) for at, w in zip(where, wide, strict=True))]

    def distance(one: Bead) -> Volume:
        return np.asarray(
            sum(((grid - at) / h) ** 2 for grid, at, h in zip(grids, one.place, half, strict=True))
        )

    own = distance(bead)
    for other in beads:
        if other is not bead and _far(other.place, bead.place, half) < 3:
            theirs |= distance(other) < own
    for axis, (at, exact) in enumerate(zip(where, bead.place, strict=True)):
        box = _shift(box, at - exact, axis)
    middle = tuple(slice(_MARGIN, -_MARGIN) for _ in half)
    box = np.where(theirs, np.nan, box)[middle]
    return np.asarray((box - _background(box)) / bead.height)


def _shift(box: Volume, by: float, axis: int) -> Volume:
    """Shift by a part of a voxel; a mirror keeps the two ends of the axis from meeting at a step."""
    n = box.shape[axis]
    double = np.concatenate([box, np.flip(box, axis)], axis=axis)
    phase = np.exp(-2j * np.pi * np.fft.rfftfreq(2 * n) * by)
    phase = phase.reshape([-1 if one == axis else 1 for one in range(box.ndim)])
    moved = np.fft.irfft(np.fft.rfft(double, axis=axis) * phase, 2 * n, axis=axis)
    return np.take(moved, range(n), axis=axis)


def _background(box: Volume) -> float:
    """Return the level of the box's corners."""
    grids = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in box.shape)]
    distance = np.asarray(sum(grid**2 for grid in grids))
    return float(np.nanmedian(box[distance >= np.percentile(distance[np.isfinite(box)], 80)]))


def _mean(boxes: NDArray[np.float64], heights: NDArray[np.float64]) -> tuple[Volume, float, float]:
    """Return the mean, the norm of its noise, and how far a bead is from it; NaN where one bead cannot tell."""
    weights = np.where(np.isfinite(boxes), heights.reshape(-1, *[1] * (boxes.ndim - 1)), 0.0)
    filled = np.nan_to_num(boxes)
    if len(boxes) >= _SOME:
        with np.errstate(invalid="ignore"):
            middle = _nan_median(boxes)
            spread = 1.4826 * _nan_median(np.abs(boxes - middle))
        # One scale of noise for the whole box where single voxels have too few beads to tell.
        spread = np.maximum(spread, np.median(spread))
        weights = np.where(np.abs(filled - middle) <= _CLIP * spread, weights, 0.0)
    total = weights.sum(axis=0)
    mean = (weights * filled).sum(axis=0) / np.where(total > 0, total, 1)
    # What no bead shows is as on the other side.
    mirror = (slice(None, None, -1),) * mean.ndim
    mean = np.where(total > 0, mean, mean[mirror])
    if len(boxes) < 2:
        return mean, math.nan, math.nan
    off = np.where(weights > 0, filled - mean, 0.0)
    core = mean > _CORE * mean.max()
    residual = float(np.median(np.linalg.norm(off[:, core], axis=1)) / np.linalg.norm(mean[core]))
    variance = (weights**2 * off**2).sum(axis=0) / np.where(total > 0, total, 1) ** 2
    return mean, float(np.sqrt(variance.sum() * len(boxes) / (len(boxes) - 1))), residual


def _nan_median(values: NDArray[np.float64]) -> Volume:
    """Return the median over the first axis of what is there, 0 where nothing is."""
    empty = np.isnan(values).all(axis=0)
    return np.asarray(np.nanmedian(np.where(empty, 0.0, values), axis=0))


def _denoised(psf: Volume) -> Volume:
    """Set to 0 what does not rise above the noise of the rim, and what does not hang together with the middle.

    What is left of the noise would only be its positive half, which adds up in a large box.
    """
    psf = psf - float(np.median(_rim(psf)))
    smooth = ndimage.gaussian_filter(psf, 1.0)
    rim = _rim(smooth)
    noise = 1.4826 * float(np.median(np.abs(rim - np.median(rim))))
    labels, _ = ndimage.label(smooth > _NOISE_LEFT * noise)
    middle = labels[tuple(n // 2 for n in psf.shape)]
    return np.where(labels == middle, psf, 0.0) if middle else psf


def _rim(psf: Volume) -> Volume:
    return np.concatenate([psf.take([0, -1], axis=axis).ravel() for axis in range(psf.ndim)])


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
