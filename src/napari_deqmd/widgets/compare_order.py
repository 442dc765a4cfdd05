"""A comparison that was started, frozen: what the other thread runs, and what its results are measured by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.layers import Image

from napari_deqmd.widgets.comparison import Comparison, Contender, JobFactory, Scores, score
from napari_deqmd.widgets.form import PsfChoice, settled
from napari_deqmd.widgets.layers import LayerImage
from napari_deqmd.widgets.region import Region
from napari_deqmd.widgets.sections.score_table import REFERENCE_COLOR, colors

#: The place of the image itself.
RAW = 0
RAW_LABEL = "raw"
REFERENCE_LABEL = "reference"


@dataclass(frozen=True)
class Order:
    """A comparison that was started.

    Attributes
    ----------
    layer : napari.layers.Image
        What was chosen.
    source : napari.layers.Image
        Where the results lie: `layer`, or the time and channel of it that was shown.
    geometry : mapping
        Of `source`, as it was: methods end later, and by then the user may have given the layer other data.
    item : LayerImage
        ``([Z,] Y, X)``.
    part : Region
        Of the layer: what is compared.
    among : LayerImage
        The same of all of the layer.
    index : mapping of str to int
        Positions along T and C that are compared.
    values : mapping
        What the form said, by the object names of Reconstruct's controls.
    """

    layer: Image
    source: Image
    geometry: Mapping[str, Any]
    item: LayerImage
    part: Region
    among: LayerImage
    index: Mapping[str, int]
    contenders: Sequence[Contender]
    values: Mapping[str, Any]

    @property
    def reference_place(self) -> int:
        """The raw image is at place 0, the contenders follow, and the reference comes last."""
        return len(self.contenders) + 1

    @property
    def colors(self) -> list[str]:
        """One for each place."""
        return [*colors(len(self.contenders)), REFERENCE_COLOR]

    @property
    def names(self) -> dict[int, str]:
        """Layer names by place."""
        labels = [RAW_LABEL, *(contender.label for contender in self.contenders), REFERENCE_LABEL]
        return {place: f"{label} · {self.item.name}" for place, label in enumerate(labels)}

    @property
    def marked(self) -> dict[str, str]:
        """What the metadata of a result say of the mask of bad pixels, where there is one."""
        return {} if self.item.mask is None else {"mask": self.item.mask.name}

    @property
    def unit(self) -> str:
        """Of lengths in the plots."""
        return "pixels" if self.item.voxel_size is None else "µm"


def make_comparison(
    factory: JobFactory,
    image: LayerImage,
    among: LayerImage,
    psf: PsfChoice,
    contenders: Sequence[Contender],
    halves: bool,
) -> Comparison:
    """Return the job; reads files, so it belongs into the other thread.

    Peak and background are those of all that the image is a part of, `among` which it is meant, as in a run.
    """
    shared = settled(among, contenders[0].config)
    return Comparison(
        image.load(),
        psf.load(image),
        [
            replace(one, config=replace(one.config, peak=shared.peak, background=shared.background))
            for one in contenders
        ],
        factory,
        voxel_size=image.voxel_size,
        halves=halves,
        maps=image.maps(),
    )


def score_all(
    images: Mapping[int, np.ndarray], reference: LayerImage, voxel_size: tuple[float, ...] | None
) -> tuple[dict[int, Scores], np.ndarray]:
    """Return scores by place, and the reference as it is shown: by the middle one of the methods' factors."""
    truth = np.asarray(reference.data)
    scores = {place: score(image, truth, voxel_size) for place, image in images.items()}
    factors = [found.factor for place, found in scores.items() if place != RAW] or [scores[RAW].factor]
    return scores, (float(np.median(factors)) * truth).astype(np.float32)
