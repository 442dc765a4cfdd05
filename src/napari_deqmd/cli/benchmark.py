"""``deqmd benchmark``."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_deqmd.cli.console import StepLine, print_fields, print_json, say

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_deqmd.benchmarks import traces
    from napari_deqmd.benchmarks.families import Trace
    from napari_deqmd.benchmarks.fluorescence import Job, Row
    from napari_deqmd.benchmarks.rows import Rows


def speed(arguments: Namespace) -> None:
    """Time an iteration against its floor."""
    from napari_deqmd.benchmarks.speed import run

    result = run()
    if arguments.json:
        print_json(result)
    else:
        print_fields(result)


def fluorescence(arguments: Namespace) -> None:
    """Measure restoration quality of fluorescence images."""
    from napari_deqmd.benchmarks import fluorescence_report
    from napari_deqmd.benchmarks.fluorescence import bundled_models, methods, plan
    from napari_deqmd.benchmarks.fluorescence_cases import QUICK, Extent, cases

    data = None if arguments.data is None else Path(arguments.data)
    extent = QUICK if arguments.quick else Extent()
    compared = methods(arguments.model or bundled_models(), max_iter=extent.max_iter)
    _measure("fluorescence", plan(list(cases(data, extent)), compared), fluorescence_report, arguments)


def paper(arguments: Namespace) -> None:
    """Repeat the paper's experiment."""
    from napari_deqmd.benchmarks import paper_report
    from napari_deqmd.benchmarks.fluorescence import bundled_models, plan
    from napari_deqmd.benchmarks.paper import methods, named, planned
    from napari_deqmd.benchmarks.paper_cases import QUICK, Extent, cases
    from napari_deqmd.core.device import resolve_device

    names = "seeds", "crops", "side", "colours", "kernels", "peaks"
    told = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
    }
    extent = dataclasses.replace(QUICK if arguments.quick else Extent(), **given)
    compared = methods(arguments.model or bundled_models(), extent, resolve_device(arguments.device))
    if arguments.only:
        compared = named(compared, arguments.only)
    jobs = planned(plan(list(cases(Path(arguments.data), extent, seed=arguments.seed)), compared))
    _measure("paper", jobs, paper_report, arguments, follow=True)


def families(arguments: Namespace) -> None:
    """Measure what models gain in how many seconds."""
    import io
    from dataclasses import asdict

    import torch

    from napari_deqmd.benchmarks import families, families_report
    from napari_deqmd.benchmarks.fluorescence import bundled_models, plan
    from napari_deqmd.benchmarks.rows import Rows
    from napari_deqmd.io.sidecar import versions

    data = None if arguments.data is None else Path(arguments.data)
    extent = families.QUICK if arguments.quick else families.Extent()
    compared = families.methods(arguments.model or bundled_models(), max_iter=extent.max_iter)
    plots = {name: plan(found, compared) for name, found in families.cases(data, extent).items()}
    jobs = [job for found in plots.values() for job in found]
    folder = Path(arguments.out).expanduser()
    record: Rows[Job, Trace] = Rows(folder, families.Trace)
    try:
        _tell(jobs, record, families.run(jobs, record), folder)
    finally:
        curves = {name: families.curves(record.rows(found)) for name, found in plots.items()}
        missing, threads = len(jobs) - len(record.rows(jobs)), torch.get_num_threads()
        figure, text, picture = folder / "families.png", folder / "families.md", io.BytesIO()
        families_report.draw(curves).savefig(picture, format="png", dpi=100)
        _write(figure, picture.getvalue())
        content = families_report.markdown(
            curves, compared, figure=figure.name, missing=missing, threads=threads
        )
        _write(text, content.encode())
    if arguments.json:
        told = {"benchmark": "families", "threads": threads, "versions": versions()}
        rows = [asdict(trace) for trace in record.rows(jobs)]
        print_json(told | {"report": text, "figure": figure, "rows": rows})
    else:
        print(text)


def _tell(jobs: Sequence[Job], record: Rows[Job, Any], found: Iterable[Row | Trace], folder: Path) -> None:
    """Run what is not on record, each row recorded as it is made."""
    ready = len(record.rows(jobs))
    say(f"{len(jobs)} measurements, {ready} of them on record in {folder}.")
    line = StepLine()
    try:
        for made, row in enumerate(found, ready + 1):
            line.update(f"{made} of {len(jobs)}: {row.summary}")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted: the same command goes on from what is in {folder}.") from None


def _measure(
    name: str, jobs: Sequence[Job], report: Any, arguments: Namespace, *, follow: bool = False
) -> None:
    """Run what is not on record, each row recorded as it is made, and write the report and its figures.

    When all rows are made, `follow` draws how the runs on the shown image converge; a cut there costs the drawing only.
    """
    from dataclasses import asdict

    import torch

    from napari_deqmd.benchmarks.fluorescence import Record, run
    from napari_deqmd.io.sidecar import versions

    folder = Path(arguments.out).expanduser()
    record = Record(folder)
    curves: dict[str, traces.Trace] = {}
    try:
        _tell(jobs, record, run(jobs, record), folder)
        if follow:
            curves.update(report.followed(jobs, record))
    finally:  # of a run that was cut, what there is
        rows = record.rows(jobs)
        figure, text = folder / f"{name}.png", folder / f"{name}.md"
        drawn = _draw(list(report.panels(jobs, record)), figure)
        missing, threads = len(jobs) - len(rows), torch.get_num_threads()
        figures = {"figure": figure.name if drawn else ""}
        if curves:
            figures["curves"] = _plot(curves, folder / f"{name}-convergence.png")
        content = report.markdown(rows, **figures, missing=missing, threads=threads)
        _write(text, content.encode())
    if arguments.json:
        told = {"benchmark": name, "threads": threads, "versions": versions()}
        files = {"report": text, "figure": figure if drawn else None}
        print_json(told | files | {"rows": [asdict(row) for row in rows]})
    else:
        print(text)


def _draw(rows: Sequence[Sequence[tuple[str, NDArray[Any]]]], path: Path) -> bool:
    """Draw what the figure shows, if any of it was measured."""
    import io

    import numpy as np

    from napari_deqmd.cli.picture import below, side_by_side

    pictures = [
        side_by_side(row, white=float(np.percentile(row[-1][1], 99.8)), width=256, text=15) for row in rows
    ]
    if not pictures:
        return False
    buffer = io.BytesIO()
    below(pictures).save(buffer, format="PNG", optimize=True)
    _write(path, buffer.getvalue())
    return True


def _plot(followed: Mapping[str, traces.Trace], path: Path) -> str:
    """Draw how runs converge; return the file's name."""
    import io

    from napari_deqmd.benchmarks.traces import draw

    picture = io.BytesIO()
    draw(followed).savefig(picture, format="png", dpi=80)
    _write(path, picture.getvalue())
    return path.name


def _write(path: Path, content: bytes) -> None:
    from napari_deqmd.io.atomic import atomic_file

    with atomic_file(path, overwrite=True) as handle:
        handle.write(content)
