"""What measured images without a truth can teach: second counts the strength, a model's own images its weights.

Second counts judge an object by its blur only. Weights that are trained by them fill in what the blur hides with
whatever lowers the deviance: text tuned so for ten minutes lost 0.2 dB while its held-out deviance fell. The strength,
one curve over the peak, has no such freedom. Weights learn to restore what a model makes of the images, made a little
smaller and measured anew (or, of a pair, what it makes of the long exposure from the short one); second counts that
nothing was trained by then judge fairly. Smaller images show what the blur hides of larger ones, where structures look
alike at several sizes: Scanvic et al., arXiv:2312.11232.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from napari_deqmd.core.operators import Blur
from napari_deqmd.core.poisson import per_image
from napari_deqmd.core.regularizers import Regularizer
from napari_deqmd.training.equilibrium import Draw, fixed_point
from napari_deqmd.training.measurements import Observation, Recount, Taught

ITERATIONS, TOL = 40, 1e-4
SHARES = 0.7, 0.95
"""Side of what is measured anew over that of its image, uniform."""

PARTS, EXPOSURES = 4, 2
"""One in so many batches is left to the strength: of thinned counts (more, and it falls too far), and of pairs."""


def lessons(draw: Draw, teacher: Callable[[], Regularizer], seed: int) -> Draw:
    """Return batches with something to teach: some of second counts are left to the strength, the others to weights.

    Parameters
    ----------
    draw : callable
        Batches of measurements.
    teacher : callable
        Returns the model whose reconstructions stand for the truth.
    seed : int
        Of the noise of what is measured anew.
    """

    def lesson(number: int, batch: int) -> Observation:
        data = draw(number, batch)
        if isinstance(data, Recount) and number % (PARTS if data.thinned else EXPOSURES):
            return taught(data, teacher(), np.random.default_rng([seed, 6, number]))
        return data

    return lesson


def taught(data: Recount, teacher: Regularizer, rng: np.random.Generator) -> Taught:
    """Return measurements whose truth is what the teacher makes of the best counts there are.

    Those are the long exposures of pairs, of which the short ones are the measurement; or all counts of thinned images,
    and what it makes of them is made smaller and measured anew, as bright as they are.
    """
    device = next(teacher.parameters()).device
    whole = data.whole().to(device)
    problem = whole.problem(teacher)
    x, _ = fixed_point(problem, max_iter=ITERATIONS, tol=TOL)
    measured: Observation = data
    operator = problem.likelihood.operator
    if data.thinned:
        share = rng.uniform(*SHARES)
        seen = tuple(round(share * n) for n in whole.electrons.shape[2:])
        operator = Blur(whole.psf, seen, boundary=data.boundary)
        x = functional.interpolate(x, operator.object_shape, mode="bicubic", antialias=True).clamp_min(0)
        expected = per_image(whole.peak, x) * operator.forward(x).clamp_min(0) + per_image(
            whole.background, x
        )
        counted = rng.poisson(expected.cpu().double().numpy()).astype(np.float32)
        measured = replace(whole, electrons=torch.from_numpy(counted))
    return Taught(
        measured.electrons,
        measured.psf,
        measured.peak,
        measured.background,
        operator.crop(x),
        boundary=data.boundary,
    ).to(torch.device("cpu"))
