"""Beads have a size: the ball, and an image without it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float64]

_ITERATIONS = 60


def without_ball(psf: Volume, noise: float, diameter: float, voxels: tuple[float, ...]) -> Volume:
    """Deconvolve the ball, which is what blurs here, until what is left is noise."""
    import torch

    from napari_deqmd.core.operators import Blur
    from napari_deqmd.core.problem import Problem
    from napari_deqmd.core.regularizers import NoRegularizer
    from napari_deqmd.core.solvers.richardson_lucy import richardson_lucy

    seen = torch.from_numpy(psf.clip(min=0) / psf.max()).float()[None, None]
    operator = Blur(torch.from_numpy(ball_of(diameter, voxels)), psf.shape)
    one = torch.ones(1)
    problem = Problem.from_electrons(
        seen, operator, NoRegularizer(), peak=one, background=1e-5 * one, upper=math.inf
    )
    found = seen
    for step in richardson_lucy(problem, max_iter=_ITERATIONS):
        found = operator.crop(step.iterate)
        left = float((operator.forward(step.iterate) - seen).norm()) * psf.max()
        if left <= noise:  # never where one bead cannot tell it
            break
    return np.asarray(found[0, 0].double().numpy())


def ball_of(diameter: float, voxels: tuple[float, ...]) -> NDArray[np.float32]:
    """Return a ball, averaged over voxels; in 2D its shadow."""
    sizes = voxels if len(voxels) == 3 else (voxels[-1], *voxels)
    fine = 9
    half = [math.ceil(diameter / 2 / size + 0.5) for size in sizes]
    axes = [
        (np.arange((2 * h + 1) * fine) - ((2 * h + 1) * fine - 1) / 2) / fine * size
        for h, size in zip(half, sizes, strict=True)
    ]
    away: Volume = np.asarray(sum(np.square(one) for one in np.meshgrid(*axes, indexing="ij", sparse=True)))
    inside = np.asarray(away <= (diameter / 2) ** 2)
    shape = [n for h in half for n in (2 * h + 1, fine)]
    ball = inside.reshape(shape).mean(axis=(1, 3, 5))
    ball = ball if len(voxels) == 3 else ball.sum(axis=0)
    return np.asarray(ball / ball.sum(), np.float32)
