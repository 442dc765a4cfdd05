"""Files that exist whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.files import atomic_paths, beside, explained


def check_target(path: Path | str, *, overwrite: bool, size: int = 0, folder: bool = False) -> Path:
    """Find out, before long work, whether a file, or a folder as one image, can be written.

    Parameters
    ----------
    path : path
        What to write later.
    overwrite : bool
        Whether it may exist already.
    size : int
        Bytes it will have.
    folder : bool
        It is a folder.

    Returns
    -------
    Path
        The absolute path, links followed.

    Raises
    ------
    UserError
        It exists and may not be overwritten, its folder is missing or read-only, or the disk is too full.
    """
    target = Path(path).expanduser().resolve()
    if target.is_dir() and not folder:
        raise UserError(f"{target} is a folder: name a file in it.")
    if target.exists() and not overwrite:
        raise UserError(
            f"{target} exists already: choose another name, or replace it (--overwrite, in Python overwrite=True)."
        )
    if not target.parent.is_dir():
        raise UserError(f"There is no folder {target.parent}: create it, or choose another.")
    with explained(target):
        probe = beside(target)
        probe.open("xb").close()
        probe.unlink()
        free = shutil.disk_usage(target.parent).free
    if free < size:
        raise UserError(
            f"{target.name} needs {size / 1e6:.0f} MB but {target.parent} has {free / 1e6:.0f} MB free: "
            "make room, or choose another folder."
        )
    return target


@contextlib.contextmanager
def atomic_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` and rename it into place once it is written, as `atomic_paths`.

    Raises
    ------
    UserError
        As `check_target`, or the disk became full.
    """
    with (
        atomic_paths(check_target(path, overwrite=overwrite)) as (place,),
        place.open("xb") as handle,
    ):
        yield handle
