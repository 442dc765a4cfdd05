"""Sharp fluorescence-like scenes with exact truth: what the shipped models are trained on.

Every generator draws at the final grid, anti-aliased, in pixels, from one ``numpy.random.Generator``. A scene
is float32, >= 0, its brightest structures about 1 and its objects' brightness spread over 3 x or more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from napari_deqmd.training.planar import PLANAR
from napari_deqmd.training.rendering import Image
from napari_deqmd.training.volumes import VOLUMES

Rng = np.random.Generator
Shape = tuple[int, ...]
Scene = Callable[[Rng, Shape], Image]


def section(rng: Rng, shape: Shape) -> Image:
    """One plane of a 3D scene, with the blurred light of its neighbours or without."""
    stack = VOLUMES[str(rng.choice(list(VOLUMES)))](rng, (13, *shape))
    image = stack[6]
    if rng.random() < 0.4:
        rest = np.delete(stack, 6, axis=0).mean(axis=0)
        image = image + rng.uniform(0.2, 1) * ndimage.gaussian_filter(rest, rng.uniform(2, 5))
    return np.asarray(image, dtype=np.float32)


def mixture(rng: Rng, shape: Shape) -> Image:
    """Two or three kinds over each other, as channels that bleed or crowded samples show."""
    image = np.zeros(shape, np.float32)
    for name in rng.choice(_SIMPLE, rng.integers(2, 4), replace=False):
        image += _unit(SCENES[name](rng, shape)) * np.float32(rng.uniform(0.2, 1))
    return image


_FLAT: dict[str, Scene] = {**PLANAR, "section": section, "mixture": mixture}
_SIMPLE = ("filaments", "network", "contours", "nuclei", "puncta", "mitochondria", "bacteria")
_WEIGHTS = {"filaments": 3.0, "cells": 2.5, "nuclei": 2.0, "mixture": 2.0, "puncta": 1.5}

SCENES: dict[str, Scene] = {**_FLAT, **VOLUMES}
"""Every kind of scene by name; the names ending in ``_3d`` take (Z, Y, X), the others (Y, X)."""


def _unit(image: Image) -> Image:
    """Scale so that the brightest structures are about 1 and single outliers at most 2."""
    lit = image[image > 0.02 * image.max()]
    if not lit.size:
        return image
    scale = max(float(np.percentile(lit, 98)), float(image.max()) / 2)
    return np.asarray(np.clip(image, 0, None) / scale, dtype=np.float32)


def make_scene(kind: str, shape: Sequence[int], rng: Rng) -> Image:
    """Draw one scene.

    Parameters
    ----------
    kind : str
        A name in ``SCENES``.
    shape : sequence of int
        (Y, X), or (Z, Y, X) for a kind ending in ``_3d``; pixels.
    rng : numpy.random.Generator
        Source of all randomness.

    Returns
    -------
    array of float32, ``shape``
        >= 0, brightest structures about 1. One in four has smooth out-of-focus haze; the ground of most
        others is exactly 0.

    Raises
    ------
    ValueError
        For an unknown kind or a shape of the wrong dimension.
    """
    if kind not in SCENES:
        raise ValueError(f"unknown scene {kind!r}: choose one of {', '.join(SCENES)}")
    shape = tuple(int(n) for n in shape)
    if len(shape) != (3 if kind in VOLUMES else 2):
        raise ValueError(
            f"scene {kind!r} cannot be drawn with shape {shape}: give (Y, X), or (Z, Y, X) for a 3D kind"
        )
    image = np.zeros(shape, np.float32)
    for _ in range(6):  # a sparse draw can miss a small grid
        image = _unit(SCENES[kind](rng, shape))
        if np.count_nonzero(image > 0.05) > 4:
            break
    if rng.random() < 0.25:
        haze = ndimage.gaussian_filter(
            image, (0.03 if len(shape) == 3 else 0.1) * rng.uniform(0.5, 1.5) * min(shape[-2:])
        )
        haze = haze / (haze.max() + 1e-6) if rng.random() < 0.5 else haze + haze.mean()
        image = _unit(image + np.float32(rng.uniform(0.03, 0.4)) * haze)
    return image


def random_scene(shape: Sequence[int], rng: Rng) -> Image:
    """Draw a scene of a random kind: the 2D kinds for (Y, X), the 3D kinds for (Z, Y, X)."""
    names = list(_FLAT if len(shape) == 2 else VOLUMES)
    weights = np.array([_WEIGHTS.get(name, 1.0) for name in names])
    return make_scene(str(rng.choice(names, p=weights / weights.sum())), shape, rng)
