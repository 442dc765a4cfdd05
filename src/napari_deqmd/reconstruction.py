"""The job that `reconstruct`, the command line and the widgets share."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_deqmd.core.caution import caution
from napari_deqmd.core.config import LEARNED, ReconstructionConfig
from napari_deqmd.core.device import has_bfloat16, resolve_device
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.iterates import Iterates
from napari_deqmd.core.photons import Photons
from napari_deqmd.core.pixels import PixelMaps
from napari_deqmd.core.solvers import Step
from napari_deqmd.job.assembly import Assembly, Image
from napari_deqmd.job.item import Bench, Ending, Item, Running, run, worst
from napari_deqmd.job.recording import Recording, Survey
from napari_deqmd.job.reporting import item_report, whole_report
from napari_deqmd.job.results import Progress, Result
from napari_deqmd.psf.faults import faults
from napari_deqmd.psf.prepare import prepare_psf
from napari_deqmd.psf.spectrum import disagreements
from napari_deqmd.scale.cluster import gather
from napari_deqmd.scale.memory import peak_memory
from napari_deqmd.scale.plan import arrange
from napari_deqmd.scale.tiles import Index, Tile
from napari_deqmd.training.models import find_model, load_model


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
        Bytes it may take, beside what is free. The image is cut into tiles to fit, or the box of a PSF that has not
        faded at its ends.
    scheduler : str, optional
        Address of a Dask scheduler, or its scheduler file: its workers compute.

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
        scheduler: str | None = None,
    ) -> None:
        self.maps = maps or PixelMaps()
        self._recorded = Recording.of(image, config, self.maps)
        config = self._recorded.config
        # A cluster's workers look for it on their machines; on this one they compute nothing.
        self.device = resolve_device(config.device) if scheduler is None else "cpu"
        half = config.precision == "bfloat16" and config.method in LEARNED and scheduler is None
        if half and not has_bfloat16(self.device):
            caution(
                "This processor has no bfloat16 arithmetic and emulates it, many times slower: use float32 here.",
                stacklevel=2,
            )
        self.max_iter = config.max_iter
        self.photons: Photons | None = None
        self._shape = self._recorded.shape
        self._indices = self._recorded.indices
        prepared = prepare_psf(psf, ndim=len(self._shape), image_shape=self._shape, boundary=config.boundary)
        plan = arrange(
            prepared,
            self._shape,
            config.tile,
            limit=memory,
            items=len(self._indices),
            itemsize=self._recorded.counts.itemsize,
            method=config.method,
            solver=config.solver,
            boundary=config.boundary,
            orientations=config.orientations,
            device=self.device,
        )
        self.psf, self.tiles = plan.psf, plan.tiles
        self.config = config = dataclasses.replace(config, tile=plan.tile)
        self.items = len(self._indices) * len(self.tiles)
        self.start = start
        self._made = Assembly(self._indices, self._shape, self.tiles, self.psf.shape, config.boundary, start)
        self._info = (
            find_model(config.model, ndim=len(self._shape), method=config.method)
            if config.method in LEARNED
            else None
        )
        if self._info is not None and self._info.card["ndim"] > len(self._shape):
            raise UserError(
                f"The model {self._info.name} is for 3D stacks and the image is 2D: choose another model."
            )
        plan.require()
        self._scheduler = scheduler
        self._photons: dict[int, Photons] = {}
        self._surveys: dict[tuple[int, ...], Survey] = {}

    @property
    def iterates(self) -> Iterates:
        """Where each item is, or ended; in memory of the CPU, so that it outlives the device."""
        return self._made.iterates

    @property
    def image(self) -> Image:
        """Reconstruction so far, of the input's shape, photo-electrons; items not reached are 0, or the start's."""
        return np.transpose(self._made.image, np.argsort(self._recorded.order))

    def steps(self) -> Generator[Progress, None, None]:
        """Run, yielding after every accepted step. Closing the generator keeps the current iterate."""
        began = time.monotonic()
        learned = load_model(self._info.path).regularizer if self._info is not None else None
        bench = Bench(self.psf, self.tiles[0].shape, self.config, learned)
        self._made.show_start()
        channels = sorted({self._recorded.channel(index) for index in self._indices})
        # Of all channels before the first is computed: one of them may have no contrast.
        self._photons = {channel: self._recorded.photons(channel) for channel in channels}
        if self._scheduler is not None:
            yield from self._gathered(self._scheduler, bench, began)
            return
        tools = bench.tools()
        for place, item in enumerate(self._each()):
            yield from self._run(place, Running(item, tools, began))

    def _run(self, item: int, running: Running) -> Generator[Progress, None, None]:
        """Compute an item here."""
        try:
            with closing(running.steps()) as steps:
                for step in steps:
                    yield self._progress(item, step, running.seconds)
        finally:
            if running.step is not None:
                self._keep(item, running.step, running.ending())

    def _gathered(self, scheduler: str, bench: Bench, began: float) -> Generator[Progress, None, None]:
        """Let the workers of a cluster compute all items, in whatever order they end."""
        with closing(gather(scheduler, run, bench, self._each())) as endings:
            for item, (step, ending) in endings:
                seconds = time.monotonic() - began
                self._keep(item, step, ending.at(seconds))
                yield self._progress(item, step, seconds)

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
            A copy; of a tile, with what there is of the others around it.
        """
        tile = self._tile(progress.item)
        x = progress.step.iterate[0, 0][self._made.seen(tile.shape)]
        shown = shown or (slice(None),) * x.ndim
        if progress.part is None:
            return self._electrons(x[shown], progress.index)
        image: Image = self._made.image[progress.index][shown].copy()
        if (overlap := tile.overlap(shown)) is not None:
            there, here = overlap
            image[there] = self._electrons(x[tile.inner][here], progress.index)
        return image

    def result(self) -> Result:
        """Return the result so far; a job whose steps were not exhausted was stopped by the user."""
        reached = self._made.reached
        if not reached:
            raise UserError("Nothing was reconstructed: run the job first.")
        endings = [self._made.ending(index) for index in reached]
        unreached = ["user"] if len(reached) < len(self._indices) else []
        stopped_by = worst([*(ending.stopped_by for ending in endings), *unreached])
        columns = np.array(endings[-1].rows, dtype=np.float64).T
        names = ("objective", "residual", "step_size", "seconds")
        return Result(
            image=self.image,
            history=dict(zip(names, columns, strict=True)),
            stopped_by=stopped_by,
            config=self.config,
            report=self._report(reached, endings) | {"stopped_by": stopped_by},
            iterates=self.iterates,
        )

    def _each(self) -> Generator[Item, None, None]:
        """Make the items, each when it is asked for."""
        for number, index in enumerate(self._indices):
            self.photons = photons = self._photons[self._recorded.channel(index)]
            left_out = self._recorded.left_out(index)
            survey = self._recorded.survey(index, self.tiles, photons, left_out)
            self._surveys[index] = survey
            for item, tile in enumerate(self.tiles, start=number * len(self.tiles)):
                made = self._recorded.item(index, tile, photons, left_out, survey)
                yield dataclasses.replace(made, start=self._made.start(item))

    def _tile(self, item: int) -> Tile:
        return self.tiles[item % len(self.tiles)]

    def _progress(self, item: int, step: Step, seconds: float) -> Progress:
        index = self._indices[item // len(self.tiles)]
        part = self._tile(item).core if len(self.tiles) > 1 else None
        return Progress(item, self.items, index, step, seconds, part)

    def _keep(self, item: int, step: Step, ending: Ending) -> None:
        """Take an item off the device, for the result and for a run that goes on from it."""
        index = self._indices[item // len(self.tiles)]
        known = self._electrons(step.iterate[0, 0], index)
        self._made.keep(item, known, ending, self._surveys[index].level)

    def _electrons(self, x: Tensor, index: tuple[int, ...]) -> Image:
        # Of the step's channel: the job may be further by now.
        peak = self._photons[self._recorded.channel(index)].peak
        return np.ascontiguousarray((x.to("cpu", torch.float32) * peak).numpy())

    def _report(self, reached: Sequence[tuple[int, ...]], endings: Sequence[Ending]) -> dict[str, Any]:
        """Return the report of all items so far."""
        items = [
            item_report(
                ending,
                self.config,
                self._photons[self._recorded.channel(index)],
                self._surveys[index],
                index=dict(zip(self._recorded.looped, index, strict=True)),
                iterations_before=self._made.before(index),
            )
            for index, ending in zip(reached, endings, strict=True)
        ]
        return whole_report(
            items,
            len(self._indices),
            self.config,
            device=endings[-1].device,
            held=peak_memory(self.device),
            start=self.start,
            card=None if self._info is None else self._info.card,
            maps=self.maps,
            full=self._recorded.full,
            of_the_psf=(*faults(self.psf), *disagreements(self._recorded.counts, self.psf)),
            tiles=self.tiles,
        )
