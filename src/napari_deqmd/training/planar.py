"""Sharp 2D scenes (Y, X) with exact truth; registered with the 3D ones in ``scenes``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_deqmd.training.rendering import (
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


def _count(rng: Rng, shape: Shape, low: float, high: float) -> int:
    """Number of objects: ``low`` to ``high`` (log-uniform) on 128 x 128 pixels."""
    area = shape[-2] * shape[-1] / 128**2
    return max(1, round(area * float(np.exp(rng.uniform(np.log(low), np.log(high))))))


def filaments(rng: Rng, shape: Shape) -> Image:
    """Microtubule- or actin-like curves: scattered or from an aster, with or without a cell's outline."""
    image = np.zeros(shape, np.float32)
    aster = rng.random() < 0.35
    origin = scattered(rng, shape, 1)
    for _ in range(rng.integers(1, 4)):
        count = _count(rng, shape, 3, 35)
        starts = origin + rng.normal(0, 4, (count, 2)) if aster else scattered(rng, shape, count, 20)
        length = rng.uniform(30, 1.2 * max(shape) + 30)
        curves = worms(
            rng, starts, length=length, persistence=np.exp(rng.uniform(4, 8)), curvature=rng.choice([0, 0.01])
        )
        ripple = 1 + 0.35 * np.sin(
            np.arange(curves.shape[1]) * rng.uniform(0.005, 0.1, (count, 1)) + rng.uniform(0, 6, (count, 1))
        )
        bright = lognormal(rng, count, 0.5)[:, None] * ripple * rng.uniform(0.4, 1.2)
        image += lines(shape, curves, bright, rng.choice([0.0, 0.35, 0.5, 0.7, 1.0]))
    if rng.random() < 0.4:
        radii = np.asarray(shape) * rng.uniform(0.3, 0.6, 2)
        centre = np.asarray(shape) * rng.uniform(0.25, 0.75, 2)
        window, depth = blob(centre, radii, rng.uniform(0, np.pi), noise(rng, shape, 25))
        mask = np.zeros(shape, np.float32)
        mask[window] = np.clip(depth / rng.uniform(1, 8), 0, 1)
        image = image * mask + mask * rng.choice([0.0, 0.05])
    return image


def network(rng: Rng, shape: Shape) -> Image:
    """Reticulum-like meshes: the zero lines of a random field, brighter where a second field is."""
    scale = rng.uniform(2.5, 8)
    field = noise(rng, shape, scale)
    gy, gx = np.gradient(field)
    distance = np.abs(field) / (np.hypot(gy, gx) + 0.02)
    mesh = np.exp(-0.5 * (distance / rng.uniform(0.5, 1.1)) ** 2)
    envelope = np.clip(noise(rng, shape, rng.uniform(10, 30)) + rng.uniform(0, 1.5), 0, None)
    return np.asarray(mesh * envelope, dtype=np.float32)


def contours(rng: Rng, shape: Shape) -> Image:
    """Closed wavy membranes, each with its brightness, a part of them filled with a faint interior."""
    image = np.zeros(shape, np.float32)
    wobble = noise(rng, shape, rng.uniform(6, 20))
    for bright in lognormal(rng, _count(rng, shape, 2, 14), 0.5):
        radii = np.exp(rng.uniform(np.log(5), np.log(40))) * rng.uniform(0.7, 1.3, 2)
        window, depth = blob(scattered(rng, shape, 1, 10)[0], radii, rng.uniform(0, np.pi), wobble)
        rim = np.exp(-0.5 * (depth / rng.uniform(0.45, 1.2)) ** 2)
        image[window] += bright * (rim + rng.choice([0.0, 0.1, 0.3]) * coverage(depth))
    return np.asarray(image * np.clip(1 + 0.3 * noise(rng, shape, 8), 0.1, None), dtype=np.float32)


def tissue(rng: Rng, shape: Shape) -> Image:
    """Epithelium: the borders of warped Voronoi cells, some cells filled, some borders bright."""
    size = float(np.exp(rng.uniform(np.log(8), np.log(35))))
    count = max(3, int(np.prod(np.asarray(shape) + 2 * size) / size**2))
    seeds = scattered(rng, shape, count, size)
    rows, columns = np.indices(shape, dtype=np.float32)
    warp = 0.12 * size
    rows += warp * noise(rng, shape, 0.5 * size)
    columns += warp * noise(rng, shape, 0.5 * size)
    distance, nearest = cKDTree(seeds).query(np.stack([rows, columns], -1).reshape(-1, 2), k=2)
    gap = np.linalg.norm(seeds[nearest[:, 0]] - seeds[nearest[:, 1]], axis=1)
    border = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * gap + 1e-6)
    bright = lognormal(rng, count, 0.35)
    edge = bright[nearest].prod(axis=1) * np.exp(-0.5 * (border / rng.uniform(0.5, 1.1)) ** 2)
    fill = lognormal(rng, count, 0.8)[nearest[:, 0]] * rng.choice([0.0, 0.0, 0.05, 0.2])
    image = (edge + fill).reshape(shape).astype(np.float32)
    return np.asarray(image * np.clip(1 + 0.25 * noise(rng, shape, 5), 0.1, None), dtype=np.float32)


def nuclei(rng: Rng, shape: Shape, *, crowding: float | None = None) -> Image:
    """Nuclei with internal texture on a dark ground; ``crowding`` near 1 packs them as in tissue."""
    radius = float(np.exp(rng.uniform(np.log(5), np.log(24))))
    crowding = rng.uniform(0.1, 0.8) if crowding is None else crowding
    pitch = 2.1 * radius / np.sqrt(crowding)
    wobble, texture = noise(rng, shape, 0.6 * radius), noise(rng, shape, rng.uniform(1, 3))
    image = np.zeros(shape, np.float32)
    rows, columns = (np.arange(-rng.uniform(0, pitch), n + pitch, pitch) for n in shape)
    centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    centres = centres + rng.normal(0, 0.22 * pitch, centres.shape)
    for centre, bright in zip(centres, lognormal(rng, len(centres), 0.5), strict=True):
        if rng.random() < 0.12:
            continue
        radii = radius * rng.uniform(0.75, 1.25, 2)
        window, depth = blob(centre, radii, rng.uniform(0, np.pi), wobble, roughness=0.08)
        if depth.size:
            image[window] += bright * nucleus(rng, depth, texture[window])
    return image


def puncta(rng: Rng, shape: Shape) -> Image:
    """Vesicles: sub-diffraction points to small rings, log-normal, spread or gathered in clusters."""
    count = _count(rng, shape, 10, 300)
    points = scattered(rng, shape, 3 * count)
    if rng.random() < 0.5:
        field = noise(rng, shape, rng.uniform(8, 25))
        index = np.clip(points.astype(int), 0, np.asarray(shape) - 1)
        points = points[np.argsort(-field[tuple(index.T)] + rng.normal(0, 0.5, len(points)))]
    points = points[:count]
    bright = lognormal(rng, count, rng.uniform(0.4, 1.0))
    image = 2 * splat(shape, points, bright)
    if rng.random() < 0.6:
        image = 2.5 * ndimage.gaussian_filter(image, rng.uniform(0.35, 0.9))
    rings = max(1, count // 12) if rng.random() < 0.5 else 0
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    circle = np.stack([np.sin(turn), np.cos(turn)], -1)
    radii = rng.uniform(1.5, 5, (rings, 1, 1))
    if rings:
        outline = scattered(rng, shape, rings)[:, None] + radii * circle
        weight = lognormal(rng, rings)[:, None] * radii[..., 0] * (2 * np.pi / 64 / 0.33) * np.ones((1, 64))
        image = image + lines(shape, outline, weight, rng.choice([0.0, 0.5, 0.8]))
    return np.asarray(image, dtype=np.float32)


def mitochondria(rng: Rng, shape: Shape) -> Image:
    """Short bent worms of even width, spread or around a nucleus, granular inside."""
    count = _count(rng, shape, 8, 60)
    starts = scattered(rng, shape, count, 8)
    if rng.random() < 0.4:
        angle, radius = rng.uniform(0, 2 * np.pi, count), rng.normal(0.28, 0.1, count) * min(shape)
        starts = np.asarray(shape) / 2 + np.abs(radius)[:, None] * np.stack(
            [np.sin(angle), np.cos(angle)], -1
        )
    image = np.zeros(shape, np.float32)
    for part in np.array_split(starts, 3):
        if len(part):
            curves = worms(rng, part, length=rng.uniform(5, 40), persistence=rng.uniform(15, 80))
            image += lines(shape, curves, lognormal(rng, len(part), 0.4), rng.uniform(0.7, 1.5))
    image = image / (1 + 0.25 * image)
    return np.asarray(image * np.exp(0.25 * noise(rng, shape, 1.2)), dtype=np.float32)


def bacteria(rng: Rng, shape: Shape) -> Image:
    """Rods with hard edges, evenly filled or with a bright membrane."""
    image = np.zeros(shape, np.float32)
    width, rim = rng.uniform(1.5, 5), rng.random() < 0.4
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    for bright in lognormal(rng, _count(rng, shape, 5, 60), 0.5):
        centre, angle, half = scattered(rng, shape, 1)[0], rng.uniform(0, np.pi), rng.uniform(2, 12)
        y, x = (g - c for g, c in zip(grid, centre, strict=True))
        along = np.cos(angle) * y + np.sin(angle) * x
        depth = width - np.hypot(along - np.clip(along, -half, half), np.cos(angle) * x - np.sin(angle) * y)
        body = np.exp(-0.5 * (depth / 0.7) ** 2) + 0.2 * coverage(depth) if rim else coverage(depth)
        image = np.maximum(image, bright * body)
    return image


def cells(rng: Rng, shape: Shape) -> Image:
    """Whole cells: faint cytoplasm, filaments, a nucleus (bright or left dark) and vesicles."""
    image = np.zeros(shape, np.float32)
    wobble, texture = noise(rng, shape, 18), noise(rng, shape, 1.8)
    grain = np.clip(1 + 0.35 * noise(rng, shape, 3), 0, None)
    parts = puncta(rng, shape) * rng.choice([0.0, 0.15, 0.4]) + mitochondria(rng, shape) * rng.choice(
        [0.0, 0.5]
    )
    for bright in lognormal(rng, _count(rng, shape, 1.5, 8), 0.5):
        radii = rng.uniform(18, 50) * rng.uniform(0.7, 1.4, 2)
        centre, angle = scattered(rng, shape, 1, 10)[0], rng.uniform(0, np.pi)
        window, depth = blob(centre, radii, angle, wobble, roughness=0.25)
        core = 0.38 * radii
        count = int(rng.integers(8, 45))
        around = rng.uniform(0, 2 * np.pi, count)
        starts = centre + 0.5 * core.mean() * np.stack([np.sin(around), np.cos(around)], -1)
        spread, jitter = np.exp(rng.uniform(3.5, 6)), rng.normal(0, rng.choice([0.1, 1.5]), count)
        curves = worms(rng, starts, length=1.3 * radii.max(), persistence=spread, heading=around + jitter)
        threads = lines(shape, curves, lognormal(rng, count, 0.4), rng.choice([0.0, 0.4, 0.7]))
        body = rng.uniform(0.03, 0.2) * grain + rng.uniform(0.3, 0.7) * threads + parts
        inside = np.clip(depth / 2, 0, 1)
        cell = np.zeros(shape, np.float32)
        cell[window] = inside * body[window]
        box, deep = blob(centre + rng.normal(0, 3, 2), core, angle, wobble, roughness=0.06)
        if deep.size:
            cell[box] *= 1 - rng.uniform(0.5, 1) * coverage(deep)
            cell[box] += rng.choice([0.0, 0.6, 1.0]) * nucleus(rng, deep, texture[box])
        image += bright * cell
    return image


def dense_tissue(rng: Rng, shape: Shape) -> Image:
    """Packed nuclei with cell borders between them."""
    return np.asarray(
        nuclei(rng, shape, crowding=rng.uniform(0.8, 1.0)) + rng.uniform(0, 0.8) * tissue(rng, shape)
    )


def bars(rng: Rng, shape: Shape) -> Image:
    """Resolution patterns: groups of parallel bars of any pitch and direction, or a Siemens star."""
    rows, columns = np.indices(shape, dtype=np.float32)
    if rng.random() < 0.2:
        y, x = rows - rng.uniform(0.3, 0.7) * shape[0], columns - rng.uniform(0.3, 0.7) * shape[1]
        spokes, radius = int(rng.integers(8, 40)), np.hypot(y, x)
        wave = np.sin(spokes * np.arctan2(y, x)) * radius / spokes
        return np.asarray(coverage(wave) * coverage(0.45 * min(shape) - radius), dtype=np.float32)
    image = np.zeros(shape, np.float32)
    straight = rng.random() < 0.5
    for bright in lognormal(rng, _count(rng, shape, 3, 20), 0.4):
        centre = scattered(rng, shape, 1)[0]
        angle = rng.integers(0, 2) * np.pi / 2 if straight else rng.uniform(0, np.pi)
        pitch = float(np.exp(rng.uniform(np.log(2.2), np.log(14))))
        count, length = int(rng.integers(1, 6)), rng.uniform(2, 6) * pitch
        y, x = rows - centre[0], columns - centre[1]
        across, along = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
        nearest = np.clip(np.round(across / pitch), -(count // 2), (count - 1) // 2) * pitch
        bar = coverage(pitch / 4 - np.abs(across - nearest)) * coverage(length / 2 - np.abs(along))
        image = np.maximum(image, bright * bar)
    return np.asarray(image, dtype=np.float32)


PLANAR: dict[str, Callable[[Rng, Shape], Image]] = {
    "filaments": filaments,
    "network": network,
    "contours": contours,
    "tissue": tissue,
    "nuclei": nuclei,
    "puncta": puncta,
    "mitochondria": mitochondria,
    "bacteria": bacteria,
    "cells": cells,
    "dense_tissue": dense_tissue,
    "bars": bars,
}
