"""Files that exist whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from napari_deqmd.core.errors import UserError


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
        raise UserError(f"{target} exists already: choose another name, or allow it to be overwritten.")
    if not target.parent.is_dir():
        raise UserError(f"There is no folder {target.parent}: create it, or choose another.")
    with _explained(target):
        probe = _beside(target)
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
def atomic_files(*paths: Path, overwrite: bool) -> Iterator[tuple[BinaryIO, ...]]:
    """Open temporary files beside `paths` and rename them into place once all are written.

    When the block raises, whatever it is, the temporary files are removed and `paths` are as they were.

    Raises
    ------
    UserError
        As `check_target`, or the disk became full.
    """
    targets = [check_target(path, overwrite=overwrite) for path in paths]
    waiting = [_beside(target) for target in targets]
    try:
        with _explained(targets[0]):
            with contextlib.ExitStack() as stack:
                yield tuple(stack.enter_context(path.open("xb")) for path in waiting)
            for temporary, target in zip(waiting, targets, strict=True):
                os.replace(temporary, target)
    finally:
        for temporary in waiting:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Make a temporary folder beside `path` and rename it into place once it is filled.

    When the block raises, whatever it is, the temporary folder is removed and `path` is as it was.

    Raises
    ------
    UserError
        As `check_target`, or the disk became full.
    """
    target = check_target(path, overwrite=overwrite, folder=True)
    waiting, old = _beside(target), _beside(target)
    try:
        with _explained(target):
            waiting.mkdir()
            yield waiting
            if target.exists():
                os.replace(target, old)
            os.replace(waiting, target)
    except BaseException:
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise
    finally:
        for folder in (waiting, old):
            shutil.rmtree(folder, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


@contextlib.contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"The disk of {target.parent} is full: make room, or choose another folder."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"The folder {target.parent} cannot be written to: choose another one."
        else:
            reason = f"Cannot write {target} ({error.strerror or error}): choose another place."
        raise UserError(reason) from error
