"""The Poisson likelihood: value, gradient and exact differences, with peaks and backgrounds of every image."""

from __future__ import annotations

import pytest
import torch

from core.problems import random_psf
from core.tolerances import DTYPES, EXACT, GRADIENT, relative_error
from napari_deqmd.core.operators import Blur
from napari_deqmd.core.poisson import PoissonLikelihood, per_image, sum_images
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import NoRegularizer

PEAKS = (7.0, 130.0, 900.0)
BACKGROUNDS = (0.4, 11.0, 250.0)


def likelihood(dtype=torch.float64, shape=(9, 10), boundary="extended"):
    """Three images with peaks and backgrounds of their own and zeros among the counts."""
    rng = torch.Generator().manual_seed(0)
    electrons = torch.poisson(3 * torch.rand(3, 1, *shape, generator=rng, dtype=torch.float64), generator=rng)
    assert (electrons == 0).any()
    kernel = (3, 4, 3)[: len(shape)]
    problem = Problem.from_electrons(
        electrons.to(dtype),
        Blur(random_psf(kernel, dtype=dtype), shape, boundary=boundary),
        NoRegularizer(),
        peak=torch.tensor(PEAKS, dtype=dtype),
        background=torch.tensor(BACKGROUNDS, dtype=dtype),
    )
    return problem.likelihood, electrons


def objects(like, seed=1, scale=1.0):
    rng = torch.Generator().manual_seed(seed)
    shape = (like.y.shape[0], 1, *like.operator.object_shape)
    return (scale * torch.rand(shape, generator=rng, dtype=torch.float64) + 0.01).to(like.y.dtype)


def test_work_variables_are_over_each_images_peak():
    like, electrons = likelihood()
    for i in range(3):
        assert torch.allclose(like.y[i], electrons[i] / PEAKS[i], rtol=1e-12)
        assert like.beta[i].item() == pytest.approx(BACKGROUNDS[i] / PEAKS[i])


def test_value_is_the_log_likelihood_up_to_a_constant():
    """``peak (KL(x1) - KL(x2))`` is the difference of ``-log p(n | peak A x + background)``."""
    like, electrons = likelihood()
    x1, x2 = objects(like, 1), objects(like, 2)
    for i in range(3):
        negative_log = []
        for x in (x1, x2):
            mean = PEAKS[i] * like.operator.forward(x)[i] + BACKGROUNDS[i]
            negative_log.append(-torch.distributions.Poisson(mean).log_prob(electrons[i]).sum())
        change = like.value(like.expect(x1)) - like.value(like.expect(x2))
        assert PEAKS[i] * change[i].item() == pytest.approx(
            (negative_log[0] - negative_log[1]).item(), rel=1e-9
        )


def test_value_is_zero_at_the_data_only():
    like, _ = likelihood()
    seen = like.y + 0.5
    exact = PoissonLikelihood(like.operator, seen, like.beta)
    assert exact.value(seen).abs().max() < 1e-12
    assert (exact.value(1.1 * seen) > 0).all()
    assert (exact.value(0.9 * seen) > 0).all()


def test_value_with_no_photons_is_the_expected_number():
    like, _ = likelihood()
    dark = PoissonLikelihood(like.operator, torch.zeros_like(like.y), like.beta)
    z = like.y + 0.3
    assert torch.allclose(dark.value(z), sum_images(z))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "boundary"), [((9, 10), "periodic"), ((9, 10), "extended"), ((4, 6, 5), "extended")]
)
def test_gradient_is_autograds(shape, boundary, dtype):
    like, _ = likelihood(dtype, shape, boundary)
    x = objects(like).requires_grad_()
    z = like.operator.forward(x) + per_image(like.beta, x)
    value = (z - torch.xlogy(like.y, z)).sum()
    (expected,) = torch.autograd.grad(value, x)
    found = like.gradient(like.expect(x.detach()))
    for i in range(3):
        assert relative_error(found[i], expected[i]) < GRADIENT[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_difference_is_the_difference_of_values(dtype):
    like, _ = likelihood(dtype)
    z1, z2 = like.expect(objects(like, 1)), like.expect(objects(like, 2))
    expected = like.value(z1) - like.value(z2)
    assert torch.allclose(like.difference(z1, z2), expected, rtol=100 * EXACT[dtype])
    assert like.difference(z1, z2).dtype == torch.float64


def test_difference_keeps_what_subtraction_of_float32_sums_would_lose():
    like, _ = likelihood(torch.float32)
    z = like.expect(objects(like))
    moved = z * (1 + 1e-6)
    exact = like.value(moved) - like.value(z)  # in float64, of the same float32 numbers
    found = like.difference(moved, z)
    assert torch.allclose(found, exact, rtol=0.05)


@pytest.mark.parametrize("dtype", DTYPES)
def test_expected_image_stays_positive(dtype):
    """FFT rounding puts dark pixels beside a very bright one below zero; the logarithm must not see that."""
    operator = Blur(random_psf((3, 3), dtype=dtype), (16, 16), boundary="periodic")
    x = torch.zeros(1, 1, 16, 16, dtype=dtype)
    x[0, 0, 3, 3] = 1e4
    like = PoissonLikelihood(operator, torch.ones_like(x), torch.zeros(1, dtype=dtype))
    z = like.expect(x)
    assert (z > 0).all()
    assert torch.isfinite(like.value(z)).all()
    assert torch.isfinite(like.gradient(z)).all()


def test_sums_are_per_image_and_in_float64():
    values = torch.full((2, 1, 300, 300), 0.1, dtype=torch.float32)
    values[1] = 0.2
    sums = sum_images(values)
    assert sums.dtype == torch.float64
    assert torch.allclose(sums, 90000 * values[:, 0, 0, 0].double(), rtol=1e-12)
    assert per_image(torch.tensor([1.0, 2.0]), values).shape == (2, 1, 1, 1)
