"""``deqmd benchmark``."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_deqmd.cli.console import StepLine, print_fields, print_json, say

if TYPE_CHECKING:
    from napari_deqmd.benchmarks.fluorescence import Job, Record


def speed(arguments: Namespace) -> None:
    """Time an iteration against its floor."""
    from napari_deqmd.benchmarks.speed import run

    result = run()
    if arguments.json:
        print_json(result)
    else:
        print_fields(result)


def fluorescence(arguments: Namespace) -> None:
    """Measure restoration quality; rows are recorded as they are made, and what is on record is not measured again."""
    from dataclasses import asdict

    import torch

    from napari_deqmd.benchmarks.fluorescence import Record, bundled_models, methods, plan, run
    from napari_deqmd.benchmarks.fluorescence_cases import QUICK, Extent, cases
    from napari_deqmd.benchmarks.fluorescence_report import markdown
    from napari_deqmd.io.sidecar import versions

    data = None if arguments.data is None else Path(arguments.data)
    extent = QUICK if arguments.quick else Extent()
    compared = methods(arguments.model or bundled_models(), max_iter=extent.max_iter)
    folder = Path(arguments.out).expanduser()
    jobs = plan(list(cases(data, extent)), compared)
    record = Record(folder)
    ready = len(record.rows(jobs))
    say(f"{len(jobs)} measurements, {ready} of them on record in {folder}.")
    line = StepLine()
    try:
        for made, row in enumerate(run(jobs, record), ready + 1):
            words = row.label, row.image, f"peak {row.peak:.0f}", row.variation, row.method
            line.update(f"{made} of {len(jobs)}: {', '.join(filter(None, words))}: {row.psnr:.2f} dB")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted: the same command goes on from what is in {folder}.") from None
    finally:  # of a run that was cut, what there is
        rows = record.rows(jobs)
        figure, report = folder / "fluorescence.png", folder / "fluorescence.md"
        drawn = _draw(jobs, record, figure)
        missing, threads = len(jobs) - len(rows), torch.get_num_threads()
        text = markdown(rows, figure=figure.name if drawn else "", missing=missing, threads=threads)
        _write(report, text.encode())
    if arguments.json:
        content = {"benchmark": "fluorescence", "threads": threads, "versions": versions()}
        files = {"report": report, "figure": figure if drawn else None}
        print_json(content | files | {"rows": [asdict(row) for row in rows]})
    else:
        print(report)


def _draw(jobs: Sequence[Job], record: Record, path: Path) -> bool:
    """Draw what the figure shows, if any of it was measured."""
    import io

    import numpy as np

    from napari_deqmd.benchmarks.fluorescence_report import panels
    from napari_deqmd.cli.picture import below, side_by_side

    pictures = [
        side_by_side(row, white=float(np.percentile(row[-1][1], 99.8)), width=256, text=15)
        for row in panels(jobs, record)
    ]
    if not pictures:
        return False
    buffer = io.BytesIO()
    below(pictures).save(buffer, format="PNG", optimize=True)
    _write(path, buffer.getvalue())
    return True


def _write(path: Path, content: bytes) -> None:
    from napari_deqmd.io.atomic import atomic_files

    with atomic_files(path, overwrite=True) as (handle,):
        handle.write(content)
