"""Long evaluations can be watched, and broken off between their pieces.

A solver yields after every step; on a CPU one step of a large stack may take minutes. Who waits for it watches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watch = Callable[[float], None]
"""Is told the share of the evaluation under way that is done, from 0 to 1; raises `Interrupted` to break it off."""

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


class Interrupted(BaseException):
    """An evaluation was broken off by who watches it: no error, as closing a generator is none.

    Solvers do not catch it; what they yielded before stands.
    """


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Have `watch` told of all evaluations of this thread within the context."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def tell(share: float) -> None:
    """Tell who watches, if anybody does, how far the evaluation under way is."""
    if (watch := _watch.get()) is not None:
        watch(share)
