"""Whether an image is blurred as its PSF says, by its power spectrum."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal.windows import hann

from napari_deqmd.psf.prepare import light_at_ends

Curve = NDArray[np.float64]

# What is looked at: planes of an image, pixels along an axis, and the fewest of them that tell something.
_PLANES = 8
_SIDE = 512
_FEWEST = 48
# Share of the brightest plane's light in the last one at which a PSF is cut short.
_LEFT = 0.2
# How many times as wide as the PSF the blur may be.
_FACTORS = np.geomspace(0.25, 4.0, 25)
# Spectra of what is blurred: flat up to a frequency, in cycles per pixel, and a power law from there on.
_POWERS = np.arange(0.0, 4.6, 0.5)
_KNEES = np.geomspace(0.01, 0.16, 5)
_ITERATIONS = 20
# Share of the power below which no OTF is known: a Gaussian ends earlier than what it stands for.
_DARK = 1e-4
# Frequencies, cycles per pixel: the planes' corners have too few, and there the PSF's own samples end.
_LAST_RING = 0.68
_NYQUIST = 0.5
# From where on it is told: what is blurred may be smooth, or have a scale of its own. See docs/design-notes.md.
_NARROWER, _WIDER = 0.64, 1.7
_SURELY_NARROWER, _SURELY_WIDER = 100.0, 55.0


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How the blur of an image and a PSF fit.

    Attributes
    ----------
    factor : float
        How many times as wide as the PSF, across, the blur of the image is likeliest to be.
    sure : float
        Twice the logarithm of how much likelier that is than a PSF that is right.
    """

    factor: float
    sure: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence where they differ clearly, else nothing."""
        times, check = f"{self.factor:.1f} times as wide", "check the voxel size and the PSF's numbers"
        if self.factor < _NARROWER and self.sure > _SURELY_NARROWER:
            return (
                f"The image holds finer detail than this PSF lets through (as if it were {times}): {check}.",
            )
        if self.factor > _WIDER and self.sure > _SURELY_WIDER:
            return (
                f"The image is smoother than this PSF makes it (as if it were {times}): {check}, unless what it shows "
                "is that smooth.",
            )
        return ()


def disagreements(image: Any, psf: Any) -> tuple[str, ...]:
    """Return what of an image its PSF does not explain, a sentence each; parameters as for `compare_spectra`."""
    agreement = compare_spectra(image, psf)
    return (*_cut_short(np.shape(image), np.asarray(psf)), *(agreement.warnings if agreement else ()))


def _cut_short(image: tuple[int, ...], psf: NDArray[Any]) -> tuple[str, ...]:
    """Say when a stack is taller than a PSF whose first or last plane still has much of its light."""
    if psf.ndim != 3 or len(image) < 3 or len(psf) >= image[-3] - 1:
        return ()
    left = light_at_ends(psf)
    if left < _LEFT:
        return ()
    return (
        f"The PSF has {len(psf)} planes, the last still with {left:.0%} of the light of the brightest, and the stack "
        f"has {image[-3]}: light from further away stays as haze; give a PSF of {(image[-3] - 1) | 1} planes and as "
        "wide (a theory's automatic size is), which takes longer.",
    )


def compare_spectra(image: Any, psf: Any) -> Agreement | None:
    """Compare the width of a PSF with the blur of an image.

    Parameters
    ----------
    image : array_like, shape (..., Y, X)
        Counts; of several planes, times and channels some are looked at, and of large ones the middle.
    psf : array_like, shape (Y, X) or (Z, Y, X)
        At the image's pixel size.

    Returns
    -------
    Agreement or None
        ``None`` where the image is too small, or lazy.

    Notes
    -----
    The mean power spectrum over rings is taken for ``a g(f) |H(s f)|^2 + b``: noise is white, what is blurred has a
    spectrum `g` that is flat and then falls by a power law, and `s` stretches the PSF. Of all of them the likeliest is
    chosen, where each ring's power has the Gamma distribution that a random field's has (Whittle's likelihood), and its
    scatter about the best curve is allowed for. A stack's planes are blurred by ``|H|^2``, the sum of that of the PSF's
    planes.
    """
    if not isinstance(image, np.ndarray) or image.ndim < 2 or min(image.shape[-2:]) < _FEWEST:
        return None
    kernel = np.asarray(psf, dtype=np.float64)
    kernel = kernel.reshape(-1, *kernel.shape[-2:])
    frequency, power, count = _spectrum_of(image)
    if not power.min() > 0:
        return None
    side = fft.next_fast_len(max(128, *kernel.shape[-2:]))
    blur = (np.abs(fft.rfft2(kernel, (side, side), workers=1)) ** 2).sum(axis=0)
    otf = np.log((blur / blur.flat[0]).clip(_DARK))
    rings, outline, _ = _rings(otf, (side, side), first=0)
    misfits = np.array(
        [
            _misfit(
                np.exp(_objects(frequency) + _stretched(rings, outline, frequency * factor)), power, count
            )
            for factor in _FACTORS
        ]
    )
    best = int(misfits.argmin())
    scatter = max(1.0, float(misfits[best]) / max(1, power.size - 5))
    as_it_is = float(np.interp(0.0, np.log(_FACTORS), misfits))
    return Agreement(float(_FACTORS[best]), (as_it_is - float(misfits[best])) / scatter)


def _spectrum_of(image: NDArray[Any]) -> tuple[Curve, Curve, Curve]:
    """Return frequencies, mean power and the number of samples of rings, of the middle of some planes."""
    top, left = (max(0, (size - _SIDE) // 2) for size in image.shape[-2:])
    planes = image[..., top : top + _SIDE, left : left + _SIDE]
    planes = planes.reshape(-1, *planes.shape[-2:])
    chosen = np.unique(np.linspace(0, len(planes) - 1, min(_PLANES, len(planes))).round().astype(int))
    rows, columns = planes.shape[-2:]
    window = np.multiply.outer(hann(rows), hann(columns))
    total = np.zeros((rows, columns // 2 + 1))
    for place in chosen:
        plane = np.asarray(planes[place], dtype=np.float64)
        plane = (plane - (plane * window).sum() / window.sum()) * window
        total += np.abs(fft.rfft2(plane, workers=1)) ** 2
    # The lowest two rings are the window's own.
    return _rings(total, (rows, columns), first=2)


def _rings(values: Curve, shape: tuple[int, int], *, first: int) -> tuple[Curve, Curve, Curve]:
    """Return mean frequency, mean value and number of samples of the rings of a half spectrum."""
    frequency = np.hypot(fft.fftfreq(shape[0])[:, np.newaxis], fft.rfftfreq(shape[1]))
    width = 1.5 / min(shape)
    ring = np.rint(frequency / width).astype(np.intp).ravel()
    count = np.bincount(ring)
    kept = np.flatnonzero(count)
    kept = kept[(kept >= first) & (kept * width < _LAST_RING)]
    where, mean = (np.bincount(ring, one.ravel())[kept] / count[kept] for one in (frequency, values))
    return where, mean, count[kept].astype(np.float64)


def _objects(frequency: Curve) -> Curve:
    """Return the logarithms of the spectra that the blurred may have, a row each."""
    return np.stack(
        [
            -np.log1p((frequency / knee) ** power)
            for power in _POWERS
            for knee in _KNEES[: None if power else 1]
        ]
    )


def _stretched(rings: Curve, outline: Curve, frequency: Curve) -> Curve:
    """Return the logarithm of the OTF's power; what lies beyond the PSF's own samples falls on as a Gaussian's does."""
    edge = float(np.interp(_NYQUIST, rings, outline))
    beyond = np.minimum(edge * (frequency / _NYQUIST) ** 2, edge)
    known = np.interp(frequency, rings, outline)
    return np.maximum(np.where(frequency <= _NYQUIST, known, beyond), np.log(_DARK))


def _misfit(shapes: Curve, power: Curve, count: Curve) -> float:
    """Return the least deviance of ``a * shape + b`` from the power, over the rows of `shapes`; a, b > 0."""
    b = np.full(len(shapes), np.median(power[-max(3, power.size // 8) :]))
    a = ((power - b[0]).clip(min=0) * count).sum() / (shapes * count).sum(axis=1) + 1e-9 * b
    for _ in range(_ITERATIONS):
        # Fisher's scoring is a weighted straight line; steps are bounded, so that both stay positive.
        weight = count / (a[:, np.newaxis] * shapes + b[:, np.newaxis]) ** 2
        slope = weight * shapes
        ss, s, w = (slope * shapes).sum(axis=1), slope.sum(axis=1), weight.sum(axis=1)
        sy, y = slope @ power, weight @ power
        determinant = (ss * w - s**2).clip(min=1e-300)
        a = np.sqrt(a * np.clip((sy * w - y * s) / determinant, a / 3, a * 3))
        b = np.clip((ss * y - s * sy) / determinant, b / 3, b * 3)
    ratio = power / (a[:, np.newaxis] * shapes + b[:, np.newaxis])
    return float((2 * count * (ratio - 1 - np.log(ratio))).sum(axis=1).min())
