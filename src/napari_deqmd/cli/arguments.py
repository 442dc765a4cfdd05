"""What ``deqmd`` accepts."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import Any

from napari_deqmd import __version__
from napari_deqmd.core.config import BOUNDARIES, KINDS, METHODS, PRECISIONS, SOLVERS, ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.typed import lengths, number_or_auto, number_or_path, number_or_range, numbers

_DEFAULT = ReconstructionConfig()

_PSF = (
    "a TIFF file or OME-Zarr | gaussian:sigma=1.2 (pixels; several values: z,y,x) | uniform:size=9 | "
    "widefield:na=1.4,wavelength=0.52,ni=1.515 (micrometres; ns=, depth=, vectorial=1) | confocal:...,pinhole=1 | "
    "spinning-disc:... | two-photon:... | lightsheet:...,sheet=2"
)


def parser() -> argparse.ArgumentParser:
    """Build the parser; the parsed arguments carry the job to do as ``run``."""
    top = argparse.ArgumentParser(
        prog="deqmd", description="Photon-limited deconvolution by deep equilibrium mirror descent."
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for add in (_demo, _reconstruct, _estimate, _psf, _simulate, _train, _models, _benchmark):
        add(commands)
    return top


def _job(module: str, name: str) -> Callable[[argparse.Namespace], None]:
    def run(arguments: argparse.Namespace) -> None:
        getattr(importlib.import_module(f"napari_deqmd.cli.{module}"), name)(arguments)

    return run


def _command(commands: Any, name: str, text: str, module: str, function: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    command.set_defaults(run=_job(module, function))
    return command


def _demo(commands: Any) -> None:
    demo = _command(commands, "demo", "reconstruct the bundled sample and show the result", "demo", "demo")
    demo.add_argument(
        "--output", metavar="DIR", default="demo-output", help="folder for the images (%(default)s)"
    )
    demo.add_argument(
        "--headless", action="store_true", help="write images even where napari could be opened"
    )
    demo.add_argument("--max-iter", type=int, default=_DEFAULT.max_iter, metavar="N", help=argparse.SUPPRESS)


def _reconstruct(commands: Any) -> None:
    command = _command(commands, "reconstruct", "deconvolve a stack", "jobs", "reconstruct")
    command.register("action", None, _Told)
    command.set_defaults(told=(), part=None)
    _input(command)
    _level(command)
    _output(command, required=False)
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--psf", help=_PSF)
    source.add_argument(
        "--from",
        dest="sidecar",
        metavar="SIDECAR",
        help="run again what this .json describes; other options given are taken instead of its own",
    )
    for name, meaning in (
        ("offset", "camera offset in counts"),
        ("gain", "counts per photo-electron"),
        ("read_noise", "standard deviation of the camera's own noise, electrons"),
    ):
        command.add_argument(
            f"--{name.replace('_', '-')}",
            type=_typed(number_or_path, f"The {name.replace('_', ' ')}"),
            default=getattr(_DEFAULT, name),
            metavar="N|FILE",
            help=f"{meaning}; a file holds it for every pixel, (Y, X) (%(default)s)",
        )
    command.add_argument(
        "--mask",
        metavar="FILE",
        help="an image that is nonzero where a pixel is bad; (Y, X) serves all planes, times and channels",
    )
    command.add_argument(
        "--no-mask-saturated",
        dest="mask_saturated",
        action=_Told,
        nargs=0,
        const=False,
        default=_DEFAULT.mask_saturated,
        help="take saturated pixels at their word",
    )
    for name, meaning in (
        ("peak", "photo-electrons where the blurred object is 1"),
        ("background", "photo-electrons per pixel that are not the object's"),
    ):
        command.add_argument(
            f"--{name}",
            type=_typed(number_or_auto, f"The {name}"),
            default="auto",
            metavar="auto|N",
            help=f"{meaning} (auto)",
        )
    command.add_argument("--method", choices=METHODS, default=_DEFAULT.method, help="(%(default)s)")
    command.add_argument("--solver", choices=SOLVERS, default=_DEFAULT.solver, help="(%(default)s)")
    command.add_argument("--model", default=_DEFAULT.model, metavar="NAME|PATH", help="(%(default)s)")
    _number(command, "strength", "factor on the regularizer's weight")
    _boundary(command)
    _number(command, "upper", "largest value, as a multiple of the peak")
    _number(command, "max_iter", "largest number of iterations", kind=int)
    _number(command, "tol", "certificate at which it has converged")
    command.add_argument(
        "--device", default=_DEFAULT.device, metavar="auto|cpu|cuda|mps", help="(%(default)s)"
    )
    command.add_argument("--precision", choices=PRECISIONS, default=_DEFAULT.precision, help="(%(default)s)")
    _number(command, "seed", "seed of what is random", kind=int)
    command.add_argument(
        "--dtype",
        choices=("float32", "uint16"),
        default="float32",
        help="of the result's pixels; integers are scaled, without clipping, and the scale recorded (%(default)s)",
    )
    command.add_argument(
        "--zarr-version",
        choices=("0.4", "0.5"),
        default="0.5",
        help="of an OME-Zarr that is written; older programs read only 0.4 (%(default)s)",
    )
    command.add_argument("--tile", default="auto", metavar="auto|none", help="work on tiles (%(default)s)")
    command.add_argument(
        "--memory", metavar="SIZE", help="memory that may be used, such as 4GB (what is free)"
    )


def _estimate(commands: Any) -> None:
    command = _command(
        commands, "estimate", "say what offset, gain, peak and background a stack has", "estimate", "estimate"
    )
    _input(command)
    for name, meaning in (("offset", "camera offset in counts"), ("gain", "counts per photo-electron")):
        command.add_argument(
            f"--{name}",
            type=_typed(number_or_auto, f"The {name}"),
            default="auto",
            metavar="auto|N",
            help=f"{meaning} (auto: from the noise)",
        )
    command.add_argument("--read-noise", type=float, metavar="N", help="of the camera, electrons, if known")
    command.add_argument("--dark", metavar="FILE", help="one or more frames without light")
    command.add_argument("--flat", metavar="FILE", help="one or more evenly lit frames, better two")
    command.add_argument("--plot", metavar="PNG", help="draw the noise over the brightness into a new file")
    command.add_argument("--overwrite", action="store_true", help="replace the plot if it exists")
    _json(command)


def _psf(commands: Any) -> None:
    psf = commands.add_parser("psf", help="point spread functions", description="Point spread functions.")
    actions = psf.add_subparsers(metavar="ACTION", required=True)
    make = _command(actions, "make", "compute a theoretical PSF", "psf", "make")
    make.add_argument("psf", metavar="PSF", help=_PSF.removeprefix("a TIFF file or OME-Zarr | "))
    make.add_argument("--ndim", type=int, choices=(2, 3), default=3, help="(%(default)s)")
    _lengths(make, "--voxel-size", "voxel size of the image")
    _output(make)
    distill = _command(actions, "distill", "make a PSF out of an image of beads", "psf", "distill")
    _input(distill)
    _lengths(distill, "--bead-diameter", "of the beads, to be deconvolved (not)", metavar="D")
    distill.add_argument("--theory", metavar="PSF", help="compare with it: as for psf make")
    distill.add_argument(
        "--size",
        type=_typed(numbers, "The size"),
        metavar="Z,Y,X",
        help="odd voxels of the PSF (about 5 widths)",
    )
    _output(distill)
    look = _command(actions, "inspect", "measure a PSF and say what is wrong with it", "psf", "inspect")
    look.add_argument("psf", metavar="PSF", help=_PSF)
    look.add_argument(
        "--ndim", type=int, choices=(2, 3), default=3, help="of a theoretical PSF (%(default)s)"
    )
    _lengths(look, "--voxel-size", "voxel size (what the file says)")
    _lengths(look, "--image-voxel-size", "voxel size of the image that it is for, to be compared")
    look.add_argument(
        "--image", metavar="FILE", help="the image that it is for: is it blurred as the PSF says?"
    )
    look.add_argument("--picture", metavar="PNG", help="draw its middle planes and its OTF into a new file")
    look.add_argument("--overwrite", action="store_true", help="replace the picture if it exists")
    _json(look)


def _simulate(commands: Any) -> None:
    command = _command(
        commands,
        "simulate",
        "blur a clean image and add Poisson noise, as a camera records it",
        "jobs",
        "simulate",
    )
    _input(command)
    _level(command)
    _output(command)
    command.add_argument("--psf", required=True, help=_PSF)
    command.add_argument(
        "--peak", type=float, required=True, metavar="N", help="photo-electrons at the brightest place"
    )
    command.add_argument(
        "--background", type=float, default=0.0, metavar="N", help="photo-electrons everywhere (0)"
    )
    _camera(command)
    _boundary(command)
    _number(command, "seed", "seed of the noise", kind=int)


def _train(commands: Any) -> None:
    train = commands.add_parser("train", help="models from own images", description="Models from own images.")
    actions = train.add_subparsers(metavar="ACTION", required=True)
    command = _command(actions, "finetune", "adapt a model to own images within minutes", "train", "finetune")
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
    command.add_argument("--psf", required=True, help=_PSF)
    command.add_argument(
        "--peak",
        type=_typed(number_or_range, "The peak"),
        default="auto",
        metavar="auto|N|LO:HI",
        help="photo-electrons where the blurred object is 1; a range for clean images (auto)",
    )
    _camera(command)
    command.add_argument("--base", default=_DEFAULT.model, metavar="NAME|PATH", help="(%(default)s)")
    command.add_argument("--minutes", type=float, required=True, metavar="M", help="time it may take")
    command.add_argument("--name", required=True, help="name of the new model")
    command.add_argument("--out", metavar="DIR", help="folder for it (the folder of your own models)")
    command.add_argument(
        "--device", default=_DEFAULT.device, metavar="auto|cpu|cuda|mps", help="(%(default)s)"
    )
    _number(command, "seed", "seed of patches, noise and what is held back", kind=int)
    _json(command)
    for name, text in (
        ("pretrain", "train a model from nothing, as a denoiser"),
        ("equilibrium", "train a model through its reconstructions"),
    ):
        command = _command(actions, name, text, "train", name)
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
        command.add_argument("--device", default="cpu", metavar="cpu|cuda", help="(%(default)s)")
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
        _json(command)


def _models(commands: Any) -> None:
    models = commands.add_parser("models", help="installed models", description="Installed models.")
    actions = models.add_subparsers(metavar="ACTION", required=True)
    _json(_command(actions, "list", "list the installed models", "models", "list_all"))
    info = _command(actions, "info", "show the card of a model", "models", "info")
    info.add_argument("model", metavar="NAME|PATH")
    _json(info)
    export = _command(actions, "export", "copy a model and its card to a folder", "models", "export")
    export.add_argument("model", metavar="NAME|PATH")
    export.add_argument("folder", metavar="FOLDER")
    importing = _command(actions, "import", "check a model file and install it", "models", "import_")
    importing.add_argument("path", metavar="PATH", help="the .safetensors file; its card lies beside it")
    importing.add_argument("--name", help="install it under this name (its own)")
    for command in (export, importing):
        command.add_argument("--overwrite", action="store_true", help="replace a model of the same name")
        _json(command)


def _benchmark(commands: Any) -> None:
    benchmark = commands.add_parser("benchmark", help="measure this installation", description="Benchmarks.")
    actions = benchmark.add_subparsers(metavar="WHAT", required=True)
    _json(_command(actions, "speed", "time an iteration against its floor", "benchmark", "speed"))
    every = "fluorescence/train, fluorescence/bench/bars, natural/bsds500/val, or some of them"
    for name, text, folders in (
        ("fluorescence", "measure restoration quality against Richardson-Lucy and total variation", every),
        ("families", "plot what models gain in how many seconds", "fluorescence/train"),
    ):
        command = _command(actions, name, text, "benchmark", name)
        command.add_argument("--data", metavar="DIR", help=f"folder with {folders} (only simulated scenes)")
        _rows_folder(command, f"benchmark-{name}")
        command.add_argument("--model", nargs="+", metavar="NAME|PATH", help="models (every bundled one)")
        command.add_argument("--quick", action="store_true", help="a few small scenes, to see that it runs")
        _json(command)
    text = "repeat the experiment of arXiv:2507.11461 on photographs"
    command = _command(actions, "paper", text, "benchmark", "paper")
    command.add_argument(
        "--data",
        required=True,
        metavar="DIR",
        help="folder with natural/set3c, natural/bsds500/val and test, and kernels/Levin09.mat",
    )
    _rows_folder(command, "benchmark-paper")
    command.add_argument("--model", nargs="+", metavar="NAME|PATH", help="models, for colour or gray images")
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="first seed of the noise (%(default)s)"
    )
    command.add_argument("--device", default="auto", metavar="auto|cpu|cuda", help="(%(default)s)")
    command.add_argument(
        "--quick", action="store_true", help="one small crop of each set, to see that it runs"
    )
    _json(command)


def _input(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", metavar="IN", help="a TIFF, ImageJ hyperstack, OME-TIFF or OME-Zarr")
    command.add_argument("--axes", help="one letter of TCZYX per dimension (what the file says)")
    command.add_argument(
        "--voxel-size",
        type=_typed(lengths, "The voxel size"),
        metavar="Z,Y,X",
        help="along the spatial axes: micrometres, or with their unit, such as 300nm (what the file says)",
    )


def _level(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--level", type=int, metavar="N", help="which resolution of an OME-Zarr (0, the full one)"
    )


def _output(command: argparse.ArgumentParser, *, required: bool = True) -> None:
    command.add_argument(
        "-o", "--output", required=required, metavar="OUT", help="a new .tif, .ome.tif or .ome.zarr"
    )
    command.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    _json(command)


class _Told(argparse.Action):
    """Stores a value, and in ``told`` that it was given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store."""
        setattr(namespace, self.dest, self.const if self.nargs == 0 else values)
        namespace.told = (*namespace.told, self.dest)


def _camera(command: argparse.ArgumentParser) -> None:
    _number(command, "offset", "camera offset in counts")
    _number(command, "gain", "counts per photo-electron")


def _boundary(command: argparse.ArgumentParser) -> None:
    command.add_argument("--boundary", choices=BOUNDARIES, default=_DEFAULT.boundary, help="(%(default)s)")


def _rows_folder(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--out",
        metavar="DIR",
        default=default,
        help="folder for the report and its rows; rows that are there already are kept (%(default)s)",
    )


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def _number(command: argparse.ArgumentParser, name: str, meaning: str, *, kind: type = float) -> None:
    command.add_argument(
        f"--{name.replace('_', '-')}",
        type=kind,
        default=getattr(_DEFAULT, name),
        metavar="N",
        help=f"{meaning} (%(default)s)",
    )


def _lengths(command: argparse.ArgumentParser, name: str, meaning: str, *, metavar: str = "Z,Y,X") -> None:
    command.add_argument(
        name,
        type=_typed(lengths, f"The {name.strip('-').replace('-', ' ')}"),
        metavar=metavar,
        help=f"{meaning}: micrometres, or with their unit, such as 300nm",
    )


def _typed(read: Callable[[str, str], Any], name: str) -> Callable[[str], Any]:
    """Return a type for argparse that reads as the forms do."""

    def run(text: str) -> Any:
        try:
            return read(text, name)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return run
