"""What the paper's experiment compares, and the weight that validation images choose."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from napari_deqmd.benchmarks.fluorescence import TV_WEIGHT, Job, Method, Row
from napari_deqmd.benchmarks.fluorescence_report import grouped
from napari_deqmd.benchmarks.paper_cases import TUNING, Extent
from napari_deqmd.core.config import ORIENTATIONS
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import NoRegularizer, TotalVariation, placed
from napari_deqmd.core.solvers import Step, accelerated_mirror_descent, mirror_descent
from napari_deqmd.core.solvers.bregman import WARM_UP, bregman_pnp, bregman_red
from napari_deqmd.core.solvers.richardson_lucy import richardson_lucy
from napari_deqmd.training.models import BREGMAN_DEFAULT, load_model, methods_of
from napari_deqmd.training.recipe_files import suffix

FACTOR = " × "
"""Between a method and the factor on its weight, in the names of those that are run at several."""
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
SEARCHED, ORACLE = ", searched weight", ", oracle weight"
ALL_AROUND = f", {max(ORIENTATIONS)} orientations"
PAPERS_RULE = ", paper's iteration and rule"
TWO_STAGES = ", two stages"
PAPERS_TOLERANCE = 2.5e-5
Solve = Callable[[Problem, Tensor | None], Generator[Step, None, None]]


def methods(models: Sequence[str], extent: Extent, device: str = "cpu") -> list[Method]:
    """Return what is compared: Richardson-Lucy, total variation, Bregman denoisers, models by name or path.

    A model runs as `deqmd reconstruct` does, averaged over all orientations, by the plain iteration with our
    certificate, and by the paper's iteration with its rule. Those that one recipe made for one kernel and one peak each
    are one method. Where no model is for ``b-red``, the bundled one is taken.

    Raises
    ------
    UserError
        A model that cannot be read, or one for colour where images are gray.
    """
    most = extent.max_iter
    found = []
    for name, accelerated in (("RL", False), ("RL accelerated", True)):
        lucy = partial(richardson_lucy, accelerated=accelerated, max_iter=min(most, 200))
        found.append(
            Method(f"{name}, oracle stop", lucy, NoRegularizer(), oracle=True, robust=not accelerated)
        )
    minimise = partial(accelerated_mirror_descent, max_iter=most)
    found += swept(Method("TV", minimise, TotalVariation(weight=TV_WEIGHT), robust=True))
    loaded = [load_model(name) for name in models]
    if not any("b-red" in methods_of(model.card) for model in loaded):
        loaded.insert(0, load_model(BREGMAN_DEFAULT))
    for model in loaded:
        regularizer = placed(model.regularizer, device)
        name, condition = _made_for(model.card)
        told = Method(
            name,
            minimise,
            regularizer,
            identity=json.dumps([model.card["sha256"], model.card["options"]]),
            robust=True,
            colours=int(model.card["options"].get("colours", 1)),
            trained_for=condition,
        )
        if told.colours > extent.colours:
            raise UserError(f"{told.name} is a model for colour images: measure it without --gray.")
        if regularizer.ndim != 2:
            raise UserError(f"{told.name} is a model for stacks: photographs are images.")
        runs: dict[str, Solve] = {}
        if "b-red" in methods_of(model.card):
            for name, solver in (("b-red", bregman_red), ("b-pnp", bregman_pnp)):
                for stages, warm_up in (("", 0), (TWO_STAGES, WARM_UP)):
                    runs[name + stages] = partial(solver, max_iter=extent.long // 2, warm_up=warm_up)
            label = "" if model.card["name"] == BREGMAN_DEFAULT else f", {told.name}"
            for name, run in runs.items():
                method = replace(told, name=name + label, steps=run, robust=TWO_STAGES not in name)
                found += swept(method) if method.robust else [method]
        else:
            plain = partial(mirror_descent, max_iter=extent.long)
            papers = partial(
                until_still, partial(mirror_descent, max_iter=extent.long, tol=1e-12, growth=1.0)
            )
            runs = {"": minimise, ", plain": plain, PAPERS_RULE: papers}
            found += [
                replace(told, name=told.name + name, steps=run, robust=not name) for name, run in runs.items()
            ]
            around = regularizer.averaged(max(ORIENTATIONS))
            found.append(replace(told, name=told.name + ALL_AROUND, regularizer=around, robust=False))
    return [replace(method, device=device) for method in found]


def swept(method: Method) -> list[Method]:
    """Return a method at several strengths, of which validation images choose; what is told wrongly, at its own."""
    return [
        replace(
            method,
            name=f"{method.name}{FACTOR}{factor:g}",
            strength=factor,
            robust=method.robust and factor == 1,
        )
        for factor in FACTORS
    ]


def _made_for(card: Mapping[str, Any]) -> tuple[str, tuple[str, float] | None]:
    """Return the name of the recipe, and the kernel and the peak it was told; or a model's name, and None."""
    name, recipe = str(card["name"]), card.get("recipe")
    job = recipe.get("equilibrium") if isinstance(recipe, Mapping) else None
    if not job or not job.get("psf"):
        return name, None
    psf, (low, high) = job["psf"], job["ranges"]["peak"]
    return (name.removesuffix(suffix(psf, low)), (psf, float(low))) if low == high else (name, None)


def named(compared: Sequence[Method], names: Sequence[str]) -> list[Method]:
    """Return the methods of some names; of those that are run at several weights, all.

    Raises
    ------
    UserError
        There is none of a name.
    """
    known = {method.name.partition(FACTOR)[0]: None for method in compared}
    for name in names:
        if name not in known:
            raise UserError(f"There is no method {name!r} to measure: choose from {'; '.join(known)}.")
    return [method for method in compared if method.name.partition(FACTOR)[0] in names]


def until_still(
    steps: Solve, problem: Problem, start: Tensor | None = None, *, tol: float = PAPERS_TOLERANCE
) -> Generator[Step, None, None]:
    """Yield steps until ``||x+ - x|| / ||x+||`` is below the paper's tolerance: a rule that a small step meets, too."""
    before: Tensor | None = None
    for step in steps(problem, start):
        x = step.iterate
        if before is not None and float((x - before).norm() / x.norm()) < tol:
            yield replace(step, stopped_by="converged")
            return
        before = x
        yield step


def planned(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs that are wanted: on validation images only those of swept methods."""
    return [
        job for job in jobs if FACTOR in job.method.name or not job.case.condition.label.startswith(TUNING)
    ]


def resolved(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the tables: swept methods at the searched weight, and at each image's best by the truth.

    The searched one has the highest mean PSNR on validation images of that kernel and peak, which are in no table.
    """
    tuning = [row for row in rows if row.label.startswith(TUNING)]
    found: list[Row] = []
    for group in grouped((row for row in rows if row not in tuning), _image).values():
        for row in group:
            base, factor, _ = row.method.partition(FACTOR)
            if not factor or row.variation:
                found.append(row)
                continue
            several = [one for one in group if one.method.startswith(base + FACTOR)]
            if row is several[0]:
                chosen = searched([one for one in tuning if condition(one) == condition(row)], base)
                found += [replace(one, method=base + SEARCHED) for one in several if one.method == chosen]
                found.append(replace(max(several, key=lambda one: one.psnr), method=base + ORACLE))
    return found


def searched(tuning: Sequence[Row], base: str) -> str:
    """Return which of the swept methods has the highest mean PSNR on validation images; unsearched, the plain one."""
    own = grouped((row for row in tuning if row.method.startswith(base + FACTOR)), lambda row: row.method)
    means = {name: np.mean([row.psnr for row in group]) for name, group in own.items()}
    return max(means, key=means.__getitem__, default=f"{base}{FACTOR}1")


def condition(row: Row) -> tuple[str, float]:
    """Return the kernel and the peak of a row."""
    return row.label.split()[-1], row.peak


def _image(row: Row) -> tuple[str, str, float, str]:
    return row.label, row.image, row.peak, row.variation
