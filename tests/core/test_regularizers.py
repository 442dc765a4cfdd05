"""Regularizers: exact gradients, sums over positions and slices, any size, and the registry."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from core.problems import tiny_red, tiny_scalar
from core.tolerances import DTYPES, FINITE_DIFFERENCE, GRADIENT, relative_error
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.methods import HalfPrecision
from napari_deqmd.core.regularizers import (
    FAMILIES,
    Bregman,
    DnCNN,
    NoRegularizer,
    Red,
    Regularizer,
    Ridge,
    Scalar,
    TotalVariation,
    base,
    build,
    evaluate,
)
from napari_deqmd.core.regularizers.learned import FLOOR


def dncnn(dtype: torch.dtype = torch.float64) -> Red:
    torch.manual_seed(1)
    return Red(DnCNN(channels=5, depth=3)).to(dtype).requires_grad_(False)


def root(dtype: torch.dtype = torch.float64) -> Red:
    torch.manual_seed(1)
    return Red(DnCNN(channels=5, depth=3), domain="root").to(dtype).requires_grad_(False)


def ridge(dtype: torch.dtype = torch.float64, **options) -> Ridge:
    torch.manual_seed(1)
    small = {"channels": (3, 4), "kernels": (3, 2)}
    return Ridge(**(small | options)).to(dtype).requires_grad_(False)


MAKERS = {
    "bregman": lambda dtype=torch.float64: (
        build("bregman", {"channels": 4, "depth": 3}).to(dtype).requires_grad_(False)
    ),
    "bregman-three-scale": lambda dtype=torch.float64: (
        Bregman(tiny_red().network).to(dtype).requires_grad_(False)
    ),
    "red": dncnn,
    "red-root": root,
    "red-three-scale": lambda dtype=torch.float64: tiny_red(dtype=dtype),
    "ridge": ridge,
    "ridge-root": lambda dtype=torch.float64: ridge(dtype, domain="root"),
    "ridge-convex": lambda dtype=torch.float64: ridge(dtype, convex=True, scales=2),
    "scalar": lambda dtype=torch.float64: tiny_scalar(dtype=dtype),
    "scalar-convex": lambda dtype=torch.float64: tiny_scalar(convex=True, dtype=dtype),
    "tv": lambda dtype=torch.float64: TotalVariation(),
    "none": lambda dtype=torch.float64: NoRegularizer(),
}
LEARNED = [name for name in MAKERS if name not in ("tv", "none")]
PEAKS = torch.tensor([11.0, 60.0, 700.0], dtype=torch.float64)


def objects(shape=(3, 1, 12, 16), seed=0, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=rng, dtype=torch.float64).to(dtype)


class SubtractFirst(torch.nn.Module):
    def __init__(self, v: torch.Tensor) -> None:
        super().__init__()
        self.v = v

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps[:, :1] - self.v


def total(regularizer: Regularizer, x: torch.Tensor, peak: torch.Tensor = PEAKS) -> float:
    return evaluate(regularizer, x, peak[: x.shape[0]]).energy.sum().item()


def test_every_family_is_tested():
    assert set(FAMILIES) <= set(MAKERS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("piece", [100, 10**6])
def test_gradient_is_autograds(name, piece, dtype, monkeypatch):
    monkeypatch.setattr(base, "PIECE", {"cpu": piece})
    regularizer = MAKERS[name](dtype)
    x, peak = objects(dtype=dtype), PEAKS.to(dtype)
    found = evaluate(regularizer, x, peak)
    leaf = x.clone().requires_grad_()
    energy = regularizer.energy(leaf, peak)
    (expected,) = torch.autograd.grad(energy.sum(), leaf)
    assert found.energy.shape == x.shape
    assert found.energy.dtype == dtype
    assert relative_error(found.energy, energy.detach()) < GRADIENT[dtype]
    assert relative_error(found.gradient(), expected) < GRADIENT[dtype]


def shifted(plane: torch.Tensor, shift: tuple[int, int]) -> torch.Tensor:
    """A plane with its first rows and columns repeated before it."""
    rows, columns = shift
    plane = torch.cat([plane[..., :1, :]] * rows + [plane], -2)
    return torch.cat([plane[..., :1]] * columns + [plane], -1)


@pytest.mark.parametrize("peaks", [5, [5], [5, 10, 20], ["low", "high"], [10, 5], [-1, 5], [float("nan"), 5]])
def test_peaks_that_are_no_range_are_refused(peaks):
    with pytest.raises(UserError, match="the lowest and the highest"):
        build("red", {"channels": 4, "depth": 2, "peaks": peaks})


@pytest.mark.parametrize(("peak", "told"), [(3.0, 5.0), (60.0, 60.0), (3000.0, 1000.0)])
def test_the_network_is_told_a_peak_it_knows_and_the_strength_the_real_one(peak, told):
    knowing = build("red", {"channels": 4, "depth": 2, "peaks": [5, 1000]}).double().requires_grad_(False)
    plain = build("red", {"channels": 4, "depth": 2}).double().requires_grad_(False)
    plain.load_state_dict(knowing.state_dict())
    x = objects((1, 1, 8, 8))
    found, nearest = total(knowing, x, torch.tensor([peak])), total(plain, x, torch.tensor([told]))
    assert found == pytest.approx(nearest * told / peak, rel=1e-6)


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("piece", [100, 10**6])
@pytest.mark.parametrize("depth", [3, 6])
def test_the_planes_of_a_stack_are_shifted_in_turn(name, piece, depth, monkeypatch):
    """A network with strides has a grid, and no two planes side by side have it at the same place."""
    monkeypatch.setattr(base, "PIECE", {"cpu": piece})
    regularizer = MAKERS[name]()
    x, peak = objects((2, 1, depth, 8, 12)), PEAKS[:2]
    leaf = x.clone().requires_grad_()
    energies = []
    for z, plane in enumerate(leaf.unbind(2)):
        rows, columns = shift = regularizer.shifts[z % len(regularizer.shifts)]
        energies.append(regularizer.energy(shifted(plane, shift), peak)[..., rows:, columns:])
    energy = torch.stack(energies, 2)
    (expected,) = torch.autograd.grad(energy.sum(), leaf)
    found = evaluate(regularizer, x, peak)
    assert relative_error(found.energy, energy.detach()) < 1e-12
    assert relative_error(found.gradient(), expected) < 1e-12


def red_of_stacks() -> Red:
    torch.manual_seed(1)
    return build("red", {"channels": 4, "depth": 3, "ndim": 3}).double().requires_grad_(False)


DEEP: dict[str, Callable[[], Regularizer]] = {
    "red": red_of_stacks,
    "ridge": lambda: ridge(ndim=3, kernels=((1, 3, 3), (3, 2, 1)), domain="root"),
}
"""Families whose members couple the planes of a stack."""


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize(("shape", "piece"), [((12, 10, 11), 400), ((3, 30, 12), 150), ((40, 5, 4), 150)])
def test_a_stack_in_boxes_has_the_energy_and_the_gradient_of_the_whole(name, shape, piece, monkeypatch):
    regularizer, x, peak = DEEP[name](), objects((2, 1, *shape)), PEAKS[:2]
    leaf = x.clone().requires_grad_()
    energy = regularizer.energy(leaf, peak)
    (expected,) = torch.autograd.grad(energy.sum(), leaf)
    monkeypatch.setattr(base, "PIECE", {"cpu": piece})
    assert len(base.boxes(shape, regularizer.reach, piece)) > 4
    found = evaluate(regularizer, x, peak)
    assert relative_error(found.energy, energy.detach()) < 1e-12
    assert relative_error(found.gradient(), expected) < 1e-12


PLANES, STACKS = (2, 1, 12, 16), (2, 1, 5, 8, 12)


@pytest.mark.parametrize(
    ("make", "shape"),
    [(make, shape) for make in MAKERS.values() for shape in (PLANES, STACKS)]
    + [(make, STACKS) for make in DEEP.values()],
)
@pytest.mark.parametrize("piece", [100, 10**6])
def test_averaged_over_quarter_turns_an_object_and_the_object_turned_are_the_same(
    make, shape, piece, monkeypatch
):
    monkeypatch.setattr(base, "PIECE", {"cpu": piece})
    single = make()
    regularizer, x, peak = single.averaged(4), objects(shape), PEAKS[:2]
    found, turned = (evaluate(regularizer, one, peak) for one in (x, x.rot90(1, (-2, -1))))
    assert relative_error(turned.energy.rot90(-1, (-2, -1)), found.energy) < 1e-12
    gradient = found.gradient()
    assert relative_error(turned.gradient().rot90(-1, (-2, -1)), gradient) < 1e-12
    each = [evaluate(single, x.rot90(turns, (-2, -1)), peak) for turns in range(4)]
    if x.ndim == 4 or single.ndim == 3:
        mean = sum(one.gradient().rot90(-turns, (-2, -1)) for turns, one in enumerate(each)) / 4
        assert relative_error(gradient, mean) < 1e-12
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(base.energies(regularizer, leaf, peak).sum(), leaf)
    assert relative_error(gradient, expected) < 1e-12
    assert single.orientations == 1


def test_what_couples_planes_sees_more_than_every_plane_alone():
    for make in DEEP.values():
        regularizer, x = make(), objects((1, 1, 6, 9, 9))
        mixed = x[:, :, [3, 0, 4, 1, 5, 2]]
        assert total(regularizer, mixed) != pytest.approx(total(regularizer, x), rel=1e-3)


@pytest.mark.parametrize(
    ("family", "options"),
    [("scalar", {"ndim": 3}), ("ridge", {"ndim": 4}), ("red", {"ndim": 1}), ("red", {"ndim": "3"})],
)
def test_dimensions_that_a_family_does_not_have_are_refused(family, options):
    with pytest.raises(UserError, match=r"give 2 or 3|leave ndim out"):
        build(family, options)


@pytest.mark.parametrize("name", ["red-three-scale", "scalar"])
def test_shifts_leave_no_wave_of_the_grid(name):
    shifts = MAKERS[name]().shifts
    rows, columns = torch.tensor(shifts, dtype=torch.float64).T
    for along, across in ((1, 0), (2, 0), (0, 1), (0, 2), (2, 2)):
        wave = torch.exp(2j * torch.pi * (along * rows + across * columns) / 4)
        assert abs(wave.sum()) < 1e-12


@pytest.mark.parametrize("name", MAKERS)
def test_gradient_is_the_finite_difference(name):
    regularizer = MAKERS[name]()
    x, d = objects(), objects(seed=1) - 0.5
    gradient = evaluate(regularizer, x, PEAKS).gradient()
    for i in range(3):  # of every image with its own peak
        step = torch.zeros_like(x)
        step[i] = 1e-5 * d[i]
        difference = (total(regularizer, x + step) - total(regularizer, x - step)) / 2e-5
        along = (gradient[i] * d[i]).sum().item()
        assert difference == pytest.approx(along, rel=FINITE_DIFFERENCE, abs=1e-9)


@pytest.mark.parametrize("name", MAKERS)
def test_evaluating_twice_gives_the_same_and_leaves_no_graph(name):
    regularizer = MAKERS[name]()
    x = objects()
    before = x.clone()
    first, second = evaluate(regularizer, x, PEAKS), evaluate(regularizer, x, PEAKS)
    assert torch.equal(first.energy, second.energy)
    assert torch.equal(first.gradient(), second.gradient())
    assert not first.energy.requires_grad
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", [*LEARNED, "tv"])
def test_energy_is_extensive(name):
    """Twice the field holds twice the energy: far from the borders an energy does not know the size of the image."""
    regularizer = MAKERS[name]()
    tile = objects((1, 1, 64, 64))
    small, large = tile.repeat(1, 1, 1, 2), tile.repeat(1, 1, 1, 3)
    one_more = total(regularizer, large) - total(regularizer, small)
    inner = evaluate(regularizer, large, PEAKS[:1]).energy[..., 64:128].sum().item()
    # The middle copy has the same surroundings as the copy that was added, however wide the field is.
    assert one_more == pytest.approx(inner, rel=1e-3)


def test_total_variation_of_a_stack_knows_all_axes():
    """A ramp has the same energy along every one of them, and a quarter of a plane's weight."""
    regularizer = MAKERS["tv"]()
    ramp = torch.linspace(0, 1, 8, dtype=torch.float64).reshape(1, 1, 8, 1, 1).expand(1, 1, 8, 8, 8)
    along = [total(regularizer, ramp.transpose(2, axis), PEAKS[:1]) for axis in (2, 3, 4)]
    assert along == pytest.approx([along[0]] * 3, rel=1e-12)
    plane = ramp[:, :, :, 0]
    assert along[0] == pytest.approx(8 * total(regularizer, plane, PEAKS[:1]) / 4, rel=1e-12)


@pytest.mark.parametrize("wrap", [lambda regularizer: regularizer, HalfPrecision])
@pytest.mark.parametrize("piece", [100, 10**6])
def test_planes_along_all_axes_of_a_stack_are_summed(wrap, piece, monkeypatch):
    monkeypatch.setattr(base, "PIECE", {"cpu": piece})
    torch.manual_seed(0)
    options = {"channels": 4, "depth": 2}
    alone = build("red", options).requires_grad_(False)
    weighted = build("red", options | {"slice_weight": 0.5, "across_weight": 0.25})
    weighted.load_state_dict(alone.state_dict())
    x, peak = torch.rand(2, 1, 5, 8, 12), torch.tensor([60.0, 240.0])
    found = evaluate(wrap(weighted), x, peak)
    energy, leaf = torch.zeros_like(x), x.clone().requires_grad_()
    for weight, axis in ((0.5, 2), (0.25, 3), (0.25, 4)):
        planes = [wrap(alone).energy(plane, peak) for plane in leaf.unbind(axis)]
        energy = energy + weight * torch.stack(planes, axis)
    (gradient,) = torch.autograd.grad(energy.sum(), leaf)
    tolerance = 2e-2 if wrap is HalfPrecision else 1e-5
    assert relative_error(found.energy, energy.detach()) < tolerance
    assert relative_error(found.gradient(), gradient) < tolerance
    plane = x[:, :, 0]
    assert torch.equal(
        evaluate(wrap(weighted), plane, peak).energy, evaluate(wrap(alone), plane, peak).energy
    )


def test_the_curvature_of_a_stack_is_that_of_all_its_planes():
    regularizer = build("red", {"channels": 4, "depth": 2, "slice_weight": 0.5, "across_weight": 0.25})
    x, peak = torch.rand(1, 1, 5, 8, 12), torch.tensor([60.0])
    assert torch.allclose(base.curvature(regularizer, x, peak), regularizer.curvature(x, peak))
    plane = x[:, :, 0]
    assert torch.equal(base.curvature(regularizer, plane, peak), regularizer.curvature(plane, peak))


@pytest.mark.parametrize("wrap", [lambda regularizer: regularizer, HalfPrecision])
def test_slices_of_a_stack_weigh_less_when_asked(wrap, monkeypatch):
    options = {"channels": 4, "depth": 2}
    torch.manual_seed(0)
    whole = build("red", options)
    light = build("red", options | {"slice_weight": 0.25})
    light.load_state_dict(whole.state_dict())
    stack, peak = torch.rand(1, 1, 5, 8, 12), torch.tensor([60.0])
    for x, factor in ((stack, 0.25), (stack[:, :, 0], 1.0)):
        full, less = (evaluate(wrap(regularizer), x, peak) for regularizer in (whole, light))
        assert torch.allclose(less.energy, factor * full.energy, rtol=1e-5)
        assert torch.allclose(less.gradient(), factor * full.gradient(), rtol=1e-5)
    monkeypatch.setattr(base, "PIECE", {"cpu": 100})
    pieces = evaluate(wrap(light), stack, peak)
    assert torch.allclose(pieces.energy, 0.25 * evaluate(wrap(whole), stack, peak).energy, rtol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("shape", [(3, 1, 12, 16), (2, 1, 5, 8, 12)])
@pytest.mark.parametrize("piece", [1, 100, 2 * 12 * 16, 10**6])
def test_pieces_give_the_same(name, shape, piece, monkeypatch):
    regularizer = MAKERS[name]()
    x, peak = objects(shape), PEAKS[: shape[0]]
    whole = evaluate(regularizer, x, peak)
    monkeypatch.setattr(base, "PIECE", {"cpu": piece})
    pieces = evaluate(regularizer, x, peak)
    assert relative_error(pieces.energy, whole.energy) < 1e-12
    assert relative_error(pieces.gradient(), whole.gradient()) < 1e-12


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("height", "width"), [(13, 18), (16, 15), (7, 5), (3, 3), (1, 2)])
def test_any_size_works(name, height, width):
    regularizer = MAKERS[name]()
    x, d = objects((1, 1, height, width)), objects((1, 1, height, width), seed=1)
    found = evaluate(regularizer, x, PEAKS[:1])
    assert found.energy.shape == x.shape
    difference = (total(regularizer, x + 1e-5 * d) - total(regularizer, x - 1e-5 * d)) / 2e-5
    assert difference == pytest.approx((found.gradient() * d).sum().item(), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "scalar"])
def test_energy_is_never_negative(name):
    assert (evaluate(MAKERS[name](), objects(), PEAKS).energy >= 0).all()


def test_convex_flag_makes_the_energy_convex():
    """Below the chord along random segments, and strictly so along some: it is not linear either."""
    regularizer = tiny_scalar(convex=True)
    gaps = []
    for seed in range(20):
        a, b = objects(seed=2 * seed) * 3, objects(seed=2 * seed + 1) * 3
        for share in (0.25, 0.5, 0.75):
            middle = evaluate(regularizer, share * a + (1 - share) * b, PEAKS).energy.flatten(1).sum(1)
            chord = share * evaluate(regularizer, a, PEAKS).energy.flatten(1).sum(1)
            chord = chord + (1 - share) * evaluate(regularizer, b, PEAKS).energy.flatten(1).sum(1)
            gaps.append((chord - middle) / chord)
    assert (torch.stack(gaps) > -1e-12).all()
    assert (torch.stack(gaps) > 1e-6).any()


@pytest.mark.parametrize("channels", [8, 64])
def test_a_convex_network_starts_as_small_as_another(channels):
    """Positive weights do not cancel: without care every layer multiplies by a hundred."""
    slopes = []
    for convex in (False, True):
        torch.manual_seed(0)
        regularizer = Scalar(channels=channels, depth=3, convex=convex)
        found = evaluate(regularizer, torch.rand(1, 1, 32, 32), torch.full((1,), 60.0))
        slopes.append(float(found.gradient().abs().mean()))
    assert 0.3 < slopes[1] / slopes[0] < 10
    assert len(regularizer.network.last.weight.unique()) == channels


def test_the_mean_weighs_as_the_sum_at_one_size_and_less_on_larger_images():
    summed, mean = (Scalar(channels=4, depth=2, mean=flag) for flag in (False, True))
    mean.load_state_dict(summed.state_dict())
    for side, ratio in ((64, 1.0), (128, 0.25)):
        x = torch.rand(1, 1, side, side)
        a, b = (float(evaluate(found, x, PEAKS[:1].float()).energy.sum()) for found in (summed, mean))
        assert b / a == pytest.approx(ratio, rel=1e-5)


def test_colours_share_the_energy_of_a_scalar_network():
    torch.manual_seed(0)
    regularizer = build("scalar", {"channels": 4, "depth": 1, "colours": 3})
    x = torch.rand(2, 3, 8, 8)
    energy = regularizer.energy(x, PEAKS[:2].float())
    assert energy.shape == x.shape
    assert torch.allclose(energy[:, 0], energy[:, 2])
    coarse = regularizer.network(x).sum((1, 2, 3)) * regularizer.strength(PEAKS[:2].float()).flatten()
    assert torch.allclose(energy.sum((1, 2, 3)), coarse, rtol=1e-5)


def test_without_the_flag_the_energy_is_not_convex():
    regularizer = tiny_scalar()
    signs = set()
    for seed in range(20):
        a, b = objects(seed=2 * seed) * 6 - 3, objects(seed=2 * seed + 1) * 6 - 3
        ends = evaluate(regularizer, a, PEAKS).energy.sum() + evaluate(regularizer, b, PEAKS).energy.sum()
        signs.add(bool(evaluate(regularizer, (a + b) / 2, PEAKS).energy.sum() > ends / 2))
    assert True in signs


@pytest.mark.parametrize("name", LEARNED)
def test_strength_falls_with_the_peak_as_map_scaling_says(name):
    """``p = 1`` at the start of training: the weight of an unchanged energy is 60 / peak."""
    regularizer = MAKERS[name]()
    weights = regularizer.strength(PEAKS).flatten()
    assert torch.allclose(weights, 60 / PEAKS, rtol=1e-12)
    regularizer.strength.a.fill_(0.3)
    regularizer.strength.p.fill_(0.5)
    assert torch.allclose(
        regularizer.strength(PEAKS).flatten(), torch.exp(0.3 - 0.5 * torch.log(PEAKS / 60)), rtol=1e-12
    )


@pytest.mark.parametrize("name", MAKERS)
def test_curvature_is_a_number_per_pixel(name):
    x = torch.rand(3, 1, 8, 8)
    found = MAKERS[name]().curvature(x, PEAKS)
    assert found.shape == x.shape
    assert (found >= 0).all()
    assert not found.requires_grad


@pytest.mark.parametrize("shape", [(3, 1, 6, 8), (3, 1, 4, 6, 8)])
def test_the_root_domain_is_the_root_of_the_object_above_a_floor(shape):
    regularizer, x = root(), objects(shape) * 3
    v = torch.sqrt(x + FLOOR)
    assert torch.allclose(regularizer.to_domain(x), v, rtol=1e-12)
    assert regularizer.to_domain(torch.zeros(1)).item() == pytest.approx(FLOOR**0.5)
    same = dncnn()
    assert same.to_domain(x) is x
    assert relative_error(evaluate(regularizer, x, PEAKS).energy, evaluate(same, v, PEAKS).energy) < 1e-12
    strength = (60 / PEAKS).reshape(-1, *(1,) * (x.ndim - 1))
    assert relative_error(regularizer.curvature(x, PEAKS), strength / (4 * (x + FLOOR))) < 1e-12
    assert torch.equal(regularizer.curvature(-x, PEAKS), regularizer.curvature(torch.zeros_like(x), PEAKS))
    assert torch.equal(same.curvature(x, PEAKS), strength.expand_as(x))


@pytest.mark.parametrize("peak", [100.0, 1000.0])
def test_in_the_root_domain_bright_structures_are_equally_noisy(peak):
    """``1 / (2 sqrt(peak))``, less below the floor; on the objects themselves the deviations differ fourfold."""
    x = torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64).reshape(-1, 1).expand(-1, 20_000)
    noisy = torch.poisson(peak * x, generator=torch.Generator().manual_seed(0)) / peak
    deviation = root().to_domain(noisy).std(1) * 2 * peak**0.5
    assert deviation.tolist() == pytest.approx((x / (x + FLOOR)).sqrt()[:, 0].tolist(), rel=0.02)
    assert deviation.max() / deviation.min() < 1.08
    assert (noisy.std(1)[2] / noisy.std(1)[0]).item() == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize("domain", ["linear", "root"])
def test_curvature_is_that_of_a_residual_that_passes_everything(domain):
    """``v - N(v) = v - v0`` at ``x0``: the second derivative of the energy, pixel by pixel."""
    x = objects() * 2
    regularizer = Red(torch.nn.Identity(), domain=domain).double().requires_grad_(False)
    v = regularizer.to_domain(x)
    regularizer.network = SubtractFirst(v)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(regularizer.energy(leaf, PEAKS).sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), leaf)
    assert relative_error(regularizer.curvature(x, PEAKS), second) < 1e-12


def test_tv_of_an_edge_is_its_length_times_its_height():
    x = torch.zeros(1, 1, 20, 30, dtype=torch.float64)
    x[..., 12:] = 0.8
    regularizer = TotalVariation(weight=0.5, exponent=1.0, eps=1e-6)
    peak = torch.tensor([30.0], dtype=torch.float64)
    assert total(regularizer, x, peak) == pytest.approx(0.5 * (60 / 30) * 20 * 0.8, rel=1e-5)
    assert total(regularizer, x.mT.contiguous(), peak) == pytest.approx(16.0, rel=1e-5)
    assert total(regularizer, torch.full_like(x, 3.0), peak) == 0


@pytest.mark.parametrize("name", ["red", "red-root", "red-three-scale", "ridge", "scalar"])
def test_half_precision_is_close_to_float32(name):
    regularizer = MAKERS[name](torch.float32)
    x, peak = objects((3, 1, 24, 24), dtype=torch.float32), PEAKS.float()
    full, half = evaluate(regularizer, x, peak), evaluate(HalfPrecision(regularizer), x, peak)
    gradient = half.gradient()
    assert half.energy.dtype == gradient.dtype == torch.float32
    # bfloat16 keeps 8 bits: 2^-8 for every one of a dozen layers
    assert relative_error(half.energy.sum((1, 2, 3)), full.energy.sum((1, 2, 3))) < 0.02
    assert relative_error(gradient, full.gradient()) < 0.05


def test_half_precision_says_what_the_inner_one_says():
    inner = tiny_red(dtype=torch.float32)
    assert HalfPrecision(inner).ndim == inner.ndim
    stack = objects((1, 1, 3, 8, 8), dtype=torch.float32)
    found = HalfPrecision(inner).curvature(stack, PEAKS[:1])
    assert torch.equal(found, inner.curvature(stack, PEAKS[:1]))
    assert evaluate(HalfPrecision(inner), stack, PEAKS[:1].float()).energy.shape == stack.shape


def test_build_knows_its_families():
    assert isinstance(build("tv", {"weight": 0.3}), TotalVariation)
    assert isinstance(build("red", {"channels": 4, "depth": 2}), Red)
    assert isinstance(build("none", {}), NoRegularizer)
    with pytest.raises(UserError, match=r"'b-pnp'.*red, red-three-scale"):
        build("b-pnp", {})


def test_build_knows_the_domains():
    options = {"channels": 4, "depth": 2}
    assert build("red", options).domain == "linear"
    assert build("red", {**options, "domain": "root"}).domain == "root"
    assert build("red-three-scale", {"channels": (2, 2, 2), "domain": "root"}).domain == "root"
    with pytest.raises(UserError, match=r"domain 'log'.*linear, root"):
        build("red", {**options, "domain": "log"})
