"""What a lens does to light, by `psf-generator`.

The diffraction integral is the library's (Richards and Wolf's, scalar or vectorial). It is told such numbers that its
grid is the image's, and a mismatch of refractive indices enters as a phase of its pupil: ``docs/design-notes.md``
has the why.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.interpolate import make_interp_spline
from scipy.special import j1

from napari_deqmd.core.errors import UserError

Volume = NDArray[np.float64]

# Picometres: the library cuts the ends of its focus stack to whole numbers.
_UNITS = 1e6
# Samples of the pupil for each turn of the phase across it, and at least.
_PER_TURN = 8
_PUPIL = 128
# Samples of the field along a ray for each wavelength / NA, and the degree of the splines through them.
_PER_PERIOD = 16
_DEGREE = 5
# Bytes of the integrand that are held at once.
_CHUNK = 100_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lens:
    """An objective and its light; lengths in micrometres."""

    na: float
    wavelength: float
    ni: float
    ns: float
    depth: float
    vectorial: bool

    @property
    def airy(self) -> float:
        """First zero in focus."""
        return 0.61 * self.wavelength / self.na

    @property
    def axial(self) -> float:
        """First zero along the axis; 2 n wavelength / NA^2 for small apertures."""
        return self.wavelength / (self.ni - math.sqrt(self.ni**2 - self.na**2))


@dataclasses.dataclass(frozen=True)
class Grid:
    """Micrometres of a voxel along z and across, and voxels of the box."""

    dz: float
    dxy: float
    shape: tuple[int, int, int]

    def wider(self, around: int) -> Grid:
        """Return the same with so many more pixels on every side."""
        planes, rows, columns = self.shape
        return Grid(self.dz, self.dxy, (planes, rows + 2 * around, columns + 2 * around))


def image_of(lens: Lens, grid: Grid) -> Volume:
    """Return the intensity of a point's image, its brightest plane in the middle."""
    torch, propagators = _library()
    planes, rows, columns = grid.shape
    squares, place = np.unique(
        np.add.outer(*(np.square(np.arange(size) - size // 2) for size in (rows, columns))),
        return_inverse=True,
    )
    radii = np.sqrt(squares) * grid.dxy
    step = lens.wavelength / (_PER_PERIOD * lens.na)
    sampled = np.arange(radii[-1] // step + 1 + _DEGREE) * step
    height = (planes // 2) * grid.dz
    turns = (lens.na * radii[-1] + (height + 2 * lens.depth) * lens.wavelength / lens.axial) / lens.wavelength
    samples = _PUPIL + 2 * math.ceil(_PER_TURN * turns / 2) + 1  # odd, for Simpson's rule
    focus = _focus(lens, samples)
    count = max(1, int(_CHUNK / (8 * samples * sampled.size)))
    # Without aberrations what is before the focus is as what is behind it.
    mirrored = lens.ns == lens.ni or lens.depth == 0
    stack = []
    for first in range(planes // 2 if mirrored else 0, planes, count):
        some = min(count, planes - first)
        # The library's steps are field / count: make them field / (count - 1), as its grid is.
        lens_options = {
            "wavelength": lens.wavelength * _UNITS,
            "na": lens.na,
            "n_i": lens.ni,
            "n_i0": lens.ni,
            "n_pix_pupil": samples,
            "n_pix_psf": 1,
            "n_defocus": some,
            "defocus_step": grid.dz * _UNITS * (some - 1) / some,
        }
        if lens.vectorial:  # circular polarisation is the mean of all
            wave = propagators.VectorialSphericalPropagator(apod_factor=True, e0x=1.0, e0y=1j, **lens_options)
            wave.cos_phi = wave.cos_twophi = torch.ones(sampled.size)
            wave.sin_phi = wave.sin_twophi = torch.zeros(sampled.size)
        else:
            wave = propagators.ScalarSphericalPropagator(cos_factor=True, **lens_options)
        # Along one ray instead of at every pixel: it is the same all around.
        wave.rs, wave.rr_indices = torch.from_numpy(sampled * _UNITS).float(), torch.arange(sampled.size)
        middle = (first + (some - 1) / 2 - planes // 2) * grid.dz
        phase = _aberration(lens, wave.thetas.double().numpy(), middle + focus)
        wave.correction_factor = wave.correction_factor * torch.from_numpy(phase).to(torch.complex64)
        with torch.no_grad():
            field = wave.compute_focus_field().to(torch.complex128).numpy()
        stack.append(_along(sampled, field, radii))
    light = np.concatenate(stack)
    if mirrored:
        light = np.concatenate([light[:0:-1], light])
    return np.asarray(light[:, place.reshape(rows, columns)])


def averaged(lens: Lens, grid: Grid, radius: float, *, times: int) -> Volume:
    """Return the image of a point, averaged plane by plane over a disc."""
    around = math.ceil(times * radius / grid.dxy) + 1
    wide = image_of(lens, grid.wider(around))
    shape = [next_fast_len(size, real=True) for size in wide.shape[1:]]
    fy, fx = np.fft.fftfreq(shape[0], grid.dxy), np.fft.rfftfreq(shape[1], grid.dxy)
    argument = 2 * math.pi * radius * np.hypot(fy[:, None], fx) + 1e-12
    disc = (2 * j1(argument) / argument) ** times
    blurred = irfft2(rfft2(wide, shape, axes=(1, 2)) * disc, shape, axes=(1, 2))
    return cut(blurred[:, : wide.shape[1], : wide.shape[2]], grid.shape).clip(min=0)


def cut(volume: Volume, shape: tuple[int, ...]) -> Volume:
    """Cut the middle out."""
    starts = [(have - want) // 2 for have, want in zip(volume.shape, shape, strict=True)]
    return volume[tuple(slice(start, start + want) for start, want in zip(starts, shape, strict=True))]


def _along(sampled: NDArray[np.float64], field: NDArray[np.complex128], radii: NDArray[np.float64]) -> Volume:
    """Return the intensity at some radii of a field ``(Z, components, radii)`` that is sampled from the axis on."""
    # The axis is no end: beyond it is the other side, where the longitudinal component has the other sign.
    signs = np.array([1, 1, -1])[: field.shape[1], np.newaxis]
    both = np.concatenate([signs * field[..., _DEGREE:0:-1], field], axis=-1)
    places = np.concatenate([-sampled[_DEGREE:0:-1], sampled])
    light = np.zeros((len(field), radii.size))
    for component in np.moveaxis(both, 1, 0):
        light += np.square(np.abs(make_interp_spline(places, component, k=_DEGREE, axis=-1)(radii)))
    return light


def _aberration(lens: Lens, theta: NDArray[np.float64], z: Any) -> NDArray[np.complex128]:
    """Return the pupil's phase of a focus at z, for a point below a sample of another index (Gibson and Lanni).

    The coverslip has the thickness and index that the objective is made for. Angles are those in the immersion; what
    the sample reflects totally reaches the objective only from near the coverslip.
    """
    k = 2 * math.pi / lens.wavelength
    cosine = np.cos(theta)
    path = z * lens.ni * cosine
    if lens.ns != lens.ni:
        inside = np.emath.sqrt(lens.ns**2 - (lens.ni * np.sin(theta)) ** 2)
        path = path + lens.depth * (inside - lens.ni**2 / lens.ns * cosine)
    return np.asarray(np.exp(1j * k * path), np.complex128)


def _focus(lens: Lens, samples: int) -> float:
    """Return where it is brightest on the axis."""
    if lens.ns == lens.ni or lens.depth == 0:
        return 0.0
    theta = np.linspace(0, math.asin(lens.na / lens.ni), samples)
    cosine = np.cos(theta)
    weight = np.sin(theta) * (np.sqrt(cosine) * (1 + cosine) if lens.vectorial else cosine)
    z = np.arange(-lens.depth - 1, lens.depth + 1, lens.wavelength / 16)
    bright = [abs(np.sum(weight * _aberration(lens, theta, place))) for place in z]
    return float(z[int(np.argmax(bright))])


def _library() -> tuple[Any, Any]:
    """Import what is large only now."""
    try:
        import psf_generator
        import torch
    except ImportError as error:
        raise UserError(
            "PSFs of microscopes need the package psf-generator: install it with 'pip install psf-generator'."
        ) from error
    return torch, psf_generator
