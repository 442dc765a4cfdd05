"""A lab's own images as sources to fine-tune on: sharp ones, pairs of exposures, or only noisy ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from napari_deqmd.core.calibration import estimate_camera
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.levels import noise_ratio, sample
from napari_deqmd.core.photons import estimate_photons
from napari_deqmd.training.data import Sampler, normalise
from napari_deqmd.training.equilibrium import Draw
from napari_deqmd.training.fields import DARK, Field, Patches, hold_back, places
from napari_deqmd.training.inputs import numbered, square, usable, without_dark
from napari_deqmd.training.measurements import Observation, Ranges, measure
from napari_deqmd.training.registration import register
from napari_deqmd.training.rendering import Image

SIDES = (64, 48, 32)
"""Sides of a measured patch, pixels: the first that the images can hold."""
DECIDING = 8
"""Wanted held-out patches: for as many, each of a place of its own, smaller ones are taken."""
MOST, MOST_COUNTED = 12, 24
"""Most of them: of sharp images, and of second counts, which are noisier than what a fine-tuning gains in a patch."""

FLOOR = 0.25
"""As `Ranges.floor`: the estimate of a crowded image's background was low by 0.17 of the peak."""

PHOTON_NOISE = (0.6, 1.6)
"""Variance over mean of what may be photo-electrons: parts of other counts are not independent of each other."""

Peak = float | Literal["auto"]


@dataclass(frozen=True)
class Source:
    """Where a fine-tuning takes its measurements from.

    Attributes
    ----------
    kind : str
        One of `napari_deqmd.core.config.KINDS`.
    draw : callable
        Batches to train on.
    held_out : Observation
        Patches of what `draw` never sees: they decide.
    facts : mapping
        What was found in the images, for a card; JSON-able.
    notes : tuple of str
        Sentences for the user.
    """

    kind: str
    draw: Draw
    held_out: Observation
    facts: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def clean_source(
    images: Sequence[Any],
    psf: Any,
    *,
    peak: Peak | tuple[float, float] = "auto",
    seed: int = 0,
    sides: Sequence[int] = SIDES,
    names: Sequence[str] = (),
    scenes: Sequence[int] = (),
) -> Source:
    """Simulate measurements from sharp images.

    Parameters
    ----------
    images : sequence of array (Y, X)
        Sharp images on any scale.
    psf : array (Y, X)
        Odd-sized, centred, sum 1, at the images' pixel size.
    peak : float, tuple of float, or "auto"
        Photo-electrons, or their range; ``"auto"``: the whole range of the bundled models.
    seed : int
        Source of all randomness.
    sides : sequence of int
        Sides of a measured patch to choose from, pixels.
    names : sequence of str
        What the images are called in sentences, beside their numbers.
    scenes : sequence of int
        As for `hold_back`.

    Raises
    ------
    UserError
        Images that cannot be used, or too few of them.
    """
    kernel = square(psf)
    ranges = Ranges(floor=FLOOR) if peak == "auto" else Ranges(peak=_range(peak), floor=FLOOR)
    planes, notes = usable(images, names, truth=True)
    normal = {called: normalise(image) for called, image in planes.items()}
    lit, dark = without_dark(normal, sides[-1], [DARK] * len(normal))
    sharp, shown = [normal[called] for called in lit], _scenes(numbered("image", images, names), scenes, lit)
    reach = kernel.shape[0] - 1
    split = hold_back(
        [image.shape for image in sharp], [side + reach for side in sides], seed=seed, scenes=shown
    )
    train, held = ([sharp[i][place] for i, place in part] for part in (split.train, split.held))

    def simulated(parts: Sequence[Image], side: int, seed: int) -> Draw:
        named = {str(i): part for i, part in enumerate(parts)}
        sampler = Sampler({"fluorescence": 1}, fluorescence=named, patch=side, seed=seed)
        return partial(measure, sampler, ranges=ranges, draw_psf=lambda rng: kernel)

    seen = {
        shown[i]: tuple(n - reach for n in image.shape)
        for (i, _), image in zip(split.held, held, strict=True)
    }
    side, deciding = _deciding(seen.values(), sides, MOST)
    return Source(
        "clean",
        simulated(train, split.side, seed),
        simulated(held, side + reach, seed + 1)(0, deciding),
        {
            "images": len(sharp),
            "peak": ranges.peak,
            "floor": ranges.floor,
            "psf": kernel.shape,
            "patch": split.side - reach,
        },
        (*notes, *dark),
    )


def paired_source(
    images: Sequence[Any],
    targets: Sequence[Any],
    psf: Any,
    *,
    peak: Peak = "auto",
    seed: int = 0,
    sides: Sequence[int] = SIDES,
    names: Sequence[str] = (),
    scenes: Sequence[int] = (),
) -> Source:
    """Reconstruct from short exposures what long ones of the same fields confirm.

    Parameters
    ----------
    images, targets : sequence of array (Y, X)
        Photo-electrons of the short and of the long exposures, in the same order.
    psf : array (Y, X)
        Odd-sized, centred, sum 1, at the images' pixel size.
    peak : float or "auto"
        Photo-electrons of the short exposures; ``"auto"``: estimated for each.
    seed, sides, names, scenes
        As for `clean_source`.

    Raises
    ------
    UserError
        Images that cannot be used, too few of them, or pairs that are none.
    """
    kernel, peak = square(psf), _one_peak(peak)
    if len(images) != len(targets):
        raise UserError(
            f"There are {len(images)} images and {len(targets)} targets: give one target for each image."
        )
    shorts, notes = usable(images, names)
    longs, more = usable(targets, [f"of {name}" for name in names], role="target")
    if missing := [*notes, *more] if len(shorts) < len(images) or len(longs) < len(targets) else []:
        raise UserError(f"{missing[0].removesuffix(' and was left out.')}: take that pair out.")
    called = numbered("pair", images, names)
    pairs = [
        register(low, high, name=name)
        for name, low, high in zip(called, shorts.values(), longs.values(), strict=True)
    ]
    fields, said = {}, []
    for name, pair, scene in zip(called, pairs, _scenes(called, scenes), strict=True):
        photons, sentences = _photons(pair.low, peak, name)
        fields[name] = Field(pair.low, *photons, again=pair.high, exposure=pair.exposure, scene=scene)
        said += sentences
        if any(pair.shift):
            said.append(
                f"The target of {name} was moved by {pair.shift[0]:.2f}, {pair.shift[1]:.2f} pixels (Y, X)."
            )
    facts = {
        "images": len(pairs),
        "shifts": [pair.shift for pair in pairs],
        "exposures": [pair.exposure for pair in pairs],
        "offsets": [pair.offset for pair in pairs],
    }
    noise, _ = _foreign_noise(fields.values())
    said += [f"{noise}."] if noise else []
    return _counted("paired", fields, kernel, facts, said, seed, sides)


def noisy_source(
    images: Sequence[Any],
    psf: Any,
    *,
    peak: Peak = "auto",
    seed: int = 0,
    sides: Sequence[int] = SIDES,
    names: Sequence[str] = (),
    scenes: Sequence[int] = (),
) -> Source:
    """Judge by a part of each image's photo-electrons what is reconstructed from the others: no ground truth.

    Parameters
    ----------
    images : sequence of array (Y, X)
        Whole photo-electrons, Poisson distributed; floats are rounded.
    psf : array (Y, X)
        Odd-sized, centred, sum 1, at the images' pixel size.
    peak : float or "auto"
        Photo-electrons; ``"auto"``: estimated for each image.
    seed, sides, names, scenes
        As for `clean_source`.

    Raises
    ------
    UserError
        Images that cannot be used, too few of them, or counts whose noise is not that of photo-electrons.

    Notes
    -----
    Binomial thinning splits Poisson counts into independent Poisson counts; cf. Leiner et al., arXiv:2112.11079.
    """
    kernel, peak = square(psf), _one_peak(peak)
    planes, notes = usable(images, names)
    said = list(notes)
    whole = {name: np.rint(image) for name, image in planes.items()}
    if any((planes[name] != counts).any() for name, counts in whole.items()):
        if max(float(image.max()) for image in planes.values()) <= 1:
            raise UserError(
                "The images hold fractions and no counts: give raw camera counts with their offset and gain."
            )
        said.append("The images hold fractions of photo-electrons: they were rounded to whole ones.")
    fields = {}
    shown = _scenes(numbered("image", images, names), scenes, [*whole])
    for (name, counts), scene in zip(whole.items(), shown, strict=True):
        photons, sentences = _photons(counts, peak, name)
        fields[name] = Field(counts, *photons, scene=scene)
        said += sentences
    noise, certain = _foreign_noise(fields.values())
    if noise and certain:
        raise UserError(f"{noise}; by a part of such counts nothing can be judged.")
    said += [f"{noise}; by a part of such counts nothing can be judged."] if noise else []
    return _counted("noisy", fields, kernel, {"images": len(planes)}, said, seed, sides)


def _range(peak: float | tuple[float, float]) -> tuple[float, float]:
    low, high = peak if isinstance(peak, tuple) else (peak, peak)
    if not 0 < low <= high < np.inf:
        raise UserError(
            f"The peak {low:g}:{high:g} is not possible: give photo-electrons above 0, the lower first."
        )
    return low, high


def _one_peak(peak: Any) -> Peak:
    if isinstance(peak, tuple):
        raise UserError("A range of peaks is for clean images: give one number, or let it be estimated.")
    return "auto" if peak == "auto" else _range(peak)[0]


def _photons(counts: Image, peak: Peak, name: str) -> tuple[tuple[float, float], list[str]]:
    """Return peak and background of an image, and what its estimate warns of."""
    try:
        found = estimate_photons(counts)
    except UserError as error:
        raise UserError(f"The {name}: {error}") from error
    return (found.peak if peak == "auto" else peak, found.background), [
        f"The {name}: {warning}" for warning in found.warnings
    ]


def _scenes(called: Sequence[str], scenes: Sequence[int], among: Sequence[str] | None = None) -> list[int]:
    """Return the scenes of some of the images, or of all; where none are given every image is its own."""
    known = dict(zip(called, scenes or range(len(called)), strict=True))
    return [known[name] for name in among or called]


def _foreign_noise(fields: Collection[Field]) -> tuple[str, bool]:
    """Return what to do about noise that is not that of photo-electrons, if it is not, and whether that is certain."""
    noise, certain = float(np.median([noise_ratio(sample(field.counts)) for field in fields])), True
    least, most = PHOTON_NOISE
    if noise > most:  # or structures as fine as pixels add to it: brightness tells them apart, where it tells
        gains = (estimate_camera(field.counts, offset=0.0, read_noise=0.0).gain for field in fields)
        told = [gain for gain in gains if gain is not None]
        noise, certain = float(np.median(told)) if told else noise, bool(told)
    if least < noise < most:
        return "", certain
    known = "" if certain else ", unless they show structures as fine as pixels"
    return (
        f"The noise of the images has {noise:.2g} times the variance of photon noise{known}: give the camera's gain "
        "and offset, or raw counts if these are processed"
    ), certain


def _deciding(shapes: Collection[tuple[int, ...]], sides: Sequence[int], most: int) -> tuple[int, int]:
    """Return side and number of the held-out patches that decide.

    Raises
    ------
    UserError
        Fewer than two places.
    """
    counts = {side: sum(len(places(shape, side)) for shape in shapes) for side in sides}
    side = next(
        (side for side, count in counts.items() if count >= DECIDING), max(counts, key=counts.__getitem__)
    )
    if counts[side] < 2:
        raise UserError(
            f"What is held back shows a single place of {side} x {side} pixels, too little to judge by: give more "
            "images, or larger ones."
        )
    return side, min(most, counts[side])


def _counted(
    kind: str,
    fields: Mapping[str, Field],
    psf: Image,
    facts: Mapping[str, Any],
    notes: Sequence[str],
    seed: int,
    sides: Sequence[int],
) -> Source:
    floors = [field.background + DARK * field.peak for field in fields.values()]
    lit, dark = without_dark({name: field.counts for name, field in fields.items()}, sides[-1], floors)
    used = [fields[name] for name in lit]
    split = hold_back(
        [field.counts.shape for field in used], sides, seed=seed, scenes=[field.scene for field in used]
    )
    train, held = ([used[i].cut(place) for i, place in part] for part in (split.train, split.held))
    side, deciding = _deciding(
        {field.scene: field.counts.shape for field in held}.values(), sides, MOST_COUNTED
    )
    return Source(
        kind,
        Patches(train, psf, split.side, seed).draw,
        Patches(held, psf, side, seed + 1).apart(deciding),
        {
            **facts,
            "peaks": [field.peak for field in used],
            "backgrounds": [field.background for field in used],
            "psf": psf.shape,
            "patch": split.side,
        },
        tuple(dict.fromkeys((*notes, *dark))),
    )
