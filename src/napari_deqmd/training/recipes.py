"""Whole trainings as they are written down: from nothing to a model file, resumable and repeatable."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.regularizers import Learned, build
from napari_deqmd.training.data import HELD_BACK, Sampler, load_fluorescence, load_natural
from napari_deqmd.training.distributed import rank
from napari_deqmd.training.equilibrium import Solve, train_equilibrium
from napari_deqmd.training.measurements import Ranges, any_psf, any_stack_psf, measure
from napari_deqmd.training.models import Model, load_model, save_model, versions
from napari_deqmd.training.pretraining import NOISES, pretrain
from napari_deqmd.training.progress import Report

Part = TypeVar("Part")

LOADERS: dict[str, Callable[..., Mapping[str, np.ndarray]]] = {
    "fluorescence": load_fluorescence,
    "natural": load_natural,
}


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

    mix: Mapping[str, float]
    patch: tuple[int, ...]
    pool: int = 400
    side: int = 160


@dataclass(frozen=True)
class Pretraining:
    """Options of `pretrain`, and what it draws.

    Attributes
    ----------
    minutes : float, optional
        After which the schedule ends if its steps have not.
    strength : tuple of float, optional
        ``(a, p)`` of the strength at the end, chosen on validation images.
    """

    draws: Draws
    steps: int
    minutes: float | None = None
    batch: int = 16
    learning_rate: float = 5e-4
    sigma: tuple[float, float] = (0.015, 0.3)
    brightest: float = 4.0
    noise: str = "white"
    strength: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.noise not in NOISES:
            raise UserError(f"Unknown noise {self.noise!r} of a pretraining: choose {' or '.join(NOISES)}.")


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
    strength : tuple of float, optional
        ``(a, p)`` of the strength to begin with.
    afterwards : float
        Factor on the strength at the end, chosen on validation images.
    solve : Solve
        Inner solves.
    """

    draws: Draws
    steps: int
    minutes: float | None = None
    batch: int = 8
    learning_rate: float = 5e-5
    numbers: float = 10.0
    warm_up: int = 100
    groups: int = 2
    lifetime: int = 3
    gradient_steps: int = 5
    precision: str = "float32"
    ranges: Ranges = field(default_factory=Ranges)
    psf: str | None = None
    wide: float = 0.0
    boundary: str = "extended"
    upper: float = 10.0
    shifted: bool = True
    strength: tuple[float, float] | None = None
    afterwards: float = 1.0
    solve: Solve = field(default_factory=Solve)


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

    name: str
    description: str
    family: str
    options: Mapping[str, Any]
    ndim: int = 2
    base: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    seed: int = 1
    pretraining: Pretraining | None = None
    equilibrium: Equilibrium | None = None

    @property
    def pretrained(self) -> str:
        """File of the pretrained model: of the model itself where no equilibrium training follows."""
        return f"{self.name}{'' if self.equilibrium is None else '-pretrained'}.safetensors"

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
        job, words = self.equilibrium, [self.name]
        if psf is not None:
            job = replace(job, psf=psf)
            words.append(psf.partition(":")[0])
        if peak is not None:
            job = replace(job, ranges=replace(job.ranges, peak=(peak, peak)))
            words.append(f"{peak:g}")
        return replace(self, name="-".join(words), equilibrium=job)

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
            job["draws"] = _made(path, Draws, _table(path, f"{name}.draws", job.get("draws", {})))
            for part, kind in {"solve": Solve, "ranges": Ranges}.items():
                if part in job:
                    job[part] = _made(path, kind, _table(path, f"{name}.{part}", job[part]))
            found[name] = _made(path, jobs[name], job)
        recipe = _made(path, cls, found)
        if recipe.ndim not in (2, 3):
            raise UserError(f"The recipe {path.name} has ndim = {recipe.ndim!r}: give 2 or 3.")
        written = {"pretraining": recipe.pretraining, "equilibrium": recipe.equilibrium}
        for name, one in written.items():
            if one is not None and len(one.draws.patch) != recipe.ndim:
                raise UserError(
                    f"The recipe {path.name} has {name}.draws.patch of {len(one.draws.patch)} numbers: "
                    f"give {recipe.ndim}."
                )
        return recipe


def run_pretraining(
    recipe: Recipe, data: Path, run: Path, *, steps: int | None = None, device: str = "cpu"
) -> Generator[Report, None, None]:
    """Pretrain; yield a report a step, and write `Recipe.pretrained` in `run` at the end.

    Parameters
    ----------
    recipe : Recipe
        What to do.
    data : path
        Folder with the recipe's folders of images.
    run : path
        Folder of the checkpoint, from which an interrupted job goes on, and of the model.
    steps : int, optional
        Instead of the recipe's.
    device : str
        Torch device.

    Raises
    ------
    UserError
        A recipe without pretraining, missing images, or a checkpoint of another training.
    """
    job = recipe.pretraining
    if job is None:
        raise UserError(f"The recipe of {recipe.name} has no [pretraining]: run its equilibrium training.")
    job = replace(job, steps=job.steps if steps is None else steps)
    torch.manual_seed(recipe.seed)
    begun = None if recipe.base is None else load_model(recipe.base)
    regularizer = _denoiser(recipe) if begun is None else started(recipe, begun.regularizer)
    first = yield from pretrain(
        regularizer,
        _sampler(recipe, job.draws, data, recipe.seed),
        steps=job.steps,
        limit=_seconds(job.minutes),
        batch=job.batch,
        learning_rate=job.learning_rate,
        sigma=job.sigma,
        brightest=job.brightest,
        noise=job.noise,
        device=device,
        checkpoint=run / f"{recipe.name}-pretraining.pt",
    )
    _set_strength(regularizer, job.strength)
    if rank() == 0:
        save_model(regularizer.cpu(), run / recipe.pretrained, card(recipe, job, first, begun))


def run_equilibrium(
    recipe: Recipe,
    data: Path,
    run: Path,
    *,
    base: str | Path | None = None,
    steps: int | None = None,
    device: str = "cpu",
    read_psf: Callable[[str], np.ndarray] | None = None,
    validate: Callable[[Any], Mapping[str, float]] | None = None,
) -> Generator[Report, None, None]:
    """Train the equilibrium; yield a report a step, and write ``RUN/NAME.safetensors`` at the end.

    Parameters
    ----------
    recipe, data, run, steps, device
        As in `run_pretraining`.
    base : str or path, optional
        Model to start from; by default the pretrained one in `run`, or else the recipe's.
    read_psf : callable, optional
        Returns the kernel that the recipe's `psf` says, of odd sides; needed where it says one.
    validate : callable, optional
        As in `train_equilibrium`.

    Raises
    ------
    UserError
        A recipe without equilibrium training, a base of another architecture, missing images, or a checkpoint of
        another training.
    """
    job = recipe.equilibrium
    if job is None:
        raise UserError(f"The recipe of {recipe.name} has no [equilibrium]: run its pretraining.")
    job = replace(job, steps=job.steps if steps is None else steps)
    torch.manual_seed(recipe.seed)
    own_base = None if recipe.pretraining else recipe.base
    begun = load_model(base or own_base or run / recipe.pretrained, ndim=recipe.ndim)
    regularizer = started(recipe, begun.regularizer)
    _set_strength(regularizer, job.strength)
    sampler = _sampler(recipe, job.draws, data, recipe.seed + 4)
    draw_psf: Callable[..., np.ndarray] = any_stack_psf
    if recipe.ndim == 2:
        draw_psf = partial(any_psf, wide=job.wide)
    if job.psf is not None:
        assert read_psf is not None
        kernel = np.asarray(read_psf(job.psf), np.float32)
        draw_psf = lambda rng: kernel  # noqa: E731
    first = yield from train_equilibrium(
        regularizer.to(device),
        partial(
            measure,
            sampler,
            ranges=job.ranges,
            draw_psf=draw_psf,
            boundary=job.boundary,
            upper=job.upper,
            shifted=job.shifted,
        ),
        steps=job.steps,
        limit=_seconds(job.minutes),
        batch=job.batch,
        learning_rate=job.learning_rate,
        numbers=job.numbers,
        warm_up=job.warm_up,
        groups=job.groups,
        lifetime=job.lifetime,
        gradient_steps=job.gradient_steps,
        precision=job.precision,
        solve=job.solve,
        validate=validate,
        checkpoint=run / f"{recipe.name}-equilibrium.pt",
    )
    with torch.no_grad():
        regularizer.strength.a.add_(math.log(job.afterwards))
    if rank() == 0:
        save_model(regularizer.cpu(), run / f"{recipe.name}.safetensors", card(recipe, job, first, begun))


def started(recipe: Recipe, base: Any) -> Learned:
    """Return the recipe's regularizer with the weights of a base."""
    regularizer = _denoiser(recipe)
    weights, wanted = base.state_dict(), regularizer.state_dict()
    if {name: tensor.shape for name, tensor in weights.items()} != {n: t.shape for n, t in wanted.items()}:
        raise UserError(f"The base is of another architecture than {recipe.name}: choose another base model.")
    regularizer.load_state_dict(weights)
    return regularizer.requires_grad_(True)


def card(
    recipe: Recipe, job: Pretraining | Equilibrium, first_losses: Sequence[float], base: Model | None = None
) -> dict[str, Any]:
    """Return the card of the model that a job, as it was run, ends with, JSON-able, for `save_model`.

    The job's first steps, run again, have the same losses (on a like machine, within rounding).
    """
    return {
        "description": recipe.description,
        "family": recipe.family,
        "options": dict(recipe.options),
        "ndim": recipe.ndim,
        "data": {**recipe.data, "simulated": "the project's own scenes", "held back": sorted(HELD_BACK)},
        "recipe": {type(job).__name__.lower(): asdict(job)},
        "first_losses": [round(loss, 6) for loss in first_losses],
        "base": None if base is None else {key: base.card[key] for key in ("name", "sha256")},
        "seed": recipe.seed,
        "versions": versions(),
    }


def _denoiser(recipe: Recipe) -> Learned:
    try:
        regularizer = build(recipe.family, dict(recipe.options))
    except TypeError as error:
        raise UserError(f"The options of {recipe.name} do not fit {recipe.family}: {error}.") from error
    if not isinstance(regularizer, Learned):
        raise UserError(f"{recipe.family} is no denoiser: choose another family for {recipe.name}.")
    return regularizer


def _seconds(minutes: float | None) -> float:
    if minutes is not None and not minutes > 0:
        raise UserError(f"The recipe gives {minutes:g} minutes: give more than 0, or none.")
    return math.inf if minutes is None else 60 * minutes


def _set_strength(regularizer: Learned, strength: tuple[float, float] | None) -> None:
    if strength is not None:
        with torch.no_grad():
            regularizer.strength.a.fill_(strength[0])
            regularizer.strength.p.fill_(strength[1])


def _sampler(recipe: Recipe, draws: Draws, data: Path, seed: int) -> Sampler:
    colours = int(recipe.options.get("colours", 1))
    many: dict[str, Any] = {} if colours == 1 else {"colours": colours}
    images: dict[str, Any] = {
        name: LOADERS[name](data / folder, **many)
        for name, folder in recipe.data.items()
        if name in draws.mix
    }
    return Sampler(
        draws.mix, **images, **many, patch=draws.patch, pool=draws.pool, side=draws.side, seed=seed
    )


def _table(path: Path, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"The recipe {path.name} has no table [{name}]: write its settings there.")
    return value


def _made(path: Path, kind: type[Part], values: dict[str, Any]) -> Part:
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - known):
        raise UserError(f"The recipe {path.name} has an unknown setting {unknown[0]!r}: correct it.")
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return kind(**plain)
    except TypeError as error:
        raise UserError(f"The recipe {path.name} lacks a setting: {error}.") from error
