"""Files that are replaced whole or not at all, and why one could not be written."""

from __future__ import annotations

import contextlib
import errno
import os
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
