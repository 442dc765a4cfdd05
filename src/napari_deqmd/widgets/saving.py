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
DEFAULT = ".ome.tif"


def ending_of(kind: str) -> str:
    """Return what the names of one of the `FILTERS` end in."""
    return kind.rpartition("*")[2].rstrip(")") or DEFAULT


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
        from napari_deqmd.io.names import image_path
        from napari_deqmd.io.sidecar import origin

        stack = dataclasses.replace(image.stack(), data=pixels)
        known = stack.metadata
        path = str(image_path(image.path).resolve()) if image.path else None
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


def save(
    path: str, pixels: np.ndarray, record: Record, report: Mapping[str, Any], *, ending: str = DEFAULT
) -> Path:
    """Write a result with its sidecar, and beside it a mask, and a PSF that is in no file yet.

    Parameters
    ----------
    path : str
        Ends in ``.tif``, ``.ome.tif`` or ``.zarr``: what is there is replaced, and so are PSF and mask beside it if
        they are its own. A name without an ending gets one, and replaces nothing.
    pixels : ndarray
        Of the input's shape.
    record : Record
    report : mapping
        Of the result.
    ending : str
        Of a name without one.

    Returns
    -------
    Path
        Of the image.

    Raises
    ------
    UserError
        It is the input, cannot be written, or what belongs beside it would replace something else.
    """
    from napari_deqmd.io.sidecar import check_result, fingerprint, versions, write_result

    named = bool(Path(path).suffix)
    target = check_result(path if named else path + ending, overwrite=named, size=4 * pixels.size)
    if str(target) == record.origin["input"]["path"]:
        raise UserError(f"{target} is the input: name another file for the result.")
    content = {**report, **record.origin, "maps": {}}
    content["versions"] = {**report.get("versions", {}), **versions()}
    beside = {}
    if record.psf is not None:
        place, psf = _beside(target, "psf", record.psf, "ZYX", record.stack)
        beside[place] = psf
        content["psf"] = {**content["psf"], "source": str(place)}
    if record.mask is not None:
        place, mask = _beside(target, "mask", record.mask, record.stack.axes, record.stack)
        beside[place] = mask
        content["maps"] = {
            "mask": {"source": str(place), "shape": mask.data.shape, "sha256": fingerprint(mask.data)}
        }
    _check_beside(target, beside)
    content["beside"] = [place.name for place in beside]
    made = dataclasses.replace(record.stack, data=pixels)
    write_result(target, made, content, overwrite=named, beside=beside)
    return target


def _beside(target: Path, name: str, values: np.ndarray, axes: str, stack: Stack) -> tuple[Path, Stack]:
    """Return where what belongs to a result lies beside it, and how it will be read from there."""
    from napari_deqmd.io.stack import Stack, ending

    path = target.with_name(f"{target.name.removesuffix(ending(target))}-{name}{ending(target)}")
    axes = axes[-values.ndim :]
    # Dimensions of length 1 are not read.
    single = [at for at, letter in enumerate(axes) if values.shape[at] == 1 and letter not in "YX"]
    axes = "".join(letter for at, letter in enumerate(axes) if at not in single)
    voxels = tuple(stack.sizes[letter] for letter in axes if letter in SPATIAL) if stack.voxel_size else None
    return path, Stack(np.squeeze(values, tuple(single)).astype(np.float32), axes, voxels)


def _check_beside(target: Path, beside: Mapping[Path, Stack]) -> None:
    """Check that files beside a result can be written, and that they replace none but those of an earlier one there."""
    from napari_deqmd.io.sidecar import read_sidecar
    from napari_deqmd.io.stack import check_output

    try:
        own = read_sidecar(target).get("beside")
    except UserError:  # there is none, or a damaged one
        own = None
    for path, one in beside.items():
        if path.exists() and path.name not in (own if isinstance(own, list) else ()):
            raise UserError(f"{path} exists already and is not the result's: choose another name.")
        check_output(path, overwrite=True, size=one.data.nbytes)
