"""Files that are replaced whole or not at all, and why one could not be written."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from napari_deqmd.core.errors import UserError


@contextlib.contextmanager
def explained(target: Path) -> Iterator[None]:
    """Turn what the system says of writing `target` into a `UserError`."""
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


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in place of what was there, whole or not at all, even if the program is killed.

    Raises
    ------
    UserError
        The disk is full, or the place read-only.
    """
    draft = path.with_name(path.name + ".part")
    with explained(path):
        try:
            draft.write_bytes(content)
            os.replace(draft, path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise


def make_folder(folder: Path) -> Path:
    """Make a folder, and those it lies in, unless it is there.

    Raises
    ------
    UserError
        It cannot be made.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def atomic_paths(*targets: Path) -> Iterator[tuple[Path, ...]]:
    """Give temporary paths for files or folders to be made at, and rename all into place once the block is done.

    When the block or a renaming raises, whatever it is, the temporary ones are removed and `targets`, absolute
    and their links followed, are as they were.

    Raises
    ------
    UserError
        The disk became full, or a place read-only.
    """
    waiting, earlier = ([beside(target) for target in targets] for _ in range(2))
    try:
        with explained(targets[0]), contextlib.ExitStack() as undo:
            yield tuple(waiting)
            for temporary, target, old in zip(waiting, targets, earlier, strict=True):
                if target.exists():
                    os.replace(target, old)
                    undo.callback(os.replace, old, target)
                os.replace(temporary, target)
                undo.callback(os.replace, target, temporary)
            undo.pop_all()
        for old in earlier:
            _remove(old)
    finally:
        for temporary in waiting:
            _remove(temporary)


def beside(target: Path) -> Path:
    """Return a new name for a temporary file or folder in the folder of another."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
