"""Theoretical point spread functions and the text that names one on the command line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf import optics
from napari_deqmd.psf.box import Make, fit_stack
from napari_deqmd.psf.parameters import Values, limit_size, per_axis

# A Gaussian is cut where one tail holds 3e-5 of it: well inside the 0.1 % that `prepare_psf` may crop.
_GAUSSIAN_REACH = 4.0


def make_psf(
    kind: str = "gaussian",
    *,
    ndim: int = 2,
    voxel_size: Values | None = None,
    image_shape: Sequence[int] | None = None,
    **params: Values,
) -> NDArray[np.float32]:
    """Compute a theoretical point spread function.

    Parameters
    ----------
    kind : str
        ``"gaussian"``, ``"uniform"``, or a microscope: ``"widefield"``, ``"confocal"``, ``"spinning-disc"``,
        ``"two-photon"``, ``"lightsheet"``.
    ndim : int
        2 for ``(Y, X)``, the plane in focus; 3 for ``(Z, Y, X)``.
    voxel_size : float or sequence of float, optional
        Micrometres along (z,) y, x; microscopes need it, with square pixels.
    image_shape : sequence of int, optional
        ``(Z, Y, X)`` of the stack that a microscope's PSF is for: it is then as tall as that needs, see
        `napari_deqmd.psf.box`.
    **params : float or sequence of float
        ``gaussian``: `sigma`, standard deviation in pixels, > 0. ``uniform``: `size`, odd width of the box in
        pixels. One value serves all axes; several are in the order (z,) y, x. Microscopes: `na` and `wavelength`
        (micrometres, of the emission; for ``two-photon`` of the laser), and as in
        `napari_deqmd.psf.optics.Microscope` `ni`, `ns`, `depth`, `vectorial`, `size`; ``confocal`` and
        ``spinning-disc`` also `pinhole` and `excitation`, ``lightsheet`` needs `sheet`.

    Returns
    -------
    ndarray of float32, shape ``(Y, X)`` or ``(Z, Y, X)``
        Non-negative, odd-sized, centred, sum 1.

    Raises
    ------
    UserError
        Unknown kind or parameter, a value outside its domain, no voxel size where one is needed, or a library that
        is not installed.
    """
    if ndim not in (2, 3):
        raise UserError(f"A PSF has 2 or 3 dimensions, not {ndim}: choose ndim=2 or ndim=3.")
    chosen = _kind(kind, params)
    for name in chosen.needs:
        if name not in params:
            raise UserError(f"The PSF {kind!r} needs {name}: for example {chosen.example}.")
    if image_shape is not None and len(image_shape) != ndim:
        raise UserError(f"image_shape has {len(image_shape)} numbers for {ndim} axes: give one for each.")
    psf = chosen.make(ndim, voxel_size, image_shape, params)
    psf = psf.reshape(psf.shape[-ndim:])
    return np.asarray(psf / psf.sum(), dtype=np.float32)


def parse_psf(
    text: str, ndim: int, voxel_size: Values | None = None, image_shape: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """Compute the PSF that a text such as ``gaussian:sigma=3,1.4,1.4`` describes.

    Parameters
    ----------
    text : str
        ``kind:name=value[,value...][,name=value...]``. One value serves all axes; several are (z,) y, x.
    ndim : int
        2 or 3.
    voxel_size : float or sequence of float, optional
        Micrometres, for microscopes; the text may say otherwise.
    image_shape : sequence of int, optional
        As for `make_psf`.

    Returns
    -------
    ndarray of float32
        As from `make_psf`.

    Raises
    ------
    UserError
        The text does not describe a PSF.
    """
    kind, _, rest = text.partition(":")
    params: dict[str, Any] = {}
    name = ""
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        key, equals, value = part.rpartition("=")
        if equals:
            name = key.strip()
            if name in params:
                raise UserError(f"The PSF {text!r} gives {name} twice: give it once.")
            params[name] = []
        if not name:
            raise UserError(f"Cannot read the PSF {text!r}: write it like {_example(kind)}.")
        try:
            params[name].append(float(value))
        except ValueError:
            raise UserError(
                f"Cannot read {part!r} in PSF {text!r}: write it like {_example(kind)}."
            ) from None
    kind = kind.strip()
    _kind(kind, [name for name in params if name != "voxel_size"])
    return make_psf(kind, ndim=ndim, image_shape=image_shape, **{"voxel_size": voxel_size} | params)


@dataclasses.dataclass(frozen=True)
class Kind:
    """How to make a kind of PSF, what it takes, what it cannot do without, and how to write it."""

    make: Callable[[int, Values | None, Sequence[int] | None, dict[str, Any]], NDArray[np.float64]]
    takes: tuple[str, ...]
    needs: tuple[str, ...]
    example: str


def _gaussian(
    ndim: int, voxel_size: Values | None, image_shape: Sequence[int] | None, params: dict[str, Any]
) -> NDArray[np.float64]:
    profiles = []
    for width in per_axis("sigma", params["sigma"], ndim):
        if width <= 0:
            raise UserError(f"sigma is {width:g} pixels: give a width above 0.")
        radius = max(1, math.ceil(_GAUSSIAN_REACH * width))
        limit_size(2 * radius + 1)
        profiles.append(np.exp(-0.5 * (np.arange(-radius, radius + 1) / width) ** 2))
    return _outer(profiles)


def _uniform(
    ndim: int, voxel_size: Values | None, image_shape: Sequence[int] | None, params: dict[str, Any]
) -> NDArray[np.float64]:
    profiles = []
    for width in per_axis("size", params["size"], ndim):
        if width != int(width) or width < 1 or int(width) % 2 == 0:
            raise UserError(f"size is {width:g} pixels: give an odd whole number (the box needs a centre).")
        limit_size(int(width))
        profiles.append(np.ones(int(width)))
    return _outer(profiles)


def _outer(profiles: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    psf = profiles[0]
    for profile in profiles[1:]:
        psf = psf[..., np.newaxis] * profile
    return psf


def _microscope(name: str, make: Make, *more: str, needs: str = "") -> Kind:
    return Kind(
        lambda ndim, voxel_size, image_shape, params: fit_stack(
            make, optics.Microscope(**params), voxel_size, ndim, image_shape
        ),
        ("na", "wavelength", "ni", "ns", "depth", "vectorial", "size", *more),
        ("na", "wavelength", *filter(None, [needs])),
        f"{name}:na=1.4,wavelength=0.52,ni=1.515" + (f",{needs}=2" if needs else ""),
    )


KINDS: dict[str, Kind] = {
    "gaussian": Kind(_gaussian, ("sigma",), ("sigma",), "gaussian:sigma=1.2"),
    "uniform": Kind(_uniform, ("size",), ("size",), "uniform:size=9"),
    "widefield": _microscope("widefield", optics.widefield),
    "confocal": _microscope("confocal", optics.confocal, "pinhole", "excitation"),
    "spinning-disc": _microscope("spinning-disc", optics.spinning_disc, "pinhole", "excitation"),
    "two-photon": _microscope("two-photon", optics.two_photon),
    "lightsheet": _microscope("lightsheet", optics.light_sheet, "sheet", needs="sheet"),
}


def _kind(kind: str, names: Iterable[str]) -> Kind:
    """Return a kind that takes parameters of these names."""
    if kind not in KINDS:
        raise UserError(f"Unknown PSF {kind!r}: choose one of {', '.join(KINDS)}, or give a TIFF file.")
    chosen = KINDS[kind]
    for name in names:
        if name not in chosen.takes:
            raise UserError(
                f"The PSF {kind!r} has no parameter {name!r}: it takes {', '.join(chosen.takes)}."
            )
    return chosen


def _example(kind: str) -> str:
    return KINDS.get(kind.strip(), KINDS["gaussian"]).example
