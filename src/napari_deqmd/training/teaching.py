"""What measured images without a truth can teach: second counts the strength, a model's own images its weights.

Second counts judge an object by its blur only. Weights that are trained by them fill in what the blur hides with
whatever lowers the deviance: text tuned so for ten minutes lost 0.2 dB while its held-out deviance fell. The strength,
one curve over the peak, has no such freedom. Weights learn to restore what a model makes of the images, measured anew
(or, of a pair, what it makes of the long exposure from the short one); second counts that nothing was trained by then
judge fairly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from napari_deqmd.core.poisson import per_image
from napari_deqmd.core.regularizers import Regularizer
from napari_deqmd.training.equilibrium import Draw, fixed_point
from napari_deqmd.training.measurements import Observation, Recount, Taught

ITERATIONS, TOL = 40, 1e-4


def lessons(draw: Draw, teacher: Callable[[], Regularizer], seed: int) -> Draw:
    """Return batches with something to teach: of second counts every other one is taken for the weights.

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
        if isinstance(data, Recount) and number % 2:
            return taught(data, teacher(), np.random.default_rng([seed, 6, number]))
        return data

    return lesson


def taught(data: Recount, teacher: Regularizer, rng: np.random.Generator) -> Taught:
    """Return measurements whose truth is what the teacher makes of the best counts there are.

    Those are the long exposures of pairs, of which the short ones are the measurement; or all counts of thinned images,
    and what it makes of them is measured anew, as bright as they are.
    """
    device = next(teacher.parameters()).device
    whole = data.whole().to(device)
    problem = whole.problem(teacher)
    x, _ = fixed_point(problem, max_iter=ITERATIONS, tol=TOL)
    electrons, peak, background = data.electrons, data.peak, data.background
    if data.thinned:
        expected = (per_image(whole.peak, x) * problem.likelihood.expect(x)).cpu().double().numpy()
        electrons = torch.from_numpy(rng.poisson(expected).astype(np.float32))
        peak, background = whole.peak, whole.background
    truth = problem.likelihood.operator.crop(x)
    return Taught(electrons, data.psf, peak, background, truth.to(peak.device), boundary=data.boundary).to(
        torch.device("cpu")
    )
