"""Other vendors' formats, through bioio and its plugins."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.metadata import Sizes, micrometres
from napari_deqmd.io.names import TIFFS
from napari_deqmd.io.ome import read_ome

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_vendor(source: Path) -> bool:
    """Tell whether a file is neither named as a TIFF nor begins like one."""
    if source.suffix.lower() in TIFFS or not source.suffix:
        return False
    try:
        with source.open("rb") as handle:
            return handle.read(4) not in _MAGIC
    except OSError:
        return False


def read_vendor(source: Path) -> tuple[Any, str, Sizes, dict[str, Any], tuple[str, ...]]:
    """Return lazy pixels, axes, voxel sizes, neutral metadata and channel names of a file's first scene.

    Raises
    ------
    UserError
        bioio, or its plugin for this format, is not installed; a damaged file, or a colour picture.
    """
    try:
        from bioio import BioImage
    except ImportError as error:
        raise UserError(
            f'{source.name} is no TIFF: install what reads it, pip install "napari-deqmd[formats]" and the plugin of '
            "bioio for it (such as bioio-nd2), or save it as OME-TIFF."
        ) from error
    kept: dict[str, Any] = {}
    try:
        image = BioImage(source)
        data, axes = image.dask_data, str(image.dims.order)
        pixel = image.physical_pixel_sizes
        names = tuple(str(name) for name in image.channel_names or ())
        with contextlib.suppress(Exception):  # many plugins have no OME metadata, each in a way of its own
            kept = read_ome(image.ome_metadata.to_xml(), source.name)[1]
    except Exception as error:  # plugins read whatever they like, and fail as they like
        unknown = type(error).__name__ == "UnsupportedFileFormatError"
        reason = "no plugin of bioio takes it" if unknown else " ".join(str(error).split())[:200]
        raise UserError(
            f"{source.name} cannot be read ({reason}): install the plugin of bioio for it, or save it as OME-TIFF."
        ) from error
    if "S" in axes:
        raise UserError(
            f"{source.name} is a colour (RGB) picture: save the channel to restore as a gray TIFF."
        )
    sizes = {letter: micrometres(getattr(pixel, letter, None), "um") for letter in "ZYX"}
    return data, axes, {letter: size for letter, size in sizes.items() if size}, kept, names
