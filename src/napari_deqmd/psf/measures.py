"""Measures of a spot: its widths, its tails, and where its OTF ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len, rfftn

# The OTF ends where it is below this share of its maximum, or below what noise makes of it.
_OTF_END = 0.01
_NOISE = 4.0
# Of the sub-voxel profiles.
_FINER = 32
# Tails that fall slower than 1 / distance hold any amount of light.
_SUMMABLE = 1.0
# Samples from which their scatter tells something of the mean's.
_MANY = 12
_SHORTEST_FFT = 128


def profiles_through_peak(spot: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the values along each axis through the brightest voxel."""
    peak = np.unravel_index(int(spot.argmax()), spot.shape)
    return [np.moveaxis(spot, axis, -1)[tuple(np.delete(peak, axis))] for axis in range(spot.ndim)]


def widths_of(spot: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the full width at half maximum through the brightest voxel along each axis, in voxels."""
    return tuple(width_of(line) for line in profiles_through_peak(spot))


def width_of(profile: NDArray[np.float64]) -> float:
    """Return the full width at half maximum of a profile around its maximum, in samples; outside it is 0."""
    left, right = _ends(profile, 0.5)
    return right - left


def middle_of(profile: NDArray[np.float64], height: float) -> float:
    """Return the middle, in samples, between the ends of a profile's peak at a share of its maximum."""
    return sum(_ends(profile, height)) / 2


def _ends(profile: NDArray[np.float64], height: float) -> tuple[float, float]:
    """Return where a profile has a share of its maximum on either side of it; NaN where it never falls so low."""
    # Light is band-limited, so Fourier's interpolation is the right one; zeros keep the two ends apart.
    around = profile.size // 2 + 2
    padded = np.pad(profile, around)
    curve = np.fft.irfft(np.fft.rfft(padded), padded.size * _FINER)
    top = int(curve.argmax())
    level = curve[top] * height
    below = curve < level
    left, right = np.flatnonzero(below[:top]), np.flatnonzero(below[top:])
    if not left.size or not right.size:
        return math.nan, math.nan
    ends = (_crossing(curve, int(left[-1]), +1, level), _crossing(curve, top + int(right[0]), -1, level))
    return ends[0] / _FINER - around, ends[1] / _FINER - around


def _crossing(curve: NDArray[np.float64], below: int, towards: int, level: float) -> float:
    """Return where the curve has a level, between a place below it and the next one above."""
    low, high = curve[below], curve[below + towards]
    return float(below + towards * (level - low) / (high - low))


def tapered(spot: NDArray[np.float64], tails: Sequence[float]) -> NDArray[np.float64]:
    """Fade an endless PSF out: where its box ends says nothing of the OTF."""
    for axis, (size, tail) in enumerate(zip(spot.shape, tails, strict=True)):
        if math.isnan(tail) and size > 2:
            fade = np.hanning(size + 2)[1:-1]
            spot = spot * fade.reshape([-1 if one == axis else 1 for one in range(spot.ndim)])
    return spot


def otf_of(
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


def cutoff_of(curve: NDArray[np.float64]) -> float:
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


def light_beyond(profile: NDArray[np.float64], where: float) -> float:
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
