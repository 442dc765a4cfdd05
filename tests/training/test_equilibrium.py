"""Equilibrium training: exact implicit gradients on a tiny problem, their named approximation, and the loop around."""

from __future__ import annotations

import copy
import math
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from core.problems import gaussian, measured
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import DnCNN, Red, ThreeScale
from napari_deqmd.training import equilibrium
from napari_deqmd.training.data import Sampler
from napari_deqmd.training.equilibrium import (
    Adjoint,
    Solve,
    balanced,
    fixed_point,
    loss_and_slope,
    solve_adjoint,
    train_equilibrium,
)
from napari_deqmd.training.measurements import Measurement, Ranges, measure

SIDE = 8


class Tiny:
    """A float64 problem of two images, small enough for its Hessian, at its fixed point."""

    def __init__(self, boundary: str) -> None:
        torch.manual_seed(0)
        self.regularizer = Red(DnCNN(channels=3, depth=3)).double()
        with torch.no_grad():
            self.regularizer.strength.a.fill_(2.0)  # enough to decide what no photon tells, outside the image
        rng = torch.Generator().manual_seed(1)
        clean = torch.rand(2, 1, SIDE, SIDE, dtype=torch.float64, generator=rng) ** 3 * 2
        self.problem = measured(
            clean,
            gaussian(0.7),
            peak=(40.0, 150.0),
            share=0.3,
            regularizer=self.regularizer,
            boundary=boundary,
        )
        self.x, _ = fixed_point(self.problem, max_iter=400, tol=1e-10)
        self.data = Measurement(*(torch.empty(0),) * 4, truth=clean)
        self.loss, self.slope, self.free = loss_and_slope(self.problem, self.x, self.data)
        leaf = self.x.detach().requires_grad_()
        energy = self.regularizer.energy(leaf, self.problem.peak).sum()
        (self.gradient,) = torch.autograd.grad(energy, leaf, create_graph=True)
        self.curve = partial(equilibrium._product, self.gradient, leaf)

    def objective(self, flat: torch.Tensor) -> torch.Tensor:
        like = self.problem.likelihood
        x = flat.reshape(self.x.shape)
        z = like.operator.forward(x) + like.beta.reshape(-1, 1, 1, 1)
        energy = self.regularizer.energy(x, self.problem.peak).sum()
        return (z - torch.xlogy(like.y, z)).sum() + energy

    def dense_direction(self) -> torch.Tensor:
        """``H w = dL/dx`` on the free pixels, with the whole Hessian."""
        hessian = torch.autograd.functional.hessian(self.objective, self.x.flatten())
        free = self.free.flatten()
        block = hessian[free][:, free]
        assert torch.linalg.eigvalsh(block)[0] > 0  # a strict minimum
        w = torch.zeros_like(free, dtype=torch.float64)
        w[free] = torch.linalg.solve(block, self.slope.flatten()[free])
        return w.reshape(self.x.shape)

    def adjoint(self, steps: int, start: torch.Tensor | None = None) -> Adjoint:
        return solve_adjoint(
            self.problem, self.x, self.slope, self.free, self.curve, steps=steps, start=start
        )

    def direction(self, steps: int) -> torch.Tensor:
        return self.adjoint(steps).w

    def weights_gradient(self, w: torch.Tensor) -> torch.Tensor:
        parts = torch.autograd.grad(
            -(w * self.gradient).sum(), list(self.regularizer.parameters()), retain_graph=True
        )
        return torch.cat([part.flatten() for part in parts])

    @property
    def metric(self) -> torch.Tensor:
        """The metric at the fixed point."""
        return self.problem.metric(self.problem.burg.to_u(self.x))

    def resolved_loss(self, weights: torch.Tensor) -> float:
        """The true loss of other weights: the fixed point is found anew."""
        before = torch.nn.utils.parameters_to_vector(self.regularizer.parameters()).detach()
        torch.nn.utils.vector_to_parameters(weights, self.regularizer.parameters())
        x, _ = fixed_point(self.problem, self.x, max_iter=400, tol=1e-11)
        torch.nn.utils.vector_to_parameters(before, self.regularizer.parameters())
        return self.data.loss(self.problem, x).mean().item()

    def slope_along(self, d: torch.Tensor, step: float = 1e-3) -> float:
        """Derivative of the true loss along a direction of the weights, by a central difference."""
        here = torch.nn.utils.parameters_to_vector(self.regularizer.parameters()).detach()
        return (self.resolved_loss(here + step * d) - self.resolved_loss(here - step * d)) / (2 * step)


@pytest.fixture(scope="module", params=["periodic", "extended"])
def tiny(request: pytest.FixtureRequest) -> Tiny:
    return Tiny(request.param)


def test_the_box_holds_some_pixels_and_the_rest_is_stationary(tiny):
    assert (~tiny.free).any()
    assert tiny.free.sum() > tiny.free.numel() / 4
    leaf = tiny.x.flatten().requires_grad_()
    (gradient,) = torch.autograd.grad(tiny.objective(leaf), leaf)
    assert gradient[tiny.free.flatten()].abs().max() < 1e-6
    held, dark = ~tiny.free.flatten(), tiny.x.flatten() == 0
    assert (gradient[held & dark] > 0).all()
    assert (gradient[held & ~dark] < 0).all()


def test_the_dense_implicit_gradient_is_the_derivative_of_the_true_loss(tiny):
    """The reference itself, against fixed points found anew for other weights."""
    exact = tiny.weights_gradient(tiny.dense_direction())
    rng = torch.Generator().manual_seed(0)
    for _ in range(2):
        d = torch.randn(exact.shape, generator=rng, dtype=torch.float64)
        d = d / d.norm()
        assert tiny.slope_along(d) == pytest.approx((exact @ d).item(), rel=0.02, abs=1e-4)


def test_conjugate_gradients_reach_the_implicit_gradient(tiny):
    """Also outside the field of view, where the object is free though the loss does not look at it."""
    dense, found = tiny.dense_direction(), tiny.direction(steps=200)
    assert (found - dense).norm() < 1e-4 * dense.norm()
    exact = tiny.weights_gradient(dense)
    assert (tiny.weights_gradient(found) - exact).norm() < 1e-4 * exact.norm()


def test_a_dozen_conjugate_gradient_steps_are_close(tiny):
    exact = tiny.weights_gradient(tiny.dense_direction())
    found = tiny.weights_gradient(tiny.direction(steps=12))
    assert torch.cosine_similarity(found, exact, dim=0) > 0.95


def test_jacobian_free_is_an_approximation_that_descends(tiny):
    """No steps: ``w = slope / metric``. It differs from the implicit gradient, but lowers the true loss."""
    exact = tiny.weights_gradient(tiny.dense_direction())
    free = tiny.direction(steps=0)
    assert torch.equal(free, tiny.slope / tiny.metric)
    approximate = tiny.weights_gradient(free)
    cosine = torch.cosine_similarity(approximate, exact, dim=0)
    assert 0.2 < cosine < 0.95
    here = torch.nn.utils.parameters_to_vector(tiny.regularizer.parameters()).detach()
    step = 1e-3 * approximate / approximate.norm()
    assert tiny.resolved_loss(here - step) < tiny.resolved_loss(here)
    assert tiny.slope_along(approximate / approximate.norm()) > 0


def test_a_start_is_improved_on(tiny):
    dense = tiny.dense_direction()
    first = tiny.direction(steps=4)
    again = tiny.adjoint(4, start=first).w
    assert (again - dense).norm() < 0.95 * (first - dense).norm()
    assert (tiny.adjoint(1, start=dense).w - dense).norm() < 1e-6 * dense.norm()


def test_curvature_along_the_flattest_direction_is_that_of_the_objective(tiny):
    found = tiny.adjoint(12)
    hessian = torch.autograd.functional.hessian(tiny.objective, tiny.x.flatten())
    size = tiny.x[0].numel()
    for i, (v, curvature) in enumerate(zip(found.flattest, found.curvature.tolist(), strict=True)):
        own = hessian[i * size : (i + 1) * size, i * size : (i + 1) * size]
        assert (v.flatten() @ own @ v.flatten()).item() == pytest.approx(curvature, rel=1e-6)
        assert (v**2 * tiny.metric[i]).sum().item() == pytest.approx(1)
        along = tiny.slope[i].flatten() / tiny.metric[i].flatten()
        first = (along @ own @ along) / (along**2 * tiny.metric[i].flatten()).sum()
        assert curvature <= first.item() * (1 + 1e-9)


def test_images_of_negative_curvature_have_no_part_in_the_gradient(tiny):
    signs = torch.tensor([-1e3, 1.0]).double().reshape(-1, 1, 1, 1)
    found = solve_adjoint(tiny.problem, tiny.x, tiny.slope, tiny.free, lambda p: signs * p, steps=5)
    assert found.convex.tolist() == [False, True]
    assert found.curvature[0] < 0 < found.curvature[1]
    w = balanced(found.w, tiny.metric, found.convex)
    assert (w[0] == 0).all()
    assert torch.equal(w[1], found.w[1])


def test_no_image_outweighs_the_median(tiny):
    w = torch.ones(3, *tiny.x.shape[1:], dtype=torch.float64) * torch.tensor([1.0, 2.0, 500.0]).reshape(
        -1, 1, 1, 1
    )
    even = torch.ones_like(w)
    ones = torch.ones(3, dtype=torch.float64)
    found = balanced(w, even, ones > 0)
    assert found.flatten(1)[:, 0].tolist() == pytest.approx([1, 2, 2])
    assert (balanced(w, even, ones < 0) == 0).all()


def test_pixels_held_by_the_box_have_no_part(tiny):
    assert (tiny.slope[~tiny.free] == 0).all()
    assert (tiny.direction(steps=6)[~tiny.free] == 0).all()


def test_a_fixed_point_leaves_no_graph_and_the_weights_trainable(tiny):
    x, certificate = fixed_point(tiny.problem, max_iter=50, tol=1e-4)
    assert not x.requires_grad
    assert (certificate < 20e-4).all()  # `State.settled`
    assert all(p.requires_grad for p in tiny.regularizer.parameters())


def test_a_solve_that_fails_leaves_the_weights_trainable(tiny, monkeypatch):
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(equilibrium, "accelerated_mirror_descent", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        fixed_point(tiny.problem, max_iter=5, tol=1e-4)
    assert all(p.requires_grad for p in tiny.regularizer.parameters())


# --- the loop ---


def source(seed: int = 0) -> partial[Measurement]:
    sampler = Sampler({"simulated": 1}, patch=36, pool=3, side=48, seed=seed)
    return partial(measure, sampler, ranges=Ranges(peak=(40.0, 200.0)))


def network(seed: int = 0) -> Red:
    torch.manual_seed(seed)
    return Red(ThreeScale(channels=(4, 6, 8)))


QUICK = {
    "batch": 2,
    "groups": 4,
    "solve": Solve(tol=1e-2, first=15, again=8),
    "gradient_steps": 2,
    "precision": "float32",
}


def weights(regularizer: Red) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in regularizer.parameters()])


def test_every_step_is_reported_and_moves_the_weights():
    regularizer = network()
    before = weights(regularizer)
    reports = list(train_equilibrium(regularizer, source(), steps=3, **QUICK))
    assert [report.step for report in reports] == [1, 2, 3]
    assert all(math.isfinite(report.loss) and report.validation["certificate"] > 0 for report in reports)
    assert (weights(regularizer) != before).float().mean() > 0.9
    assert torch.isfinite(weights(regularizer)).all()


def test_the_same_seed_trains_the_same_weights():
    runs = []
    for seed in (0, 0, 1):
        regularizer = network()
        list(train_equilibrium(regularizer, source(seed), steps=2, **QUICK))
        runs.append(weights(regularizer))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_a_run_resumes_where_it_stopped(tmp_path: Path):
    """In the first round of groups bit by bit; later the resumed run has no warm starts and solves afresh."""
    whole = network()
    list(train_equilibrium(whole, source(), steps=3, **QUICK))
    first, checkpoint = network(), tmp_path / "run.pt"
    run = train_equilibrium(first, source(), steps=3, checkpoint=checkpoint, every=1, **QUICK)
    assert next(run).step == 1
    run.close()
    resumed = network(seed=9)
    reports = list(train_equilibrium(resumed, source(), steps=3, checkpoint=checkpoint, every=1, **QUICK))
    assert [report.step for report in reports] == [2, 3]
    assert torch.equal(weights(resumed), weights(whole))
    assert list(train_equilibrium(network(), source(), steps=3, checkpoint=checkpoint, **QUICK)) == []


def test_the_loss_falls_on_fixed_data():
    """One batch of measurements, kept: fifteen steps of a tiny network must get closer to its truth."""
    regularizer = network()
    options = QUICK | {"groups": 1, "lifetime": 10**6, "solve": Solve(tol=1e-4, first=60, again=20)}
    options["gradient_steps"] = 6
    reports = list(train_equilibrium(regularizer, source(), steps=15, learning_rate=4e-3, **options))
    assert min(report.loss for report in reports[-5:]) < reports[0].loss - 0.05


def test_validation_sees_the_averaged_weights_every_so_often():
    seen = []

    def validate(regularizer: Red) -> dict[str, float]:
        seen.append(weights(regularizer))
        return {"psnr": 20.0 + len(seen)}

    regularizer = network()
    reports = list(train_equilibrium(regularizer, source(), steps=5, every=2, validate=validate, **QUICK))
    assert [report.validation.get("psnr") for report in reports] == [None, 21.0, None, 22.0, 23.0]
    assert torch.equal(seen[-1], weights(regularizer))


def test_batches_are_kept_for_their_lifetime_and_drawn_one_after_the_other(monkeypatch):
    """Never all of them at once: a step later than another group's."""
    drawn = []

    def draw(number: int, batch: int) -> Measurement:
        drawn.append(number)
        return source()(number, batch)

    def solved(
        problem: Problem, start: torch.Tensor | None = None, **options: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return problem.start(), torch.zeros(2)

    monkeypatch.setattr(equilibrium, "fixed_point", solved)
    options = QUICK | {"groups": 2, "lifetime": 2, "gradient_steps": 0}
    run = train_equilibrium(network(), draw, steps=10, **options)
    fresh = [after - before for before, after in pairwise([0, *(len(drawn) for _ in run)])]
    assert len(drawn) == len(set(drawn))  # new measurements each time
    assert fresh[:2] == [1, 1]
    assert max(fresh) == 1
    assert 4 <= len(drawn) <= 7  # ten visits of two groups, two visits of each batch


def test_both_gradients_train():
    for steps in (0, 3):
        regularizer = network()
        before = weights(regularizer)
        list(train_equilibrium(regularizer, source(), steps=1, **(QUICK | {"gradient_steps": steps})))
        assert not torch.equal(weights(regularizer), before)


def test_half_precision_trains_too():
    full, half = network(), network()
    options = QUICK | {"gradient_steps": 0}
    list(train_equilibrium(full, source(), steps=1, **options))
    list(train_equilibrium(half, source(), steps=1, **(options | {"precision": "bfloat16"})))
    moved = [copy.deepcopy(weights(r) - weights(network())) for r in (full, half)]
    assert torch.cosine_similarity(*moved, dim=0) > 0.8
