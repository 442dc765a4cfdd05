"""What jobs found, kept in a folder as it is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from napari_deqmd.core.errors import UserError


class Keyed(Protocol):
    """A job, or what it found: `key` is a checksum of everything the figures depend on."""

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits."""


Task = TypeVar("Task", bound=Keyed)
Figures = TypeVar("Figures", bound=Keyed)


class Rows(Generic[Task, Figures]):
    """Rows of a folder, in a file of JSON lines: a run that was cut goes on from it.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    kind : type
        Dataclass of the rows.

    Raises
    ------
    UserError
        The folder cannot be made, or its rows are of another version.
    """

    def __init__(self, folder: Path, kind: Callable[..., Figures]) -> None:
        self._path = folder / "rows.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"Cannot make the folder {folder}: choose another.") from error
        self._rows = {row.key: row for row in self._read(kind)}

    def __contains__(self, job: Task) -> bool:
        return job.key in self._rows

    def add(self, row: Figures) -> None:
        """Append a row."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")  # type: ignore[call-overload]
        self._rows[row.key] = row

    def rows(self, jobs: Iterable[Task]) -> list[Figures]:
        """Return the rows of those jobs that are done, in their order."""
        return [self._rows[job.key] for job in jobs if job.key in self._rows]

    def _read(self, kind: Callable[..., Figures]) -> list[Figures]:
        if not self._path.exists():
            return []
        text = self._path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # the last run was cut while it wrote
            self._path.write_text(whole, encoding="utf-8")
        try:
            return [kind(**json.loads(line)) for line in whole.splitlines()]
        except (TypeError, ValueError):
            raise UserError(f"{self._path} is no record of this version: choose another folder.") from None
