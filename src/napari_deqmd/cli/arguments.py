"""What ``deqmd`` accepts."""

from __future__ import annotations

import argparse
from typing import Any

from napari_deqmd import __version__
from napari_deqmd.cli.model_arguments import add_benchmark, add_models, add_train
from napari_deqmd.cli.options import (
    DEFAULT,
    PSF,
    Told,
    add_boundary,
    add_camera,
    add_command,
    add_device,
    add_input,
    add_json,
    add_lengths,
    add_level,
    add_number,
    add_number_or_auto,
    add_output,
    typed,
)
from napari_deqmd.core.config import DTYPES, METHODS, ORIENTATIONS, PRECISIONS, SOLVERS, ZARR_VERSIONS
from napari_deqmd.core.typed import number_or_path, numbers, tile


def parser() -> argparse.ArgumentParser:
    """Build the parser; the parsed arguments carry the job to do as ``run``."""
    top = argparse.ArgumentParser(
        prog="deqmd", description="Photon-limited deconvolution by deep equilibrium mirror descent."
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for add in (_demo, _reconstruct, _estimate, _psf, _simulate, add_train, add_models, add_benchmark):
        add(commands)
    return top


def _demo(commands: Any) -> None:
    demo = add_command(commands, "demo", "reconstruct the bundled sample and show the result", "demo", "demo")
    demo.add_argument(
        "--output", metavar="DIR", default="demo-output", help="folder for the images (%(default)s)"
    )
    demo.add_argument(
        "--headless", action="store_true", help="write images even where napari could be opened"
    )
    demo.add_argument("--max-iter", type=int, default=DEFAULT.max_iter, metavar="N", help=argparse.SUPPRESS)


def _reconstruct(commands: Any) -> None:
    command = add_command(commands, "reconstruct", "deconvolve a stack", "jobs", "reconstruct")
    command.register("action", None, Told)
    command.set_defaults(told=(), part=None)
    add_input(command)
    add_level(command)
    add_output(command, required=False)
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--psf", help=PSF)
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
            type=typed(number_or_path, f"The {name.replace('_', ' ')}"),
            default=getattr(DEFAULT, name),
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
        action=Told,
        nargs=0,
        const=False,
        default=DEFAULT.mask_saturated,
        help="take saturated pixels at their word",
    )
    for name, meaning in (
        ("peak", "photo-electrons at the brightest place of the blurred object, above the background"),
        ("background", "photo-electrons per pixel that are not the object's"),
    ):
        add_number_or_auto(command, name, meaning)
    command.add_argument("--method", choices=METHODS, default=DEFAULT.method, help="(%(default)s)")
    command.add_argument("--solver", choices=SOLVERS, default=DEFAULT.solver, help="(%(default)s)")
    command.add_argument("--model", default=DEFAULT.model, metavar="NAME|PATH", help="(%(default)s)")
    add_number(command, "strength", "factor on the regularizer's weight")
    add_boundary(command)
    add_number(
        command,
        "upper",
        "largest value, as a multiple of the peak; in stacks more, as much as the PSF spreads along z",
    )
    add_number(command, "max_iter", "largest number of iterations", kind=int)
    add_number(command, "tol", "certificate at which it has converged")
    add_device(command)
    command.add_argument("--precision", choices=PRECISIONS, default=DEFAULT.precision, help="(%(default)s)")
    command.add_argument(
        "--orientations",
        type=int,
        choices=ORIENTATIONS,
        default=DEFAULT.orientations,
        help="quarter turns of the planes over which the prior is averaged: 4 is better, and four times slower (1)",
    )
    add_number(command, "seed", "seed of what is random", kind=int)
    command.add_argument(
        "--dtype",
        choices=DTYPES,
        default=DTYPES[0],
        help="of the result's pixels; integers are scaled, without clipping, and the scale recorded (%(default)s)",
    )
    command.add_argument(
        "--zarr-version",
        choices=ZARR_VERSIONS,
        default=ZARR_VERSIONS[-1],
        help="of an OME-Zarr that is written; older programs read only 0.4 (%(default)s)",
    )
    command.add_argument(
        "--tile",
        type=typed(tile, "The tile"),
        default=DEFAULT.tile,
        metavar="auto|none|Z,Y,X",
        help="pixels of the tiles that are worked on one by one; auto: where it has to be, the largest that fit (auto)",
    )
    command.add_argument(
        "--memory", metavar="SIZE", help="memory that may be used, such as 4GB (what is free)"
    )
    command.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="let the workers of a Dask cluster compute: tcp://HOST:8786, or the scheduler's file",
    )


def _estimate(commands: Any) -> None:
    command = add_command(
        commands, "estimate", "say what offset, gain, peak and background a stack has", "estimate", "estimate"
    )
    add_input(command)
    for name, meaning in (("offset", "camera offset in counts"), ("gain", "counts per photo-electron")):
        add_number_or_auto(command, name, meaning, auto="auto: from the noise")
    command.add_argument("--read-noise", type=float, metavar="N", help="of the camera, electrons, if known")
    command.add_argument("--dark", metavar="FILE", help="one or more frames without light")
    command.add_argument("--flat", metavar="FILE", help="one or more evenly lit frames, better two")
    command.add_argument("--plot", metavar="PNG", help="draw the noise over the brightness into a new file")
    command.add_argument("--overwrite", action="store_true", help="replace the plot if it exists")
    add_json(command)


def _psf(commands: Any) -> None:
    psf = commands.add_parser("psf", help="point spread functions", description="Point spread functions.")
    actions = psf.add_subparsers(metavar="ACTION", required=True)
    make = add_command(actions, "make", "compute a theoretical PSF", "psf", "make")
    make.add_argument("psf", metavar="PSF", help=PSF.removeprefix("a TIFF file or OME-Zarr | "))
    make.add_argument("--ndim", type=int, choices=(2, 3), default=3, help="(%(default)s)")
    add_lengths(make, "--voxel-size", "voxel size of the image")
    add_output(make)
    distill = add_command(actions, "distill", "make a PSF out of an image of beads", "psf", "distill")
    add_input(distill)
    add_lengths(distill, "--bead-diameter", "of the beads, to be deconvolved (not)", metavar="D")
    distill.add_argument("--theory", metavar="PSF", help="compare with it: as for psf make")
    distill.add_argument(
        "--size",
        type=typed(numbers, "The size"),
        metavar="Z,Y,X",
        help="odd voxels of the PSF (up to 10 widths, as far as the light goes)",
    )
    add_output(distill)
    look = add_command(actions, "inspect", "measure a PSF and say what is wrong with it", "psf", "inspect")
    look.add_argument("psf", metavar="PSF", help=PSF)
    look.add_argument("--ndim", type=int, choices=(2, 3), help="of a theoretical PSF (as the image, or 3)")
    add_lengths(look, "--voxel-size", "voxel size (what the file says, of a theory the image's)")
    add_lengths(look, "--image-voxel-size", "voxel size of the image that it is for, to be compared")
    look.add_argument(
        "--image", metavar="FILE", help="the image that it is for: is it blurred as the PSF says?"
    )
    look.add_argument("--picture", metavar="PNG", help="draw its middle planes and its OTF into a new file")
    look.add_argument("--overwrite", action="store_true", help="replace the picture if it exists")
    add_json(look)


def _simulate(commands: Any) -> None:
    command = add_command(
        commands,
        "simulate",
        "blur a clean image and add Poisson noise, as a camera records it",
        "jobs",
        "simulate",
    )
    add_input(command)
    add_level(command)
    add_output(command)
    command.add_argument("--psf", required=True, help=PSF)
    command.add_argument(
        "--peak",
        type=float,
        required=True,
        metavar="N",
        help="photo-electrons at the brightest place of the blurred object, above the background",
    )
    command.add_argument(
        "--background", type=float, default=0.0, metavar="N", help="photo-electrons everywhere (0)"
    )
    add_camera(command)
    add_boundary(command)
    add_number(command, "seed", "seed of the noise", kind=int)
