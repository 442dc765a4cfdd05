"""One frozen description of one reconstruction: the form fills it, the command line fills it, the result carries it."""

from __future__ import annotations

import dataclasses
import math
from numbers import Integral, Real
from typing import Any, Literal

from napari_deqmd.core.errors import UserError

METHODS = ("deq-md", "b-red", "b-pnp", "md-tv", "rl-accelerated", "rl")
BREGMAN = ("b-red", "b-pnp")
"""Methods whose model is a Bregman score denoiser."""
LEARNED = ("deq-md", *BREGMAN)
"""Methods whose regularizer is a model."""
SOLVERS = ("accelerated", "plain")
BOUNDARIES = ("extended", "periodic")
PRECISIONS = ("auto", "float32", "bfloat16")
ORIENTATIONS = (1, 4)
"""Quarter turns over which a regularizer can be averaged: none but the image as it is, or all."""
TILES = ("auto", "none")
"""What stands for tiles whose size is not chosen."""
AXES = "TCZYX"
DTYPES = ("float32", "uint16")
"""How the pixels of a result can be stored."""
ZARR_VERSIONS = ("0.4", "0.5")
"""Of OME-Zarr, the newest last."""
KINDS = ("clean", "paired", "noisy")
"""What a model can be fine-tuned on: sharp images, pairs of exposures, or only noisy images."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """Everything needed, beside image and PSF, to run a reconstruction again.

    Parameters
    ----------
    axes : str, optional
        One letter of ``"TCZYX"`` per dimension of the image, in its order. ``None``: ``YX`` for 2D, ``ZYX`` for 3D.
    voxel_size : tuple of float, optional
        Micrometres along the spatial axes present, in the order of `axes`.
    offset : float
        Camera offset in counts (ADU), subtracted first.
    gain : float
        Counts (ADU) per photo-electron, > 0.
    read_noise : float
        Standard deviation of the camera's own noise, electrons, >= 0.
    mask_saturated : bool
        Leave out single pixels at which the camera saturates, and take areas of them as at least so bright.
    peak : float or "auto"
        Expected photo-electrons where the blurred object is 1, > 0.
    background : float or "auto"
        Mean photo-electrons per pixel that do not come from the object, >= 0.
    method : str
        One of `METHODS`.
    solver : str
        One of `SOLVERS`: which mirror descent minimises the objective of ``deq-md``, ``b-red`` and ``md-tv``.
    model : str
        ``"default"`` (of the method), the name of an installed model, or a path to its ``.safetensors`` file.
    strength : float
        Factor on the regularizer's learned weight, >= 0; of ``b-pnp`` > 0, as its steps are one over it (at most 1).
        For ``md-tv`` the factor on its validated weight.
    boundary : str
        ``"extended"`` (the object lives on a field of view grown by the PSF) or ``"periodic"``.
    upper : float
        Upper bound of the object, as a multiple of the peak, > 0. For a stack it is as much higher as the brightest
        plane of the PSF has less than all its light: a thin object in focus is so much brighter than its image.
    max_iter : int
        Largest number of iterations, >= 1.
    tol : float
        The certificate below which the iteration has converged, > 0.
    device : str
        ``"auto"``, or a torch device such as ``"cpu"``, ``"cuda"``, ``"mps"``.
    precision : str
        Arithmetic of the regularizer's network, one of `PRECISIONS`.
    orientations : int
        One of `ORIENTATIONS`: quarter turns of the planes over which the regularizer is averaged. 4 takes four times
        the time, and learned regularizers restore better.
    seed : int
        Seed of whatever is random. The solvers are deterministic.
    tile : "auto", "none" or tuple of int
        Pixels along the spatial axes of tiles that are reconstructed one after the other; ``"none"``: the image as a
        whole; ``"auto"``: whole if that fits into memory, else the largest tiles that do.
    """

    axes: str | None = None
    voxel_size: tuple[float, ...] | None = None
    offset: float = 0.0
    gain: float = 1.0
    read_noise: float = 0.0
    peak: float | Literal["auto"] = "auto"
    background: float | Literal["auto"] = "auto"
    method: str = "deq-md"
    solver: str = "accelerated"
    model: str = "default"
    strength: float = 1.0
    boundary: str = "extended"
    upper: float = 10.0
    max_iter: int = 200
    tol: float = 1e-4
    device: str = "auto"
    precision: str = "auto"
    orientations: int = 1
    seed: int = 0
    mask_saturated: bool = True
    tile: Literal["auto", "none"] | tuple[int, ...] = "auto"

    def __post_init__(self) -> None:
        for name, choices in (
            ("method", METHODS),
            ("solver", SOLVERS),
            ("boundary", BOUNDARIES),
            ("precision", PRECISIONS),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise UserError(f"Unknown {name} {value!r}: choose one of {', '.join(choices)}.")
        # Arrays compare number by number.
        for name in ("peak", "background", "voxel_size", "tile"):
            value = getattr(self, name)
            self._set(name, value.tolist() if hasattr(value, "tolist") else value)
        for name in ("gain", "upper", "tol"):
            self._set(name, _real(name, getattr(self, name), above=0.0))
        self._set("strength", _real("strength", self.strength, least=0.0))
        if self.method == "b-pnp" and self.strength == 0:
            raise UserError("A strength of 0 leaves b-pnp no step: give more, or choose rl.")
        self._set("offset", _real("offset", self.offset))
        self._set("read_noise", _real("read_noise", self.read_noise, least=0.0))
        if self.peak != "auto":
            self._set("peak", _real("peak", self.peak, above=0.0, hint=" or 'auto'"))
        if self.background != "auto":
            self._set("background", _real("background", self.background, least=0.0, hint=" or 'auto'"))
        self._set("max_iter", _integer("max_iter", self.max_iter, least=1))
        self._set("orientations", _integer("orientations", self.orientations, least=1))
        if self.orientations not in ORIENTATIONS:
            raise UserError(f"orientations is {self.orientations}: give 1 or 4.")
        self._set("seed", _integer("seed", self.seed, least=0))
        if not isinstance(self.mask_saturated, bool):
            raise UserError(f"mask_saturated is {self.mask_saturated!r}: give true or false.")
        if self.axes is not None and (
            len(set(self.axes)) != len(self.axes) or not set(self.axes) <= set(AXES) or self.axes[-2:] != "YX"
        ):
            raise UserError(
                f"Axes {self.axes!r}: use each of the letters T, C, Z, Y, X at most once, ending in YX."
            )
        if self.voxel_size is not None:
            if not isinstance(self.voxel_size, tuple | list):
                raise UserError(f"voxel_size is {self.voxel_size!r}: give one number per spatial axis.")
            self._set("voxel_size", tuple(_real("voxel_size", size, above=0.0) for size in self.voxel_size))

        if self.tile not in TILES:
            if not isinstance(self.tile, tuple | list) or not self.tile:
                raise UserError(
                    f"tile is {self.tile!r}: give 'auto', 'none', or pixels along the spatial axes, such as 16,256,256."
                )
            self._set("tile", tuple(_integer("tile", size, least=1) for size in self.tile))

    def _set(self, name: str, value: Any) -> None:
        """Keep a checked value as a plain number: numbers of NumPy do not go into a sidecar."""
        object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able values, for a sidecar."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ReconstructionConfig:
        """Rebuild a configuration from `to_dict`; unknown names are an error."""
        names = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - names):
            raise UserError(
                f"Unknown setting {unknown[0]!r} in the configuration: it comes from another version."
            )
        return cls(**values)


def _real(
    name: str, value: Any, *, above: float | None = None, least: float | None = None, hint: str = ""
) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise UserError(f"{name} is {value!r}: give a finite number{hint}.")
    number = float(value)
    if above is not None and not number > above:
        raise UserError(f"{name} is {number:g}: give a number above {above:g}{hint}.")
    if least is not None and not number >= least:
        raise UserError(f"{name} is {number:g}: give a number of at least {least:g}{hint}.")
    return number


def _integer(name: str, value: Any, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise UserError(f"{name} is {value!r}: give a whole number of at least {least}.")
    return int(value)
