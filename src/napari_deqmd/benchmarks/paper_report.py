"""Tables of the paper's benchmark: pure functions of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.benchmarks.fluorescence import Job, Record, Row
from napari_deqmd.benchmarks.fluorescence_report import (
    decibels,
    figures,
    grouped,
    head,
    line,
    opening,
    robustness,
)
from napari_deqmd.benchmarks.paper import (
    ALL_AROUND,
    FACTOR,
    ORACLE,
    PAPERS_RULE,
    PAPERS_TOLERANCE,
    condition,
    resolved,
    searched,
)
from napari_deqmd.benchmarks.paper_cases import TUNING
from napari_deqmd.benchmarks.traces import Trace

_INTRODUCTION = """\
The experiment of arXiv:2507.11461: photographs in [0, 1], blurred periodically by a Gaussian (sigma 1.2,
11 x 11), a box of 9 x 9 or a motion kernel (the last of Levin et al.), with Poisson noise at peaks of 100, 60 and 40
and no background; the object is held in [0, 1]. Set3C with several noise seeds, and centre crops of test photographs.
All methods are told the true peak. "Oracle" means chosen by the truth, image by image: the best iterate of
Richardson-Lucy, or the best of five weights of total variation (TV) and of the Bregman denoisers' methods; the searched
weight is the best of them on validation photographs with the same kernel and peak. Learned models have the strength of
their training. Models for gray images take one colour channel after the other. PSNR and SSIM are
relative to white."""
_DECIBELS = "Means over the images of a set and their noise seeds. A dash: not of all of them."
_FIGURES = f"""\
Means over all images of a set, all kernels and peaks. A model runs with the accelerated solver and our certificate;
the same with its regularizer averaged over quarter turns of the image ("{ALL_AROUND.strip(", ")}"); with the plain
iteration and our certificate; and "{PAPERS_RULE.strip(", ")}": steps that never grow again, until the iterate changes
by less than {PAPERS_TOLERANCE:g} of itself. Iterations are evaluations; those of an oracle end at its
best iterate."""
_CONVERGENCE = """\
How the runs ended that no truth chose: how many by their rule, the rest by the most they were allowed; the certificate
there; and the most steps of a run that went to a higher objective (stages of two-stage methods have each their own)."""
_CURVES = """\
The shown image, each method at its default strength and asked for a certificate of 1e-7: where it rises, the objective
does; the distance is to the run's own end, which it cannot show beyond."""
_ROBUSTNESS = """\
One photograph, and what becomes of its PSNR in dB when a method is told something wrong, starts elsewhere, or meets
another kernel or half the pixels. In brackets the difference where the image is the same."""


def markdown(
    rows: Sequence[Row], *, figure: str = "", curves: str = "", missing: int = 0, threads: int = 1
) -> str:
    """Return the report, in Markdown; parameters are those of `fluorescence_report.markdown`, and the second figure."""
    main, varied = ([row for row in resolved(rows) if bool(row.variation) is flag] for flag in (False, True))
    tuning = [row for row in rows if row.label.startswith(TUNING)]
    parts = opening("The paper's experiment", _INTRODUCTION, figure=figure, missing=missing)
    for base in dict.fromkeys(row.method.partition(FACTOR)[0] for row in tuning if FACTOR in row.method):
        own = grouped((row for row in tuning if row.method.startswith(base + FACTOR)), condition)
        factors = {at: searched(group, base).partition(FACTOR)[2] for at, group in own.items()}
        told = "; ".join(f"{kernel}, {peak:g}: {factor}" for (kernel, peak), factor in factors.items())
        parts.append(f"Times its default weight, searched on validation photographs, {base} has: {told}.")
    if main:
        parts += ["## PSNR, dB", _DECIBELS, "\n".join(decibels(main))]
        parts += ["## All figures", f"{_FIGURES} Threads: {threads}.", "\n".join(figures(main))]
        parts += ["## Convergence", _CONVERGENCE, "\n".join(endings(main))]
        parts += [_CURVES, f"![How runs converge]({curves})"] if curves else []
    if varied:
        parts += ["## Robustness", _ROBUSTNESS, "\n".join(robustness(varied))]
    return "\n\n".join(parts) + "\n"


def endings(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of how the runs of every method ended."""
    yield from head(
        "method", "runs", "converged", "certificate, median", "largest", "steps that rose, at most"
    )
    for method, group in grouped((row for row in rows if row.stopped_by), lambda row: row.method).items():
        done = sum(row.stopped_by == "converged" for row in group)
        found = [row.certificate for row in group]
        numbers = f"{np.median(found):.1e}", f"{max(found):.1e}", str(max(row.rose for row in group))
        yield line(method, str(len(group)), str(done), *numbers)


def followed(jobs: Sequence[Job], record: Record) -> Iterator[tuple[str, Trace]]:
    """Yield how the methods that no truth stops converge on the shown image."""
    for job in jobs:
        if job.case.shown and job in record and not job.method.oracle:
            name, _, factor = job.method.name.partition(FACTOR)
            if factor in ("", "1"):
                yield name, record.trace(job)


def panels(jobs: Sequence[Job], record: Record) -> Iterator[list[tuple[str, NDArray[np.float32]]]]:
    """Yield for every shown image its panels, then their middles: image, restorations, truth, ``(Y, X, 3)``."""
    done = [job for job in jobs if job.case.shown and job in record]
    for case in dict.fromkeys(job.case for job in done):
        own = [job for job in done if job.case is case]
        score = {job.key: row.psnr for job, row in zip(own, record.rows(own), strict=True)}
        swept = sorted((job for job in own if FACTOR in job.method.name), key=lambda job: score[job.key])
        best = {job.method.name.partition(FACTOR)[0]: job for job in swept}
        chosen = [job for job in own if job.method.oracle and "accelerated" not in job.method.name]
        chosen += best.values()
        chosen += [
            job for job in own if job.method.identity and job not in swept and "," not in job.method.name
        ]
        named = {job.key: job.method.name.partition(FACTOR)[0] + ORACLE for job in swept}
        raw = (case.given.electrons / case.given.peak[0])[0].numpy()
        row = [
            (f"{case.condition.label}, peak {case.condition.peak:g}", raw),
            *(
                (f"{named.get(job.key, job.method.name)}: {score[job.key]:.2f} dB", record.image(job))
                for job in chosen
            ),
            ("truth", case.given.truth[0].numpy()),
        ]
        whole = [(caption, _picture(image)) for caption, image in row]
        yield whole
        yield [("", _middle(image)) for _, image in whole]


def _picture(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``(3, Y, X)`` with its colours last, a gray image as ``(Y, X)``."""
    colours = image.reshape(-1, *image.shape[-2:])
    return np.moveaxis(colours, 0, -1) if len(colours) == 3 else colours[0]


def _middle(image: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    return image[height // 4 : -(height // 4), width // 4 : -(width // 4)]
