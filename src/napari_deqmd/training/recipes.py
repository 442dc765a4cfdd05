"""Whole trainings, as their recipes say: from nothing to a model file, resumable and repeatable."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.regularizers import Learned, Red, build
from napari_deqmd.training import grid
from napari_deqmd.training.data import HELD_BACK, Sampler, load_fluorescence, load_natural
from napari_deqmd.training.distributed import rank
from napari_deqmd.training.equilibrium import train_equilibrium
from napari_deqmd.training.judging import Judge
from napari_deqmd.training.measurements import any_psf, any_stack_psf, measure
from napari_deqmd.training.models import Model, load_model, save_model, versions
from napari_deqmd.training.pretraining import pretrain
from napari_deqmd.training.progress import Report
from napari_deqmd.training.recipe_files import Draws, Equilibrium, Pretraining, Recipe

MAY_CHANGE = frozenset({"steps", "minutes", "every", "patience", "afterwards"})
"""Settings of a job that another may have that goes on from its checkpoint."""


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
        _sampler(recipe, job.draws, data, recipe.seed, unseen=False),
        steps=job.steps,
        limit=_seconds(job.minutes),
        batch=job.batch,
        learning_rate=job.learning_rate,
        sigma=job.sigma,
        brightest=job.brightest,
        noise=job.noise,
        direct=job.direct,
        device=device,
        checkpoint=run / f"{recipe.name}-pretraining.pt",
        identity=_identity(recipe, replace(job, strength=None), begun),
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

    With the recipe's `validation` the best weights so far are written, as soon as nothing better comes.

    Parameters
    ----------
    recipe, data, run, steps, device
        As in `run_pretraining`.
    base : str or path, optional
        Model to start from; by default the pretrained one in `run`, or else the recipe's.
    read_psf : callable, optional
        Returns the kernel that the recipe's `psf` says, of odd sides; needed where it says one.
    validate : callable, optional
        As in `train_equilibrium`; instead of the recipe's validation.

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
    if job.even and not (isinstance(regularizer, Red) and recipe.options.get("colours", 1) == 1):
        raise UserError(f"{recipe.name} has no residual of gray images: leave even out of its recipe.")
    _set_strength(regularizer, job.strength)
    sampler = _sampler(recipe, job.draws, data, recipe.seed + 4, unseen=False)
    draw_psf: Callable[..., np.ndarray] = any_stack_psf
    if recipe.ndim == 2:
        draw_psf = partial(any_psf, wide=job.wide)
    if job.psf is not None:
        assert read_psf is not None
        kernel = np.asarray(read_psf(job.psf), np.float32)
        draw_psf = lambda rng: kernel  # noqa: E731
    measured = partial(
        measure,
        ranges=job.ranges,
        draw_psf=draw_psf,
        boundary=job.boundary,
        upper=job.upper,
        shifted=job.shifted,
        criterion=job.loss,
    )
    identity = _identity(recipe, job, begun)
    judge = None
    if job.validation and validate is None:
        unseen = _sampler(recipe, job.draws, data, recipe.seed + 5, unseen=True)
        patches, best = measured(unseen, 0, job.validation), run / f"{recipe.name}-best.pt"
        judge = Judge(patches, job.patience, best, identity)
    first = yield from train_equilibrium(
        regularizer.to(device),
        partial(measured, sampler),
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
        penalty=partial(_uneven, job.even) if job.even else None,
        validate=judge or validate,
        enough=judge.enough if judge else lambda: False,
        checkpoint=run / f"{recipe.name}-equilibrium.pt",
        identity=identity,
        every=job.every,
    )
    if judge and judge.weights:
        regularizer.load_state_dict(judge.weights)
    with torch.no_grad():
        regularizer.strength.a.add_(math.log(job.afterwards))
    if rank() == 0:
        save_model(regularizer.cpu(), run / f"{recipe.name}.safetensors", card(recipe, job, first, begun))


def _uneven(weight: float, model: Red, step: int) -> Tensor:
    return weight * grid.penalty(model, step)


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
    sources = {**recipe.data, "simulated": "the project's own scenes"}
    jobs = [one for one in (recipe.pretraining, recipe.equilibrium) if one is not None]
    drawn = {name for one in jobs for name, share in one.draws.mix.items() if share > 0}
    return {
        "description": recipe.description,
        "family": recipe.family,
        "options": dict(recipe.options),
        "ndim": recipe.ndim,
        "data": {name: told for name, told in sources.items() if name in drawn}
        | {"held back": sorted(HELD_BACK)},
        "recipe": {type(job).__name__.lower(): asdict(job)},
        "first_losses": [round(loss, 6) for loss in first_losses],
        "base": None if base is None else {key: base.card[key] for key in ("name", "sha256")},
        "seed": recipe.seed,
        "versions": versions(),
    }


def _identity(recipe: Recipe, job: Pretraining | Equilibrium, base: Model | None) -> dict[str, Any]:
    """Return what the state of a training depends on: not when it ends, how often it looks, what is done afterwards."""
    told = {name: value for name, value in asdict(job).items() if name not in MAY_CHANGE}
    told |= {name: getattr(recipe, name) for name in ("family", "options", "ndim", "data", "seed")}
    told["validates"] = [name for name in recipe.data if recipe.validates_on(name)]
    told["base"] = base and base.card["sha256"]
    plain: dict[str, Any] = json.loads(json.dumps(told))
    return plain


def _denoiser(recipe: Recipe) -> Learned:
    try:
        regularizer = build(recipe.family, dict(recipe.options))
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).rstrip(".")
        raise UserError(f"The options of {recipe.name} do not fit {recipe.family}: {reason}.") from error
    if not isinstance(regularizer, Learned):
        raise UserError(f"{recipe.family} is no denoiser: choose another family for {recipe.name}.")
    return regularizer


def _seconds(minutes: float | None) -> float:
    return math.inf if minutes is None else 60 * minutes


def _set_strength(regularizer: Learned, strength: tuple[float, float] | None) -> None:
    if strength is not None:
        with torch.no_grad():
            regularizer.strength.a.fill_(strength[0])
            regularizer.strength.p.fill_(strength[1])


def _sampler(recipe: Recipe, draws: Draws, data: Path, seed: int, *, unseen: bool) -> Sampler:
    """Return what draws patches: of images to train on, or of those that are kept to validate on."""
    colours = int(recipe.options.get("colours", 1))
    many: dict[str, Any] = {} if colours == 1 else {"colours": colours}
    images: dict[str, Any] = {
        name: _part(name, data / folder, unseen, recipe.validates_on(name), **many)
        for name, folder in recipe.data.items()
        if name in draws.mix
    }
    return Sampler(
        draws.mix, **images, **many, patch=draws.patch, pool=draws.pool, side=draws.side, seed=seed
    )


def _part(name: str, folder: Path, unseen: bool, validates: bool, **options: Any) -> Mapping[str, np.ndarray]:
    """Return images of a folder to train on, or those to validate on: the ones of `HELD_BACK`, else every tenth file.

    The first are trained on by nobody.
    """
    if name not in ("fluorescence", "natural"):
        raise UserError(f"There are no {name!r} images: give folders of fluorescence and natural ones.")
    if name == "fluorescence":
        images = load_fluorescence(folder, held_back=None)
    else:
        images = load_natural(folder, **options)
    files = {image: image.partition("#")[0] for image in images}  # planes of one file are alike
    kept = {file for file in files.values() if file.rpartition("/")[2] in HELD_BACK}
    if validates:
        kept = kept or set(sorted(set(files.values()))[::10])
        if kept == set(files.values()):
            raise UserError(
                f"Some of the {name} images in {folder} are kept to validate on, and none would be left to train on: "
                "give more, or leave validation out."
            )
    return {image: array for image, array in images.items() if (files[image] in kept) is unseen}
