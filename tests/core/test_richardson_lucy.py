"""Richardson-Lucy: the textbook iteration, what it preserves, and what its acceleration gains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.problems import gaussian, identity, measured, run, scene
from napari_deqmd.core.solvers.richardson_lucy import richardson_lucy


def problem(share=0.1, boundary="periodic", sigma=1.4, side=32, dtype=torch.float64, **options):
    clean = torch.cat([scene("cells", side), scene("filaments", side)])
    return measured(
        clean, gaussian(sigma), peak=(40.0, 300.0), share=share, boundary=boundary, dtype=dtype, **options
    )


def textbook(y: np.ndarray, psf: np.ndarray, beta: float, iterations: int) -> np.ndarray:
    """The iteration with complex FFTs on a periodic image, from a flat start."""
    kernel = np.zeros_like(y)
    kernel[: psf.shape[0], : psf.shape[1]] = psf
    otf = np.fft.fft2(np.roll(kernel, [-(k // 2) for k in psf.shape], (0, 1)))
    x = np.full_like(y, np.maximum(y - beta, 0).mean() if beta == 0 else (y - beta).mean())
    for _ in range(iterations):
        z = np.fft.ifft2(np.fft.fft2(x) * otf).real + beta
        x = x * np.fft.ifft2(np.fft.fft2(y / np.maximum(z, 1e-15)) * otf.conj()).real
    return x


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_it_is_the_textbooks_iteration(share):
    posed = problem(share)
    last = run(richardson_lucy(posed, max_iter=12))[-1]
    assert last.iteration == 12
    for i in range(2):
        like = posed.likelihood
        expected = textbook(like.y[i, 0].numpy(), gaussian(1.4).numpy(), like.beta[i].item(), 12)
        np.testing.assert_allclose(last.iterate[i, 0].numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("accelerated", [False, True])
def test_flux_is_preserved_without_a_background(accelerated):
    posed = problem(0.0)
    flux = posed.likelihood.y.flatten(1).sum(1)
    for step in richardson_lucy(posed, max_iter=10, accelerated=accelerated):
        assert torch.allclose(step.iterate.flatten(1).sum(1), flux, rtol=1e-9)


@pytest.mark.parametrize("boundary", ["periodic", "extended"])
@pytest.mark.parametrize("accelerated", [False, True])
def test_the_object_stays_in_the_box(accelerated, boundary):
    for step in richardson_lucy(problem(boundary=boundary, upper=0.8), max_iter=15, accelerated=accelerated):
        assert (step.iterate >= 0).all()
        assert (step.iterate <= 0.8).all()


@pytest.mark.parametrize("boundary", ["periodic", "extended"])
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_the_likelihood_of_the_plain_iteration_never_falls(boundary, share):
    posed = problem(share, boundary)
    steps = run(richardson_lucy(posed, max_iter=40))
    like = posed.likelihood
    values = torch.stack([like.value(like.expect(step.iterate)) for step in steps])
    assert (values.diff(dim=0) <= 1e-10 * values[0]).all()
    # What a step says is the objective where it started.
    recorded = torch.stack([step.objectives for step in steps])
    assert torch.allclose(recorded[1:], values[:-1], rtol=1e-9)


@pytest.mark.parametrize("iterations", [10, 20])
def test_acceleration_is_worth_its_name(iterations):
    """Biggs and Andrews: at equal iterations a lower objective, at that of twice as many plain ones."""
    posed = problem(share=0.05)
    like = posed.likelihood

    def reached(count: int, accelerated: bool) -> torch.Tensor:
        last = run(richardson_lucy(posed, max_iter=count, accelerated=accelerated))[-1]
        return like.value(like.expect(last.iterate))

    assert (reached(iterations, True) < reached(iterations, False)).all()
    assert (reached(iterations, True) < reached(2 * iterations, False)).all()


def test_without_blur_the_first_iteration_is_the_answer():
    clean = scene("cells", 16)
    posed = measured(clean, identity(), share=0.0)
    last = run(richardson_lucy(posed, max_iter=1))[-1]
    assert torch.allclose(last.iterate, posed.likelihood.y, atol=1e-11)


def test_extended_stays_finite_where_the_image_hardly_sees():
    """Pixels outside the field of view must not blow up through the division by their sensitivity."""
    posed = problem(boundary="extended", dtype=torch.float32)
    assert posed.sensitivity.min() < 1e-3
    first, *_, last = run(richardson_lucy(posed, max_iter=50))
    assert torch.isfinite(last.iterate).all()
    unseen = (posed.sensitivity < 1e-3).expand_as(last.iterate)
    assert last.iterate[unseen].max() <= first.iterate.max()


def test_it_ends_by_its_iterations_or_its_tolerance():
    posed = problem()
    steps = run(richardson_lucy(posed, max_iter=7))
    assert [step.stopped_by for step in steps] == [""] * 6 + ["max_iter"]
    assert [step.iteration for step in steps] == list(range(1, 8))
    tolerant = run(richardson_lucy(posed, max_iter=500, tol=0.02))
    assert tolerant[-1].stopped_by == "converged"
    assert tolerant[-1].residual < 0.02 <= tolerant[-2].residual


@pytest.mark.parametrize("accelerated", [False, True])
def test_nan_keeps_the_last_good_iterate(accelerated):
    posed = problem()
    operator = posed.likelihood.operator
    calls = 0
    adjoint = operator.adjoint

    def spoiled(v):
        nonlocal calls
        calls += 1
        return adjoint(v) * (torch.nan if calls > 5 else 1)

    operator.adjoint = spoiled
    steps = run(richardson_lucy(posed, max_iter=50, accelerated=accelerated))
    assert steps[-1].stopped_by == "diverged"
    assert torch.equal(steps[-1].iterate, steps[-2].iterate)
    assert torch.isfinite(steps[-1].iterate).all()


def test_steps_stay_what_they_were_and_the_start_too():
    posed = problem()
    start = torch.ones_like(posed.start())
    steps, copies = [], []
    for step in richardson_lucy(posed, start, max_iter=6, accelerated=True):
        steps.append(step.iterate)
        copies.append(step.iterate.clone())
    assert all(torch.equal(a, b) for a, b in zip(steps, copies, strict=True))
    assert torch.equal(start, torch.ones_like(start))
