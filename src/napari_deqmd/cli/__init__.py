"""The command line ``deqmd``: the same jobs without a window. Loads NumPy and torch only when a job needs them."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Sequence

from napari_deqmd.cli.arguments import parser
from napari_deqmd.cli.console import reported

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``deqmd`` and return its exit status: 0, 1 for a user's error, 2 for usage, 130 after Ctrl-C."""
    codecs.register_error("deqmd", _printable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="deqmd")
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as error:  # argparse's way of saying --help, --version and usage
        return int(error.code or 0)
    return reported(lambda: arguments.run(arguments))


def _printable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write what a console's encoding lacks: the bytes of a file's name that is no text, else an escape."""
    if isinstance(error, UnicodeEncodeError):
        error.end = error.start + 1
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
