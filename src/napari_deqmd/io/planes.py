"""Planes of many files, as a training takes them: single files, and folders whose unreadable files are passed over."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.names import SUFFIXES
from napari_deqmd.io.ngff import is_ngff
from napari_deqmd.io.stack import Stack, check_voxel_size, read_stack

PICTURES = (".png", ".jpg", ".jpeg")

# Relative difference up to which pixels are of one size: a PSF's width is hardly known better.
_SAME = 0.01


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An image in memory, in the place of a named file."""

    name: str
    stack: Stack


Source = str | Path | Loaded


@dataclasses.dataclass(frozen=True)
class Planes:
    """What was read.

    Attributes
    ----------
    rows : tuple of tuple of ndarray (Y, X)
        One row for every plane: the image's, and its target's where there are targets.
    names : tuple of tuple of str
        The same rows: the file of every plane, and its number there if there are several.
    scenes : tuple of int
        One number for every row: planes of one number are of one input, and may show the same.
    first : Stack
        The first file: its axes without T and C, and its voxel size, are those of all.
    skipped : tuple of str
        Files of folders that could not be read, with the reason.
    """

    rows: tuple[tuple[NDArray[Any], ...], ...]
    names: tuple[tuple[str, ...], ...]
    scenes: tuple[int, ...]
    first: Stack
    skipped: tuple[str, ...]


def read_planes(
    inputs: Sequence[Source],
    targets: Sequence[Source] = (),
    *,
    axes: str | None = None,
    voxel_size: tuple[float, ...] | None = None,
) -> Planes:
    """Read files, and all TIFF, PNG and JPEG files of folders, plane by plane along T and C.

    Parameters
    ----------
    inputs : sequence of path or Loaded
        Files and folders, or images in memory.
    targets : sequence of path or Loaded
        As many files or images, in the same order (folders: by name).
    axes : str, optional
        One letter of ``"TCYX"`` per dimension, instead of what the TIFF files say.
    voxel_size : tuple of float, optional
        Micrometres along Y and X, instead of what the files say.

    Raises
    ------
    UserError
        Nothing to read, a named file that cannot be read, stacks along Z, targets that do not fit the inputs, or pixels
        of several sizes where none is given.
    """
    columns = [_files(paths) for paths in (inputs, targets) if paths]
    if not columns or not columns[0]:
        raise UserError("There are no images in the input: name TIFF files, or a folder that holds some.")
    if len({len(column) for column in columns}) > 1:
        raise UserError(
            f"There are {len(columns[0])} input files and {len(columns[1])} targets: give one target for each."
        )
    rows: list[tuple[NDArray[Any], ...]] = []
    names: list[tuple[str, ...]] = []
    scenes: list[int] = []
    skipped: list[str] = []
    first: Stack | None = None
    sizes: set[tuple[float, ...]] = set()
    # What is named beside its folder counts once, and one input with two targets is one scene.
    once = {tuple(_identity(path) for path, _ in files): files for files in zip(*columns, strict=True)}
    numbers: dict[object, int] = {}
    for (image, *_), files in once.items():
        try:
            stacks = [_read(path, axes, voxel_size) for path, _ in files]
        except UserError as error:
            if any(named for _, named in files):
                raise
            skipped.append(str(error))
            continue
        parts = [_split(stack, path) for stack, (path, _) in zip(stacks, files, strict=True)]
        if len({len(part) for part in parts}) > 1:
            raise UserError(
                f"{files[0][0].name} and its target hold different numbers of planes: give pairs."
            )
        rows += zip(*parts, strict=True)
        names += zip(*(_named(path, len(parts[0])) for path, _ in files), strict=True)
        scenes += [numbers.setdefault(image, len(numbers))] * len(parts[0])
        sizes |= {stack.voxel_size for stack in stacks if stack.voxel_size is not None}
        first = first or stacks[0]
    if first is None:
        raise UserError(f"None of the files could be read: {skipped[0]}")
    if voxel_size is None and len(sizes) > 1 and not np.allclose([*sizes], min(sizes), rtol=_SAME, atol=0):
        small, large = (" x ".join(f"{n:.3g}" for n in size) for size in (min(sizes), max(sizes)))
        raise UserError(
            f"The files have pixels of {small} to {large} µm: give images of one size, or the size that "
            "is right for all (--voxel-size)."
        )
    return Planes(tuple(rows), tuple(names), tuple(scenes), first, tuple(skipped))


def _files(sources: Sequence[Source]) -> list[tuple[Path | Loaded, bool]]:
    """Return every file, or image in memory, and whether it was named itself."""
    found: list[tuple[Path | Loaded, bool]] = []
    for source in sources:
        path = source if isinstance(source, Loaded) else Path(source).expanduser()
        if isinstance(path, Path) and path.is_dir() and not is_ngff(path):
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in (*SUFFIXES, *PICTURES))
            found += [(p, False) for p in inside]
        else:
            found.append((path, True))
    return found


def _identity(path: Path | Loaded) -> object:
    return id(path.stack.data) if isinstance(path, Loaded) else path.resolve()


def _read(path: Path | Loaded, axes: str | None, voxel_size: tuple[float, ...] | None) -> Stack:
    if isinstance(path, Loaded):
        return path.stack
    if path.suffix.lower() not in PICTURES:
        return read_stack(path, axes=axes, voxel_size=voxel_size).load()
    try:
        with Image.open(path) as picture:
            data = np.asarray(picture.convert("RGB") if picture.mode == "P" else picture)
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{path.name} cannot be read as a picture: save it as TIFF.") from error
    if data.ndim == 3 and picture.mode == "P" and (data == data[..., :1]).all():
        data = data[..., 0]  # a palette of grays
    if data.ndim != 2:
        raise UserError(
            f"{path.name} is a colour (RGB) picture: save the channel to learn from as a gray TIFF."
        )
    if voxel_size is not None:
        check_voxel_size(voxel_size, "YX")
    return Stack(data, "YX", voxel_size)


def _split(stack: Stack, path: Path | Loaded) -> list[NDArray[Any]]:
    """Return the planes along T and C."""
    if "Z" in stack.axes:
        raise UserError(
            f"{path.name} is a stack along Z: fine-tuning takes planes, so save single ones, or give the axes TYX."
        )
    return list(stack.data.reshape(-1, *stack.data.shape[-2:]))


def _named(path: Path | Loaded, planes: int) -> list[str]:
    return [path.name if planes == 1 else f"{path.name}, plane {i + 1}" for i in range(planes)]
