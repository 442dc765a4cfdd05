"""B-RED and B-PnP: the steps by hand, stages, fixed points; and which model a method takes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from core.problems import gaussian, kkt_violation, measured, scene
from napari_deqmd.core.config import BREGMAN, ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.methods import HalfPrecision, solve
from napari_deqmd.core.regularizers import Bregman, DnCNN, build, evaluate
from napari_deqmd.core.solvers import SOLVERS, bregman
from napari_deqmd.core.solvers.bregman import bregman_pnp, bregman_red


def denoiser(gain: float = 0.5) -> Bregman:
    """``g = gain/2 (high-pass x)^2``: convex, with ``gamma`` seen by nothing but the weight."""
    network = DnCNN(channels=1, depth=1)
    kernel = torch.zeros(1, 2, 3, 3)
    kernel[0, 0] = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]]) / 4
    network[0].weight.data.copy_(gain**0.5 * kernel)
    network[0].bias.data.zero_()
    return Bregman(network).double().requires_grad_(False)


def posed(regularizer=None, **options):
    clean = scene("cells", 16) + 0.3
    options = {"peak": 100.0, "share": 0.0} | options
    return measured(clean, gaussian(1.0), regularizer=regularizer or denoiser(), **options)


class Told(Bregman):
    """Keeps what its network is told."""

    def residual(self, v, peak):
        self.seen.append(float(peak[0]))
        return super().residual(v, peak)


def test_the_weight_is_that_of_maximum_a_posteriori():
    regularizer = denoiser()
    x, peak = torch.rand(2, 1, 8, 8, dtype=torch.float64), torch.tensor([30.0, 120.0]).double()
    g = regularizer.potential(x, torch.full_like(peak, 500))
    assert torch.allclose(regularizer.energy(x, peak), 500 / peak.reshape(-1, 1, 1, 1) * g)
    assert torch.allclose(regularizer.at(50.0).energy(x, peak), 50 / peak.reshape(-1, 1, 1, 1) * g)
    assert regularizer.gamma == 500
    assert regularizer.at(50.0).network is regularizer.network


@pytest.mark.parametrize("solver", [bregman_red, bregman_pnp])
def test_the_denoiser_is_told_50_then_500(solver):
    regularizer = Told(denoiser().network).double().requires_grad_(False)
    regularizer.seen = []
    steps = list(solver(posed(regularizer), max_iter=7, tol=1e-12, warm_up=3))
    changes = [a for a, b in zip(regularizer.seen, regularizer.seen[1:], strict=False) if a != b]
    assert (changes, regularizer.seen[-1]) == ([50.0], 500.0)
    assert steps[-1].iteration == 7
    assert [step.stopped_by for step in steps[:-1]] == [""] * (len(steps) - 1)
    assert steps[-1].stopped_by == "max_iter"


def test_a_step_of_pnp_by_hand():
    """``x+ = B(x / (1 + lambda x grad f))``, relaxed by a, and both of ``lambda`` then; ``lambda`` is 1 at most."""
    problem = posed()
    x = problem.start().clamp(1e-6, problem.upper)
    regularizer, like = problem.regularizer, problem.likelihood
    for step, gamma, a in zip(
        bregman_pnp(problem, max_iter=2, warm_up=1), (50, 500), (1.0, 0.05), strict=True
    ):
        weight = gamma / 100.0
        z = x / (1 + a / max(weight, 1.0) * x * like.gradient(like.expect(x)))
        grad = evaluate(regularizer.at(gamma), z, problem.peak).gradient() / weight
        x = (z - a * z**2 * grad).clamp(1e-6, problem.upper)
        assert torch.allclose(step.iterate, x, rtol=1e-10)


def test_both_solvers_of_red_end_at_its_stationary_point():
    problem = posed()
    ends = []
    for solver in SOLVERS.values():
        *_, end = bregman_red(problem, max_iter=1500, tol=1e-5, solver=partial(solver))
        ends.append(end)
    assert {end.stopped_by for end in ends} == {"converged"}
    assert torch.allclose(ends[0].iterate, ends[1].iterate, atol=1e-2)
    assert kkt_violation(problem, ends[0].iterate).max() < 1e-3


def test_red_falls_within_each_stage():
    steps = list(bregman_red(posed(), max_iter=60, warm_up=20))
    stages = [[s.objective for s in steps if (s.iteration < 20) is first] for first in (True, False)]
    for values in stages:
        assert len(values) > 5
        assert all(np.diff(values[1:]) <= 0)


def test_it_stops_where_the_objective_is_still(monkeypatch):
    monkeypatch.setattr(bregman, "STILL", 0.5)
    for solver in (bregman_red, bregman_pnp):
        steps = list(solver(posed(), max_iter=300, tol=1e-12))
        assert steps[-1].stopped_by == "converged"
        assert len(steps) < 12


def test_pnp_falls_and_ends_where_both_steps_cancel():
    problem = posed()
    steps = list(bregman_pnp(problem, max_iter=2000, tol=1e-4))
    late = [step.objective for step in steps if step.iteration > 1]
    assert all(np.diff(late) <= 1e-9 * abs(late[0]))
    assert steps[-1].stopped_by == "converged"
    (again,) = bregman_pnp(problem, max_iter=1, start=steps[-1].iterate)
    assert torch.allclose(again.iterate, steps[-1].iterate, rtol=1e-3, atol=1e-4)


def test_numbers_that_are_not_finite_end_it_at_the_last_good_iterate():
    regularizer = denoiser()
    regularizer.network[0].bias.data.fill_(torch.nan)
    (step,) = bregman_pnp(posed(regularizer), max_iter=5)
    assert step.stopped_by == "diverged"
    assert torch.isfinite(step.iterate).all()


@pytest.mark.parametrize("method", BREGMAN)
def test_methods_run_also_in_half_precision(method):
    config = ReconstructionConfig(method=method, max_iter=8)
    whole = posed(denoiser().float(), dtype=torch.float32)
    half = replace(whole, regularizer=HalfPrecision(whole.regularizer))
    ends = [list(solve(problem, config))[-1].iterate for problem in (whole, half)]
    assert not torch.equal(*ends)
    assert torch.allclose(*ends, atol=0.05)


def test_families_build_them():
    for family, options in (("bregman", {"channels": 4}), ("bregman-three-scale", {"channels": [2, 3, 4]})):
        found = build(family, options | {"slice_weight": 0.5})
        assert isinstance(found, Bregman)
        assert found.slice_weight == 0.5


def test_its_network_sees_a_factor_alike_wherever_it_is_dark_or_bright():
    """A factor of the whole image adds to the logarithm: a high-pass of it does not see that."""
    x = 1 + torch.rand(1, 1, 8, 8, dtype=torch.float64)
    gamma = torch.tensor([500.0]).double()
    inside = (..., slice(1, -1), slice(1, -1))
    dim, bright = (denoiser().residual(factor * x, gamma)[inside] for factor in (10.0, 1000.0))
    assert torch.allclose(dim, bright, atol=1e-3)


def test_its_slope_is_the_gradient_where_the_network_gives_a_constant():
    network = torch.nn.Conv2d(2, 1, 1, bias=False)
    network.weight.data.copy_(torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1))  # what is left is the logarithm
    regularizer, gamma = Bregman(network).double(), torch.tensor([500.0]).double()
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(regularizer.potential(x, gamma).sum(), x)
    assert torch.allclose(gradient, regularizer.slope(x, gamma))


def test_a_bregman_denoiser_is_linear_in_its_domain():
    with pytest.raises(UserError, match="linear"):
        build("bregman", {"channels": 4, "domain": "root"})
