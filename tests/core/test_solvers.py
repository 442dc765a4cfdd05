"""Mirror descent, plain and accelerated: closed forms, optimality, monotone objectives, and how they end."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from functools import partial

import numpy as np
import pytest
import torch

from core.problems import gaussian, identity, kkt_violation, measured, run, scene, tiny_red, tiny_scalar, tv
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.operators import Blur
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import NoRegularizer, Regularizer
from napari_deqmd.core.solvers import SOLVERS, accelerated_mirror_descent, mirror_descent
from napari_deqmd.core.solvers.state import begin, finished

both = pytest.mark.parametrize("solver", list(SOLVERS.values()), ids=list(SOLVERS))


def small_convex():
    regularizer = tiny_scalar(convex=True)
    regularizer.strength.a.fill_(-6.0)
    return regularizer


REGULARIZERS = {
    "tv": tv,
    "red": tiny_red,
    "scalar": tiny_scalar,
    "scalar-convex": small_convex,
}


def two_images(regularizer, *, sigma=1.0, side=32, share=0.1, **options):
    clean = torch.cat([scene("cells", side), scene("filaments", side)])
    return measured(
        clean, gaussian(sigma), peak=(30.0, 200.0), share=share, regularizer=regularizer, **options
    )


def one_of(problem: Problem, i: int) -> Problem:
    """Image `i` of a batch as a problem of its own."""
    like = problem.likelihood
    return Problem(
        dataclasses.replace(like, y=like.y[i : i + 1], beta=like.beta[i : i + 1]),
        problem.regularizer,
        problem.peak[i : i + 1],
        strength=problem.strength,
        upper=problem.upper,
        shifted=problem.shifted,
    )


def objectives(problem: Problem, x: torch.Tensor) -> torch.Tensor:
    """The objective, from scratch."""
    return problem.value(problem.evaluate(problem.burg.to_u(x)))


def identity_problem(regularizer=None, share=0.3, **options):
    """No blur: every pixel has a closed form. Half of the pixels are darker than the background."""
    rng = np.random.default_rng(0)
    electrons = torch.from_numpy(rng.poisson(60 * share * rng.uniform(0, 2, (2, 1, 12, 13))).astype(float))
    electrons[0, 0, 0, :3] = 0
    return Problem.from_electrons(
        electrons,
        Blur(identity(), (12, 13), boundary="periodic"),
        regularizer if regularizer is not None else NoRegularizer(),
        peak=torch.tensor([60.0, 90.0], dtype=torch.float64),
        background=share * torch.tensor([60.0, 90.0], dtype=torch.float64),
        **options,
    )


class Quadratic(Regularizer):
    """``w / 2 sum (x - m)^2``."""

    ndim = None

    def __init__(self, weight: float = 2.0, mean: float = 0.4) -> None:
        super().__init__()
        self.weight, self.mean = weight, mean

    def energy(self, x, peak):
        return 0.5 * self.weight * (x - self.mean) ** 2

    def curvature(self, x, peak):
        return torch.full_like(x, self.weight)


@both
@pytest.mark.parametrize("boundary", ["periodic", "extended"])
def test_without_blur_and_regularizer_the_image_less_its_background(solver, boundary):
    problem = identity_problem()
    steps = run(solver(problem, max_iter=500, tol=1e-10))
    like = problem.likelihood
    expected = (like.y - like.beta.reshape(2, 1, 1, 1)).clamp_min(0)
    assert (expected == 0).sum() > 50
    assert steps[-1].stopped_by == "converged"
    assert torch.allclose(steps[-1].iterate, expected, atol=1e-8)


@both
def test_zeros_are_left_again(solver):
    """With a background zero is an ordinary boundary point, even as the start."""
    problem = identity_problem()
    dark = torch.zeros_like(problem.likelihood.y)
    last = run(solver(problem, dark, max_iter=500, tol=1e-10))[-1]
    expected = (problem.likelihood.y - problem.likelihood.beta.reshape(2, 1, 1, 1)).clamp_min(0)
    assert torch.allclose(last.iterate, expected, atol=1e-8)


@both
@pytest.mark.parametrize("upper", [10.0, 0.2])
def test_with_a_quadratic_regularizer_the_root_of_its_equation(solver, upper):
    """``1 - y / z + w (x - m) = 0`` with ``z = x + beta``, on the box; with upper = 0.2 the box holds many pixels."""
    w, m = 2.0, 0.4
    problem = identity_problem(Quadratic(w, m), upper=upper)
    last = run(solver(problem, max_iter=800, tol=1e-9))[-1]
    beta = problem.likelihood.beta.reshape(2, 1, 1, 1)
    b = 1 - w * (beta + m)
    z = (-b + torch.sqrt(b**2 + 4 * w * problem.likelihood.y)) / (2 * w)
    expected = (z - beta).clamp(0, upper)
    assert last.stopped_by == "converged"
    assert torch.allclose(last.iterate, expected, atol=1e-6)
    assert (last.iterate == last.iterate.clamp(0, upper)).all()


@pytest.mark.parametrize("name", REGULARIZERS)
def test_both_reach_the_same_fixed_point(name):
    problem = two_images(REGULARIZERS[name](), sigma=0.5, side=24, share=1.0)
    fast = run(accelerated_mirror_descent(problem, max_iter=400, tol=1e-8))[-1]
    slow = run(mirror_descent(problem, max_iter=400, tol=1e-8))[-1]
    assert fast.stopped_by == slow.stopped_by == "converged"
    assert torch.allclose(fast.objectives, slow.objectives, rtol=1e-10)
    assert (fast.iterate - slow.iterate).norm() < 1e-5 * slow.iterate.norm()


@both
@pytest.mark.parametrize("name", REGULARIZERS)
def test_the_first_order_conditions_hold_at_the_result(name, solver):
    """Checked with autograd of the whole objective, not with the solver's own gradient."""
    problem = two_images(REGULARIZERS[name](), sigma=0.5, side=24, share=1.0)
    start = problem.burg.to_x(problem.burg.to_u(problem.start()))
    last = run(solver(problem, max_iter=400, tol=1e-8))[-1]
    assert last.stopped_by == "converged"
    assert kkt_violation(problem, last.iterate).max() < 1e-5 * kkt_violation(problem, start).max()


@both
@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("boundary", ["periodic", "extended"])
def test_the_objective_never_rises(name, boundary, solver):
    """Recomputed at every iterate, for every image; the recorded one is that, not a sum that drifted."""
    problem = two_images(REGULARIZERS[name](), boundary=boundary)
    steps = run(solver(problem, max_iter=60, tol=1e-12))
    values = torch.stack([objectives(problem, step.iterate) for step in steps])
    recorded = torch.stack([step.objectives for step in steps])
    scale = values[0].abs()
    assert (values.diff(dim=0) <= 1e-12 * scale).all()
    assert (recorded.diff(dim=0) <= 0).all()
    assert torch.allclose(values, recorded, rtol=1e-10)
    assert (values[-1] < values[0]).all()


def first(steps, holds) -> int:
    """Return the iteration of the first step for which something holds, and stop there."""
    return next(step.iteration for step in steps if holds(step))


@pytest.mark.parametrize(("kind", "name"), [("filaments", "tv"), ("cells", "red"), ("filaments", "scalar")])
def test_accelerated_needs_a_third_of_the_evaluations(kind, name):
    """To the same certificate, and to the objective at which the plain iteration has it."""
    problem = measured(scene(kind, 64), gaussian(1.0), share=0.1, regularizer=REGULARIZERS[name]())
    goal = 3e-3
    for growth in (1.2, 1.0):  # ours, and the paper's
        plain = mirror_descent(problem, max_iter=600, tol=1e-12, growth=growth)
        slow = next(step for step in plain if step.residual < goal)
        fast = partial(accelerated_mirror_descent, problem, max_iter=200, tol=1e-12)
        assert first(fast(), lambda step: step.residual < goal) <= slow.iteration / 3
        assert first(fast(), lambda step, at=slow.objective: step.objective <= at) <= slow.iteration / 3


def test_growing_steps_are_worth_it():
    problem = measured(scene("filaments", 64), gaussian(1.0), share=0.1, regularizer=tv())
    grown = first(mirror_descent(problem, max_iter=600, tol=1e-12), lambda step: step.residual < 3e-3)
    paper = run(mirror_descent(problem, max_iter=grown, tol=1e-12, growth=1.0))
    assert paper[-1].residual > 3e-3
    assert all(b.step_size <= a.step_size for a, b in itertools.pairwise(paper))


@both
@pytest.mark.parametrize("name", ["tv", "red"])
def test_a_batch_gives_what_its_images_give_alone(name, solver):
    problem = two_images(REGULARIZERS[name](), sigma=0.5, side=24, share=1.0)
    together = run(solver(problem, max_iter=400, tol=1e-7))[-1]
    assert together.stopped_by == "converged"
    for i in range(2):
        alone = run(solver(one_of(problem, i), max_iter=400, tol=1e-7))[-1]
        assert (together.iterate[i] - alone.iterate[0]).norm() < 1e-5 * alone.iterate.norm()
        assert together.objectives[i].item() == pytest.approx(alone.objective, rel=1e-9)


def test_plain_images_of_a_batch_do_not_know_of_each_other():
    problem = two_images(tv())
    together = run(mirror_descent(problem, max_iter=50, tol=1e-12))[-1]
    for i in range(2):
        alone = run(mirror_descent(one_of(problem, i), max_iter=50, tol=1e-12))[-1]
        assert torch.allclose(together.iterate[i], alone.iterate[0], rtol=1e-10, atol=1e-12)
        assert together.step_sizes[i].item() == pytest.approx(alone.step_size)


@both
def test_an_image_that_has_converged_waits_for_the_others(solver):
    """A dark image is solved by zero at once: no step improves it, and that must not look like divergence."""
    problem = two_images(NoRegularizer(), sigma=1.4)
    like = problem.likelihood
    y = like.y.clone()
    y[0] = 0
    problem = dataclasses.replace(problem, likelihood=dataclasses.replace(like, y=y))
    steps = run(solver(problem, max_iter=400, tol=1e-4 if solver is accelerated_mirror_descent else 1e-2))
    assert steps[-1].stopped_by == "converged"
    assert torch.equal(steps[-1].iterate[0], torch.zeros_like(steps[-1].iterate[0]))
    assert steps[-1].residuals[0] == 0
    assert len(steps) > 5


class Counting(Regularizer):
    """TV that counts its evaluations and spoils its energy or its gradient from some evaluation on."""

    def __init__(
        self, *, energy_after: int = 10**9, gradient_after: int = 10**9, images: slice = slice(None)
    ) -> None:
        super().__init__()
        self.calls = 0
        self.inner = tv()
        self.energy_after, self.gradient_after, self.images = energy_after, gradient_after, images

    def energy(self, x, peak):
        self.calls += 1
        energy = self.inner.energy(x, peak)
        if self.calls > self.energy_after:
            spoil = torch.zeros_like(energy)
            spoil[self.images] = torch.nan
            energy = energy + spoil
        if self.calls > self.gradient_after and energy.requires_grad:
            energy.register_hook(self._spoil)
        return energy

    def _spoil(self, gradient):
        gradient = gradient.clone()
        gradient[self.images] = torch.nan
        return gradient


@both
@pytest.mark.parametrize("max_iter", [1, 7])
def test_max_iter_is_the_number_of_evaluations(solver, max_iter):
    counting = Counting()
    steps = run(solver(two_images(counting), max_iter=max_iter, tol=1e-12))
    assert steps[-1].stopped_by == "max_iter"
    assert steps[-1].iteration == max_iter
    assert counting.calls == max_iter + 1  # the start
    assert [step.stopped_by for step in steps[:-1]] == [""] * (len(steps) - 1)
    assert [step.iteration for step in steps] == sorted({step.iteration for step in steps})


@both
@pytest.mark.parametrize("what", ["energy_after", "gradient_after"])
def test_nan_keeps_the_last_good_iterate(solver, what):
    good = run(solver(two_images(Counting()), max_iter=8, tol=1e-12))
    steps = run(solver(two_images(Counting(**{what: 9})), max_iter=200, tol=1e-12))
    last = steps[-1]
    assert last.stopped_by == "diverged"
    assert torch.isfinite(last.iterate).all()
    assert torch.isfinite(last.objectives).all()
    assert torch.isfinite(last.residuals).all()
    assert torch.equal(last.iterate, good[-1].iterate)
    assert torch.equal(last.objectives, good[-1].objectives)


def test_nan_is_never_convergence():
    """Near the solution an objective that no longer falls is enough; one that is no number is not."""
    clean = run(mirror_descent(two_images(Counting()), max_iter=300, tol=1e-2))
    assert clean[-1].stopped_by == "converged"
    near = next(step for step in clean if step.residual < 5e-2)
    spoiled = Counting(energy_after=near.iteration + 1)
    last = run(mirror_descent(two_images(spoiled), max_iter=300, tol=1e-2))[-1]
    assert last.stopped_by == "diverged"
    assert torch.equal(last.iterate, near.iterate)


@pytest.mark.parametrize(
    ("residual", "change", "why"),
    [(1e-9, 0.0, "converged"), (1e-2, 0.0, "max_iter"), (1e-9, torch.nan, "diverged")],
)
def test_a_step_lost_in_rounding_is_no_divergence(residual, change, why):
    state = begin(two_images(tv()), None)
    recent = (torch.where(torch.isnan(state.objective + change), torch.inf, state.objective),)
    state = dataclasses.replace(state, residual=torch.full_like(state.residual, residual), recent=recent)
    tau = torch.full_like(state.objective, 1e-21)
    assert finished(state, tau, 5, 100, tol=1e-12) == why
    tau[0] = 1
    assert finished(state, tau, 5, 100, tol=1e-12) == ("diverged" if why == "diverged" else "")


@both
@pytest.mark.parametrize("what", ["energy_after", "gradient_after"])
def test_nan_at_the_start_is_an_error(solver, what):
    with pytest.raises(UserError, match="not finite at the start"):
        run(solver(two_images(Counting(**{what: 0}))))


@both
def test_a_rejected_trial_may_be_anything(solver):
    """NaN at one image's trial: that image is rejected, and its gradient must not end the other's run."""
    problem = two_images(Counting(energy_after=4, gradient_after=4, images=slice(0, 1)))
    steps = run(solver(problem, max_iter=30, tol=1e-12))
    assert steps[-1].stopped_by == "max_iter"
    frozen, going = steps[-1].objectives - steps[4].objectives
    assert frozen == 0
    assert going < 0


@both
def test_steps_are_frozen_and_stay_what_they_were(solver):
    steps, copies = [], []
    for step in solver(two_images(tv()), max_iter=20, tol=1e-12):
        steps.append(step)
        copies.append(step.iterate.clone())
    for step, copy in zip(steps, copies, strict=True):
        assert torch.equal(step.iterate, copy)
    with pytest.raises(dataclasses.FrozenInstanceError):
        steps[0].iteration = 3
    first = steps[0]
    assert first.objective == pytest.approx(first.objectives.sum().item())
    assert first.residual == first.residuals.max().item()
    assert first.step_size == first.step_sizes.min().item()
    assert first.objectives.dtype == first.residuals.dtype == first.step_sizes.dtype == torch.float64


@both
def test_closing_early_stops_the_work(solver):
    counting = Counting()
    steps = solver(two_images(counting), max_iter=100, tol=1e-12)
    for _ in range(3):
        next(steps)
    calls = counting.calls
    steps.close()
    assert list(steps) == []
    assert counting.calls == calls <= 4


@both
def test_a_solution_as_the_start_is_converged_at_once(solver):
    problem = two_images(tv(), sigma=0.5, share=1.0)
    solution = run(accelerated_mirror_descent(problem, max_iter=400, tol=1e-8))[-1].iterate
    steps = run(solver(problem, solution, tol=1e-6))
    assert [(step.iteration, step.stopped_by) for step in steps] == [(0, "converged")]


@both
def test_the_solver_does_not_write_on_what_it_was_given(solver):
    problem = two_images(tv())
    start = problem.start()
    before = start.clone(), problem.likelihood.y.clone()
    run(solver(problem, start, max_iter=5))
    assert torch.equal(start, before[0])
    assert torch.equal(problem.likelihood.y, before[1])


def test_the_papers_unshifted_protocol():
    """``shifted=False``: the same solution, but the plain iteration only creeps towards its zeros."""
    problem = identity_problem(Quadratic(2.0, 0.4))
    paper = dataclasses.replace(problem, shifted=False)
    expected = run(mirror_descent(problem, max_iter=100, tol=1e-9))[-1].iterate
    lit = torch.full_like(expected, 0.3)  # and a dark start would creep away from zero
    fast = run(accelerated_mirror_descent(paper, lit, max_iter=400, tol=1e-9))[-1].iterate
    slow = run(mirror_descent(paper, lit, max_iter=100, tol=1e-9))[-1].iterate
    assert expected.min() == 0
    assert torch.allclose(fast, expected, atol=2e-6)  # the floor of 1e-6 instead of 0
    assert torch.allclose(slow, expected, atol=0.03)
    assert slow.min() > 1e-3


@both
def test_a_stack_is_deconvolved_in_three_dimensions(solver):
    rng = np.random.default_rng(0)
    clean = torch.zeros(1, 1, 6, 14, 15, dtype=torch.float64)
    for _ in range(12):
        clean[(0, 0, *(int(rng.integers(n)) for n in clean.shape[2:]))] = 1
    problem = measured(
        clean, gaussian(0.7, ndim=3), peak=100.0, share=0.2, regularizer=tv(), boundary="extended"
    )
    steps = run(solver(problem, max_iter=100, tol=5e-3))
    assert steps[-1].stopped_by == "converged"
    assert steps[-1].objective < steps[0].objective
    assert steps[-1].iterate.shape == (1, 1, *problem.likelihood.operator.object_shape)


@pytest.mark.parametrize("name", ["tv", "red"])
@pytest.mark.parametrize("kind", ["cells", "filaments", "puncta"])
def test_a_dark_background_converges_in_under_a_hundred_evaluations(kind, name):
    """At the default tolerance, in float32, on the extended object; 96 x 96 here, where the product's goal is 512."""
    regularizer = tv() if name == "tv" else tiny_red(dtype=torch.float32)
    problem = measured(
        scene(kind, 96),
        gaussian(1.4),
        share=0.05,
        regularizer=regularizer,
        boundary="extended",
        dtype=torch.float32,
    )
    last = run(accelerated_mirror_descent(problem, max_iter=200, tol=1e-4))[-1]
    assert last.stopped_by == "converged"
    assert last.iteration < 100


@pytest.mark.parametrize(("peak", "share"), [(3.0, 1.0), (5.0, 0.05), (5.0, 1.0)])
@pytest.mark.parametrize("name", ["tv", "red"])
def test_rounding_of_float32_is_not_divergence(name, peak, share):
    """Few photons make large energies, whose rounding must not hide the last decreases before the tolerance."""
    regularizer = tv() if name == "tv" else tiny_red(dtype=torch.float32)
    problem = measured(
        scene("filaments", 64),
        gaussian(1.4),
        peak=peak,
        share=share,
        regularizer=regularizer,
        boundary="extended",
        dtype=torch.float32,
    )
    last = run(accelerated_mirror_descent(problem, max_iter=200, tol=1e-4))[-1]
    assert last.stopped_by == "converged"
    fresh = objectives(problem, last.iterate)
    assert torch.allclose(last.objectives, fresh, rtol=1e-5)


def test_secant_pairs_resume_a_solve():
    problem = two_images(tv(), sigma=0.7)
    whole = run(accelerated_mirror_descent(problem, max_iter=300, tol=1e-5))[-1]
    pairs = deque(maxlen=8)
    first = run(accelerated_mirror_descent(problem, max_iter=15, tol=1e-5, pairs=pairs))[-1]
    assert len(pairs) == 8
    warm = run(accelerated_mirror_descent(problem, first.iterate, max_iter=300, tol=1e-5, pairs=pairs))[-1]
    cold = run(accelerated_mirror_descent(problem, first.iterate, max_iter=300, tol=1e-5))[-1]
    assert warm.stopped_by == cold.stopped_by == "converged"
    assert warm.iteration <= cold.iteration
    assert warm.objective == pytest.approx(whole.objective, rel=1e-6)
