"""The problem: its certificate, metric, start, and evaluation near another point."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from core.problems import gaussian, measured, scene, tiny_red, tv
from core.tolerances import DTYPES, GRADIENT, relative_error
from napari_deqmd.core.methods import HalfPrecision
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import NoRegularizer, evaluate
from napari_deqmd.core.solvers import accelerated_mirror_descent
from napari_deqmd.core.solvers.richardson_lucy import richardson_lucy

UPPER = 2.0


def problem(regularizer=None, *, dtype=torch.float64, boundary="extended", share=0.1, **options) -> Problem:
    clean = torch.cat([scene("cells", 20), scene("filaments", 20)])
    return measured(
        clean,
        gaussian(1.0),
        peak=(30.0, 400.0),
        share=share,
        regularizer=regularizer,
        boundary=boundary,
        dtype=dtype,
        **options,
    )


def point(posed: Problem, seed: int = 0) -> torch.Tensor:
    """A random ``u`` inside the box."""
    start = posed.start()
    rng = torch.Generator().manual_seed(seed)
    share = torch.rand(start.shape, generator=rng, dtype=torch.float64).to(start.dtype)
    return posed.burg.to_u(0.05 + 0.9 * share)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("boundary", ["periodic", "extended"])
@pytest.mark.parametrize("strength", [0.0, 0.7])
def test_gradient_is_autograds_of_the_value(strength, boundary, dtype):
    posed = problem(tiny_red(dtype=dtype), dtype=dtype, boundary=boundary, strength=strength)
    u = point(posed)
    gradient, kl = posed.evaluate(u).complete()
    x = posed.burg.to_x(u).requires_grad_()
    like = posed.likelihood
    z = like.operator.forward(x) + like.beta.reshape(2, 1, 1, 1)
    data = (z - torch.xlogy(like.y, z)).sum()
    (expected_kl,) = torch.autograd.grad(data, x)
    (prior,) = torch.autograd.grad(posed.regularizer.energy(x, posed.peak).sum(), x)
    for i in range(2):
        assert relative_error(kl[i], expected_kl[i]) < GRADIENT[dtype]
        assert relative_error(gradient[i], (expected_kl + strength * prior)[i]) < GRADIENT[dtype]


def test_value_is_the_likelihood_plus_the_strength_times_the_energy():
    posed = problem(tiny_red(), strength=0.7)
    u = point(posed)
    x = posed.burg.to_x(u)
    energy = evaluate(posed.regularizer, x, posed.peak).energy.flatten(1).sum(1)
    expected = posed.likelihood.value(posed.likelihood.expect(x)) + 0.7 * energy
    assert torch.allclose(posed.value(posed.evaluate(u)), expected, rtol=1e-12)


@pytest.mark.parametrize("reach", [0, 2, 99])
def test_the_regularizer_sees_the_field_of_view_and_a_little_beyond(monkeypatch, reach):
    monkeypatch.setattr("napari_deqmd.core.problem.REACH", reach)
    posed, bare = problem(tiny_red()), problem(NoRegularizer())
    operator = posed.likelihood.operator
    seen = operator.near(reach)
    u = point(posed)
    x = posed.burg.to_x(u)
    inner = evaluate(posed.regularizer, x[seen], posed.peak)
    gradient, kl = posed.evaluate(u).complete()
    energy, bend = posed.evaluate(u).energy, posed.metric(u) - bare.metric(u)
    sides = [
        min(n + 2 * reach, whole)
        for n, whole in zip(operator.image_shape, operator.object_shape, strict=True)
    ]
    assert list(inner.energy.shape[2:]) == sides
    assert torch.equal(energy[seen], inner.energy)
    assert relative_error((gradient - kl)[seen], inner.gradient()) < 1e-9
    assert (bend[seen] > 0.1).all()
    beyond = torch.ones_like(x, dtype=torch.bool)
    beyond[seen] = False
    assert beyond.any() == (reach < 99)
    for part in (energy, gradient - kl, bend):
        assert not part[beyond].any()


def test_evaluation_near_a_point_is_the_same():
    posed = problem(tv())
    u, v = point(posed, 0), point(posed, 1)
    here = posed.evaluate(u)
    near, afresh = posed.evaluate(v, near=here), posed.evaluate(v)
    assert relative_error(near.z, afresh.z) < 1e-12
    assert torch.allclose(posed.difference(near, here), posed.value(afresh) - posed.value(here), rtol=1e-9)
    for one, other in zip(near.complete(), afresh.complete(), strict=True):
        assert relative_error(one, other) < 1e-12


def test_differences_of_float32_are_exact_for_small_moves():
    """A move of 1e-5 of the object changes the objective by far less than two float32 sums could tell."""
    posed, exact = problem(dtype=torch.float32), problem()
    u = point(posed)
    rng = torch.Generator().manual_seed(3)
    v = u * (1 + 1e-5 * torch.randn(u.shape, generator=rng))
    here = posed.evaluate(u)
    found = posed.difference(posed.evaluate(v, near=here), here)
    reference = exact.value(exact.evaluate(v.double())) - exact.value(exact.evaluate(u.double()))
    assert torch.allclose(found, reference, rtol=0.02)


def test_differences_of_half_precision_follow_the_gradients():
    """Energies of bfloat16 cannot tell a move of one in a thousand; the trapezoidal rule along it can."""
    posed = problem(
        HalfPrecision(tiny_red(gain=30.0, dtype=torch.float32)), strength=5.0, dtype=torch.float32
    )
    exact = dataclasses.replace(posed, regularizer=tiny_red(gain=30.0, dtype=torch.float32))
    u = point(posed)
    here = exact.evaluate(u)
    gradient, kl = here.complete()
    v = u - 1e-3 * gradient / gradient.abs().max()
    reference = exact.difference(exact.evaluate(v, near=here), here)
    rough, slope = posed.evaluate(v, near=posed.evaluate(u)), gradient - kl
    found = posed.difference(rough, posed.evaluate(u), slope)
    assert torch.allclose(found, reference, rtol=0.05)
    assert not torch.allclose(posed.difference(rough, posed.evaluate(u)), reference, rtol=0.05)


def test_differences_of_half_precision_over_long_moves_are_those_of_energies():
    """There the trapezoidal rule errs by more than bfloat16 rounds, for good: solvers add differences up."""
    red = tiny_red(gain=30.0, dtype=torch.float32)
    red.domain = "root"
    exact = problem(red, strength=5.0, dtype=torch.float32)
    posed = dataclasses.replace(exact, regularizer=HalfPrecision(red))
    here, known = posed.evaluate(point(posed)), exact.evaluate(point(exact))
    gradient, kl = here.complete()
    v = posed.burg.to_u(posed.start())
    found = posed.difference(posed.evaluate(v, near=here), here, gradient - kl)
    reference = exact.difference(exact.evaluate(v, near=known), known)
    assert ((found - reference).abs() < posed.regularizer.rounding * exact.value(known)).all()


def stationary(posed: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """A point with zero gradient inside, and gradients out of the box at its walls."""
    u = point(posed)
    g = torch.zeros_like(u)
    lower, upper = posed.burg.bounds(u)
    u[:, :, 0], g[:, :, 0] = lower[:, :, 0], 0.7
    u[:, :, 1], g[:, :, 1] = upper[:, :, 0], -2.0
    return u, g


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_certificate_is_zero_at_stationary_points(share):
    posed = problem(tv(), share=share, upper=UPPER)
    assert torch.equal(posed.certificate(*stationary(posed)), torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("row", [0, 1, 2])
def test_certificate_is_positive_as_soon_as_one_pixel_can_improve(row):
    """At the lower wall, at the upper wall and inside: a gradient into the box is seen."""
    posed = problem(tv(), upper=UPPER)
    u, g = stationary(posed)
    g[1, 0, row, 3] = (-0.1, 0.1, 0.1)[row]
    certificate = posed.certificate(u, g)
    assert certificate[1] > 0
    assert certificate[0] == 0


def test_certificate_is_finite_where_the_object_is_dark():
    posed = problem(tv())
    u = posed.burg.to_u(torch.zeros_like(posed.start()))
    gradient, _ = posed.evaluate(u).complete()
    assert torch.isfinite(posed.certificate(u, gradient)).all()


def test_certificate_bounds_the_distance_to_the_solution():
    """Within a factor that does not change along the way: the distance falls as the certificate does."""
    posed = problem(tv(), share=1.0)
    posed = dataclasses.replace(
        posed,
        likelihood=measured(
            torch.cat([scene("cells", 20), scene("filaments", 20)]),
            gaussian(0.5),
            peak=(30.0, 400.0),
            share=1.0,
        ).likelihood,
    )
    steps = list(accelerated_mirror_descent(posed, max_iter=300, tol=1e-9))
    solution = steps[-1].iterate
    ratios = [
        float((step.iterate[i] - solution[i]).norm() / solution[i].norm() / step.residuals[i])
        for step in steps
        for i in range(2)
        if step.residuals[i] > 1e-6
    ]
    assert max(ratios) < 30


def test_a_gradient_step_in_the_metric_is_one_of_richardson_lucy():
    posed = problem(NoRegularizer(), boundary="periodic", share=0.0)
    u = posed.burg.to_u(posed.start())
    _, kl = posed.evaluate(u).complete()
    (step,) = richardson_lucy(posed, posed.start(), max_iter=1)
    moved = u - kl / (posed.metric(u) - 1e-3)
    assert torch.allclose(posed.burg.to_x(moved), step.iterate, rtol=1e-6)


def test_the_metric_adds_the_regularizers_curvature_at_the_point():
    plain, regularized = problem(NoRegularizer()), problem(tv(), strength=0.7)
    u = plain.burg.to_u(2 * plain.start())
    curvature = 0.7 * regularized.regularizer.curvature(regularized.burg.to_x(u), regularized.peak)
    assert torch.allclose(
        regularized.metric(u) - plain.metric(u), curvature.expand_as(u), rtol=1e-9, atol=1e-12
    )
    assert (plain.metric(u) > 0).all()


@pytest.mark.parametrize("boundary", ["periodic", "extended"])
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_start_is_positive_and_about_as_bright_as_the_image(boundary, share):
    posed = problem(boundary=boundary, share=share)
    x = posed.start()
    like = posed.likelihood
    assert (x > 0).all()
    seen = like.operator.forward(x).mean()
    signal = (like.y - like.beta.reshape(2, 1, 1, 1)).clamp_min(0).mean()
    assert seen.item() == pytest.approx(signal.item(), rel=0.25)


def test_start_of_a_dark_image_is_finite():
    posed = problem()
    dark = dataclasses.replace(
        posed, likelihood=dataclasses.replace(posed.likelihood, y=0 * posed.likelihood.y)
    )
    assert torch.isfinite(dark.start()).all()
    assert torch.isfinite(dark.evaluate(dark.burg.to_u(dark.start())).complete()[0]).all()


def test_shift_is_the_background_or_nothing():
    posed = problem()
    assert torch.equal(posed.burg.shift, posed.likelihood.beta)
    assert torch.equal(
        dataclasses.replace(posed, shifted=False).burg.shift, torch.zeros(2, dtype=torch.float64)
    )
