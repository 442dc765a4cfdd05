"""Warnings that a thread can go without."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_QUIET = ContextVar("quiet", default=False)


def caution(sentence: str, *, stacklevel: int = 1) -> None:
    """Warn a user of what may be wrong: every time, for each run is of other data, unless this thread asked for quiet.

    Parameters
    ----------
    sentence : str
        What may be wrong and what to do.
    stacklevel : int
        Whose line is shown: 1 is the caller's.
    """
    if not _QUIET.get():
        frame = sys._getframe(1)
        for _ in range(stacklevel - 1):
            frame = frame.f_back or frame
        # Of `warnings.warn` a line hears once; without a registry of what was said it hears always.
        warnings.warn_explicit(
            sentence,
            UserWarning,
            frame.f_code.co_filename,
            frame.f_lineno,
            module=frame.f_globals.get("__name__"),
        )


@contextmanager
def quietly() -> Iterator[None]:
    """Hear no `caution` in this thread.

    `warnings.catch_warnings` is no remedy in a thread: all threads share its filters, so another one's end lets
    warnings through, or silences them for good.
    """
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)
