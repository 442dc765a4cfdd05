"""Recipes: whole trainings as they are written down."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from napari_deqmd.core.allowed import (
    ASCENDING,
    Count,
    Limit,
    Natural,
    NotNegative,
    Positive,
    Share,
    check,
    one_of,
)
from napari_deqmd.core.config import BOUNDARIES
from napari_deqmd.core.errors import UserError
from napari_deqmd.training.equilibrium import Solve
from napari_deqmd.training.measurements import LOSSES, Ranges
from napari_deqmd.training.models import can_name
from napari_deqmd.training.pretraining import NOISES

Part = TypeVar("Part")
Patch = Annotated[
    tuple[Count, ...],
    Limit(
        "{}, [Y, X] or [Z, Y, X] with Y = X", lambda sides: len(sides) in (2, 3) and sides[-2] == sides[-1]
    ),
]
# Weaker than inverse-gamma noise can be; white noise of that deviation leaves nothing of an image.
Deviation = Annotated[float, Limit("{} above 0 and below 1", lambda x: 0 < x < 1)]


@dataclass(frozen=True)
class Draws:
    """What clean patches a job draws.

    Attributes
    ----------
    mix : mapping
        Shares of ``simulated``, ``fluorescence`` and ``natural``.
    patch : tuple of int
        (Y, X) or (Z, Y, X) of the object, pixels.
    pool, side : int
        Simulated scenes kept, and their side.
    """

    mix: Mapping[str, NotNegative]
    patch: Patch
    pool: Count = 400
    side: Count = 160

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Pretraining:
    """Options of `pretrain`, and what it draws.

    Attributes
    ----------
    minutes : float, optional
        After which the schedule ends if its steps have not.
    direct : int
        Steps at the beginning in which a residual network itself is the denoiser.
    strength : tuple of float, optional
        ``(a, p)`` of the strength at the end, chosen on validation images.
    """

    draws: Draws
    steps: Natural
    minutes: Positive | None = None
    batch: Count = 16
    learning_rate: Positive = 5e-4
    sigma: Annotated[tuple[Deviation, Deviation], ASCENDING] = (0.015, 0.3)
    brightest: Positive = 4.0
    noise: Annotated[str, one_of(NOISES)] = "white"
    direct: Natural = 0
    strength: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Equilibrium:
    """Options of `train_equilibrium`, what it draws, and the strength before and after.

    Attributes
    ----------
    minutes : float, optional
        After which the schedule ends if its steps have not.
    ranges : Ranges
        Peaks, backgrounds and brightness of the measurements.
    psf : str, optional
        The only PSF, as on the command line; by default they are drawn from a family.
    wide : float
        Share of 2D PSFs that are wide Gaussians, beside those of the family.
    boundary, upper, shifted
        Of the measurements, as in `napari_deqmd.training.measurements.Observation`.
    loss : str
        One of `napari_deqmd.training.measurements.LOSSES`.
    validation, patience : int
        Patches of held-back seeds that the averaged weights restore every `every` steps, and after how many looks
        without a better one the training ends; the best weights are kept. 0 patches: all steps are taken, and the last
        weights are kept.
    every : int
        Steps between two looks, and between two checkpoints.
    strength : tuple of float, optional
        ``(a, p)`` of the strength to begin with.
    afterwards : float
        Factor on the strength at the end, chosen on validation images.
    even : float
        Weight of the waves that the grid of strides draws into smooth objects (`napari_deqmd.training.grid`).
    solve : Solve
        Inner solves.
    """

    draws: Draws
    steps: Natural
    minutes: Positive | None = None
    batch: Count = 8
    learning_rate: Positive = 5e-5
    numbers: NotNegative = 10.0
    warm_up: Natural = 100
    groups: Count = 2
    lifetime: Count = 3
    gradient_steps: Natural = 5
    precision: Literal["float32", "bfloat16"] = "float32"
    ranges: Ranges = field(default_factory=Ranges)
    psf: str | None = None
    wide: Share = 0.0
    boundary: Annotated[str, one_of(BOUNDARIES)] = "extended"
    upper: Positive = 10.0
    shifted: bool = True
    loss: Annotated[str, one_of(LOSSES)] = "log-mse"
    validation: Natural = 0
    patience: Count = 5
    every: Count = 50
    strength: tuple[float, float] | None = None
    afterwards: Positive = 1.0
    even: NotNegative = 0.0
    solve: Solve = field(default_factory=Solve)

    def __post_init__(self) -> None:
        check(self)


def suffix(psf: str | None, peak: float | None) -> str:
    """Return what the name of a model for one PSF and one peak ends with: no two PSFs share a training's files."""
    words = ("" if psf is None else re.sub(r"[^\w.]+", "-", psf)), ("" if peak is None else f"{peak:g}")
    return "".join(f"-{word}" for word in words if word)


@dataclass(frozen=True)
class Recipe:
    """A training, as its file says it.

    Attributes
    ----------
    name, description
        Of the model.
    family, options
        Of the regularizer, as in `napari_deqmd.core.regularizers.build`.
    ndim : int
        2 or 3: what the model is for.
    base : str, optional
        Model whose weights the first job starts from.
    data : mapping
        Folders of ``fluorescence`` and ``natural`` images, below the data folder.
    seed : int
        Of weights, patches, PSFs and noise.
    pretraining, equilibrium
        The two jobs; either may be missing.
    """

    name: Annotated[str, Limit("{} of letters, digits, dots and dashes, as a file's name", can_name)]
    description: str
    family: str
    options: Mapping[str, Any]
    ndim: Literal[2, 3] = 2
    base: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    seed: Natural = 1
    pretraining: Pretraining | None = None
    equilibrium: Equilibrium | None = None

    def __post_init__(self) -> None:
        check(self)

    @property
    def pretrained(self) -> str:
        """File of the pretrained model: of the model itself where no equilibrium training follows."""
        return f"{self.name}{'' if self.equilibrium is None else '-pretrained'}.safetensors"

    def validates_on(self, name: str) -> bool:
        """Return whether some images of a kind are kept from both jobs, for the second one to validate on."""
        job = self.equilibrium
        return job is not None and job.validation > 0 and job.draws.mix.get(name, 0) > 0

    def told(self, *, psf: str | None = None, peak: float | None = None) -> Recipe:
        """Return the recipe for one PSF and one peak, which its name then says; ``None`` leaves what it says.

        Raises
        ------
        UserError
            A recipe without equilibrium training, or a peak that none can be.
        """
        if psf is None and peak is None:
            return self
        if self.equilibrium is None:
            raise UserError(f"The recipe of {self.name} has no [equilibrium]: --psf and --peak are of that.")
        if peak is not None and not 0 < peak < math.inf:
            raise UserError(f"The peak is {peak:g}: give photo-electrons above 0.")
        job = self.equilibrium
        if psf is not None:
            job = replace(job, psf=psf)
        if peak is not None:
            job = replace(job, ranges=replace(job.ranges, peak=(peak, peak)))
        return replace(self, name=self.name + suffix(psf, peak), equilibrium=job)

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a TOML file.

        Raises
        ------
        UserError
            A file that cannot be read, is not TOML, or holds names or values this version does not know.
        """
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"The recipe {path} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise UserError(f"The recipe {path.name} is not TOML: {error}.") from error
        jobs = {"pretraining": Pretraining, "equilibrium": Equilibrium}
        for name in jobs.keys() & found.keys():
            job = dict(_table(path, name, found[name]))
            job.setdefault("draws", {})
            for part, kind in {"draws": Draws, "solve": Solve, "ranges": Ranges}.items():
                if part in job:
                    job[part] = _made(path, kind, f"{name}.{part}", job[part])
            found[name] = _made(path, jobs[name], name, job)
        recipe = _made(path, cls, "", found)
        if recipe.options.get("ndim", 2) not in (2, recipe.ndim):
            raise UserError(
                f"The recipe {path.name} has options.ndim = {recipe.options['ndim']!r} and ndim = {recipe.ndim}: "
                "give both the same."
            )
        written = {"pretraining": recipe.pretraining, "equilibrium": recipe.equilibrium}
        for name, one in written.items():
            if one is not None and len(one.draws.patch) != recipe.ndim:
                raise UserError(
                    f"The recipe {path.name} has {name}.draws.patch of {len(one.draws.patch)} numbers: "
                    f"give {recipe.ndim}."
                )
        return recipe


def _table(path: Path, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"The recipe {path.name} has no table [{name}]: write its settings there.")
    return value


def _made(path: Path, kind: type[Part], section: str, table: Any) -> Part:
    values = _table(path, section, table)
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - known):
        raise UserError(f"The recipe {path.name} has an unknown setting {unknown[0]!r}: correct it.")
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return kind(**plain)
    except TypeError as error:
        raise UserError(f"The recipe {path.name} lacks a setting: {error}.") from error
    except UserError as error:
        place = f"[{section}] of " * bool(section)
        raise UserError(f"In {place}the recipe {path.name} {error}") from error
