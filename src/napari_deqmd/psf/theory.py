"""Theoretical point spread functions and the text that names one on the command line."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.errors import UserError

Values = float | Sequence[float]

# A Gaussian is cut where one tail holds 3e-5 of it: well inside the 0.1 % that `prepare_psf` may crop.
_GAUSSIAN_REACH = 4.0
_LARGEST = 2049


def make_psf(kind: str = "gaussian", *, ndim: int = 2, **params: Values) -> NDArray[np.float32]:
    """Compute a theoretical point spread function.

    Parameters
    ----------
    kind : str
        ``"gaussian"`` or ``"uniform"``.
    ndim : int
        2 for ``(Y, X)``, 3 for ``(Z, Y, X)``.
    **params : float or sequence of float
        ``gaussian``: `sigma`, standard deviation in pixels, > 0. ``uniform``: `size`, odd width of the box in
        pixels. One value serves all axes; several are in the order (z,) y, x.

    Returns
    -------
    ndarray of float32, shape ``(Y, X)`` or ``(Z, Y, X)``
        Non-negative, odd-sized, centred, sum 1.

    Raises
    ------
    UserError
        Unknown kind or parameter, or a value outside its domain.
    """
    if ndim not in (2, 3):
        raise UserError(f"A PSF has 2 or 3 dimensions, not {ndim}: choose ndim=2 or ndim=3.")
    if kind not in _KINDS:
        raise UserError(f"Unknown PSF {kind!r}: choose one of {', '.join(_KINDS)}, or give a TIFF file.")
    function = _KINDS[kind]
    known = [name for name in inspect.signature(function).parameters if name != "ndim"]
    for name in params:
        if name not in known:
            raise UserError(f"The PSF {kind!r} has no parameter {name!r}: it takes {', '.join(known)}.")
    for name in known:
        if name not in params:
            raise UserError(f"The PSF {kind!r} needs {name}: for example {_EXAMPLES[kind]}.")
    psf = function(ndim=ndim, **params)
    return np.asarray(psf / psf.sum(), dtype=np.float32)


def parse_psf(text: str, ndim: int) -> NDArray[np.float32]:
    """Compute the PSF that a text such as ``gaussian:sigma=3,1.4,1.4`` describes.

    Parameters
    ----------
    text : str
        ``kind:name=value[,value...][,name=value...]``. One value serves all axes; several are (z,) y, x.
    ndim : int
        2 or 3.

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
    params: dict[str, list[float]] = {}
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
    return make_psf(kind.strip(), ndim=ndim, **params)


def _gaussian(*, ndim: int, sigma: Values) -> NDArray[np.float64]:
    profiles = []
    for width in _per_axis("sigma", sigma, ndim):
        if width <= 0:
            raise UserError(f"sigma is {width:g} pixels: give a width above 0.")
        radius = max(1, math.ceil(_GAUSSIAN_REACH * width))
        _limit(2 * radius + 1)
        profiles.append(np.exp(-0.5 * (np.arange(-radius, radius + 1) / width) ** 2))
    return _outer(profiles)


def _uniform(*, ndim: int, size: Values) -> NDArray[np.float64]:
    profiles = []
    for width in _per_axis("size", size, ndim):
        if width != int(width) or width < 1 or int(width) % 2 == 0:
            raise UserError(f"size is {width:g} pixels: give an odd whole number (the box needs a centre).")
        _limit(int(width))
        profiles.append(np.ones(int(width)))
    return _outer(profiles)


_KINDS: dict[str, Callable[..., NDArray[np.float64]]] = {"gaussian": _gaussian, "uniform": _uniform}
_EXAMPLES = {"gaussian": "gaussian:sigma=1.2", "uniform": "uniform:size=9"}


def _example(kind: str) -> str:
    return _EXAMPLES.get(kind.strip(), "gaussian:sigma=1.2")


def _per_axis(name: str, values: Any, ndim: int) -> list[float]:
    try:
        numbers = [float(value) for value in np.atleast_1d(values)]
    except (TypeError, ValueError):
        raise UserError(f"{name} is {values!r}: give a number, or one per axis.") from None
    if not all(math.isfinite(number) for number in numbers):
        raise UserError(f"{name} is {values!r}: give finite numbers.")
    if len(numbers) not in (1, ndim):
        axes = "z, y, x" if ndim == 3 else "y, x"
        raise UserError(
            f"{name} has {len(numbers)} values for {ndim} axes: give one, or one each for {axes}."
        )
    return numbers * ndim if len(numbers) == 1 else numbers


def _limit(size: int) -> None:
    if size > _LARGEST:
        raise UserError(f"This PSF would be {size} pixels wide: give widths in pixels, at most {_LARGEST}.")


def _outer(profiles: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    psf = profiles[0]
    for profile in profiles[1:]:
        psf = psf[..., np.newaxis] * profile
    return psf
