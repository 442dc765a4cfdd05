"""Simulated measurements: Poisson about a blur that does not wrap, told with errors, and true in what is told."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from napari_deqmd.core.regularizers import NoRegularizer
from napari_deqmd.training import measurements
from napari_deqmd.training.blurs import gaussian_stack, pupil_stack
from napari_deqmd.training.data import Sampler
from napari_deqmd.training.measurements import (
    PSF_SIZE,
    STACK_PSF_SIZE,
    Measurement,
    Ranges,
    Recount,
    any_stack_psf,
    field_of_view,
    fit_psf,
    measure,
    stretched,
)

REACH = PSF_SIZE[0] // 2
TENSORS = ("electrons", "psf", "peak", "background", "truth")
PATCH = 28
TOLD_EXACTLY = {"peak_error": 0.0, "background_error": 0.0}


def speckle(size: int, patch: int = PATCH) -> torch.Tensor:
    """Bright grains up to the rim: a wrong flip, shift or border shows."""
    return torch.rand(size, 1, patch, patch, generator=torch.Generator().manual_seed(0)) ** 8


def stand_in(clean: torch.Tensor, seed: int = 0) -> SimpleNamespace:
    return SimpleNamespace(
        seed=seed, patch=tuple(clean.shape[2:]), batch=lambda step, size: clean[:size].clone()
    )


def sampler(seed: int = 0) -> Sampler:
    return Sampler({"simulated": 1}, patch=36, pool=3, side=48, seed=seed)


def inside(clean: torch.Tensor) -> torch.Tensor:
    return clean[..., REACH:-REACH, REACH:-REACH]


def scale_of(found: Measurement, clean: torch.Tensor) -> torch.Tensor:
    return (found.truth.sum((1, 2, 3)) / inside(clean).sum((1, 2, 3))).reshape(-1, 1, 1, 1)


def blurred(found: Measurement, clean: torch.Tensor) -> torch.Tensor:
    """The whole patch, convolved directly and cropped to what no border has touched, in units of the peak."""
    x = (scale_of(found, clean) * clean).double().transpose(0, 1)
    return functional.conv2d(x, found.psf.double().flip(-2, -1), groups=x.shape[1]).transpose(0, 1)


def electrons_without_noise(found: Measurement, clean: torch.Tensor) -> torch.Tensor:
    """Of a measurement that was told exactly."""
    peak, background = (v.double().reshape(-1, 1, 1, 1) for v in (found.peak, found.background))
    return peak * blurred(found, clean) + background


@pytest.fixture
def no_blur(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "random_psf", lambda rng: np.ones((1, 1), np.float32))


def constant(size: int, value: float = 1.0) -> SimpleNamespace:
    return stand_in(torch.full((size, 1, *(n + 1 for n in PSF_SIZE)), value))


def test_a_measurement_depends_on_seed_and_step_only():
    running = sampler()
    later = [measure(running, step, 2) for step in range(3)][-1]
    again = measure(sampler(), 2, 2)
    for name in TENSORS:
        assert torch.equal(getattr(again, name), getattr(later, name))


def test_every_step_and_seed_draws_everything_anew():
    clean = speckle(4)
    first = measure(stand_in(clean), 2, 4)
    for other in (measure(stand_in(clean), 3, 4), measure(stand_in(clean, seed=1), 2, 4)):
        assert not any(torch.equal(getattr(first, name), getattr(other, name)) for name in TENSORS)


def test_shapes():
    found = measure(sampler(), 0, 3)
    assert field_of_view((36, 40), PSF_SIZE) == (16, 20)
    assert found.electrons.shape == found.truth.shape == (3, 1, 16, 16)
    assert found.psf.shape == (3, 1, *PSF_SIZE)
    assert found.peak.shape == found.background.shape == (3,)
    assert {getattr(found, name).dtype for name in TENSORS} == {torch.float32}


@pytest.fixture(scope="module")
def many() -> tuple[Measurement, torch.Tensor]:
    clean = speckle(400)
    ranges = Ranges(peak=(40.0, 400.0), background=(0.1, 0.3), no_background=0.0, **TOLD_EXACTLY)
    return measure(stand_in(clean), 0, len(clean), ranges), clean


def test_images_are_poisson_about_the_blur_of_all_that_reaches_them(many):
    """Mean and variance are the expectation's in every pixel, at the rim too, and on dark and bright ones."""
    found, clean = many
    expected = electrons_without_noise(found, clean)
    assert (found.electrons == found.electrons.round()).all()
    z = (found.electrons - expected) / expected.sqrt()
    assert (z.mean(0) * math.sqrt(len(z))).abs().max() < 4
    assert abs(z.mean().item()) * math.sqrt(z.numel()) < 3
    for part in (z[expected < expected.median()], z[expected >= expected.median()]):
        assert (part**2).mean().item() == pytest.approx(1, abs=3 * math.sqrt(2.25 / part.numel()))


def test_the_image_shows_what_lies_beyond_its_rim(many):
    """Not the object that ends there, nor its other side: either explains the image clearly worse."""
    found, clean = many
    expected = electrons_without_noise(found, clean)
    rim = torch.ones_like(expected, dtype=torch.bool)
    rim[..., 2:-2, 2:-2] = False
    ended = functional.pad(inside(clean), (REACH,) * 4)
    wrapped = inside(clean).repeat(1, 1, 5, 5)[..., 6 : 6 + PATCH, 6 : 6 + PATCH]
    for grown in (ended, wrapped):
        assert torch.equal(inside(grown), inside(clean))
        wrong = electrons_without_noise(found, grown)
        assert ((found.electrons - wrong) ** 2 / wrong)[rim].mean() > 3


def test_truth_is_the_object_in_the_field_of_view_as_bright_as_said(many):
    found, clean = many
    assert torch.allclose(found.truth, scale_of(found, clean) * inside(clean), rtol=1e-5)
    brightest = blurred(found, clean).flatten(1).amax(1)
    assert 0.4 <= brightest.min() < 0.41
    assert 1.27 < brightest.max() <= 1.3 * (1 + 1e-5)


def test_its_problem_is_posed_on_the_whole_patch(many):
    found, clean = many
    problem = found.problem(NoRegularizer(), strength=0.3)
    assert problem.strength == 0.3
    assert problem.likelihood.operator.object_shape == (PATCH, PATCH)
    peak = found.peak.reshape(-1, 1, 1, 1)
    assert torch.allclose(problem.likelihood.y * peak, found.electrons, rtol=1e-5)
    z = problem.likelihood.expect(scale_of(found, clean) * clean)
    expected = electrons_without_noise(found, clean).float()
    assert torch.allclose(z * peak, expected, rtol=1e-4)
    assert torch.equal(problem.likelihood.operator.crop(clean), inside(clean))


@pytest.mark.usefixtures("no_blur")
def test_what_is_told_errs_by_its_deviation():
    ranges = Ranges(peak=(60.0, 60.0), background=(0.1, 0.1), no_background=0.0)
    found = measure(constant(2000), 0, 2000, ranges)
    peak = (found.peak.double() / 60).log().numpy() / 0.12
    background = (found.background.double() / 6).log().numpy() / 0.05
    for error in (peak, background):
        assert stats.kstest(error, "norm").pvalue > 0.01
    assert abs(np.corrcoef(peak, background)[0, 1]) < 3 / math.sqrt(2000)


def test_truth_is_in_units_of_the_told_peak():
    """The same electrons, told otherwise: the object in electrons is the same."""
    clean = speckle(16)
    exact = measure(stand_in(clean), 0, 16, Ranges(**TOLD_EXACTLY))
    told = measure(stand_in(clean), 0, 16, Ranges(peak_error=0.5))
    assert torch.equal(told.electrons, exact.electrons)
    ratio = told.peak / exact.peak
    assert ratio.log().abs().max() > 0.5
    assert torch.allclose(told.truth * ratio.reshape(-1, 1, 1, 1), exact.truth, rtol=1e-5)


@pytest.mark.usefixtures("no_blur")
def test_peaks_and_backgrounds_cover_their_ranges():
    found = measure(constant(2000), 0, 2000, Ranges(**TOLD_EXACTLY))
    place = (found.peak.double() / 5).log().numpy() / math.log(1000 / 5)
    assert 0 <= place.min() < place.max() <= 1 + 1e-6
    assert stats.kstest(place, lambda t: t / 3 + 2 / 3 * np.clip(2 * t - 0.5, 0, 1)).pvalue > 0.01
    share = (found.background.double() / found.peak).numpy()
    none = share < 0.002
    assert share[none] == pytest.approx(1e-3, rel=1e-5)
    assert none.mean() == pytest.approx(0.2, abs=3 * math.sqrt(0.2 * 0.8 / 2000))
    place = np.log(share[~none] / 0.005) / math.log(0.25 / 0.005)
    assert stats.kstest(place, "uniform").pvalue > 0.01


def gaussian(sigma: float, ndim: int = 2, size: int = PSF_SIZE[0]) -> np.ndarray:
    squares = np.sum(np.square(np.indices((size,) * ndim) - size // 2), 0)
    return fit_psf(np.exp(-squares / (2 * sigma**2)), (size,) * ndim)


@pytest.mark.parametrize(("sigma", "factor"), [(1.0, 1.2), (1.5, 1.0), (1.5, 1.2), (2.0, 0.8)])
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_stretched_gaussian_is_one_of_that_width(sigma, factor, ndim):
    wanted = gaussian(factor * sigma, ndim)
    found = stretched(gaussian(sigma, ndim), factor)
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(found - wanted).max() < 0.01 * wanted.max()


def test_a_psf_told_wrongly_has_another_width_and_nothing_else_changes():
    clean, options = stand_in(speckle(128)), {"draw_psf": lambda rng: gaussian(1.5)}
    right = measure(clean, 0, 128, Ranges(), **options)
    wrong = measure(clean, 0, 128, Ranges(psf_error=0.1), **options)
    for name in set(TENSORS) - {"psf"}:
        assert torch.equal(getattr(right, name), getattr(wrong, name))
    squares = torch.arange(-REACH, REACH + 1) ** 2
    widths = [(found.psf.sum((1, 2)) * squares).sum(1).sqrt() for found in (right, wrong)]
    error = (widths[1] / widths[0]).log()
    assert abs(error.mean()) < 0.03
    assert error.std() == pytest.approx(0.1, abs=0.02)


@pytest.mark.usefixtures("no_blur")
def test_read_noise_adds_its_variance_to_counts_and_background():
    options = TOLD_EXACTLY | {"peak": (20.0, 20.0), "background": (0.5, 0.5), "no_background": 0.0}
    clean = constant(64, 0.0)
    quiet = measure(clean, 0, 64, Ranges(**options))
    noisy = measure(clean, 0, 64, Ranges(**options, read_noise=(3.0, 3.0)))
    torch.testing.assert_close(noisy.background, quiet.background + 9)
    torch.testing.assert_close(noisy.peak, quiet.peak)
    added = noisy.electrons - quiet.electrons  # the same photons, but for what was cut off at 0
    assert added.mean().item() == pytest.approx(9, abs=0.15)
    assert added.std().item() == pytest.approx(3, rel=0.03)


@pytest.mark.usefixtures("no_blur")
def test_every_other_object_has_a_floor_that_is_not_told_as_background():
    options = TOLD_EXACTLY | {"peak": (100.0, 100.0), "background": (0.1, 0.1), "no_background": 0.0}
    found = measure(constant(2000, 0.0), 0, 2000, Ranges(**options, floor=0.2))
    assert found.background.tolist() == pytest.approx([10.0] * 2000)
    floor = found.truth[:, 0, 0, 0].double() * found.peak
    torch.testing.assert_close(found.peak.double(), 100 + floor)
    bare = (floor == 0).numpy()
    assert bare.mean() == pytest.approx(0.5, abs=3 * math.sqrt(0.25 / 2000))
    assert stats.kstest(floor.numpy()[~bare] / 20, "uniform").pvalue > 0.01
    z = (found.electrons.mean((1, 2, 3)) - 10 - floor) / ((10 + floor) / 4).sqrt()
    assert abs(z.mean().item()) < 3 / math.sqrt(2000)


@pytest.mark.usefixtures("no_blur")
def test_dark_patches_stay_dark():
    """An empty one holds its background and nothing else, a faint one is not made a bright one."""
    empty = measure(constant(300, 0.0), 0, 300, Ranges(no_background=0.0, **TOLD_EXACTLY))
    assert (empty.truth == 0).all()
    z = (empty.electrons.mean((1, 2, 3)) - empty.background) / (empty.background / 4).sqrt()
    assert abs(z.mean().item()) < 3 / math.sqrt(300)
    faint = measure(constant(8, 0.01), 0, 8, Ranges(**TOLD_EXACTLY))
    assert 0.08 - 1e-6 <= faint.truth.min() < faint.truth.max() <= 0.26 + 1e-6


@pytest.mark.parametrize("side", [1, 3, 19, 21, 23, 25])
def test_kernels_are_cut_or_padded_about_their_middle(side):
    kernel = np.random.default_rng(side).random((side, side)) + 0.1
    canvas = np.zeros((41, 41))
    canvas[20 - side // 2 : 21 + side // 2, 20 - side // 2 : 21 + side // 2] = kernel
    middle = canvas[20 - REACH : 21 + REACH, 20 - REACH : 21 + REACH]
    found = fit_psf(kernel)
    assert found.shape == PSF_SIZE
    assert found.dtype == np.float32
    assert found.sum() == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(found, middle / middle.sum(), rtol=1e-6)


# --- what an object costs ---


def posed(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Two small images without blur or background."""
    ones = torch.ones(2)
    return {
        "electrons": 10 * torch.ones(2, 1, 4, 4),
        "psf": torch.ones(2, 1, 1, 1),
        "peak": 20 * ones,
        "background": 0 * ones,
        **more,
    }


def test_a_truth_costs_the_logarithm_of_the_error_and_scores_decibels():
    truth = torch.zeros(2, 1, 4, 4)
    truth[0], truth[1] = 0.1, 0.01
    data = Measurement(**posed(truth=truth))
    x = torch.zeros(2, 1, 4, 4)
    loss = data.loss(data.problem(NoRegularizer()), x)
    assert loss.tolist() == pytest.approx([math.log(1e-2 + 1e-6), math.log(1e-4 + 1e-6)], rel=1e-5)
    assert data.score(data.problem(NoRegularizer()), x).tolist() == pytest.approx([20, 40], abs=0.1)
    assert data.score(data.problem(NoRegularizer()), truth).tolist() == pytest.approx([60, 60])
    assert Measurement.sign == 1


@pytest.mark.parametrize(("criterion", "costs"), [("mse", [1e-2, 1e-4]), ("l1", [0.1, 0.01])])
def test_other_losses_score_the_same(criterion, costs):
    truth = torch.zeros(2, 1, 4, 4)
    truth[0], truth[1] = 0.1, 0.01
    data = Measurement(**posed(truth=truth), criterion=criterion)
    problem, x = data.problem(NoRegularizer()), torch.zeros(2, 1, 4, 4)
    assert data.loss(problem, x).tolist() == pytest.approx(costs, rel=1e-5)
    assert data.score(problem, x).tolist() == pytest.approx([20, 40], abs=0.1)


def test_a_second_count_costs_the_deviance_of_what_is_predicted_for_it():
    """``again ~ exposure * (peak A x + background)``; the least deviance is at the mean."""
    again = torch.from_numpy(np.random.default_rng(0).poisson(3.0 * 15, (2, 1, 64, 64))).float()
    told = posed(
        electrons=torch.ones(2, 1, 64, 64),
        again=again,
        exposure=3 * torch.ones(2),
        background=5 * torch.ones(2),
    )
    data = Recount(**told)
    problem = data.problem(NoRegularizer())

    def cost(value: float) -> float:
        return data.loss(problem, torch.full((2, 1, 64, 64), value)).mean().item()

    assert cost(0.5) == pytest.approx(1, abs=0.05)  # 20 * 0.5 + 5 = 15
    assert cost(0.5) < min(cost(0.45), cost(0.55))
    y, mu = again.double(), 3 * (20 * 0.3 + 5.0)
    expected = 2 * (y * (y / mu).log() - y + mu).mean().item()
    assert cost(0.3) == pytest.approx(expected, rel=1e-5)
    assert data.sign == -1


def test_a_loss_of_no_counts_can_be_differentiated():
    data = Recount(**posed(again=torch.zeros(2, 1, 4, 4), exposure=torch.ones(2)))
    x = torch.full((2, 1, 4, 4), 0.5, requires_grad=True)
    loss = data.loss(data.problem(NoRegularizer()), x).sum()
    (slope,) = torch.autograd.grad(loss, x)
    assert loss.item() == pytest.approx(2 * 2 * 10)  # twice the expectation, two images
    assert torch.allclose(slope, torch.full_like(slope, 2 * 20 / 16))


def test_a_part_of_a_batch():
    data = Recount(**posed(again=torch.rand(2, 1, 4, 4), exposure=torch.tensor([1.0, 2.0])))
    part = data[1:]
    assert isinstance(part, Recount)
    assert part.exposure.tolist() == [2]
    assert torch.equal(part.again, data.again[1:])
    assert len(part.electrons) == 1


def test_a_given_psf_of_any_size_is_used():
    psf = np.random.default_rng(0).random((7, 7)).astype(np.float32)
    psf /= psf.sum()
    found = measure(stand_in(speckle(3)), 0, 3, draw_psf=lambda rng: psf)
    assert found.electrons.shape == (3, 1, PATCH - 6, PATCH - 6)
    assert all(np.array_equal(kernel[0], psf) for kernel in found.psf.numpy())


def test_stacks_are_measured_as_images_are():
    stacks = Sampler({"simulated": 1}, patch=(15, 24, 24), pool=2, side=24)
    found = measure(stacks, 0, 2, draw_psf=any_stack_psf)
    assert found.electrons.shape == found.truth.shape == (2, 1, 3, 8, 8)
    assert found.psf.shape == (2, 1, *STACK_PSF_SIZE)
    assert torch.allclose(found.psf.sum((2, 3, 4)), torch.ones(2, 1), atol=1e-4)
    assert (found.psf >= 0).all()
    again = measure(stacks, 0, 2, draw_psf=any_stack_psf)
    assert torch.equal(found.electrons, again.electrons)


def test_a_periodic_image_shows_the_whole_patch():
    sampler = Sampler({"simulated": 1}, patch=(14, 24, 24), pool=2, side=32)
    data = measure(sampler, 0, 2, draw_psf=any_stack_psf, boundary="periodic")
    assert data.electrons.shape == data.truth.shape == (2, 1, 14, 24, 24)
    problem = data[:1].problem(NoRegularizer())
    assert problem.likelihood.operator.object_shape == (14, 24, 24)
    blurred = problem.likelihood.operator.forward(data.truth[:1])
    assert blurred.sum().item() == pytest.approx(data.truth[:1].sum().item(), rel=1e-4)  # no light is lost
    assert data.to(torch.device("cpu")).boundary == "periodic"


@pytest.mark.parametrize("draw", [gaussian_stack, pupil_stack])
def test_stack_psfs_are_centred_in_the_plane_and_of_sum_one(draw):
    for seed in range(5):
        kernel = draw(np.random.default_rng(seed))
        assert kernel.shape == (19, 19, 19)
        assert kernel.sum() == pytest.approx(1, abs=1e-4)
        lateral = kernel.sum(0)
        grid = np.arange(-9, 10)
        assert abs((lateral.sum(1) * grid).sum()) < 0.1
        assert abs((lateral.sum(0) * grid).sum()) < 0.1
        assert np.unravel_index(kernel.argmax(), kernel.shape)[1:] == (9, 9)
