"""Time: when the next preview is due, and how long a run may still take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

# Seconds between two previews.
PREVIEW_INTERVAL = 0.4
# Largest share of the run that previews may take, computing and painting together; a short run may spend a little
# more, or it would show nothing.
PREVIEW_SHARE = 0.05
PREVIEW_ALLOWANCE = 0.15
# Certificates from which its fall can be read.
_FEWEST = 4


class PreviewClock:
    """Says when the next preview is due, so that previews stay rare and cheap."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._start = now()
        self._last = self._start - PREVIEW_INTERVAL
        self._spent = 0.0

    def due(self) -> bool:
        """Whether it is time for a preview, and the run can afford it."""
        now = self._now()
        affordable = self._spent <= PREVIEW_ALLOWANCE + PREVIEW_SHARE * (now - self._start)
        return affordable and now - self._last >= PREVIEW_INTERVAL

    def taken(self) -> None:
        """Note that a preview was taken now."""
        self._last = self._now()

    def hasten(self) -> None:
        """Let the next preview be due as soon as the run can afford it."""
        self._last = -math.inf

    def spend(self, seconds: float) -> None:
        """Note what a preview cost."""
        self._spent += seconds


def iterations_left(certificates: Sequence[float], tol: float, max_iter: int) -> int | None:
    """Guess how many iterations an item still takes: its certificate falls about exponentially.

    Parameters
    ----------
    certificates : sequence of float
        One per iteration so far.
    tol : float
        Where it ends.
    max_iter : int
        Where it ends anyway.

    Returns
    -------
    int or None
        Fewer than what is left of `max_iter`; ``None`` where the certificate does not tell that.
    """
    recent = np.asarray(certificates[len(certificates) // 2 :], dtype=float)
    if len(recent) < _FEWEST or not (np.isfinite(recent) & (recent > 0)).all():
        return None
    slope = float(np.polyfit(np.arange(len(recent)), np.log(recent), 1)[0])
    if slope >= 0:
        return None
    left = (math.log(tol) - math.log(recent[-1])) / slope
    return math.ceil(max(0.0, left)) if left < max_iter - len(certificates) else None


def duration(seconds: float) -> str:
    """Return seconds as a reader says them."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
