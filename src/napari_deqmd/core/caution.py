"""Warnings that a thread can go without, or hear itself."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LISTENER: ContextVar[Callable[[str], object] | None] = ContextVar("listener", default=None)


def caution(sentence: str, *, stacklevel: int = 1) -> None:
    """Warn a user of what may be wrong: every time, for each run is of other data; where this thread listens, it alone.

    Parameters
    ----------
    sentence : str
        What may be wrong and what to do.
    stacklevel : int
        Whose line is shown: 1 is the caller's.
    """
    listener = _LISTENER.get()
    if listener is not None:
        listener(sentence)
        return
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
def listening(listener: Callable[[str], object]) -> Iterator[None]:
    """Hand each `caution` of this thread to a listener, instead of Python's warnings.

    `warnings.catch_warnings` is no remedy in a thread: all threads share its filters and its ``showwarning``, so
    another one's end lets warnings through, sends them to the wrong one, or silences them for good.
    """
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextmanager
def quietly() -> Iterator[None]:
    """Hear no `caution` in this thread."""
    with listening(lambda sentence: None):
        yield
