"""Sharp 3D scenes (Z, Y, X) with exact truth; registered with the 2D ones in ``scenes``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from napari_deqmd.training.rendering import (
    Floats,
    Image,
    blob,
    coverage,
    lines,
    lognormal,
    noise,
    nucleus,
    scattered,
    splat,
    worms,
)

Rng = np.random.Generator
Shape = tuple[int, ...]


def _aspect(rng: Rng, aspect: float | None) -> float:
    return float(rng.choice([1.0, 2.0, 3.0])) if aspect is None else aspect


def _count(rng: Rng, shape: Shape, low: float, high: float) -> int:
    """Number of objects: ``low`` to ``high`` (log-uniform) on 16 x 128 x 128 voxels."""
    share = float(np.prod(shape)) / (16 * 128**2)
    return max(1, round(share * float(np.exp(rng.uniform(np.log(low), np.log(high))))))


def _apart(rng: Rng, shape: Shape, count: int, gap: float, aspect: float) -> Floats:
    """Up to ``count`` positions that keep ``gap`` pixels (in the plane's unit) between each other."""
    unit = np.array([aspect, 1.0, 1.0])
    kept: list[Floats] = []
    for point in scattered(rng, shape, 20 * count):
        if all(float(np.linalg.norm((point - other) * unit)) > gap for other in kept):
            kept.append(point)
        if len(kept) == count:
            break
    return np.array(kept)


def nuclei_3d(rng: Rng, shape: Shape, *, aspect: float | None = None, radius: float | None = None) -> Image:
    """Textured ellipsoids that hardly overlap. ``aspect``: voxel depth over width; ``radius``: pixels."""
    aspect = _aspect(rng, aspect)
    radius = float(rng.uniform(7, 20)) if radius is None else radius
    wobble = noise(rng, shape, 0.6 * radius, aspect=aspect)
    texture = noise(rng, shape, rng.uniform(1.2, 2.5), aspect=aspect)
    image = np.zeros(shape, np.float32)
    centres = _apart(rng, shape, _count(rng, shape, 4, 25), 2.0 * radius, aspect)
    for centre, bright in zip(centres, lognormal(rng, len(centres), 0.5), strict=True):
        radii = radius * rng.uniform(0.75, 1.2, 3) / np.array([aspect, 1, 1])
        window, depth = blob(centre, radii, rng.uniform(0, np.pi), wobble, roughness=0.06)
        if depth.size:
            image[window] = np.maximum(image[window], bright * nucleus(rng, depth, texture[window]))
    return image


def shells_3d(rng: Rng, shape: Shape, *, aspect: float | None = None) -> Image:
    """Membranes of cells and organelles: thin uneven ellipsoidal shells."""
    aspect = _aspect(rng, aspect)
    wobble = noise(rng, shape, rng.uniform(6, 15), aspect=aspect)
    image = np.zeros(shape, np.float32)
    for bright in lognormal(rng, _count(rng, shape, 3, 20), 0.5):
        radii = rng.uniform(5, 30) * rng.uniform(0.7, 1.3, 3) / np.array([aspect, 1, 1])
        centre = scattered(rng, shape, 1, 4)[0]
        window, depth = blob(centre, radii, rng.uniform(0, np.pi), wobble, roughness=0.1)
        rim = np.exp(-0.5 * (depth / rng.uniform(0.6, 1.2)) ** 2)
        image[window] += bright * (rim + rng.choice([0.0, 0.1]) * coverage(depth))
    return image


def filaments_3d(rng: Rng, shape: Shape, *, aspect: float | None = None) -> Image:
    """Curves that run mostly in the plane and cross at different depths."""
    aspect = _aspect(rng, aspect)
    count = _count(rng, shape, 25, 150)
    starts = scattered(rng, shape, count, 5)
    curves = worms(
        rng,
        starts,
        length=rng.uniform(30, 150),
        persistence=np.exp(rng.uniform(4, 7)),
        step=0.5,
        aspect=aspect,
    )
    return lines(shape, curves, lognormal(rng, count, 0.5), rng.choice([0.0, 0.4, 0.7]), step=0.5)


def vesicles_3d(rng: Rng, shape: Shape, *, aspect: float | None = None) -> Image:
    """Points, small balls and small hollow shells."""
    aspect = _aspect(rng, aspect)
    count = _count(rng, shape, 60, 800)
    image = 4 * splat(shape, scattered(rng, shape, count), lognormal(rng, count, 0.7))
    if rng.random() < 0.5:
        image = 4 * ndimage.gaussian_filter(image, (0.6 / aspect, 0.6, 0.6))
    wobble = np.zeros(shape, np.float32)
    balls = max(1, count // 5)
    for bright in lognormal(rng, balls, 0.5):
        radii = rng.uniform(1.5, 5) / np.array([aspect, 1, 1])
        window, depth = blob(scattered(rng, shape, 1)[0], radii, 0.0, wobble)
        body = np.exp(-0.5 * (depth / 0.7) ** 2) if rng.random() < 0.4 else coverage(depth)
        image[window] += bright * body
    return np.asarray(image, dtype=np.float32)


VOLUMES: dict[str, Callable[[Rng, Shape], Image]] = {
    "nuclei_3d": nuclei_3d,
    "shells_3d": shells_3d,
    "filaments_3d": filaments_3d,
    "vesicles_3d": vesicles_3d,
}
