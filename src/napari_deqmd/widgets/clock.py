"""When the next live preview is due."""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds between two previews.
PREVIEW_INTERVAL = 0.4
# Largest share of the run that previews may take, computing and painting together; a short run may spend a little
# more, or it would show nothing.
PREVIEW_SHARE = 0.05
PREVIEW_ALLOWANCE = 0.15


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

    def spend(self, seconds: float) -> None:
        """Note what a preview cost."""
        self._spent += seconds
