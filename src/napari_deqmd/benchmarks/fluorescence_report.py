"""Tables of the fluorescence benchmark: pure functions of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.benchmarks.fluorescence import (
    ORACLE,
    TRUE_NUMBERS,
    TV,
    TV_WEIGHT,
    Job,
    Record,
    Row,
    tv_name,
)
from napari_deqmd.benchmarks.fluorescence_cases import AS_IS
from napari_deqmd.core.poisson import per_image

ORACLE_WEIGHT = "TV, oracle weight"
CLEARLY = 0.5
"""Decibels above Richardson-Lucy that count as ahead."""

_GAP = "–"
_FORMATS = {"psnr": ".2f", "ssim": ".3f", "nrmse": ".3f", "iterations": ".0f", "seconds": ".2f"}
_INTRODUCTION = """\
Simulated scenes in 2D and 3D, crops of fluorescence images and photographs that no model was trained on, and the bars
of Hammer Lab's flowdec, as far as they were at hand; blurred without wrapping around, with Poisson noise. The peak is
the number of photo-electrons where the blurred object is 1 (its 99.8th percentile). Every method is told the peak and
the background that the program finds in the image, except where its name says "true numbers". "Oracle" means chosen by
the truth: the best of the iterates of Richardson-Lucy (RL) from a flat start and from the image, or for each image the
best of the weights of total variation (TV), a quarter of them for stacks. Models run as `deqmd reconstruct` does, with
nothing chosen by hand; Bregman denoisers by the method `b-red`."""
_DECIBELS = """\
Means over the images of a kind. A dash: not of all of them. The true numbers of the bars are not known."""
_FIGURES = """\
Means over all images of a family, at all peaks. PSNR and SSIM are relative to the maximum of the truth, NRMSE to its
norm. The truth of the bars is known up to a factor, which is fitted for every method; their PSF is not in register with
it (0.46, 0.19 and 0.23 voxels off by a fit), which counts against sharp results. Iterations and seconds of an oracle
are those up to its best iterate: finding it is not counted."""
_GAINS = """\
Decibels above Richardson-Lucy stopped by the truth and told the same numbers, image by image: how many are clearly
above, how many below, and the worst."""
_ROBUSTNESS = """\
One image of each scene, and what becomes of its PSNR in dB when a method is told something wrong, starts elsewhere, or
meets what no training image had. In brackets the difference where the image is the same."""
Key = TypeVar("Key")


def markdown(rows: Sequence[Row], *, figure: str = "", missing: int = 0, threads: int = 1) -> str:
    """Return the report, in Markdown.

    Parameters
    ----------
    rows : sequence of Row
        In the order of the jobs.
    figure : str
        File name of the picture, beside the report; ``""`` without one.
    missing : int
        Measurements that are still to be made.
    threads : int
        That the solvers had, on a CPU.
    """
    main = with_oracle_weight([row for row in rows if not row.variation])
    varied = [row for row in rows if row.variation]
    parts = opening("Fluorescence benchmark", _INTRODUCTION, figure=figure, missing=missing)
    parts += ["## PSNR, dB", _DECIBELS, "\n".join(decibels(main))]
    parts += ["## All figures", f"{_FIGURES} Threads: {threads}.", "\n".join(figures(main))]
    parts += ["## Against Richardson-Lucy", _GAINS, "\n".join(gains(main))]
    if varied:
        parts += ["## Robustness", _ROBUSTNESS, "\n".join(robustness(varied))]
    return "\n\n".join(parts) + "\n"


def opening(
    title: str,
    introduction: str,
    *,
    figure: str,
    missing: int,
    shown: str = "Image, restorations and truth",
) -> list[str]:
    """Return the first paragraphs of a report."""
    parts = [f"# {title}", introduction]
    if missing:
        parts.append(f"**{missing} measurements are still to be made.**")
    if figure:
        parts.append(f"![{shown}]({figure})")
    return parts


def with_oracle_weight(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with TV at the validated weight and, after it, at each image's best weight by the truth."""
    found = []
    for image in grouped(rows, _image).values():
        weights = [row for row in image if row.method.startswith(TV)]
        for row in image:
            if row not in weights:
                found.append(row)
            elif row.method == tv_name(TV_WEIGHT):
                top = max(weights, key=lambda one: one.psnr)
                found += [row, replace(top, method=ORACLE_WEIGHT)]
    return found


def decibels(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of the mean PSNR of every kind of image at every peak, and of every family in bold."""
    methods = list(dict.fromkeys(row.method for row in rows))
    yield from head("image, peak", *methods)
    for (label, peak), group in grouped(rows, lambda row: (row.label, row.peak)).items():
        yield line(f"{label}, {peak:.0f}", *_means(group, methods))
    for name, group in grouped(rows, _family).items():
        yield line(f"**{name}, all**", *_means(group, methods))


def figures(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of all figures of every method, means over a family of images."""
    yield from head("images", "method", "number", "PSNR, dB", "SSIM", "NRMSE", "iterations", "seconds")
    for (name, method), group in grouped(rows, lambda row: (_family(row), row.method)).items():
        mean = [np.mean([getattr(row, figure) for row in group]) for figure in _FORMATS]
        numbers = (format(value, form) for value, form in zip(mean, _FORMATS.values(), strict=True))
        yield line(name, method, str(len(group)), *numbers)


def gains(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of how far each method is above oracle Richardson-Lucy told the same numbers, image by image."""
    yield from head("images", "method", "number", "mean, dB", f"at least +{CLEARLY:g}", "below", "worst, dB")
    oracle = {_image(row): row.psnr for row in rows if row.method == ORACLE}
    informed = {_image(row): row.psnr for row in rows if row.method == ORACLE + TRUE_NUMBERS}
    for (name, method), group in grouped(rows, lambda row: (_family(row), row.method)).items():
        reference = informed if method.endswith(TRUE_NUMBERS) else oracle
        gain = np.array([row.psnr - reference[_image(row)] for row in group if _image(row) in reference])
        if method.startswith("RL") or not gain.size:
            continue
        counts = str(int((gain >= CLEARLY).sum())), str(int((gain < 0).sum()))
        yield line(name, method, str(gain.size), f"{gain.mean():+.2f}", *counts, f"{gain.min():+.2f}")


def robustness(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of the PSNR under variations and, where the image is the same, what they change."""
    methods = list(dict.fromkeys(row.method for row in rows))
    usual = {(row.method, _image(row)): row.psnr for row in rows if row.variation == AS_IS}
    yield from head("image", "variation", *methods)
    for (label, variation), group in grouped(rows, lambda row: (row.label, row.variation)).items():
        cells = dict.fromkeys(methods, _GAP)
        for row in group:
            before = usual.get((row.method, _image(row))) if variation != AS_IS else None
            change = "" if before is None else f" ({row.psnr - before:+.2f})"
            cells[row.method] = f"{row.psnr:.2f}{change}"
        yield line(label, variation, *cells.values())


def panels(jobs: Sequence[Job], record: Record) -> Iterator[list[tuple[str, NDArray[np.float32]]]]:
    """Yield for every shown image its panels, of a stack the middle slice: image, oracle RL and TV, models, truth.

    Each is a caption and an image ``(Y, X)``, 0 on the ground and 1 at the peak.
    """
    done = [job for job in jobs if job.case.shown and job in record]
    for case in dict.fromkeys(job.case for job in done):
        own = [job for job in done if job.case is case and not job.method.true_numbers]
        score = {job.key: row.psnr for job, row in zip(own, record.rows(own), strict=True)}
        weights = sorted(
            (job for job in own if job.method.name.startswith(TV)), key=lambda job: score[job.key]
        )
        chosen = [job for job in own if job.method.name == ORACLE] + weights[-1:]
        chosen += [job for job in own if job.method.identity]
        data = case.given
        raw = (data.electrons - per_image(data.background, data.truth)) / per_image(data.peak, data.truth)
        named = {job.key: ORACLE_WEIGHT if job in weights else job.method.name for job in chosen}
        yield [
            (f"{case.condition.label}, peak {case.condition.peak:g}", _slice(raw[0, 0].numpy())),
            *((f"{named[job.key]}: {score[job.key]:.2f} dB", _slice(record.image(job))) for job in chosen),
            ("truth", _slice(data.truth[0, 0].numpy())),
        ]


def _slice(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return image[len(image) // 2] if image.ndim == 3 else image


def _family(row: Row) -> str:
    return row.label.split()[0]


def _image(row: Row) -> tuple[str, str, float]:
    return row.label, row.image, row.peak


def grouped(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """Return the rows by key, keys in the order of their first rows."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _means(rows: Sequence[Row], methods: Sequence[str]) -> Iterator[str]:
    """Yield the mean PSNR of methods; a method that is not through with all images has none: it would mislead."""
    values = grouped(rows, lambda row: row.method)
    most = max(len(group) for group in values.values())
    for method in methods:
        group = values.get(method, [])
        yield f"{np.mean([row.psnr for row in group]):.2f}" if len(group) == most else _GAP


def head(*titles: str) -> Iterator[str]:
    """Yield the first two lines of a table."""
    yield line(*titles)
    yield "|---" * len(titles) + "|"


def line(*cells: str) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(cells) + " |"
