"""Every method on every case of the fluorescence benchmark, with what was measured on record."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import normalized_root_mse, structural_similarity
from torch import Tensor

from napari_deqmd.benchmarks.conditions import by_colour
from napari_deqmd.benchmarks.fluorescence_cases import Case
from napari_deqmd.benchmarks.restoration import best, last, psnr, scaled
from napari_deqmd.benchmarks.rows import Rows
from napari_deqmd.benchmarks.traces import Trace, trace
from napari_deqmd.core.files import replace_file
from napari_deqmd.core.methods import solver_of
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import NoRegularizer, Regularizer, TotalVariation, placed
from napari_deqmd.core.solvers import SOLVERS, Step
from napari_deqmd.core.solvers.richardson_lucy import flat_start, richardson_lucy
from napari_deqmd.training.measurements import Measurement
from napari_deqmd.training.models import BUNDLED, Model, list_models, load_model, methods_of

ORACLE = "RL, oracle stop"
TV = "TV, weight"
TV_WEIGHT = 0.032
TV_WEIGHTS = (0.016, TV_WEIGHT, 0.064, 0.128)
FIXED = 20
TRUE_NUMBERS = ", true numbers"
FURTHER = 1e-7


@dataclass(frozen=True)
class Method:
    """A method with its settings.

    Attributes
    ----------
    name : str
        Column of the tables.
    steps : callable
        Runs it on a problem from a start (None: its own).
    regularizer : Regularizer
        Of the problem.
    identity : str
        What tells it from another method of its name: a model's checksum and options.
    oracle : bool
        The truth chooses among the iterates of its own start and of the data: of other starts there is no row.
    true_numbers : bool
        It is told the true peak and background.
    robust : bool
        It is run on variations, too.
    ndim : int
        Fewest dimensions of its images.
    colours : int
        Channels it takes at once; otherwise one after the other.
    device : str
        Torch device.
    strength : float
        Factor on the regularizer.
    trained_for : pair of str and float, optional
        Kernel and peak of the only images it is run on.
    """

    name: str
    steps: Callable[..., Iterator[Step]]
    regularizer: Regularizer
    identity: str = ""
    oracle: bool = False
    true_numbers: bool = False
    robust: bool = False
    ndim: int = 2
    colours: int = 1
    device: str = "cpu"
    strength: float = 1.0
    trained_for: tuple[str, float] | None = None

    @property
    def further(self) -> Callable[[Problem, Tensor | None], Iterator[Step]]:
        """The same with a certificate that it hardly meets."""
        return partial(self.steps, tol=FURTHER)

    def takes(self, case: Case) -> bool:
        """Return whether it is to be run on a case."""
        if self.trained_for not in (None, (case.kernel, case.condition.peak)):
            return False
        if self.oracle and case.start != "data":
            return False
        if case.given.electrons.ndim - 2 < self.ndim or (self.true_numbers and not case.condition.known):
            return False
        return self.robust or not case.variation


@dataclass(frozen=True)
class Row:
    """What one method made of one case: PSNR in dB, SSIM and NRMSE by scikit-image, evaluations, solver's seconds.

    And how it ended: the certificate, by what, and how many steps went to a higher objective. ``key`` names the image,
    what was told and the method, weights included.
    """

    key: str
    label: str
    image: str
    peak: float
    variation: str
    method: str
    psnr: float
    ssim: float
    nrmse: float
    iterations: int
    seconds: float
    certificate: float = math.nan
    stopped_by: str = ""
    rose: int = 0

    @property
    def summary(self) -> str:
        """What it tells, in a line."""
        words = self.label, self.image, f"peak {self.peak:.0f}", self.variation, self.method
        return f"{', '.join(filter(None, words))}: {self.psnr:.2f} dB"


@dataclass(frozen=True)
class Job:
    """One method on one case."""

    case: Case
    method: Method

    @property
    def data(self) -> Measurement:
        """The image and what the method is told."""
        return self.case.condition.measurement if self.method.true_numbers else self.case.given

    @property
    def key(self) -> str:
        """Checksum of everything the result depends on but the program."""
        condition, method, data = self.case.condition, self.method, self.data
        words = condition.label, condition.image, self.case.variation, self.case.start, method.name
        found = hashlib.sha256(json.dumps([*words, method.identity, condition.upper]).encode())
        for tensor in (data.electrons, data.psf, data.peak, data.background):
            found.update(tensor.contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    def problem(self) -> Problem:
        """Return what the method solves: colours one after the other where it does not take them at once."""
        data, method = self.data, self.method
        parts = data if method.colours == data.truth.shape[1] else by_colour(data)
        return parts.to(torch.device(method.device)).problem(
            method.regularizer, upper=self.case.condition.upper, strength=method.strength
        )

    def restored(self, x: Tensor) -> Tensor:
        """Return a field of view as one image of all colours; times a factor where that is not known of the truth."""
        truth = self.data.truth
        x = x.cpu().reshape(truth.shape)
        return x if self.case.condition.known else scaled(x, truth)

    @property
    def white(self) -> float | None:
        """What PSNR and SSIM are relative to, in units of the peak told."""
        condition = self.case.condition
        return (
            None if condition.white is None else condition.white * condition.peak / float(self.data.peak[0])
        )

    def trace(self) -> Trace:
        """Follow the method far beyond where it ends, if it can be told to."""
        problem = self.problem()
        return trace(self.method.further(problem, _start(problem, self.case.start)))

    def run(self) -> tuple[Row, NDArray[np.float32]]:
        """Return the figures and the image, ``([3,] [Z,] Y, X)`` in units of the peak told."""
        condition, data, white = self.case.condition, self.data, self.white
        problem = self.problem()
        if self.method.oracle:
            runs = (self.method.steps(problem, start) for start in (None, problem.start()))
            found = best(problem, runs, data.truth, lambda x, truth: psnr(self.restored(x), truth, white))
        else:
            found = last(problem, self.method.steps(problem, _start(problem, self.case.start)))
        image = self.restored(found.image)
        truth, restored = (tensor[0].numpy() for tensor in (data.truth, image))
        several = len(truth) > 1
        if not several:
            truth, restored = truth[0], restored[0]
        axis = {"channel_axis": 0} if several else {}
        row = Row(
            self.key,
            condition.label,
            condition.image,
            condition.peak,
            self.case.variation,
            self.method.name,
            psnr=float(psnr(image, data.truth, white)),
            ssim=float(
                structural_similarity(truth, restored, data_range=white or float(truth.max()), **axis)  # type: ignore[no-untyped-call]
            ),
            nrmse=float(normalized_root_mse(truth, restored)),
            iterations=found.iterations,
            seconds=found.seconds,
            certificate=found.certificate,
            stopped_by=found.stopped_by,
            rose=found.rose,
        )
        return row, restored


class Record(Rows[Job, Row]):
    """Rows of a folder, and the images the figure shows."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Row)
        self._images = folder / "rows-images"
        self._images.mkdir(exist_ok=True)

    def __contains__(self, job: Job) -> bool:
        return super().__contains__(job) and (not job.case.shown or self._image(job).exists())

    def keep(self, job: Job, row: Row, image: NDArray[np.float32]) -> None:
        """Append a row; keep its image when the figure shows it."""
        if job.case.shown:
            content = io.BytesIO()
            np.save(content, image)
            replace_file(self._image(job), content.getvalue())
        self.add(row)

    def image(self, job: Job) -> NDArray[np.float32]:
        """Return the image of a done job that is shown."""
        return np.asarray(np.load(self._image(job)), dtype=np.float32)

    def trace(self, job: Job) -> Trace:
        """Return how a job converges, measured once."""
        path = self._image(job).with_suffix(".npz")
        if not path.exists():
            content = io.BytesIO()
            np.savez(content, **vars(job.trace()))
            replace_file(path, content.getvalue())
        with np.load(path) as found:
            return Trace(**found)

    def _image(self, job: Job) -> Path:
        return self._images / f"{job.key}.npy"


def run(jobs: Sequence[Job], record: Record) -> Iterator[Row]:
    """Run the jobs that are not on record, yielding their rows as they are made and recorded."""
    for job in jobs:
        if job not in record:
            row, image = job.run()
            record.keep(job, row, image)
            yield row


def plan(cases: Sequence[Case], methods: Sequence[Method]) -> list[Job]:
    """Return every method on every case it takes."""
    return [Job(case, method) for case in cases for method in methods if method.takes(case)]


def methods(models: Sequence[str], *, max_iter: int = 200) -> list[Method]:
    """Return what is compared: Richardson-Lucy, total variation, and models by name, in the order of the tables."""
    found = []
    for name, accelerated in (("RL", False), ("RL accelerated", True)):
        lucy = partial(richardson_lucy, accelerated=accelerated)
        longest, fixed = partial(lucy, max_iter=max_iter), partial(lucy, max_iter=FIXED)
        oracle = Method(f"{name}, oracle stop", longest, NoRegularizer(), oracle=True, robust=not accelerated)
        found += [
            oracle,
            replace(oracle, name=f"{name}, {FIXED} iterations", steps=fixed, oracle=False, robust=False),
        ]
    found.append(replace(found[0], name=ORACLE + TRUE_NUMBERS, true_numbers=True, robust=False))
    minimise = partial(SOLVERS["accelerated"], max_iter=max_iter)
    for weight in TV_WEIGHTS:
        regularizer = TotalVariation(weight=weight)
        found.append(Method(tv_name(weight), minimise, regularizer, robust=weight == TV_WEIGHT))
    for name in models:
        told = learned(load_model(name), max_iter=max_iter)
        found += [told, replace(told, name=told.name + TRUE_NUMBERS, true_numbers=True, robust=False)]
    return found


def learned(model: Model, *, max_iter: int) -> Method:
    """Return a model as it is run by default."""
    placed(model.regularizer)
    solver = solver_of(methods_of(model.card)[0], "accelerated")
    return Method(
        str(model.card["name"]),
        partial(solver, max_iter=max_iter),
        model.regularizer,
        identity=json.dumps([model.card["sha256"], model.card["options"]]),
        robust=True,
        ndim=int(model.card["ndim"]),
    )


def bundled_models() -> list[str]:
    """Return the names of the models that come with the program."""
    return [info.name for info in list_models() if info.path.parent == BUNDLED]


def tv_name(weight: float) -> str:
    """Return the name of total variation with a weight."""
    return f"{TV} {weight:g}"


def _start(problem: Problem, name: str) -> Tensor | None:
    if name == "data":
        return None
    flat = flat_start(problem)
    if name == "flat":
        return flat
    noise = np.random.default_rng(0).standard_normal(flat.shape).astype(np.float32)
    return flat * torch.from_numpy(noise).to(flat).exp()
