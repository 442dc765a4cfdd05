"""Options that several commands of ``deqmd`` share."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import Any

from napari_deqmd.core.config import BOUNDARIES, ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.typed import lengths, number_or_auto

DEFAULT = ReconstructionConfig()

PSF = (
    "a TIFF file or OME-Zarr | gaussian:sigma=1.2 (pixels; several values: z,y,x) | uniform:size=9 | "
    "widefield:na=1.4,wavelength=0.52,ni=1.515 (micrometres; ns=, depth=, vectorial=1, size=65 in voxels) | "
    "confocal:...,pinhole=1 (excitation=, wavelength of the laser) | spinning-disc:... (the same) | "
    "two-photon:... (wavelength of the laser) | lightsheet:...,sheet=2"
)


def _job(module: str, name: str) -> Callable[[argparse.Namespace], None]:
    def run(arguments: argparse.Namespace) -> None:
        getattr(importlib.import_module(f"napari_deqmd.cli.{module}"), name)(arguments)

    return run


def add_command(commands: Any, name: str, text: str, module: str, function: str) -> argparse.ArgumentParser:
    """Add a command, whose job is the function of a module beside this one, loaded when it runs."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    command.set_defaults(run=_job(module, function))
    return command


def add_input(command: argparse.ArgumentParser) -> None:
    """Add an image, and what its file may not say."""
    command.add_argument("image", metavar="IN", help="a TIFF, ImageJ hyperstack, OME-TIFF or OME-Zarr")
    command.add_argument("--axes", help="one letter of TCZYX per dimension (what the file says)")
    command.add_argument(
        "--voxel-size",
        type=typed(lengths, "The voxel size"),
        metavar="Z,Y,X",
        help="along the spatial axes: micrometres, or with their unit, such as 300nm (what the file says)",
    )


def add_level(command: argparse.ArgumentParser) -> None:
    """Add the resolution of an OME-Zarr."""
    command.add_argument(
        "--level", type=int, metavar="N", help="which resolution of an OME-Zarr (0, the full one)"
    )


def add_output(command: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the image to write."""
    command.add_argument(
        "-o", "--output", required=required, metavar="OUT", help="a new .tif, .ome.tif or .ome.zarr"
    )
    command.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    add_json(command)


def add_camera(command: argparse.ArgumentParser) -> None:
    """Add the camera's offset and gain."""
    add_number(command, "offset", "camera offset in counts")
    add_number(command, "gain", "counts per photo-electron")


def add_boundary(command: argparse.ArgumentParser) -> None:
    """Add what lies beyond the image's edge."""
    command.add_argument("--boundary", choices=BOUNDARIES, default=DEFAULT.boundary, help="(%(default)s)")


def add_device(command: argparse.ArgumentParser) -> None:
    """Add what it computes on."""
    command.add_argument(
        "--device", default=DEFAULT.device, metavar="auto|cpu|cuda|mps", help="(%(default)s)"
    )


def add_json(command: argparse.ArgumentParser) -> None:
    """Add the choice of output for programs."""
    command.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def add_number(command: argparse.ArgumentParser, name: str, meaning: str, *, kind: type = float) -> None:
    """Add a number of `ReconstructionConfig`, with its default."""
    command.add_argument(
        f"--{name.replace('_', '-')}",
        type=kind,
        default=getattr(DEFAULT, name),
        metavar="N",
        help=f"{meaning} (%(default)s)",
    )


def add_number_or_auto(
    command: argparse.ArgumentParser, name: str, meaning: str, *, auto: str = "auto"
) -> None:
    """Add a number that is found where none is given; `auto` says from what."""
    command.add_argument(
        f"--{name}",
        type=typed(number_or_auto, f"The {name}"),
        default="auto",
        metavar="auto|N",
        help=f"{meaning} ({auto})",
    )


def add_lengths(command: argparse.ArgumentParser, name: str, meaning: str, *, metavar: str = "Z,Y,X") -> None:
    """Add lengths along the spatial axes."""
    command.add_argument(
        name,
        type=typed(lengths, f"The {name.strip('-').replace('-', ' ')}"),
        metavar=metavar,
        help=f"{meaning}: micrometres, or with their unit, such as 300nm",
    )


class Told(argparse.Action):
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


def typed(read: Callable[[str, str], Any], name: str) -> Callable[[str], Any]:
    """Return a type for argparse that reads as the forms do."""

    def run(text: str) -> Any:
        try:
            return read(text, name)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return run
