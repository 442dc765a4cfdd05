"""Ridge regularizers: filters of zero mean and unit norm, even profiles, and how convex their sum is."""

from __future__ import annotations

import copy

import pytest
import torch

from napari_deqmd.core.regularizers import Ridge, evaluate
from napari_deqmd.core.regularizers.learned import FLOOR
from napari_deqmd.core.regularizers.ridge import Shapes

PEAKS = torch.tensor([11.0, 60.0, 700.0], dtype=torch.float64)


def random(seed: int = 0, *, convex: bool = False, **options) -> Ridge:
    """Return a regularizer whose profiles differ from channel to channel and from peak to peak."""
    torch.manual_seed(seed)
    small = {"channels": (3, 5), "kernels": (3, 2), "scales": 2}
    regularizer = Ridge(**(small | options), convex=convex).double().requires_grad_(False)
    for parameter in regularizer.profiles.parameters():
        parameter += 0.7 * torch.randn_like(parameter)
    return regularizer


DEEP = {"ndim": 3, "kernels": ((1, 3, 3), (3, 2, 1))}
"""A bank of filters of stacks, other along Z than along Y and X."""


def objects(seed: int = 0, shape=(3, 1, 7, 8), scale: float = 1.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.rand(shape, generator=rng, dtype=torch.float64)


def hessian(regularizer: Ridge, v: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
    def summed(flat: torch.Tensor) -> torch.Tensor:
        return regularizer.potential(flat.reshape(v.shape), peak).sum()

    found: torch.Tensor = torch.autograd.functional.hessian(summed, v.flatten(), vectorize=True)
    return found


@pytest.mark.parametrize("convex", [False, True])
@pytest.mark.parametrize("domain", ["linear", "root"])
@pytest.mark.parametrize(("options", "shape"), [({}, (6, 9)), (DEEP, (5, 6, 9))])
def test_a_constant_has_no_energy_and_no_gradient_up_to_the_border(convex, domain, options, shape):
    regularizer = random(convex=convex, domain=domain, **options)
    found = evaluate(regularizer, torch.full((3, 1, *shape), 0.37, dtype=torch.float64), PEAKS)
    assert not found.energy.any()
    assert not found.gradient().any()


def test_the_energy_does_not_see_the_mean_nor_the_sign():
    regularizer, x = random(), objects()
    expected = evaluate(regularizer, x, PEAKS).energy
    assert expected.amin() > 0
    for other in (x + 3, -x):
        torch.testing.assert_close(
            evaluate(regularizer, other, PEAKS).energy, expected, rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize(
    ("options", "shape"), [({"kernels": (4, 3)}, (20, 20)), (DEEP, (13, 16, 15))], ids=["planes", "stacks"]
)
def test_filters_have_zero_mean_unit_norm_and_their_reach(options, shape):
    regularizer = random(channels=(4, 6), **options)
    impulse, middle = torch.zeros(1, 1, *shape, dtype=torch.float64), [n // 2 for n in shape]
    impulse[(0, 0, *middle)] = 1
    responses = regularizer.network(impulse)
    assert responses.shape == (1, 6, *shape)
    flat = responses[0].flatten(1)
    assert (flat.sum(1).abs() < 1e-12).all()
    torch.testing.assert_close(flat.square().sum(1), torch.ones(6, dtype=torch.float64))
    where = responses[0].abs().sum(0).nonzero()
    furthest = (where - torch.tensor(middle)).abs().amax(0)
    assert (furthest <= torch.tensor(regularizer.reach)).all()
    assert (furthest >= torch.tensor(regularizer.reach) - 1).all()


@pytest.mark.parametrize(("convex", "scales"), [(False, 1), (False, 2), (True, 2)])
def test_profiles_are_even_smooth_and_rise_within_their_bounds(convex, scales):
    regularizer = random(3, convex=convex, channels=(1, 1), scales=scales)
    shapes = regularizer.profiles.shapes(PEAKS[:1])
    t = torch.linspace(-3, 3, 4001, dtype=torch.float64).reshape(1, 1, 1, -1).requires_grad_()
    value = regularizer.profiles(t, PEAKS[:1])
    (slope,) = torch.autograd.grad(value.sum(), t, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), t)
    assert torch.equal(value, value.flip(-1))
    assert (value >= 0).all()
    assert (slope * t >= 0).all()
    assert bend[..., 2000].item() == pytest.approx(shapes.bend.sum().item(), rel=1e-9)
    assert bend.amax() <= shapes.bend.sum() * (1 + 1e-9)
    if convex:
        assert bend.amin() > 0
    elif scales == 1:
        assert bend.amin().item() == pytest.approx(-shapes.concavity.item(), rel=1e-3)
    assert bend.amin() >= -shapes.concavity.sum() * (1 + 1e-9)
    difference = torch.gradient(slope.flatten().detach(), spacing=(6 / 4000))[0]
    assert (difference - bend.flatten()).abs().amax() < 0.01 * shapes.bend.sum()


def test_no_profile_bends_down_by_more_than_a_ninth_of_its_weight():
    balance, spread = torch.meshgrid(torch.linspace(0, 1, 101), 2 + torch.logspace(-3, 3, 200), indexing="ij")
    one = torch.ones_like(spread)
    concavity = Shapes(weight=one, width=one, share=balance / spread, spread=spread).concavity
    assert (concavity >= 0).all()
    assert not concavity[balance < spread**-2].any()
    assert 0.1 < concavity.amax() < 1 / 9


def test_widths_and_weights_follow_the_peak_of_every_image():
    regularizer = random()
    x = objects()
    whole = regularizer.potential(x, PEAKS)
    for i in range(3):
        alone = regularizer.potential(x[i : i + 1], PEAKS[i : i + 1])
        torch.testing.assert_close(whole[i : i + 1], alone, rtol=1e-12, atol=1e-15)
    plain = Ridge(channels=(3, 5), kernels=(3, 2)).double()
    near, far = (plain.profiles.shapes(peak) for peak in (PEAKS[1:2], 4 * PEAKS[1:2]))
    torch.testing.assert_close(far.width, near.width / 2)  # as the deviation of the noise does
    torch.testing.assert_close(far.weight, near.weight)


def test_the_convex_energy_is_convex_and_the_other_is_not():
    lowest = []
    for convex in (True, False):
        eigenvalues = [
            torch.linalg.eigvalsh(
                hessian(random(seed, convex=convex), objects(seed, (1, 1, 7, 8), scale), peak)
            )
            for seed, scale in enumerate((0.02, 0.3, 3.0))
            for peak in PEAKS[:, None]
        ]
        lowest.append(min((values[0] / values[-1]).item() for values in eigenvalues))
    assert lowest[0] > -1e-12
    assert lowest[1] < -1e-3


def test_negative_curvature_stays_within_the_bound_and_comes_near_it():
    """On slopes of every steepness: the bound holds on all, and half of it is reached on one."""
    shares = []
    for seed in range(4):
        regularizer = random(seed, channels=(3, 1), scales=1)
        for peak in PEAKS[:, None]:
            bound = regularizer.weak_convexity(peak).item()
            width = regularizer.profiles.shapes(peak).width.item()
            for scale in (2, 4, 8, 16, 32):
                ramp = torch.arange(9, dtype=torch.float64)
                v = scale * width * (ramp[:, None] + 0.6 * ramp).reshape(1, 1, 9, 9)
                v = v + 0.1 * scale * width * objects(seed, v.shape)
                shares.append(-torch.linalg.eigvalsh(hessian(regularizer, v, peak))[0].item() / bound)
    assert max(shares) < 1
    assert max(shares) > 0.5


def test_in_stacks_too():
    """On slopes along all three axes."""
    shares = []
    for seed in range(3):
        regularizer = random(seed, channels=(3, 1), scales=1, **DEEP)
        bound = regularizer.weak_convexity(PEAKS[1:2]).item()
        width = regularizer.profiles.shapes(PEAKS[1:2]).width.item()
        for scale in (2, 8, 32):
            ramp = torch.arange(6, dtype=torch.float64)
            v = scale * width * (ramp[:, None, None] + 0.6 * ramp[:, None] + 0.3 * ramp)[None, None]
            v = v + 0.1 * scale * width * objects(seed, v.shape)
            shares.append(-torch.linalg.eigvalsh(hessian(regularizer, v, PEAKS[1:2]))[0].item() / bound)
    assert 0.2 < max(shares) < 1


def test_a_convex_one_needs_no_help():
    assert not random(convex=True).weak_convexity(PEAKS).any()


def test_the_bound_is_that_of_every_image():
    regularizer = random()
    bounds = regularizer.weak_convexity(PEAKS)
    assert bounds.shape == (3,)
    one_by_one = torch.cat([regularizer.weak_convexity(peak) for peak in PEAKS[:, None]])
    torch.testing.assert_close(bounds, one_by_one, rtol=1e-12, atol=0)


@pytest.mark.parametrize("domain", ["linear", "root"])
@pytest.mark.parametrize(("options", "shape"), [({}, (12, 12)), (DEEP, (8, 9, 9))], ids=["planes", "stacks"])
def test_curvature_is_the_hessians_diagonal_where_the_image_is_flat(domain, options, shape):
    regularizer, peak = random(domain=domain, **options), PEAKS[:1]
    x, middle = torch.full((1, 1, *shape), 0.4, dtype=torch.float64), tuple(n // 2 for n in shape)
    v = regularizer.to_domain(x)
    inner = hessian(regularizer, v, peak).diagonal().reshape(shape)[middle]
    inner = inner * regularizer.strength(peak).item() / (1 if domain == "linear" else 4 * (0.4 + FLOOR))
    torch.testing.assert_close(regularizer.curvature(x, peak)[(0, 0, *middle)], inner, rtol=1e-9, atol=0)


def test_single_precision_knows_small_differences_of_large_responses():
    regularizer, x = random(), objects(scale=3.0)
    exact = evaluate(regularizer, x, PEAKS)
    found = evaluate(copy.deepcopy(regularizer).float(), x.float(), PEAKS.float())
    assert (found.energy >= 0).all()
    torch.testing.assert_close(found.energy.double(), exact.energy, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(found.gradient().double(), exact.gradient(), rtol=1e-3, atol=1e-6)
