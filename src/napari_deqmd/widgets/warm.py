"""Runs that start from what the last one left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets.form import PsfChoice, settled, warn_of_haze
from napari_deqmd.widgets.layers import LayerImage
from napari_deqmd.widgets.region import Region
from napari_deqmd.widgets.reports import Job
from napari_deqmd.widgets.saving import Record

# What belongs to the data: an iterate of other data is no start.
_DATA = ("axes", "voxel_size", "offset", "gain", "read_noise", "peak", "background", "boundary")


@dataclass(frozen=True)
class Kept:
    """What is left of a run.

    Attributes
    ----------
    source, layer : napari.layers.Image
        The input, and the result.
    part : Region
        Of the input.
    psf : str
        What the PSF was chosen by.
    config : ReconstructionConfig
        As the form said.
    fingerprint : tuple
        Of the data.
    iterates : Iterates
        Where it ended.
    unfinished : bool
        It was stopped, or used all its iterations up.
    """

    source: Any
    layer: Any
    part: Region
    psf: str
    config: ReconstructionConfig
    fingerprint: tuple[Any, ...]
    iterates: Any
    unfinished: bool

    def fits(self, part: Region, psf: str, config: ReconstructionConfig) -> bool:
        """Whether a form still describes the same data; says nothing of what is in layers and files."""
        return part.slices == self.part.slices and psf == self.psf and _data(config) == _data(self.config)

    def helps(self, config: ReconstructionConfig) -> bool:
        """Whether Run may start here: something changed, and where the method ends does not depend on its start.

        Richardson-Lucy is regularized by the number of its iterations, so that it has to begin at the beginning.
        """
        return config != self.config and not config.method.startswith("rl")


class RunOrder:
    """A run as it was asked for; called in the other thread it becomes a job.

    Parameters
    ----------
    factory : callable
        ``(image, psf, config, start, maps) -> Job``.
    image : LayerImage
    psf : PsfChoice
    config : ReconstructionConfig
    last : Kept, optional
        Where to start if the data are still the same.
    going_on : bool
        Other data are an error, not a new beginning.
    kept : bool
        Its outcome may be a start for the next.

    Attributes
    ----------
    fingerprint : tuple
        Of the data, once it was called.
    record : Record or None
        What is needed to save its result, once it was called.
    warm : bool
        Whether it starts from the last result, once it was called.
    """

    def __init__(
        self,
        factory: Callable[..., Job],
        image: LayerImage,
        psf: PsfChoice,
        config: ReconstructionConfig,
        last: Kept | None = None,
        *,
        going_on: bool = False,
        kept: bool = True,
    ) -> None:
        self._factory, self._image, self._psf = factory, image, psf
        self._last, self._going_on, self.kept = last, going_on, kept
        self.config, self.psf = config, str(psf)
        self.fingerprint: tuple[Any, ...] = ()
        self.record: Record | None = None
        self.warm = False

    def __call__(self) -> Job:
        """Return the job; what it warns of is heard."""
        image, psf, maps = self._image.load(), self._psf.load(self._image), self._image.maps()
        warn_of_haze(self._image, psf)
        self.record = Record.of(self._image, image, self._psf, psf, maps)
        self.fingerprint = (*self.record.hashes, *_data(self.config))
        last, self._last = self._last, None
        self.warm = last is not None and last.fingerprint == self.fingerprint
        if self._going_on and not self.warm:
            raise UserError(
                "The image, its mask or the PSF has changed since the last run: press Run to start anew."
            )
        start = last.iterates if last is not None and self.warm else None
        return self._factory(image, psf, settled(self._image, self.config), start, maps)

    def keep(self, outcome: Any, source: Any, layer: Any) -> Kept | None:
        """Return what its outcome leaves for the next; nothing good comes of numbers that diverged."""
        if outcome.stopped_by == "diverged":
            return None
        unfinished = outcome.stopped_by in ("user", "max_iter")
        return Kept(
            source,
            layer,
            self._image.part,
            self.psf,
            self.config,
            self.fingerprint,
            outcome.iterates,
            unfinished,
        )


def _data(config: ReconstructionConfig) -> tuple[Any, ...]:
    return tuple(getattr(config, name) for name in _DATA)
