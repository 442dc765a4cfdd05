"""Pixels that tell nothing: nothing they hold enters anywhere, and what they hide is told by their neighbours."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from core.problems import gaussian, measured, random_psf, run, scene, tv
from core.tolerances import DTYPES, EXACT, GRADIENT, relative_error
from napari_deqmd.core.operators import Blur, Masked
from napari_deqmd.core.poisson import per_image
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import NoRegularizer, Regularizer
from napari_deqmd.core.solvers import SOLVERS, accelerated_mirror_descent
from napari_deqmd.core.solvers.richardson_lucy import richardson_lucy

SHAPE = (18, 20)
SIDE = 64
PEAK = 200.0


def some(shape, share, seed=0):
    """Random pixels, bool."""
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=rng) < share


def posed(
    electrons, bad, regularizer: Regularizer | None = None, *, background=None, dtype=torch.float64, **options
) -> Problem:
    batch = electrons.shape[0]
    peak = torch.full((batch,), PEAK, dtype=dtype)
    return Problem.from_electrons(
        electrons.to(dtype),
        Blur(gaussian(1.2, dtype=dtype), tuple(electrons.shape[2:]), boundary="extended"),
        regularizer or NoRegularizer(),
        peak=peak,
        background=0.1 * peak if background is None else background.to(dtype),
        bad=bad,
        **options,
    )


def drawn(shape=(2, 1, *SHAPE), seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.poisson(PEAK * torch.rand(shape, generator=rng, dtype=torch.float64), generator=rng)


def at(problem, x):
    u = problem.burg.to_u(x)
    return u, problem.evaluate(u).complete()[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("boundary", ["periodic", "extended"])
def test_adjoint_is_the_transpose(boundary, batch, dtype):
    operator = Masked(
        Blur(random_psf((4, 5), dtype=dtype), SHAPE, boundary=boundary), some((batch, 1, *SHAPE), 0.3)
    )
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(3, 1, *operator.object_shape, generator=rng, dtype=torch.float64).to(dtype)
    v = torch.randn(3, 1, *SHAPE, generator=rng, dtype=torch.float64).to(dtype)
    left, right = operator.forward(x), operator.adjoint(v)
    for i in range(3):
        one, other = (left[i] * v[i]).sum().double(), (x[i] * right[i]).sum().double()
        assert abs(one - other) < EXACT[dtype] * left[i].double().norm() * v[i].double().norm()


def test_sensitivity_is_what_the_good_pixels_see():
    bad = some((1, 1, *SHAPE), 0.3)
    operator = Masked(Blur(random_psf((4, 5)), SHAPE), bad)
    spike = torch.zeros(1, 1, *operator.object_shape, dtype=torch.float64)
    spike[0, 0, 9, 9] = 1
    seen = Blur(random_psf((4, 5)), SHAPE).forward(spike)[~bad].sum()
    assert operator.sensitivity[0, 0, 9, 9].item() == pytest.approx(seen.item())
    assert 0.3 < seen < 0.95


@pytest.mark.parametrize("dtype", DTYPES)
def test_value_difference_and_gradient_are_those_of_the_good_pixels(dtype):
    bad = some((2, 1, *SHAPE), 0.2)
    problem = posed(drawn(), bad, dtype=dtype)
    like, all_of_it = problem.likelihood, posed(drawn(), None, dtype=dtype).likelihood
    leaf = (0.5 + torch.rand(problem.start().shape, dtype=torch.float64)).to(dtype).requires_grad_()

    def value(x):
        z = all_of_it.expect(x)
        y = all_of_it.y
        terms = z - torch.xlogy(y, z) + (torch.xlogy(y, y) - y)
        return (terms * ~bad).double().flatten(1).sum(1)

    expected = value(leaf)
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    x = leaf.detach()
    assert torch.allclose(like.value(like.expect(x)), expected.detach(), rtol=100 * EXACT[dtype])
    assert relative_error(like.gradient(like.expect(x)), gradient) < GRADIENT[dtype]
    change = value(1.3 * x) - value(x)
    assert torch.allclose(like.difference(like.expect(1.3 * x), like.expect(x)), change, rtol=1e-4)


@pytest.mark.parametrize("nonsense", [0.0, 1e30, torch.nan])
@pytest.mark.parametrize("solver", [*SOLVERS.values(), richardson_lucy], ids=[*SOLVERS, "rl"])
def test_what_a_bad_pixel_holds_changes_no_bit(solver, nonsense):
    electrons, bad = drawn(), some((2, 1, *SHAPE), 0.1)
    one, other = (
        run(solver(posed(counts, bad, tv()), max_iter=8))
        for counts in (electrons, torch.where(bad, nonsense, electrons))
    )
    assert torch.equal(one[-1].iterate, other[-1].iterate)
    assert torch.equal(one[-1].objectives, other[-1].objectives)
    assert torch.equal(one[-1].residuals, other[-1].residuals)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_the_objective_falls_to_a_stationary_point(solver):
    bad = some((2, 1, *SHAPE), 0.1)
    problem = posed(drawn(), bad, tv())
    steps = run(solver(problem, max_iter=400, tol=1e-4))
    assert (torch.stack([step.objectives for step in steps]).diff(dim=0) <= 0).all()
    assert steps[-1].stopped_by == "converged"
    x = steps[-1].iterate
    right, wrong = (posed(drawn(), mask, tv()) for mask in (bad, None))
    assert right.certificate(*at(right, x)).max() < 20e-4
    assert wrong.certificate(*at(wrong, x)).min() > 0.02


def test_richardson_lucy_never_falls_and_stays_where_the_data_are_right():
    bad = some((2, 1, *SHAPE), 0.2)
    problem = posed(drawn(), bad)
    steps = run(richardson_lucy(problem, max_iter=40))
    assert (torch.stack([step.objectives for step in steps]).diff(dim=0) <= 1e-10 * PEAK).all()
    truth = torch.ones_like(problem.start())
    right = posed(PEAK * (problem.likelihood.operator._inner.forward(truth) + 0.1), bad)
    (step,) = run(richardson_lucy(right, truth, max_iter=1))
    assert torch.allclose(step.iterate, truth, rtol=1e-9)


def test_flat_start_and_start_do_not_see_bad_pixels_as_dark():
    electrons = torch.full((1, 1, *SHAPE), 1.1 * PEAK, dtype=torch.float64)
    bad = some((1, 1, *SHAPE), 0.2)
    problem = posed(electrons, bad)
    (step,) = run(richardson_lucy(problem, max_iter=1))
    assert torch.allclose(problem.likelihood.operator.crop(step.iterate), torch.ones(1, dtype=torch.float64))
    assert problem.likelihood.operator.crop(problem.start()).min() > 0.95


@pytest.mark.parametrize("name", ["accelerated", "plain", "rl", "rl-accelerated"])
def test_a_hole_larger_than_the_psf_does_not_run_away(name):
    """Nobody sees its middle: total variation continues its rim, and the likelihood alone leaves it bounded."""
    clean = scene("cells", SIDE)
    full = measured(clean, gaussian(1.2), peak=PEAK)
    electrons = PEAK * full.likelihood.y
    bad = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    bad[..., 20:40, 20:40] = True
    if name in SOLVERS:
        problem = posed(electrons, bad, tv(), background=torch.full((1,), 0.05 * PEAK))
        last = run(SOLVERS[name](problem, max_iter=300))[-1]
    else:
        problem = posed(electrons, bad, background=torch.full((1,), 0.05 * PEAK))
        last = run(richardson_lucy(problem, max_iter=50, accelerated="-" in name))[-1]
    image = problem.likelihood.operator.crop(last.iterate)
    assert torch.isfinite(image).all()
    assert image[..., 24:36, 24:36].max() <= image[~bad].max()
    assert image[..., 24:36, 24:36].min() >= 0


@pytest.mark.parametrize("what", ["dead", "saturated"])
def test_one_percent_of_bad_pixels_costs_little_when_left_out(what):
    clean = scene("cells", SIDE)
    simulated = Blur(gaussian(1.2), (SIDE, SIDE), boundary="periodic").forward(clean).clamp_min(0)
    truth = clean / simulated.max()
    electrons = np.random.default_rng(0).poisson((PEAK * (simulated / simulated.max() + 0.1)).numpy())
    electrons = torch.from_numpy(electrons.astype(float))
    bad = some(electrons.shape, 0.01, seed=2)
    spoiled = torch.where(bad, 0.0 if what == "dead" else 20 * PEAK, electrons)

    def quality(counts, mask):
        problem = posed(counts, mask, tv())
        last = run(accelerated_mirror_descent(problem, max_iter=300))[-1]
        error = problem.likelihood.operator.crop(last.iterate) - truth
        return float(-10 * torch.log10(error.square().mean()))

    whole, masked, ignored = quality(electrons, None), quality(spoiled, bad), quality(spoiled, None)
    assert masked > whole - 0.3
    assert masked > ignored + 1.5


def test_a_background_of_every_pixel():
    """Likelihood, gradient and shift follow a map; a map of one value is the number."""
    electrons = drawn()
    rng = torch.Generator().manual_seed(3)
    background = 5 + 30 * torch.rand(2, 1, *SHAPE, generator=rng, dtype=torch.float64)
    problem = posed(electrons, None, tv(), background=background)
    like = problem.likelihood
    assert torch.allclose(like.beta, background / PEAK)
    assert torch.equal(problem.burg.shift, like.beta.flatten(1).amin(1))
    leaf = torch.rand(problem.start().shape, dtype=torch.float64).requires_grad_()
    z = like.operator.forward(leaf) + background / PEAK
    (expected,) = torch.autograd.grad((z - torch.xlogy(like.y, z)).sum(), leaf)
    assert relative_error(like.gradient(like.expect(leaf.detach())), expected) < 1e-9
    steps = run(accelerated_mirror_descent(problem, max_iter=1500, tol=1e-6))
    assert steps[-1].stopped_by == "converged"
    flat = torch.full((2,), 20.0, dtype=torch.float64)
    one, other = (
        run(accelerated_mirror_descent(posed(electrons, None, tv(), background=value), max_iter=10))[-1]
        for value in (flat, per_image(flat, electrons).expand_as(electrons))
    )
    assert torch.allclose(one.iterate, other.iterate, rtol=1e-9)


@pytest.mark.parametrize("solver", [*SOLVERS.values(), richardson_lucy], ids=[*SOLVERS, "rl"])
def test_full_pixels_are_bounds(solver):
    """Below their counts they pull as ever, above they are silent; the objective never rises."""
    electrons = drawn()
    full = electrons > 0.7 * PEAK
    capped = electrons.clamp_max(0.7 * PEAK)
    problem = posed(capped, None, tv(), full=full)
    like = problem.likelihood
    leaf = (2 * torch.rand(problem.start().shape, dtype=torch.float64)).requires_grad_()
    z = torch.where(full, torch.minimum(like.expect(leaf), like.y), like.expect(leaf))
    value = z - torch.xlogy(like.y, z) + (torch.xlogy(like.y, like.y) - like.y)
    (expected,) = torch.autograd.grad(value.sum(), leaf)
    x = leaf.detach()
    assert relative_error(like.gradient(like.expect(x)), expected) < GRADIENT[torch.float64]
    assert torch.allclose(like.value(like.expect(x)), value.detach().flatten(1).sum(1))
    ends = [like.expect(x), like.expect(1.3 * x)]
    assert torch.allclose(like.difference(*ends), like.value(ends[0]) - like.value(ends[1]))
    steps = run(solver(problem, max_iter=40))
    assert (torch.stack([step.objectives for step in steps]).diff(dim=0) <= 1e-10 * PEAK).all()


def test_one_mask_serves_a_batch():
    bad = some((1, 1, *SHAPE), 0.2)
    together = posed(drawn(), bad, tv())
    each = posed(drawn(), bad.expand(2, 1, *SHAPE), tv())
    one, other = (run(accelerated_mirror_descent(problem, max_iter=10))[-1] for problem in (together, each))
    assert torch.allclose(one.iterate, other.iterate, rtol=1e-9)
    assert dataclasses.replace(together).sensitivity.shape[0] == 1
