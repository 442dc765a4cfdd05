"""The job that `reconstruct`, the command line and the widgets share."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Generator
from contextlib import closing
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_deqmd.core.config import LEARNED, ReconstructionConfig
from napari_deqmd.core.device import has_bfloat16, resolve_device
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.fit import Fit
from napari_deqmd.core.iterates import Iterates
from napari_deqmd.core.methods import regularizer_of, solve
from napari_deqmd.core.operators import Blur, object_shape
from napari_deqmd.core.photons import Photons
from napari_deqmd.core.pixels import PixelMaps
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.solvers import Step
from napari_deqmd.psf.faults import faults
from napari_deqmd.psf.prepare import prepare_psf
from napari_deqmd.psf.spectrum import disagreements
from napari_deqmd.recording import Recording
from napari_deqmd.reporting import item_report, whole_report
from napari_deqmd.scale.memory import require_memory
from napari_deqmd.scale.shorter import affordable
from napari_deqmd.training.models import find_model, load_model

StoppedBy = Literal["converged", "max_iter", "user", "diverged"]
Image = NDArray[np.float32]
Index = tuple[int | slice, ...]


@dataclasses.dataclass(frozen=True)
class Progress:
    """One step of a job: which item of the T and C axes, the solver's step, seconds since the start."""

    item: int
    items: int
    index: tuple[int, ...]
    step: Step
    seconds: float


@dataclasses.dataclass(frozen=True)
class Result:
    """What a reconstruction gives.

    Attributes
    ----------
    image : ndarray of float32
        Shape of the input, photo-electrons: the scale of (counts - offset) / gain.
    history : dict of ndarray
        ``objective``, ``residual`` (the certificate), ``step_size`` and ``seconds`` of the last item's steps.
    stopped_by : str
        ``"converged"``, ``"max_iter"``, ``"user"`` or ``"diverged"``; the worst of all items.
    config : ReconstructionConfig
        Everything needed to run it again.
    report : dict
        JSON-able: what was found and measured, for a sidecar.
    iterates : Iterates
        Where it ended, for another run to go on from.
    """

    image: Image
    history: dict[str, NDArray[np.float64]]
    stopped_by: StoppedBy
    config: ReconstructionConfig
    report: dict[str, Any]
    iterates: Iterates


class Reconstruction:
    """A reconstruction to be run step by step.

    Parameters
    ----------
    image : ndarray
        Camera counts, 2D or 3D, with T and C axes as `config.axes` says.
    psf : ndarray
        ``(Y, X)`` or ``(Z, Y, X)``, at the image's voxel size.
    config : ReconstructionConfig
        How.
    start : Iterates, optional
        Where an earlier job of the same image, PSF and boundary ended: it goes on from there instead of beginning at
        the data. Both end at the same image if the regularizer is convex, else perhaps at another stationary point;
        the report says where it started.
    maps : PixelMaps, optional
        What is known of the camera's single pixels. `Reconstruction.config` then has typical numbers in their place.
    memory : int, optional
        Bytes it may take, beside what is free. The box of a PSF that has not faded at its ends is cut to fit.

    Raises
    ------
    UserError
        Anything that cannot work, before any long work.

    Warns
    -----
    UserWarning
        Something works, but not as it was meant.
    """

    def __init__(
        self,
        image: Any,
        psf: Any,
        config: ReconstructionConfig,
        start: Iterates | None = None,
        maps: PixelMaps | None = None,
        memory: int | None = None,
    ) -> None:
        self.maps = maps or PixelMaps()
        self._recorded = Recording.of(image, config, self.maps)
        self.config = config = self._recorded.config
        self.device = resolve_device(config.device)
        half = config.precision == "bfloat16" and config.method in LEARNED
        if half and not has_bfloat16(self.device):
            warnings.warn(
                "This processor has no bfloat16 arithmetic and emulates it, many times slower: use float32 here.",
                stacklevel=2,
            )
        self.max_iter = config.max_iter
        self.photons: Photons | None = None
        self._shape = self._recorded.shape
        self._indices = self._recorded.indices
        self.items = len(self._indices)
        needs: dict[str, Any] = {
            "method": config.method,
            "solver": config.solver,
            "boundary": config.boundary,
            "device": self.device,
        }
        prepared = prepare_psf(psf, ndim=len(self._shape), image_shape=self._shape, boundary=config.boundary)
        self.psf = affordable(prepared, self._shape, limit=memory, **needs)
        if start is not None:
            start.require(self.items, object_shape(self._shape, self.psf.shape, config.boundary))
        self.start = start
        self._info = (
            find_model(config.model, ndim=len(self._shape), method=config.method)
            if config.method in LEARNED
            else None
        )
        if self._info is not None and self._info.card["ndim"] > len(self._shape):
            raise UserError(
                f"The model {self._info.name} is for 3D stacks and the image is 2D: choose another model."
            )
        require_memory(self._shape, self.psf.shape, **needs)
        if memory is not None:
            require_memory(self._shape, self.psf.shape, limit=memory, **needs)
        self._image = np.zeros(self._recorded.counts.shape, np.float32)
        self._reports: list[dict[str, Any]] = []
        self._history: list[tuple[float, float, float, float]] = []
        self._operator: Blur | None = None
        self._photons: dict[int, Photons] = {}
        before = start or Iterates((None,) * self.items, (0,) * self.items)
        self._objects, self._iterations = list(before.objects), list(before.iterations)

    @property
    def iterates(self) -> Iterates:
        """Where each item is, or ended; in memory of the CPU, so that it outlives the device."""
        return Iterates(tuple(self._objects), tuple(self._iterations))

    @property
    def image(self) -> Image:
        """Reconstruction so far, of the input's shape, photo-electrons; items not reached are 0, or the start's."""
        return np.transpose(self._image, np.argsort(self._recorded.order))

    def steps(self) -> Generator[Progress, None, None]:
        """Run, yielding after every accepted step. Closing the generator keeps the current iterate."""
        began = time.monotonic()
        learned = load_model(self._info.path).regularizer if self._info is not None else None
        regularizer = regularizer_of(self.config, learned, self.device)
        self._operator = Blur(
            torch.from_numpy(self.psf).to(self.device), self._shape, boundary=self.config.boundary
        )
        for index, known in zip(self._indices, self._objects, strict=True):
            if known is not None:
                self._image[index] = self._operator.crop(torch.from_numpy(known)).numpy()
        channels = sorted({self._recorded.channel(index) for index in self._indices})
        # Of all channels before the first is computed: one of them may have no contrast.
        self._photons = {channel: self._recorded.photons(channel) for channel in channels}
        for item, index in enumerate(self._indices):
            self.photons = self._photons[self._recorded.channel(index)]
            electrons, clipped = self._recorded.electrons(index)
            bad, full, left_out = self._recorded.left_out(index)
            problem = Problem.from_electrons(
                self._images(electrons),
                self._operator,
                regularizer,
                peak=torch.tensor([self.photons.peak], device=self.device),
                background=self._background(),
                bad=self._images(bad) if bad.any() else None,
                full=self._images(full) if full.any() else None,
                strength=self.config.strength,
                upper=self.config.upper,
            )
            self._history = []
            progress: Progress | None = None
            try:
                with closing(solve(problem, self.config, self._start(item))) as steps:
                    for step in steps:
                        seconds = time.monotonic() - began
                        progress = Progress(item, self.items, index, step, seconds)
                        self._history.append((step.objective, step.residual, step.step_size, seconds))
                        yield progress
            finally:
                if progress is not None:
                    self._reports.append(
                        item_report(
                            progress.step,
                            self.config,
                            self.photons,
                            index=dict(zip(self._recorded.looped, index, strict=True)),
                            iterations_before=self._iterations[item],
                            objectives=[row[0] for row in self._history],
                            clipped_fraction=clipped,
                            left_out=left_out,
                            fit=Fit.of(problem, progress.step.iterate, self._images(bad | full)),
                            held=self._held(progress.step, problem.upper),
                            upper=problem.upper,
                            seconds=progress.seconds,
                        )
                    )
                    self._keep(progress)

    def preview(self, progress: Progress, shown: Index | None = None) -> Image:
        """Return the iterate of a step, photo-electrons, on the CPU.

        Parameters
        ----------
        progress : Progress
            What `steps` yielded.
        shown : tuple of int or slice, optional
            The part of ``([Z,] Y, X)`` that is wanted, all of it by default: only that leaves the device.

        Returns
        -------
        ndarray of float32
            A copy.
        """
        assert self._operator is not None
        x = self._operator.crop(progress.step.iterate)[0, 0]
        return self._electrons(x if shown is None else x[shown], progress)

    def result(self) -> Result:
        """Return the result so far; a job whose steps were not exhausted was stopped by the user."""
        if not self._reports:
            raise UserError("Nothing was reconstructed: run the job first.")
        endings = [report["stopped_by"] for report in self._reports]
        if len(endings) < self.items:
            endings.append("user")
        worst: tuple[StoppedBy, ...] = ("diverged", "user", "max_iter", "converged")
        stopped_by = next(ending for ending in worst if ending in endings)
        columns = np.array(self._history, dtype=np.float64).T
        names = ("objective", "residual", "step_size", "seconds")
        return Result(
            image=self.image,
            history=dict(zip(names, columns, strict=True)),
            stopped_by=stopped_by,
            config=self.config,
            report=self._report | {"stopped_by": stopped_by},
            iterates=self.iterates,
        )

    def _start(self, item: int) -> Tensor | None:
        """Return where an item begins, in units of the peak, if not at the data."""
        assert self.photons is not None
        known = self._objects[item]
        if known is None:
            return None
        return torch.from_numpy(known)[None, None].to(self.device) / self.photons.peak

    def _keep(self, progress: Progress) -> None:
        """Take an item off the device, for the result and for a run that goes on from it."""
        assert self._operator is not None
        known = self._electrons(progress.step.iterate[0, 0], progress)
        self._objects[progress.item] = known
        self._iterations[progress.item] += progress.step.iteration
        self._image[progress.index] = self._operator.crop(torch.from_numpy(known)).numpy()

    def _electrons(self, x: Tensor, progress: Progress) -> Image:
        # Of the step's channel: the job may be further by now.
        peak = self._photons[self._recorded.channel(progress.index)].peak
        return np.ascontiguousarray((x.to("cpu", torch.float32) * peak).numpy())

    def _images(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values))[None, None].to(self.device)

    def _background(self) -> Tensor:
        """Return the light of no object, of an item or of each of its pixels; read noise counts as such."""
        assert self.photons is not None
        level = self.photons.background + np.square(self._recorded.camera["read_noise"])
        if not np.ndim(level):
            return torch.tensor([level], dtype=torch.float32, device=self.device)
        return self._images(np.broadcast_to(level, self._shape).astype(np.float32))

    def _held(self, step: Step, upper: float) -> int:
        """Return how many voxels the upper bound holds."""
        assert self._operator is not None
        return int((self._operator.crop(step.iterate) >= upper * (1 - 1e-5)).sum())

    @property
    def _report(self) -> dict[str, Any]:
        """Return the report of all items so far."""
        return whole_report(
            self._reports,
            self.items,
            self.config,
            device=self.device,
            start=self.start,
            card=None if self._info is None else self._info.card,
            maps=self.maps,
            full=self._recorded.full,
            of_the_psf=(*faults(self.psf), *disagreements(self._recorded.counts, self.psf)),
        )
