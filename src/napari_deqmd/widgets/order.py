"""What the Train form says, frozen, and the fine-tuning that comes of it in the other thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_deqmd.widgets.form import PsfChoice
from napari_deqmd.widgets.layers import LayerImage

if TYPE_CHECKING:
    from napari_deqmd.finetuning import Loaded
    from napari_deqmd.widgets.reports import TrainJob


@dataclass(frozen=True, kw_only=True)
class TrainOrder:
    """Everything a fine-tuning is told.

    Attributes
    ----------
    kind : str
        One of `napari_deqmd.core.config.KINDS`.
    inputs, targets : tuple of LayerImage or str
        Layers, files and folders.
    axes : str or None
        One letter per dimension of the files, where they do not say.
    psf : PsfChoice
    peak : float, tuple of float, or "auto"
        Photo-electrons, or their range.
    offset, gain : float
        The camera's.
    base : str
        Name of the base model.
    minutes : float
        Time it may take.
    """

    kind: str
    inputs: tuple[LayerImage | str, ...]
    targets: tuple[LayerImage | str, ...] = ()
    axes: str | None = None
    psf: PsfChoice
    peak: float | tuple[float, float] | Literal["auto"] = "auto"
    offset: float = 0.0
    gain: float = 1.0
    base: str = "default"
    minutes: float = 10.0


def default_train_job(order: TrainOrder) -> TrainJob:
    """Return the fine-tuning that the command line runs too; imports torch, so it belongs into the other thread."""
    from napari_deqmd.finetuning import read_source
    from napari_deqmd.training.finetune import Finetuning, Settings
    from napari_deqmd.training.models import load_model

    settings = Settings(minutes=order.minutes)
    base = load_model(order.base, method="deq-md")
    source = read_source(
        order.kind,
        *([_loaded(image) for image in images] for images in (order.inputs, order.targets)),
        psf=order.psf.load,
        axes=order.axes,
        peak=order.peak,
        offset=order.offset,
        gain=order.gain,
        seed=settings.seed,
    )
    return Finetuning(base, source, settings)


def _loaded(image: LayerImage | str) -> Loaded | str:
    from napari_deqmd.finetuning import Loaded
    from napari_deqmd.io.stack import Stack

    if isinstance(image, str):
        return image
    return Loaded(image.name, Stack(np.asarray(image.data), image.axes, image.voxel_size))
