"""The mirror map: inverses, the step as an exact minimum over the box, divergence."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from core.tolerances import DTYPES, EXACT, relative_error
from napari_deqmd.core.burg import Burg

SHIFT = (0.0, 0.05, 1.3)


def burg(dtype=torch.float64, upper=2.0):
    return Burg(torch.tensor(SHIFT, dtype=dtype), upper)


def positive(dtype=torch.float64, seed=0, low=0.01, high=2.0):
    """Points inside the box of every image, (3, 1, 6, 7)."""
    rng = torch.Generator().manual_seed(seed)
    share = torch.rand(3, 1, 6, 7, generator=rng, dtype=torch.float64)
    shift = torch.tensor(SHIFT, dtype=torch.float64).reshape(3, 1, 1, 1)
    return (shift + low + (high - low) * share).to(dtype)


def gradients(dtype=torch.float64, seed=1, scale=3.0):
    rng = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(3, 1, 6, 7, generator=rng, dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_primal_is_the_inverse_of_dual(dtype):
    u = positive(dtype)
    assert relative_error(burg(dtype).primal(burg(dtype).dual(u)), u) < EXACT[dtype]


def test_dual_is_the_gradient_of_the_entropy():
    u = positive().requires_grad_()
    (gradient,) = torch.autograd.grad(-torch.log(u).sum(), u)
    assert relative_error(burg().dual(u.detach()), gradient) < 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
def test_shift_and_back(dtype):
    x = positive(dtype) - torch.tensor(SHIFT, dtype=dtype).reshape(3, 1, 1, 1)
    assert relative_error(burg(dtype).to_x(burg(dtype).to_u(x)), x) < EXACT[dtype]


def test_box_is_from_zero_to_upper_in_the_object():
    shape = (3, 1, 2, 2)
    low = burg().to_x(burg().to_u(torch.full(shape, -5.0, dtype=torch.float64)))
    high = burg().to_x(burg().to_u(torch.full(shape, 50.0, dtype=torch.float64)))
    assert torch.equal(low[1:], torch.zeros_like(low[1:]))  # with a shift zero itself belongs to the box
    assert torch.allclose(low[0], torch.full_like(low[0], burg().floor))  # without one it would be absorbing
    assert torch.allclose(high, torch.full_like(high, 2.0))


def test_unprojected_step_is_the_mirror_step():
    """Inside the box: dual(u+) = dual(u) - tau g."""
    u, g = positive(low=0.5, high=1.0), gradients(scale=0.1)
    tau = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)
    new = burg().step(u, g, tau)
    expected = burg().dual(u) - tau.reshape(3, 1, 1, 1) * g
    assert relative_error(burg().dual(new), expected) < 1e-12


@pytest.mark.parametrize("tau", [0.01, 1.0, 100.0])
def test_step_is_the_minimiser_over_the_box(tau):
    """Brute force: argmin of g u' + D_h(u', u) / tau over the box, entry by entry."""
    mirror = burg()
    u, g = positive(), gradients()
    denominators = 1 + tau * u * g
    if tau > 0.01:
        assert (denominators <= 0).any()  # where the unprojected step does not exist
        assert (denominators > 1).any()
    new = mirror.step(u, g, torch.full((3,), tau, dtype=torch.float64))
    lower, upper = mirror.bounds(u)
    rng = np.random.default_rng(0)
    for index in {tuple(rng.integers(0, n) for n in u.shape) for _ in range(40)}:
        at, slope = u[index].item(), g[index].item()
        low, high = lower[index[0]].item(), upper[index[0]].item()

        def model(t, at=at, slope=slope):
            v = math.exp(t)
            return slope * v + (v / at - math.log(v / at) - 1) / tau

        # Minimised over log u, where one entry of the box spans many decades.
        found = minimize_scalar(
            model, bounds=(math.log(low), math.log(high)), method="bounded", options={"xatol": 1e-10}
        )
        best = min((model(t), t) for t in (found.x, math.log(low), math.log(high)))[1]
        value, reference = model(math.log(new[index].item())), model(best)
        assert value <= reference + 1e-9 * (1 + abs(reference))
        assert new[index].item() == pytest.approx(math.exp(best), rel=2e-4)


def test_non_positive_denominators_go_to_the_upper_bound():
    u = positive()
    new = burg().step(u, torch.full_like(u, -1e3), torch.full((3,), 10.0, dtype=torch.float64))
    assert torch.allclose(new, burg().bounds(u)[1].expand_as(new), rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tau", [1e-6, 1.0, 1e30])
def test_steps_stay_in_the_box(dtype, tau):
    mirror = burg(dtype)
    u = positive(dtype)
    for g in (gradients(dtype), gradients(dtype, scale=1e6), torch.zeros_like(u)):
        new = mirror.step(u, g, torch.full((3,), tau, dtype=torch.float64))
        lower, upper = mirror.bounds(u)
        assert torch.isfinite(new).all()
        assert (new >= lower).all()
        assert (new <= upper).all()


def test_nan_is_not_hidden_by_the_projection():
    u, g = positive(), gradients()
    g[1, 0, 2, 3] = math.nan
    new = burg().step(u, g, torch.ones(3, dtype=torch.float64))
    assert torch.isnan(new[1, 0, 2, 3])
    assert torch.isfinite(new[0]).all()


def test_divergence_is_bregmans():
    u, v = positive(seed=0), positive(seed=5)
    expected = (-torch.log(v) + torch.log(u) + (v - u) / u).flatten(1).sum(1)
    found = burg().divergence(v, u)
    assert found.shape == (3,)
    assert torch.allclose(found, expected, rtol=1e-12)
    assert torch.equal(burg().divergence(u, u), torch.zeros(3, dtype=torch.float64))


def test_divergence_of_a_small_float32_step_is_not_lost():
    u = positive(torch.float32)
    v = u * (1 + 1e-4)
    q = (v.double() - u.double()) / u.double()
    assert torch.allclose(burg(torch.float32).divergence(v, u), 0.5 * (q**2).flatten(1).sum(1), rtol=1e-3)


def test_zero_can_be_left_with_a_shift():
    mirror = burg()
    u = mirror.to_u(torch.zeros(3, 1, 2, 2, dtype=torch.float64))
    new = mirror.step(u, torch.full_like(u, -1.0), torch.ones(3, dtype=torch.float64))
    x = mirror.to_x(new)
    assert (x[1] > 2e-3).all()  # 0.05 / 0.95 - 0.05
    assert (x[0] < 1e-5).all()  # plain Burg crawls away from its floor
