"""``deqmd train``: models from a lab's own images."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_deqmd.cli.console import StepLine, print_json, say
from napari_deqmd.cli.jobs import load_psf
from napari_deqmd.core.errors import UserError
from napari_deqmd.io.atomic import check_target
from napari_deqmd.io.planes import Planes, read_planes

if TYPE_CHECKING:
    from napari_deqmd.training.finetune import Finetuning
    from napari_deqmd.training.progress import Report
    from napari_deqmd.training.sources import Source

_LARGEST_MODEL = 2**24


def finetune(arguments: Namespace) -> None:
    """Fine-tune a model, save it when that helped, and say plainly whether it did."""
    if (arguments.kind == "paired") != bool(arguments.target):
        raise UserError("--target belongs to --kind paired: give both or neither.")
    from napari_deqmd.training.finetune import Finetuning, Settings, card
    from napari_deqmd.training.models import load_model, new_model, save_model

    settings = Settings(minutes=arguments.minutes, seed=arguments.seed)
    target = new_model(arguments.name, None if arguments.out is None else Path(arguments.out))
    target = check_target(target, overwrite=False, size=_LARGEST_MODEL)
    base = load_model(arguments.base)
    job = Finetuning(base, _source(arguments), settings)
    _run(job)
    outcome = job.result()
    if outcome.kept:
        save_model(outcome.regularizer, target, card(outcome, base, job.source, settings))
    found = {
        name: getattr(outcome, name) for name in ("score_before", "score_after", "score", "seconds", "steps")
    }
    found |= {"model_path": str(target if outcome.kept else base.path), "kept": outcome.kept}
    if arguments.json:
        print_json(found | {"notes": outcome.notes})
        return
    print(outcome.notes[-1])
    print(f"{'Saved' if outcome.kept else 'Nothing was saved; the base model is'} {found['model_path']}")


def pretrain(arguments: Namespace) -> None:
    """Train a model from nothing, as its recipe says."""
    from napari_deqmd.training.recipes import Recipe, run_pretraining

    recipe = Recipe.read(Path(arguments.recipe))
    _whole(partial(run_pretraining, recipe), arguments, f"{recipe.name}-pretrained")


def equilibrium(arguments: Namespace) -> None:
    """Train a model through its reconstructions, as its recipe says."""
    from napari_deqmd.training.recipes import Recipe, run_equilibrium

    recipe = Recipe.read(Path(arguments.recipe))
    _whole(partial(run_equilibrium, recipe, base=arguments.base), arguments, recipe.name)


def _whole(job: Callable[..., Generator[Report, None, None]], arguments: Namespace, name: str) -> None:
    """Run a whole training; losses are noise from step to step, so their mean is told."""
    from napari_deqmd.training.distributed import processes, rank

    line, losses, report = StepLine(), deque[float](maxlen=50), None
    folder = Path(arguments.folder)
    with processes(arguments.device) as device:
        try:
            for report in job(Path(arguments.data), folder, steps=arguments.steps, device=device):
                losses.append(report.loss)
                mean = sum(losses) / len(losses)
                if rank() == 0:
                    line.update(f"step {report.step}, {report.seconds:.0f} s, loss {mean:.4f}")
        except FloatingPointError as error:
            raise UserError(
                f"The training ran away ({error}): lower the recipe's learning_rate and start anew."
            ) from error
        if rank() > 0:
            return
    found = {
        "steps": report.step if report else 0,
        "seconds": report.seconds if report else 0.0,
        "loss": sum(losses) / len(losses) if losses else None,
        "model_path": str(folder / f"{name}.safetensors"),
    }
    if arguments.json:
        print_json(found)
    else:
        print(f"Saved {found['model_path']}")


def _source(arguments: Namespace) -> Source:
    """Read images, PSF and peak."""
    from napari_deqmd.core.photons import to_electrons
    from napari_deqmd.psf.prepare import prepare_psf
    from napari_deqmd.training.sources import clean_source, noisy_source, paired_source

    planes = read_planes(arguments.input, arguments.target or (), axes=arguments.axes)
    for sentence in planes.skipped:
        say(f"note: left out: {sentence}")
    psf = prepare_psf(load_psf(arguments.psf, _plane(planes)), ndim=2, image_shape=planes.rows[0][0].shape)
    options: dict[str, Any] = {"peak": arguments.peak, "seed": arguments.seed}
    columns: list[Sequence[Any]] = [*zip(*planes.rows, strict=True)]
    if arguments.kind == "clean":
        source = clean_source(columns[0], psf, **options)
    else:
        electrons = [
            [to_electrons(plane, offset=arguments.offset, gain=arguments.gain)[0] for plane in column]
            for column in columns
        ]
        if arguments.kind == "paired":
            source = paired_source(electrons[0], electrons[1], psf, **options)
        else:
            source = noisy_source(electrons[0], psf, **options)
    for sentence in source.notes:
        say(f"note: {sentence}")
    return source


def _plane(planes: Planes) -> Any:
    """Return the first file as one plane: a PSF is chosen for its spatial axes."""
    return dataclasses.replace(planes.first, data=planes.rows[0][0], axes="YX")


def _run(job: Finetuning) -> None:
    said = len(job.source.notes)
    line = StepLine()
    with closing(job.steps()) as steps:
        for progress in steps:
            line.update(
                f"step {progress.step}, {progress.seconds:.0f} s of {60 * job.settings.minutes:.0f}, "
                f"{job.source.held_out.figure} {progress.best:.4g}"
            )
    for sentence in job.result().notes[said:-1]:
        say(f"note: {sentence}")
