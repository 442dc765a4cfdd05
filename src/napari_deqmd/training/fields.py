"""Measured images to learn from: which of them are held back, and random patches with their second counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch

from napari_deqmd.core.errors import UserError
from napari_deqmd.training.measurements import Recount
from napari_deqmd.training.rendering import Image

KEPT = 0.8
"""Share of the photo-electrons that a thinned image keeps; the others are the second count."""

HELD_BACK = 0.2
"""Share of the scenes, or of a lone one's field, that decides and is not trained on; of four and more two at least."""

DARK = 0.03
"""Share of the peak above the background that the mean of a patch must exceed to show anything."""

Place = tuple[slice, slice]


@dataclass(frozen=True)
class Field:
    """A measured image.

    Attributes
    ----------
    counts : array (Y, X)
        Photo-electrons.
    peak, background : float
        Photo-electrons.
    again : array (Y, X), optional
        Independent counts of the same field, on average `exposure` times `counts`; without them counts are thinned.
    exposure : float
        As `again` has it.
    scene : int
        Fields of one number may show the same.
    """

    counts: Image
    peak: float
    background: float
    again: Image | None = None
    exposure: float = 0.0
    scene: int = 0

    def cut(self, place: Place) -> Field:
        """Return a part of the field."""
        again = None if self.again is None else self.again[place]
        return replace(self, counts=self.counts[place], again=again)


@dataclass(frozen=True)
class Split:
    """Parts of images, each the image's number and a place in it: to train on, and to decide by."""

    side: int
    train: list[tuple[int, Place]]
    held: list[tuple[int, Place]]


def hold_back(
    shapes: Sequence[tuple[int, ...]], sides: Sequence[int], *, seed: int, scenes: Sequence[int] = ()
) -> Split:
    """Split images into what is trained on and what decides: whole scenes of three or more, else a strip of each.

    Parameters
    ----------
    shapes : sequence of (Y, X)
        Images.
    sides : sequence of int
        Sides of a patch, pixels, falling: the first is taken that the images can hold; images that cannot are passed
        over.
    scenes : sequence of int
        One number for each image, the same where they may show the same; by default none do. No place of a scene is
        both trained on and held back.

    Raises
    ------
    UserError
        Too few or too small images.
    """
    everything = (slice(None), slice(None))
    for side in sides:
        groups: dict[int, list[int]] = {}
        for i, scene in enumerate(scenes or range(len(shapes))):
            if min(shapes[i]) >= side:
                groups.setdefault(scene, []).append(i)
        if len(groups) >= 3:
            order = np.random.default_rng([seed, 5]).permutation(list(groups)).tolist()
            count = min(max(2, round(HELD_BACK * len(order))), len(order) // 2)
            parts = (
                sorted(i for scene in part for i in groups[scene]) for part in (order[count:], order[:count])
            )
            return Split(side, *([(i, everything) for i in part] for part in parts))
        train: list[tuple[int, Place]] = []
        held: list[tuple[int, Place]] = []
        for images in groups.values():
            shape = np.min([shapes[i] for i in images], axis=0)
            axis = int(np.argmax(shape))
            length = int(shape[axis])
            cut = length - max(side, round(HELD_BACK * length))
            if cut >= side:
                train += [(i, _along(axis, slice(0, cut))) for i in images]
                held += [(i, _along(axis, slice(cut, length))) for i in images]
        if train:
            return Split(side, train, held)
    raise UserError(
        f"The images are too few or too small to learn from: give three of at least {sides[-1]} x {sides[-1]} "
        f"pixels, planes of one file counting as one, or one of {sides[-1]} x {2 * sides[-1]}."
    )


def places(shape: tuple[int, ...], side: int) -> list[Place]:
    """Return the squares of a side that lie beside each other in an image."""
    corners = product(*(range(0, n - side + 1, side) for n in shape))
    return [(slice(y, y + side), slice(x, x + side)) for y, x in corners]


def _along(axis: int, part: slice) -> Place:
    return (part, slice(None)) if axis == 0 else (slice(None), part)


def orient(image: np.ndarray, turns: int) -> np.ndarray:
    """Return one of the eight images that flips and quarter turns make of a square one."""
    turned = np.rot90(image, turns % 4)
    return turned[:, ::-1] if turns >= 4 else turned


def _dark(field: Field) -> bool:
    return bool(field.counts.mean() <= field.background + DARK * field.peak)


@dataclass(frozen=True)
class Patches:
    """Patches of measured fields, with a second count; the PSF is flipped and turned with its patch.

    Attributes
    ----------
    fields : sequence of Field
        What they are cut from, by area.
    psf : array (K, K)
        K odd.
    side : int
        Pixels.
    seed : int
        Source of all randomness.
    """

    fields: Sequence[Field]
    psf: Image
    side: int
    seed: int

    def draw(self, number: int, batch: int) -> Recount:
        """Return a batch of random places, the same whenever its number is asked for."""
        rng = np.random.default_rng([self.seed, 3, number])
        areas = np.array([field.counts.size for field in self.fields], dtype=float)
        chosen = rng.choice(len(areas), batch, p=areas / areas.sum())
        return self._measured([self._crop(self.fields[i], rng) for i in chosen], rng)

    def apart(self, most: int) -> Recount:
        """Return patches of different places, which do not overlap, those that show something first."""
        rng = np.random.default_rng([self.seed, 3])
        shown = [
            ((field.scene, number), field.cut(place))
            for field in self.fields
            for number, place in enumerate(places(field.counts.shape, self.side))
        ]
        mixed = sorted((shown[i] for i in rng.permutation(len(shown))), key=lambda each: _dark(each[1]))
        first: dict[tuple[int, int], Field] = {}
        for place, field in mixed:
            first.setdefault(place, field)
        return self._measured([*first.values()][:most], rng)

    def _measured(self, chosen: Sequence[Field], rng: np.random.Generator) -> Recount:
        crops = [self._counted(crop, rng) for crop in chosen]
        turns = rng.integers(8, size=len(crops))
        images = [[orient(image, int(k)) for image in crop[:2]] for crop, k in zip(crops, turns, strict=True)]
        electrons, again = (torch.from_numpy(np.stack(part)[:, None]) for part in zip(*images, strict=True))
        share, exposure = torch.tensor([crop[2:] for crop in crops], dtype=torch.float32).T
        peak, background = torch.tensor([[f.peak, f.background] for f in chosen], dtype=torch.float32).T
        psf = torch.from_numpy(np.stack([orient(self.psf, int(k)) for k in turns])[:, None])
        thinned = self.fields[0].again is None
        return Recount(electrons, psf, share * peak, share * background, again, exposure, thinned=thinned)

    def _crop(self, field: Field, rng: np.random.Generator) -> Field:
        """Random crop; dark ones are given up to three more chances."""
        crop = field
        for _ in range(4):
            y, x = (int(rng.integers(0, n - self.side + 1)) for n in field.counts.shape)
            crop = field.cut((slice(y, y + self.side), slice(x, x + self.side)))
            if not _dark(crop):
                break
        return crop

    @staticmethod
    def _counted(crop: Field, rng: np.random.Generator) -> tuple[Image, Image, float, float]:
        """Return counts, second counts, the share of the field's photo-electrons in the first, and the exposure.

        Thinned Poisson counts are two independent Poisson counts.
        """
        if crop.again is not None:
            return crop.counts, crop.again, 1.0, crop.exposure
        first = rng.binomial(crop.counts.astype(np.int64), KEPT).astype(np.float32)
        return first, crop.counts - first, KEPT, (1 - KEPT) / KEPT
