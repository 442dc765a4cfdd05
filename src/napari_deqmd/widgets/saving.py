"""A result as a file: the image and its sidecar, as the command line writes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.pixels import PixelMaps
from napari_deqmd.widgets.form import PsfChoice
from napari_deqmd.widgets.layers import LayerImage
from napari_deqmd.widgets.region import SPATIAL
from napari_deqmd.widgets.result import is_result

if TYPE_CHECKING:
    from napari_deqmd.io.stack import Stack

FILTERS = "OME-TIFF (*.ome.tif);;ImageJ TIFF (*.tif);;OME-Zarr (*.ome.zarr)"
_DEFAULT = ".ome.tif"


@dataclasses.dataclass(frozen=True)
class Record:
    """What a run was made of.

    Attributes
    ----------
    stack : Stack
        The input, without its pixels.
    origin : dict
        As `napari_deqmd.io.sidecar.origin` returns it.
    psf : ndarray or None
        The PSF, where it lies in no file.
    mask : ndarray or None
        Nonzero where pixels are bad.
    """

    stack: Stack
    origin: dict[str, Any]
    psf: np.ndarray | None
    mask: np.ndarray | None = None

    @classmethod
    def of(
        cls, image: LayerImage, pixels: np.ndarray, choice: PsfChoice, psf: np.ndarray, maps: PixelMaps
    ) -> Record:
        """Return the record of a run; looks at every pixel, so it belongs into the other thread."""
        from napari_deqmd.io.sidecar import origin

        stack = dataclasses.replace(image.stack(), data=pixels)
        known = stack.metadata
        path = str(Path(image.path).expanduser().resolve()) if image.path else None
        part: dict[str, Any] = dict(image.ranges)
        # With a channel left out, what letters the file's axes have is known to the file alone.
        axes: str | None = image.axes
        if is_result(image):
            known["provenance"] = _made_of(known, path)
            path = None
        elif known.get("channel") is not None:
            axes, part["C"] = None, known["channel"]
        given = {"axes": axes, "voxel_size": image.voxel_size, "level": None, "part": part or None}
        source = str(Path(choice.path).expanduser().resolve()) if choice.path else str(choice)
        found = origin(stack, psf, path=path, psf_source=source, given=given)
        kept = psf if choice.layer is not None else None
        return cls(dataclasses.replace(stack, data=None), found, kept, maps.mask)

    @property
    def hashes(self) -> tuple[str, ...]:
        """Of the pixels of the input, of the PSF and of the mask: what was changed in place shows too."""
        from napari_deqmd.io.sidecar import fingerprint

        marked = () if self.mask is None else (fingerprint(self.mask),)
        return self.origin["input"]["sha256"], self.origin["psf"]["sha256"], *marked


def _made_of(metadata: Mapping[str, Any], path: str | None) -> dict[str, Any]:
    """Return what a result's layer says of how it was made, in the words of a sidecar."""
    earlier = metadata.get("provenance")
    source = {"layer": metadata["input"], "path": path} | ({"provenance": earlier} if earlier else {})
    return {"input": source, "psf": {"source": metadata.get("psf")}, "config": metadata["config"]}


def save(path: str, pixels: np.ndarray, record: Record, report: Mapping[str, Any]) -> Path:
    """Write a result with its sidecar, and beside it a mask, and a PSF that is in no file yet.

    Parameters
    ----------
    path : str
        Ends in ``.tif``, ``.ome.tif`` or ``.zarr``, or in nothing and becomes an OME-TIFF. What is there is replaced.
    pixels : ndarray
        Of the input's shape.
    record : Record
    report : mapping
        Of the result.

    Returns
    -------
    Path
        Of the image.

    Raises
    ------
    UserError
        It is the input, or cannot be written.
    """
    from napari_deqmd.io.sidecar import check_result, fingerprint, versions, write_result
    from napari_deqmd.io.stack import read_stack

    named = bool(Path(path).suffix)
    target = check_result(path if named else path + _DEFAULT, overwrite=named, size=4 * pixels.size)
    if str(target) == record.origin["input"]["path"]:
        raise UserError(f"{target} is the input: name another file for the result.")
    content = {**report, **record.origin, "maps": {}}
    content["versions"] = {**report.get("versions", {}), **versions()}
    if record.psf is not None:
        content["psf"] = {
            **content["psf"],
            "source": str(_beside(target, "psf", record.psf, "ZYX", record.stack)),
        }
    if record.mask is not None:
        beside = _beside(target, "mask", record.mask, record.stack.axes, record.stack)
        read = read_stack(beside).load().data
        content["maps"] = {"mask": {"source": str(beside), "shape": read.shape, "sha256": fingerprint(read)}}
    write_result(target, dataclasses.replace(record.stack, data=pixels), content, overwrite=named)
    return target


def _beside(target: Path, name: str, values: np.ndarray, axes: str, stack: Stack) -> Path:
    """Write what belongs to a result beside it, where the result may be written."""
    from napari_deqmd.io.stack import Stack, ending, write_stack

    path = target.with_name(f"{target.name.removesuffix(ending(target))}-{name}{ending(target)}")
    axes = axes[-values.ndim :]
    voxels = tuple(stack.sizes[letter] for letter in axes if letter in SPATIAL) if stack.voxel_size else None
    write_stack(path, Stack(values, axes, voxels), overwrite=target.exists())
    return path
