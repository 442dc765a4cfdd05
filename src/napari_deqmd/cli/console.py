"""What ``deqmd`` prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_deqmd.core.errors import UserError

if TYPE_CHECKING:
    from napari_deqmd.api import Progress

# Seconds between two lines of progress where stderr is no terminal.
_PAUSE = 10.0


def say(text: str) -> None:
    """Print a line on stderr."""
    print(f"deqmd: {text}", file=sys.stderr, flush=True)


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    from napari_deqmd.io.metadata import plain

    print(json.dumps(plain(content), indent=2), flush=True)


def print_fields(content: Mapping[str, Any]) -> None:
    """Print a line for every field on stdout."""
    for key, value in content.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        print(f"{key}: {text}")


def reported(job: Callable[[], None]) -> int:
    """Run a job and return the exit status; what the user can put right becomes one line on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *rest: say(f"note: {message}")
        try:
            job()
        except UserError as error:
            say(" ".join(str(error).split()))
            return 1
        except KeyboardInterrupt as stop:
            say(str(stop) or "interrupted: nothing was written.")
            return 130
        except BrokenPipeError:  # who read has heard enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                name = Path(str(error.filename)).name[:40]
                say(f"the name {name}... is too long for a file: choose a shorter one.")
            else:
                say(f"{error.filename or 'a file'}: {error.strerror or error}.")
            return 1
        except (MemoryError, RuntimeError) as error:
            if "out of memory" in str(error):
                say(
                    "the device ran out of memory: choose smaller tiles (a training: a smaller batch), or --device cpu."
                )
            elif isinstance(error, MemoryError) or "not enough memory" in str(error):
                say(
                    "there is not enough memory for this: give --memory, crop the image, or close other programs."
                )
            elif "home directory" in str(error):
                say("a path begins with ~ and names no user's folder: write it out.")
            else:
                raise
            return 1
    return 0


class ProgressLine:
    """Progress of a reconstruction: a bar on a terminal, else a line now and then."""

    def __init__(self, items: int, max_iter: int) -> None:
        self._items = items
        self._max_iter = max_iter
        self._last = time.monotonic()
        self._item = 0
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=items * max_iter, unit="step", dynamic_ncols=True, leave=False)

    def update(self, progress: Progress) -> None:
        """Show a step."""
        step = progress.step
        if self._bar is not None:
            self._bar.set_postfix_str(f"certificate {step.residual:.1e}", refresh=False)
            # A cluster ends items in any order.
            self._bar.update(max(0, progress.item * self._max_iter + step.iteration - self._bar.n))
            return
        if progress.item == self._item and time.monotonic() - self._last < _PAUSE:
            return
        self._item, self._last = progress.item, time.monotonic()
        of_items = f"item {progress.item + 1} of {self._items}, " if self._items > 1 else ""
        say(f"{of_items}step {step.iteration} of at most {self._max_iter}, certificate {step.residual:.1e}")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


class StepLine:
    """Progress of a training: a line now and then."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def update(self, text: str) -> None:
        """Say it, when the last line is long enough ago."""
        if time.monotonic() - self._last >= _PAUSE:
            self._last = time.monotonic()
            say(text)
