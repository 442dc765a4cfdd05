"""What the commands accept that make models, keep them and measure what they give."""

from __future__ import annotations

import argparse
from typing import Any

from napari_deqmd.cli.options import (
    DEFAULT,
    PSF,
    add_camera,
    add_command,
    add_device,
    add_json,
    add_lengths,
    add_number,
    typed,
)
from napari_deqmd.core.config import KINDS
from napari_deqmd.core.typed import number, number_or_range


def add_train(commands: Any) -> None:
    """Add ``deqmd train``."""
    train = commands.add_parser("train", help="models from own images", description="Models from own images.")
    actions = train.add_subparsers(metavar="ACTION", required=True)
    command = add_command(
        actions, "finetune", "adapt a model to own images within minutes", "train", "finetune"
    )
    command.add_argument(
        "--kind",
        required=True,
        choices=KINDS,
        help="sharp images, pairs of a short and a long exposure, or only noisy images",
    )
    command.add_argument("--input", required=True, nargs="+", metavar="F", help="images, or folders of them")
    command.add_argument(
        "--target", nargs="+", metavar="F", help="the long exposures of the same fields, for paired"
    )
    command.add_argument("--axes", help="one letter of TCYX per dimension (what the files say)")
    add_lengths(command, "--voxel-size", "pixel size, instead of what the files say", metavar="Y,X")
    command.add_argument("--psf", required=True, help=PSF)
    command.add_argument(
        "--peak",
        type=typed(number_or_range, "The peak"),
        default="auto",
        metavar="auto|N|LO:HI",
        help="photo-electrons where the blurred object is 1; a range for clean images (auto)",
    )
    add_camera(command)
    command.add_argument("--base", default=DEFAULT.model, metavar="NAME|PATH", help="(%(default)s)")
    command.add_argument(
        "--minutes", type=typed(number, "The time"), required=True, metavar="M", help="time it may take"
    )
    command.add_argument("--name", required=True, help="name of the new model")
    command.add_argument("--out", metavar="DIR", help="folder for it, made if missing (your own models')")
    add_device(command)
    add_number(command, "seed", "seed of patches, noise and what is held back", kind=int)
    add_json(command)
    for name, text in (
        ("pretrain", "train a model from nothing, as a denoiser"),
        ("equilibrium", "train a model through its reconstructions"),
    ):
        command = add_command(actions, name, text, "train", name)
        command.add_argument("recipe", metavar="RECIPE", help="a TOML file, such as those in recipes/")
        command.add_argument(
            "--data", required=True, metavar="DIR", help="folder of the recipe's folders of images"
        )
        command.add_argument(
            "--run",
            required=True,
            dest="folder",
            metavar="DIR",
            help="folder of checkpoints and the model; goes on where it stopped",
        )
        command.add_argument("--steps", type=int, metavar="N", help="instead of the recipe's")
        add_device(command)
        if name == "equilibrium":
            command.add_argument(
                "--base", metavar="NAME|PATH", help="model to start from (the pretrained one)"
            )
            command.add_argument(
                "--psf", help="the only PSF: gaussian:..., uniform:..., or levin:INDEX (what the recipe says)"
            )
            command.add_argument(
                "--peak",
                type=float,
                metavar="N",
                help="the only peak, photo-electrons (what the recipe says)",
            )
        add_json(command)


def add_models(commands: Any) -> None:
    """Add ``deqmd models``."""
    models = commands.add_parser("models", help="installed models", description="Installed models.")
    actions = models.add_subparsers(metavar="ACTION", required=True)
    add_json(add_command(actions, "list", "list the installed models", "models", "list_all"))
    info = add_command(actions, "info", "show the card of a model", "models", "info")
    info.add_argument("model", metavar="NAME|PATH")
    add_json(info)
    export = add_command(actions, "export", "copy a model and its card to a folder", "models", "export")
    export.add_argument("model", metavar="NAME|PATH")
    export.add_argument("folder", metavar="FOLDER", help="one that exists")
    importing = add_command(actions, "import", "check a model file and install it", "models", "import_")
    importing.add_argument("path", metavar="PATH", help="the .safetensors file; its card lies beside it")
    importing.add_argument("--name", help="install it under this name (its own)")
    for command in (export, importing):
        command.add_argument("--overwrite", action="store_true", help="replace a model of the same name")
        add_json(command)


def add_benchmark(commands: Any) -> None:
    """Add ``deqmd benchmark``."""
    benchmark = commands.add_parser("benchmark", help="measure this installation", description="Benchmarks.")
    actions = benchmark.add_subparsers(metavar="WHAT", required=True)
    add_json(add_command(actions, "speed", "time an iteration against its floor", "benchmark", "speed"))
    every = "fluorescence/train, fluorescence/bench/bars, natural/bsds500/val, or some of them"
    for name, text, folders in (
        ("fluorescence", "measure restoration quality against Richardson-Lucy and total variation", every),
        ("families", "plot what models gain in how many seconds", "fluorescence/train"),
    ):
        command = add_command(actions, name, text, "benchmark", name)
        command.add_argument("--data", metavar="DIR", help=f"folder with {folders} (only simulated scenes)")
        _rows_folder(command, f"benchmark-{name}")
        command.add_argument(
            "--model", nargs="+", metavar="NAME|PATH", help="models (the bundled ones of deq-md)"
        )
        command.add_argument("--quick", action="store_true", help="a few small scenes, to see that it runs")
        add_json(command)
    text = "repeat the experiment of arXiv:2507.11461 on photographs"
    command = add_command(actions, "paper", text, "benchmark", "paper")
    command.add_argument(
        "--data",
        required=True,
        metavar="DIR",
        help="folder with natural/set3c, natural/bsds500/val and test, and kernels/Levin09.mat",
    )
    _rows_folder(command, "benchmark-paper")
    command.add_argument(
        "--model",
        nargs="+",
        metavar="NAME|PATH",
        help="models, for colour or gray images, or for one kernel and peak each (every bundled one)",
    )
    command.add_argument(
        "--kernel",
        dest="kernels",
        nargs="+",
        metavar="PSF",
        help="levin:INDEX, or as --psf elsewhere (the paper's three)",
    )
    command.add_argument("--peak", dest="peaks", nargs="+", type=float, metavar="N", help="(100 60 40)")
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="first seed of the noise (%(default)s)"
    )
    command.add_argument("--seeds", type=int, metavar="N", help="seeds of the noise on Set3C (3)")
    command.add_argument("--crops", type=int, metavar="N", help="test images of BSDS (45)")
    command.add_argument(
        "--side", type=int, metavar="N", help="pixels of the images' middles that are measured (256)"
    )
    command.add_argument(
        "--gray", dest="colours", action="store_const", const=1, help="the images in gray, not in colour"
    )
    command.add_argument("--only", nargs="+", metavar="METHOD", help="some columns, such as TV (all of them)")
    command.add_argument("--device", default="auto", metavar="auto|cpu|cuda", help="(%(default)s)")
    command.add_argument(
        "--quick", action="store_true", help="one small crop of each set, to see that it runs"
    )
    add_json(command)


def _rows_folder(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--out",
        metavar="DIR",
        default=default,
        help="folder for the report and its rows; rows that are there already are kept (%(default)s)",
    )
