"""PSFs of microscopes: what each kind makes of what its lens does to light."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from napari_deqmd.core.caution import caution
from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.lens import Grid, Lens, Volume, averaged, image_of
from napari_deqmd.psf.parameters import Values, per_axis, within

# How far a box goes: radii of Airy's disc across, first zeros along the axis.
_OPEN = (17.0, 4.0)
_CONFINED = (8.0, 6.0)
LARGEST = 1025
LARGEST_VOLUME = 30_000_000
# Two photons below this have less than 0.325 micrometres together: no lens is made for what that would excite.
_TWO_PHOTONS = 0.65
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


def widefield(scope: Microscope, voxel_size: Any, ndim: int) -> Volume:
    """Return what the lens does to the emission."""
    lens = _lens(scope)
    return image_of(lens, _grid(lens, scope.size, voxel_size, ndim, _OPEN))


def confocal(scope: Microscope, voxel_size: Any, ndim: int) -> Volume:
    """Return excitation x (emission blurred by the pinhole)."""
    emission, laser = _lens(scope), _laser(scope)
    grid = _grid(emission, scope.size, voxel_size, ndim, _CONFINED)
    return image_of(laser, grid) * averaged(emission, grid, _radius(scope, emission), times=1)


def spinning_disc(scope: Microscope, voxel_size: Any, ndim: int) -> Volume:
    """Return emission x (excitation blurred by the pinhole twice): light goes through it in and out.

    Neighbouring pinholes, through which a thick bright sample adds haze, are left out.
    """
    emission, laser = _lens(scope), _laser(scope)
    grid = _grid(emission, scope.size, voxel_size, ndim, _CONFINED)
    return image_of(emission, grid) * averaged(laser, grid, _radius(scope, emission), times=2)


def two_photon(scope: Microscope, voxel_size: Any, ndim: int) -> Volume:
    """Return the excitation squared; whatever light comes back is collected."""
    lens = _lens(scope)
    if lens.wavelength < _TWO_PHOTONS:
        caution(
            f"Two photons of {lens.wavelength:g} µm excite as ultraviolet does: give the laser's wavelength, such "
            "as 0.92, not that of the emission.",
            stacklevel=2,
        )
    return np.asarray(image_of(lens, _grid(lens, scope.size, voxel_size, ndim, _CONFINED)) ** 2)


def light_sheet(scope: Microscope, voxel_size: Any, ndim: int) -> Volume:
    """Return emission x the profile of a Gaussian sheet in the plane of focus."""
    lens = _lens(scope)
    width = within(
        "sheet", scope.sheet, 0, 100, "its full width at half maximum in micrometres, at most 100, such as 2"
    )
    grid = _grid(lens, scope.size, voxel_size, ndim, (_OPEN[0], min(_OPEN[1], 1.5 * width / lens.axial)))
    z = (np.arange(grid.shape[0]) - grid.shape[0] // 2) * grid.dz
    return np.asarray(image_of(lens, grid) * np.exp2(-((2 * z / width) ** 2))[:, None, None])


def cone(scope: Microscope, voxel_size: Any, share: float) -> float:
    """Return by how many pixels a cone that holds a share of the light, by geometry, widens from plane to plane."""
    lens = _lens(scope)
    dz, _, dxy = per_axis("voxel_size", voxel_size, 3)
    # A plane's light within an angle is 1 - its cosine: what a ray has is spread over the sphere.
    cosine = 1 - share * (1 - math.sqrt(1 - (lens.na / lens.ni) ** 2))
    return math.sqrt(1 / cosine**2 - 1) * dz / dxy


def _lens(scope: Microscope) -> Lens:
    na = within("na", scope.na, 0, 1.7, "the objective's numerical aperture, such as 1.4")
    ni = within("ni", _immersion(na) if scope.ni is None else scope.ni, 0.99, 2, "an index such as 1.515")
    ns = within("ns", ni if scope.ns is None else scope.ns, 0.99, 2, "an index such as 1.33")
    if na >= ni:
        raise UserError(f"na is {na:g} but ni only {ni:g}: an aperture is below its immersion's index.")
    return Lens(
        na=na,
        wavelength=within("wavelength", scope.wavelength, 0.1, 5, "micrometres, such as 0.52"),
        ni=ni,
        ns=ns,
        depth=within("depth", scope.depth, -1e-9, 200, "micrometres from 0 to 200"),
        vectorial=per_axis("vectorial", scope.vectorial, 1)[0] != 0,
    )


def _immersion(na: float) -> float:
    return 1.0 if na < 1 else 1.333 if na < 1.25 else 1.515


def _laser(scope: Microscope) -> Lens:
    lens = _lens(scope)
    if scope.excitation is None:
        return lens
    wavelength = within("excitation", scope.excitation, 0.1, 5, "micrometres, such as 0.488")
    if wavelength > lens.wavelength:
        caution(
            f"The excitation ({wavelength:g} µm) is longer than the emission (wavelength, {lens.wavelength:g} µm): "
            "check which is which.",
            stacklevel=2,
        )
    return dataclasses.replace(lens, wavelength=wavelength)


def _radius(scope: Microscope, lens: Lens) -> float:
    pinhole = within(
        "pinhole", scope.pinhole, 0, 20, "its diameter in Airy units, above 0 and at most 20, such as 1"
    )
    return pinhole * lens.airy


def _grid(lens: Lens, size: Values | None, voxel_size: Any, ndim: int, reach: tuple[float, float]) -> Grid:
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
    return Grid(dz, voxel[-1], (planes, rows, columns))
