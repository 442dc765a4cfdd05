"""Measured images without a truth: second counts tell the strength, reconstructions the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.problems import gaussian
from napari_deqmd.core.regularizers import Red, Regularizer, ThreeScale
from napari_deqmd.training.equilibrium import Solve, fixed_point, train_equilibrium
from napari_deqmd.training.fields import Field, Patches
from napari_deqmd.training.measurements import Measurement, Taught
from napari_deqmd.training.teaching import lessons, taught

PSF = gaussian(1.0).float().numpy()
PEAK, BACKGROUND = 40.0, 4.0
CPU = torch.device("cpu")


def fields(exposure: float = 0.0) -> list[Field]:
    """Two bright bars; with an exposure, a second one of the same object."""
    rng = np.random.default_rng(1)
    expected = np.full((40, 40), BACKGROUND)
    expected[10:18, 5:35] += PEAK
    counts = rng.poisson(expected).astype(np.float32)
    again = rng.poisson(exposure * expected).astype(np.float32) if exposure else None
    return [Field(counts, PEAK, BACKGROUND, again=again, exposure=exposure)]


def model() -> Regularizer:
    torch.manual_seed(0)
    return Red(ThreeScale(channels=(4, 4, 4)))


def draw(exposure: float = 0.0) -> Patches:
    return Patches(fields(exposure), PSF, 32, 0)


def test_thinned_counts_are_put_together_made_smaller_and_measured_anew():
    data = draw().draw(0, 2)
    whole = data.whole()
    assert torch.allclose(whole.peak, torch.full((2,), PEAK))
    assert torch.allclose(whole.background, torch.full((2,), BACKGROUND))
    lesson = taught(data, model(), np.random.default_rng(0))
    x, _ = fixed_point(whole.problem(model()), max_iter=40, tol=1e-4)
    side = lesson.electrons.shape[-1]
    assert 21 <= side <= 30
    assert lesson.truth.shape == lesson.electrons.shape == (2, 1, side, side)
    problem = lesson.problem(model())
    smaller = torch.nn.functional.interpolate(
        x, problem.likelihood.operator.object_shape, mode="bicubic", antialias=True
    ).clamp_min(0)
    assert torch.allclose(lesson.truth, problem.likelihood.operator.crop(smaller), atol=1e-5)
    expected = PEAK * problem.likelihood.expect(smaller)
    deviation = (lesson.electrons - expected) / expected.sqrt()
    assert deviation.mean().abs() < 0.1  # Poisson, about what the reconstruction predicts
    assert 0.85 < deviation.std() < 1.15


def test_what_is_measured_anew_has_all_sizes_from_seven_tenths_on():
    data, rng = draw().draw(0, 1), np.random.default_rng(0)
    sides = [taught(data, model(), rng).electrons.shape[-1] for _ in range(12)]
    assert 22 <= min(sides) < 24 < 28 < max(sides) <= 30


def test_of_a_pair_the_long_exposure_is_the_truth_of_the_short_one():
    data = draw(exposure=20.0).draw(0, 2)
    lesson = taught(data, model(), np.random.default_rng(0))
    assert torch.equal(lesson.electrons, data.electrons)
    assert torch.equal(lesson.peak, data.peak)
    again = data.whole()
    assert torch.allclose(again.peak, 20 * data.peak)
    x, _ = fixed_point(again.problem(model()), max_iter=40, tol=1e-4)
    assert torch.allclose(lesson.truth, again.problem(model()).likelihood.operator.crop(x), atol=1e-5)


@pytest.mark.parametrize(
    ("exposure", "teaches"),
    [(0.0, [False, True, True, True, False]), (20.0, [False, True, False, True, False])],
)
def test_some_batches_of_counts_are_left_to_the_strength(exposure: float, teaches: list[bool]):
    lesson = lessons(draw(exposure).draw, model, seed=0)
    assert [isinstance(lesson(number, 1), Taught) for number in range(5)] == teaches
    again = lesson(1, 1)
    assert torch.equal(again.electrons, lesson(1, 1).electrons)  # the same whenever its number is asked for


def test_a_known_truth_is_left_alone():
    known = Measurement(*(torch.ones(1, 1, 4, 4),) * 2, *(torch.ones(1),) * 2, torch.ones(1, 1, 4, 4))
    assert lessons(lambda number, batch: known, model, seed=0)(1, 1) is known


@pytest.mark.parametrize(("number", "moves"), [(0, "numbers"), (1, "weights")])
def test_a_batch_moves_only_what_it_can_tell(number: int, moves: str):
    regularizer = model()
    before = {name: value.clone() for name, value in regularizer.state_dict().items()}
    lesson = lessons(draw().draw, model, seed=0)
    run = train_equilibrium(
        regularizer,
        lambda _, batch: lesson(number, batch),
        steps=1,
        batch=2,
        warm_up=1,
        learning_rate=1e-2,
        groups=1,
        solve=Solve(first=30, enough=1.0),
    )
    for _ in run:
        pass
    after = regularizer.state_dict()
    moved = {
        "weights" if value.ndim else "numbers"
        for name, value in after.items()
        if not value.equal(before[name])
    }
    assert moved == {moves}
