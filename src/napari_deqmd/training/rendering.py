"""Drawing primitives of the scene generator: anti-aliased points, curves, blobs and noise in 2D and 3D."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Image = NDArray[np.float32]
Floats = NDArray[np.floating]

_SPLAT_VARIANCE = 1 / 6  # of linear splatting, averaged over sub-pixel positions


def splat(shape: Sequence[int], points: Floats, weights: Floats) -> Image:
    """Add point sources to an empty grid, each shared linearly between its neighbours.

    Parameters
    ----------
    shape : sequence of int
        Grid of D axes.
    points : array, (N, D)
        Positions in pixels; those outside the grid are dropped.
    weights : array, (N,)
        Energy of each point, >= 0.

    Returns
    -------
    array, ``shape``
        The sum over the grid is the energy of the points well inside.
    """
    size = np.asarray(shape)
    inside = np.all((points > -1) & (points < size), axis=1)
    points, weights = points[inside], weights[inside]
    floor = np.floor(points).astype(np.int64)
    fraction = points - floor
    padded = tuple(int(n) + 2 for n in shape)
    total = np.zeros(int(np.prod(padded)))
    for corner in itertools.product((0, 1), repeat=len(padded)):
        share = weights * np.prod(np.where(corner, fraction, 1 - fraction), axis=1)
        index = np.ravel_multi_index(tuple((floor + corner + 1).T), padded)
        total += np.bincount(index, weights=share, minlength=total.size)
    crop = (slice(1, -1),) * len(padded)
    return np.asarray(total.reshape(padded)[crop], dtype=np.float32)


def noise(rng: np.random.Generator, shape: Sequence[int], scale: float, *, aspect: float = 1.0) -> Image:
    """Gaussian random field of zero mean and unit deviation, smooth over ``scale`` pixels (periodic).

    ``aspect`` is the voxel's depth over its width; it shrinks the scale along the first of three axes.
    """
    spectrum = fft.rfftn(rng.standard_normal(tuple(shape), dtype=np.float32))
    for axis, n in enumerate(shape):
        last = axis == len(shape) - 1
        k = fft.rfftfreq(n) if last else fft.fftfreq(n)
        length = scale / aspect if len(shape) == 3 and axis == 0 else scale
        window = np.exp(-2 * (np.pi * k * length) ** 2).astype(np.float32)
        spectrum *= window.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    spectrum.flat[0] = 0
    field = fft.irfftn(spectrum, s=tuple(shape))
    return np.asarray(field / (field.std() + 1e-12), dtype=np.float32)


def worms(
    rng: np.random.Generator,
    starts: Floats,
    *,
    length: float,
    persistence: float,
    heading: Floats | None = None,
    curvature: float = 0.0,
    step: float = 0.33,
    aspect: float = 1.0,
) -> Floats:
    """Worm-like chains: smooth random curves from given starts.

    Parameters
    ----------
    starts : array, (K, D)
        First points, pixels.
    length, persistence : float
        Contour length and the length over which a curve forgets its direction, pixels.
    heading : array, (K,), optional
        First direction in the plane, radians; drawn when absent.
    curvature : float
        Deviation of a constant curvature per curve, 1 / pixel.
    step : float
        Distance between points, pixels.
    aspect : float
        Voxel depth over width (3D).

    Returns
    -------
    array, (K, N, D)
    """
    count, ndim = starts.shape
    n = max(2, int(length / step))
    first = np.asarray(rng.uniform(0, 2 * np.pi, count)) if heading is None else heading
    turns = rng.standard_normal((count, n)) * np.sqrt(step / persistence)
    turns += rng.standard_normal((count, 1)) * curvature * step
    turns = ndimage.uniform_filter1d(turns, min(9, n), axis=1, mode="nearest")
    angle = first[:, None] + np.cumsum(turns, axis=1)
    directions = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    if ndim == 3:
        climb = rng.normal(0, 0.4, (count, 1)) + np.cumsum(
            rng.standard_normal((count, n)) * np.sqrt(step / persistence) * 0.5, axis=1
        )
        slope = np.sin(climb)[..., None]
        directions = np.concatenate([slope / aspect, directions * np.sqrt(1 - slope**2)], axis=-1)
    return np.asarray(starts[:, None, :] + step * np.cumsum(directions, axis=1))


def lines(
    shape: Sequence[int], curves: Floats, brightness: Floats, sigma: float, *, step: float = 0.33
) -> Image:
    """Draw curves as Gaussian ridges whose crest is about ``brightness`` (per curve, or per point).

    ``curves`` (K, N, D) have points ``step`` pixels apart; ``sigma`` is the ridge's deviation in pixels,
    0 for the thinnest line the grid can hold.
    """
    if brightness.ndim == 1:
        brightness = np.broadcast_to(brightness[:, None], curves.shape[:2])
    ridge = splat(shape, curves.reshape(-1, curves.shape[-1]), step * brightness.ravel())
    if sigma > 0.15:
        ridge = ndimage.gaussian_filter(ridge, sigma, mode="constant", truncate=3.5)
    crest = np.sqrt(2 * np.pi * (sigma**2 + _SPLAT_VARIANCE)) ** (len(shape) - 1)
    return np.asarray(ridge * crest, dtype=np.float32)


def blob(
    centre: Floats, radii: Floats, angle: float, wobble: Image, *, roughness: float = 0.2
) -> tuple[tuple[slice, ...], Image]:
    """Ellipse or ellipsoid with an uneven outline.

    Parameters
    ----------
    centre, radii : array, (D,)
        Pixels.
    angle : float
        Rotation in the plane, radians.
    wobble : array
        Unit-deviation noise of the scene's shape that bends the outline by ``roughness`` radii.

    Returns
    -------
    window : tuple of slice
        Bounding box inside the scene.
    depth : array
        Signed distance to the outline (approximate, pixels), positive inside.
    """
    plane = float(np.max(radii[-2:]))
    reach = np.full(len(radii), plane)
    if len(radii) == 3:
        reach[0] = radii[0]
    reach = reach * (1 + 3 * roughness) + 2
    window = tuple(
        slice(max(0, int(c - r)), max(0, min(n, int(c + r) + 1)))
        for c, r, n in zip(centre, reach, wobble.shape, strict=True)
    )
    grid = np.ogrid[window]
    y, x = (g - c for g, c in zip(grid[-2:], centre[-2:], strict=True))
    cos, sin = np.cos(angle), np.sin(angle)
    squared = ((cos * y + sin * x) / radii[-2]) ** 2 + ((cos * x - sin * y) / radii[-1]) ** 2
    if len(radii) == 3:
        squared = squared + ((grid[0] - centre[0]) / radii[0]) ** 2
    scale = float(np.min(radii[-2:]))
    depth = (1 + roughness * np.clip(wobble[window], -2.5, 2.5) - np.sqrt(squared)) * scale
    return window, np.asarray(depth, dtype=np.float32)


def coverage(depth: Image) -> Image:
    """Share of each pixel that lies inside, from the signed distance (anti-aliasing)."""
    return np.asarray(np.clip(depth + 0.5, 0, 1), dtype=np.float32)


def lognormal(rng: np.random.Generator, count: int, spread: float = 0.5) -> Floats:
    """Brightness of ``count`` objects: log-normal, median 1."""
    return np.asarray(np.exp(rng.normal(0, spread, count)))


def scattered(rng: np.random.Generator, shape: Sequence[int], count: int, margin: float = 0.0) -> Floats:
    """``count`` uniform positions, up to ``margin`` pixels outside the grid."""
    size = np.asarray(shape)
    return np.asarray(rng.uniform(-margin, size + margin, (count, len(size))))


def nucleus(rng: np.random.Generator, depth: Image, texture: Image) -> Image:
    """Chromatin texture inside an outline: exponentiated noise, dark nucleoli, bright foci, perhaps a rim."""
    inside = coverage(depth)
    body = np.exp(rng.uniform(0.1, 0.6) * texture)
    reach = np.asarray(depth.shape)
    for _ in range(rng.integers(0, 5)):
        radius = rng.uniform(1.5, 5)
        spot = reach * rng.uniform(0.25, 0.75, len(reach))
        grid = np.ogrid[tuple(slice(n) for n in depth.shape)]
        hole = coverage((radius - np.sqrt(sum((g - s) ** 2 for g, s in zip(grid, spot, strict=True)))) / 1.5)
        body *= 1 - rng.uniform(0.4, 0.9) * hole
    foci = int(rng.choice([0, 0, 4, 15]))
    if foci:
        spots = splat(depth.shape, reach * rng.uniform(0.15, 0.85, (foci, len(reach))), lognormal(rng, foci))
        body += ndimage.gaussian_filter(spots, rng.uniform(0.5, 1.3)) * rng.uniform(3, 10)
    if rng.random() < 0.2:
        body *= 0.3 + np.exp(-0.5 * ((depth - 1) / 1.2) ** 2)
    return np.asarray(body * inside, dtype=np.float32)
