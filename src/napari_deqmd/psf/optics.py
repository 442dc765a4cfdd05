"""PSFs of microscopes: what a lens does to light, by `psf-generator`, and what each kind of microscope makes of it.

The diffraction integral is the library's (Richards and Wolf's, scalar or vectorial). It is told such numbers that its
grid is the image's, and a mismatch of refractive indices enters as a phase of its pupil: ``docs/design-notes.md``
has the why.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.interpolate import make_interp_spline
from scipy.special import j1

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.parameters import Values, per_axis, within

Volume = NDArray[np.float64]

# How far a box goes: radii of Airy's disc across, first zeros along the axis.
_OPEN = (17.0, 4.0)
_CONFINED = (8.0, 6.0)
LARGEST = 1025
LARGEST_VOLUME = 30_000_000
# Two photons below this have less than 0.325 micrometres together: no lens is made for what that would excite.
_TWO_PHOTONS = 0.65
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
_SQUARE = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Microscope:
    """An objective, its light, and what else a kind of microscope has; lengths in micrometres.

    Attributes
    ----------
    na : float
        Numerical aperture, below `ni`.
    wavelength : float
        In vacuum: of the emission; of the laser for two photons, about twice as long.
    ni, ns : float
        Refractive indices of immersion (by default the one that such an aperture needs) and sample (the same).
    depth : float
        Of the point below the coverslip.
    vectorial : float
        Other than 0: with polarisation, averaged over its directions; it matters above NA 0.7 or so.
    pinhole : float
        Diameter in Airy units, 1.22 wavelength / NA.
    excitation : float
        Wavelength of the laser (by default that of the emission).
    sheet : float
        Full width at half maximum of the light sheet.
    size : float or sequence of float
        Voxels of the box (by default what holds most of the light in focus; see `napari_deqmd.psf.box` for stacks).
    """

    na: Values
    wavelength: Values
    ni: Values | None = None
    ns: Values | None = None
    depth: Values = 0.0
    vectorial: Values = 0.0
    pinhole: Values = 1.0
    excitation: Values | None = None
    sheet: Values | None = None
    size: Values | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Lens:
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
class _Grid:
    """Micrometres of a voxel along z and across, and voxels of the box."""

    dz: float
    dxy: float
    shape: tuple[int, int, int]

    def wider(self, around: int) -> _Grid:
        planes, rows, columns = self.shape
        return _Grid(self.dz, self.dxy, (planes, rows + 2 * around, columns + 2 * around))


def widefield(scope: Microscope, voxel_size: Any, ndim: int) -> Volume:
    """Return what the lens does to the emission."""
    lens = _lens(scope)
    return _image(lens, _grid(lens, scope.size, voxel_size, ndim, _OPEN))


def confocal(scope: Microscope, voxel_size: Any, ndim: int) -> Volume:
    """Return excitation x (emission blurred by the pinhole)."""
    emission, laser = _lens(scope), _laser(scope)
    grid = _grid(emission, scope.size, voxel_size, ndim, _CONFINED)
    return _image(laser, grid) * _through(emission, grid, _radius(scope, emission), times=1)


def spinning_disc(scope: Microscope, voxel_size: Any, ndim: int) -> Volume:
    """Return emission x (excitation blurred by the pinhole twice): light goes through it in and out.

    Neighbouring pinholes, through which a thick bright sample adds haze, are left out.
    """
    emission, laser = _lens(scope), _laser(scope)
    grid = _grid(emission, scope.size, voxel_size, ndim, _CONFINED)
    return _image(emission, grid) * _through(laser, grid, _radius(scope, emission), times=2)


def two_photon(scope: Microscope, voxel_size: Any, ndim: int) -> Volume:
    """Return the excitation squared; whatever light comes back is collected."""
    lens = _lens(scope)
    if lens.wavelength < _TWO_PHOTONS:
        warnings.warn(
            f"Two photons of {lens.wavelength:g} µm excite as ultraviolet does: give the laser's wavelength, such "
            "as 0.92, not that of the emission.",
            stacklevel=2,
        )
    return np.asarray(_image(lens, _grid(lens, scope.size, voxel_size, ndim, _CONFINED)) ** 2)


def light_sheet(scope: Microscope, voxel_size: Any, ndim: int) -> Volume:
    """Return emission x the profile of a Gaussian sheet in the plane of focus."""
    lens = _lens(scope)
    width = within(
        "sheet", scope.sheet, 0, 100, "its full width at half maximum in micrometres, at most 100, such as 2"
    )
    grid = _grid(lens, scope.size, voxel_size, ndim, (_OPEN[0], min(_OPEN[1], 1.5 * width / lens.axial)))
    z = (np.arange(grid.shape[0]) - grid.shape[0] // 2) * grid.dz
    return np.asarray(_image(lens, grid) * np.exp2(-((2 * z / width) ** 2))[:, None, None])


def cone(scope: Microscope, voxel_size: Any, share: float) -> float:
    """Return by how many pixels a cone that holds a share of the light, by geometry, widens from plane to plane."""
    lens = _lens(scope)
    dz, _, dxy = per_axis("voxel_size", voxel_size, 3)
    # A plane's light within an angle is 1 - its cosine: what a ray has is spread over the sphere.
    cosine = 1 - share * (1 - math.sqrt(1 - (lens.na / lens.ni) ** 2))
    return math.sqrt(1 / cosine**2 - 1) * dz / dxy


def _lens(scope: Microscope) -> _Lens:
    na = within("na", scope.na, 0, 1.7, "the objective's numerical aperture, such as 1.4")
    ni = within("ni", _immersion(na) if scope.ni is None else scope.ni, 0.99, 2, "an index such as 1.515")
    ns = within("ns", ni if scope.ns is None else scope.ns, 0.99, 2, "an index such as 1.33")
    if na >= ni:
        raise UserError(f"na is {na:g} but ni only {ni:g}: an aperture is below its immersion's index.")
    return _Lens(
        na=na,
        wavelength=within("wavelength", scope.wavelength, 0.1, 5, "micrometres, such as 0.52"),
        ni=ni,
        ns=ns,
        depth=within("depth", scope.depth, -1e-9, 200, "micrometres from 0 to 200"),
        vectorial=per_axis("vectorial", scope.vectorial, 1)[0] != 0,
    )


def _immersion(na: float) -> float:
    return 1.0 if na < 1 else 1.333 if na < 1.25 else 1.515


def _laser(scope: Microscope) -> _Lens:
    lens = _lens(scope)
    if scope.excitation is None:
        return lens
    wavelength = within("excitation", scope.excitation, 0.1, 5, "micrometres, such as 0.488")
    if wavelength > lens.wavelength:
        warnings.warn(
            f"The excitation ({wavelength:g} µm) is longer than the emission (wavelength, {lens.wavelength:g} µm): "
            "check which is which.",
            stacklevel=2,
        )
    return dataclasses.replace(lens, wavelength=wavelength)


def _radius(scope: Microscope, lens: _Lens) -> float:
    pinhole = within(
        "pinhole", scope.pinhole, 0, 20, "its diameter in Airy units, above 0 and at most 20, such as 1"
    )
    return pinhole * lens.airy


def _grid(lens: _Lens, size: Values | None, voxel_size: Any, ndim: int, reach: tuple[float, float]) -> _Grid:
    if voxel_size is None:
        raise UserError(
            "A PSF of a microscope needs the image's voxel size in micrometres: set it for the image, "
            "or give voxel_size (on the command line --voxel-size)."
        )
    voxel = per_axis("voxel_size", voxel_size, ndim)
    if min(voxel) <= 0:
        raise UserError("voxel_size has a number that is not above 0: give micrometres.")
    if not math.isclose(voxel[-1], voxel[-2], rel_tol=_SQUARE):
        raise UserError(
            f"The voxels are {voxel[-2]:g} µm high and {voxel[-1]:g} µm wide: a microscope's PSF needs square pixels."
        )
    dz = voxel[0] if ndim == 3 else 1.0
    if size is None:
        across, along = reach[0] * lens.airy / voxel[-1], reach[1] * lens.axial / dz
        box = [math.ceil(along)] * (ndim - 2) + [math.ceil(across)] * 2
        box = [2 * half + 1 for half in box]
    else:
        box = [round(number) for number in per_axis("size", size, ndim)]
        if min(box) < 1 or any(number % 2 == 0 for number in box):
            raise UserError(
                "size has an even number or 0: give odd whole numbers, so that there is a middle."
            )
    if max(box) > LARGEST or math.prod(box) > LARGEST_VOLUME:
        raise UserError(
            f"The PSF would have {' x '.join(map(str, box))} voxels: check that the voxel size is in micrometres, "
            "or give a smaller size."
        )
    planes, rows, columns = box if ndim == 3 else [1, *box]
    return _Grid(dz, voxel[-1], (planes, rows, columns))


def _image(lens: _Lens, grid: _Grid) -> Volume:
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


def _aberration(lens: _Lens, theta: NDArray[np.float64], z: Any) -> NDArray[np.complex128]:
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


def _focus(lens: _Lens, samples: int) -> float:
    """Return where it is brightest on the axis."""
    if lens.ns == lens.ni or lens.depth == 0:
        return 0.0
    theta = np.linspace(0, math.asin(lens.na / lens.ni), samples)
    cosine = np.cos(theta)
    weight = np.sin(theta) * (np.sqrt(cosine) * (1 + cosine) if lens.vectorial else cosine)
    z = np.arange(-lens.depth - 1, lens.depth + 1, lens.wavelength / 16)
    bright = [abs(np.sum(weight * _aberration(lens, theta, place))) for place in z]
    return float(z[int(np.argmax(bright))])


def _through(lens: _Lens, grid: _Grid, radius: float, *, times: int) -> Volume:
    """Return the image of a point, averaged plane by plane over a disc."""
    around = math.ceil(times * radius / grid.dxy) + 1
    wide = _image(lens, grid.wider(around))
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
