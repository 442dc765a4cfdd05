"""``deqmd train``: models from a lab's own images."""

from __future__ import annotations

from argparse import Namespace
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari_deqmd.cli.console import StepLine, print_json, say
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.files import make_folder
from napari_deqmd.io.atomic import check_target
from napari_deqmd.psf_files import load_psf

if TYPE_CHECKING:
    from napari_deqmd.training.finetune import Finetuning
    from napari_deqmd.training.progress import Report
    from napari_deqmd.training.sources import Source

_LARGEST_MODEL = 2**24


def finetune(arguments: Namespace) -> None:
    """Fine-tune a model, save it when that helped, and say plainly whether it did."""
    if (arguments.kind == "paired") != bool(arguments.target):
        raise UserError("--target belongs to --kind paired: give both or neither.")
    from napari_deqmd.training.finetune import Finetuning, Settings
    from napari_deqmd.training.models import load_model, new_model

    settings = Settings(minutes=arguments.minutes, seed=arguments.seed, device=arguments.device)
    target = new_model(arguments.name, None if arguments.out is None else Path(arguments.out))
    target = check_target(target, overwrite=False, size=_LARGEST_MODEL)
    base = load_model(arguments.base, method="deq-md")
    job = Finetuning(base, _source(arguments), settings)
    try:
        _run(job)
    except BaseException as error:  # every kind: what was better than the base by then outlasts it
        if not job.scored or not (outcome := job.result()).kept:
            raise
        target = job.save(target, outcome)
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"interrupted: the best model so far is {target}.") from None
        say(f"note: The training failed; the best model so far is {target}.")
        raise
    outcome = job.result()
    if outcome.kept:
        target = job.save(target, outcome)
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
    from napari_deqmd.training.recipe_files import Recipe
    from napari_deqmd.training.recipes import run_pretraining

    recipe = Recipe.read(Path(arguments.recipe))
    _whole(partial(run_pretraining, recipe), arguments, recipe.pretrained)


def equilibrium(arguments: Namespace) -> None:
    """Train a model through its reconstructions, as its recipe says."""
    from napari_deqmd.benchmarks.kernels import kernel
    from napari_deqmd.training.recipe_files import Recipe
    from napari_deqmd.training.recipes import run_equilibrium

    written = Recipe.read(Path(arguments.recipe))
    recipe = written.told(psf=arguments.psf, peak=arguments.peak)
    base = arguments.base
    if base is None and recipe is not written and written.pretraining:
        base = Path(arguments.folder) / written.pretrained
    read_psf = partial(kernel, data=Path(arguments.data))
    job = partial(run_equilibrium, recipe, base=base, read_psf=read_psf)
    _whole(job, arguments, f"{recipe.name}.safetensors")


def _whole(job: Callable[..., Generator[Report, None, None]], arguments: Namespace, name: str) -> None:
    """Run a whole training; losses are noise from step to step, so their mean is told."""
    from napari_deqmd.core.device import resolve_device
    from napari_deqmd.training.distributed import processes, rank

    line, losses, report = StepLine(), deque[float](maxlen=50), None
    folder = make_folder(Path(arguments.folder).expanduser().resolve())
    check_target(folder / name, overwrite=True, size=_LARGEST_MODEL)
    with processes(resolve_device(arguments.device)) as device:
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
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "interrupted: the same command goes on from the last checkpoint."
            ) from None
        if rank() > 0:
            return
    found = {
        "steps": report.step if report else 0,
        "seconds": report.seconds if report else 0.0,
        "loss": sum(losses) / len(losses) if losses else None,
        "model_path": str(folder / name),
    }
    if arguments.json:
        print_json(found)
    else:
        print(f"Saved {found['model_path']}")


def _source(arguments: Namespace) -> Source:
    """Read images, PSF and peak."""
    from napari_deqmd.finetuning import read_source

    source = read_source(
        arguments.kind,
        arguments.input,
        arguments.target or (),
        psf=partial(load_psf, arguments.psf),
        axes=arguments.axes,
        voxel_size=arguments.voxel_size,
        peak=arguments.peak,
        offset=arguments.offset,
        gain=arguments.gain,
        seed=arguments.seed,
    )
    for sentence in source.notes:
        say(f"note: {sentence}")
    return source


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
