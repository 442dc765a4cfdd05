"""The command line ``deqmd``: the same jobs without a window. Loads NumPy and torch only when a job needs them."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from napari_deqmd.cli.arguments import parser
from napari_deqmd.cli.console import reported

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``deqmd`` and return its exit status: 0, 1 for a user's error, 2 for usage, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):  # a file's name may be no text
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="surrogateescape")
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as error:  # argparse's way of saying --help, --version and usage
        return int(error.code or 0)
    return reported(lambda: arguments.run(arguments))
