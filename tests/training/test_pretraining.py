"""Pretraining: the gradient step removes noise, in the regularizer's domain, and a run resumes bit by bit."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from scipy import stats

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.poisson import per_image
from napari_deqmd.core.regularizers import Bregman, DnCNN, Learned, Red, Ridge, Scalar, evaluate
from napari_deqmd.core.regularizers.learned import FLOOR
from napari_deqmd.training.pretraining import VARIANCE_AT_PEAK, inverse_gamma, pretrain

QUICK = {"batch": 4, "learning_rate": 1e-2, "precision": "float32"}


def blobs(seed: int, size: int = 4, side: int = 12) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    rough = torch.rand(size, 1, side // 4, side // 4, generator=rng) ** 2
    return torch.nn.functional.interpolate(rough, scale_factor=4, mode="bilinear")


def patches(seed: int = 0) -> SimpleNamespace:
    return SimpleNamespace(seed=seed, batch=lambda step, size: blobs(1000 * seed + step, size))


def network(seed: int = 0, domain: str = "linear", channels: int = 6) -> Red:
    torch.manual_seed(seed)
    return Red(DnCNN(channels=channels, depth=3), domain=domain)


def bank(domain: str = "linear") -> Ridge:
    torch.manual_seed(0)
    return Ridge(channels=(4, 8), kernels=(3, 3), domain=domain)


def weights(regularizer: Learned) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in regularizer.parameters()])


class Records(Red):
    """A network that removes nothing and keeps what it is shown."""

    def __init__(self, domain: str = "linear") -> None:
        super().__init__(DnCNN(channels=2, depth=2), domain=domain)
        for parameter in self.network.parameters():
            torch.nn.init.zeros_(parameter)
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def residual(self, v: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
        self.seen.append((v.detach(), peak))
        return super().residual(v, peak)


def scalar(domain: str = "linear") -> Scalar:
    torch.manual_seed(0)
    return Scalar(channels=6, depth=1, domain=domain)


@pytest.mark.parametrize(("make", "first"), [(network, 0.9), (bank, 0.5), (scalar, 0.7)])
@pytest.mark.parametrize("domain", ["linear", "root"])
def test_the_gradient_step_learns_to_remove_noise(domain, make, first):
    """The loss without a regularizer is the noise's deviation; noise on unseen images is removed as well."""
    regularizer, sigma = make(domain=domain), 0.2
    options = QUICK | {"learning_rate": 2e-2, "sigma": (sigma, sigma), "brightest": 1.0}
    losses = [report.loss for report in pretrain(regularizer, patches(), steps=60, **options)]
    assert losses[0] > first * sigma
    assert sum(losses[-10:]) / 10 < 0.45 * sigma
    clean = regularizer.to_domain(blobs(-1, 16))
    noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(-1))
    peak = torch.full((16,), VARIANCE_AT_PEAK / sigma**2)
    regularizer.domain = "linear"  # a solver sees `strength (v - D(v))`
    removed = evaluate(regularizer, noisy, peak).gradient() / per_image(regularizer.strength(peak), noisy)
    assert (noisy - removed - clean).square().mean() < 0.5 * sigma**2


def test_a_residual_network_learns_directly_first_and_its_gradient_step_then():
    """Direct steps teach what the network itself removes; the others what its gradient step does."""
    sigma = 0.2
    options = QUICK | {"learning_rate": 2e-2, "sigma": (sigma, sigma), "brightest": 1.0}
    clean = blobs(-1, 16)
    noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(-1))
    peak = torch.full((16,), VARIANCE_AT_PEAK / sigma**2)
    errors = []
    for direct in (60, 40):
        regularizer = network()
        assert len(list(pretrain(regularizer, patches(), steps=60, direct=direct, **options))) == 60
        both = [
            noisy - regularizer.residual(noisy, peak),
            noisy
            - evaluate(regularizer, noisy, peak).gradient() / per_image(regularizer.strength(peak), noisy),
        ]
        errors.append([(denoised - clean).square().mean().item() / sigma**2 for denoised in both])
    assert errors[0][0] < 0.4
    assert errors[1][1] < min(0.4, errors[0][1])


def test_what_cannot_learn_directly_says_so():
    with pytest.raises(UserError, match="leave direct at 0"):
        next(pretrain(bank(), patches(), steps=2, direct=1, **QUICK))


@pytest.mark.parametrize("domain", ["linear", "root"])
def test_noise_is_white_in_the_domain_and_the_network_is_told_its_peak(domain):
    """Deviations are log-uniform, told peaks within a factor 2, half of the patches up to four times as bright."""
    regularizer = Records(domain)
    ones = SimpleNamespace(seed=0, batch=lambda step, size: torch.ones(size, 1, 24, 24))
    list(pretrain(regularizer, ones, steps=5, batch=80, sigma=(0.01, 0.2), precision="float32"))
    noisy, peak = (torch.cat(parts) for parts in zip(*regularizer.seen, strict=True))
    deviation, mean = noisy.std((1, 2, 3)), noisy.mean((1, 2, 3))
    place = torch.log(deviation / 0.01) / math.log(20)
    assert stats.kstest(place.numpy(), "uniform").pvalue > 0.01
    told = torch.log2(peak * deviation**2 / VARIANCE_AT_PEAK)
    assert stats.kstest(told.numpy(), "uniform", (-1, 2)).pvalue > 0.01
    assert abs(torch.corrcoef(torch.stack([place, told]))[0, 1]) < 3 / math.sqrt(400)
    brightness = mean if domain == "linear" else mean**2 - FLOOR
    same = (mean - regularizer.to_domain(torch.ones(()))).abs() < 4 * deviation / 24
    assert same.float().mean().item() == pytest.approx(0.5, abs=0.1)
    scale = torch.log(brightness[~same]) / math.log(4)
    assert stats.kstest(scale.numpy(), "uniform").pvalue > 0.01
    first = (noisy - mean.reshape(-1, 1, 1, 1)) / deviation.reshape(-1, 1, 1, 1)
    assert abs((first[..., 1:] * first[..., :-1]).mean().item()) < 4 / math.sqrt(first.numel())


def test_inverse_gamma_noise_is_multiplicative_and_its_precision_is_told():
    """Mean ``y gamma / (gamma - 2)``, relative deviation ``gamma^-1/2`` about; the step of the denoiser is Burg's."""
    clean = torch.tensor([0.2, 1.5]).reshape(2, 1, 1, 1).expand(2, 1, 200, 200)
    rng = torch.Generator().manual_seed(0)
    shown = inverse_gamma(clean, torch.tensor([0.2, 0.05]), torch.tensor([0.5, 0.5]), rng)
    assert shown.told.tolist() == pytest.approx([25, 400])
    mean, deviation = (f(shown.images, dim=(1, 2, 3)) for f in (torch.mean, torch.std))
    g = shown.told
    y = clean[:, 0, 0, 0]
    assert torch.allclose(mean, y * g / (g - 2), rtol=5e-3)
    assert torch.allclose(deviation, y * g / (g - 2) / (g - 3).sqrt(), rtol=2e-2)
    assert torch.equal(shown.metric, shown.images**2)
    relative = (shown.weight * (shown.images - clean) ** 2).mean((1, 2, 3)).sqrt()
    assert torch.allclose(relative, g**-0.5, rtol=0.1)  # of dark and bright alike
    assert inverse_gamma(clean, torch.tensor([0.2, 0.2]), torch.tensor([0.0, 1.0]), rng).told.tolist() == (
        pytest.approx([12.5, 50])
    )
    dark = inverse_gamma(torch.zeros(1, 1, 4, 4), torch.tensor([0.1]), torch.zeros(1), rng)
    assert (dark.images == 0).all()


@pytest.mark.parametrize("direct", [0, 50])
def test_a_bregman_denoiser_learns_to_remove_it(direct):
    torch.manual_seed(0)
    regularizer = Bregman(DnCNN(channels=6, depth=3))
    options = QUICK | {"learning_rate": 2e-2, "sigma": (0.2, 0.2), "brightest": 1.0, "noise": "inverse-gamma"}
    light = SimpleNamespace(seed=0, batch=lambda step, size: 0.3 + blobs(1000 + step, size))
    list(pretrain(regularizer, light, steps=80, direct=direct, **options))
    clean = 0.3 + blobs(-1, 16)
    shown = inverse_gamma(
        clean, torch.full((16,), 0.2), torch.full((16,), 0.5), torch.Generator().manual_seed(1)
    )
    x = shown.images.requires_grad_()
    (slope,) = torch.autograd.grad(regularizer.potential(x, shown.told).sum(), x)
    before = (x - clean).square().mean()
    assert (x - x**2 * slope - clean).square().mean() < 0.6 * before


def test_errors_count_relative_to_the_noise():
    regularizer = Records()
    still = SimpleNamespace(seed=0, batch=lambda step, size: torch.zeros(size, 1, 16, 16))
    for sigma in (0.01, 0.3):
        regularizer.seen.clear()
        (report,) = pretrain(regularizer, still, steps=1, sigma=(sigma, sigma), precision="float32")
        noise = regularizer.seen[0][0]
        assert report.loss == pytest.approx(noise.square().mean().item() / sigma, rel=1e-5)


def test_a_denoiser_that_returns_nothing_errs_by_the_image():
    """``N = 0``: then ``grad r = z``, and ``D = 0`` whatever the noise."""
    regularizer = Red(torch.nn.Conv2d(2, 1, 1, bias=False))
    regularizer.network.weight.data.copy_(torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1))
    (report,) = pretrain(regularizer, patches(), steps=1, sigma=(0.1, 0.1), brightest=1.0, **QUICK)
    assert report.loss == pytest.approx(blobs(0).square().mean().item() / 0.1, rel=1e-5)


def test_every_step_is_reported_and_the_strength_is_not_touched():
    regularizer = network()
    with torch.no_grad():
        regularizer.strength.a.fill_(0.7)
        regularizer.strength.p.fill_(0.4)
    before = weights(regularizer.network)
    reports = list(pretrain(regularizer, patches(), steps=3, **QUICK))
    assert [report.step for report in reports] == [1, 2, 3]
    assert 0 < reports[0].seconds < reports[2].seconds
    assert (regularizer.strength.a.item(), regularizer.strength.p.item()) == pytest.approx(
        (0.7, 0.4), abs=1e-7
    )
    assert (weights(regularizer.network) != before).all()
    assert all(p.requires_grad for p in regularizer.parameters())


def test_the_same_seed_trains_the_same_weights():
    runs = []
    for seed in (0, 0, 1):
        regularizer = network()
        still = SimpleNamespace(seed=seed, batch=lambda step, size: blobs(0, size))
        list(pretrain(regularizer, still, steps=3, **QUICK))
        runs.append(weights(regularizer))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_a_run_resumes_bit_by_bit(tmp_path: Path):
    whole, path = network(), tmp_path / "run.pt"
    expected = [report.loss for report in pretrain(whole, patches(), steps=7, **QUICK)]
    options = QUICK | {"steps": 7, "checkpoint": path, "every": 2}
    run = pretrain(network(), patches(), **options)
    assert [next(run).step for _ in range(5)] == [1, 2, 3, 4, 5]
    run.close()
    resumed = network(seed=9)
    reports = list(pretrain(resumed, patches(), **options))
    assert [report.step for report in reports] == [5, 6, 7]
    assert [report.loss for report in reports] == expected[4:]
    assert torch.equal(weights(resumed), weights(whole))
    done = network(seed=5)
    assert list(pretrain(done, patches(), **options)) == []
    assert torch.equal(weights(done), weights(whole))


def test_it_ends_with_the_averaged_weights():
    regularizer = network()
    mean = weights(regularizer)
    for report in pretrain(regularizer, patches(), steps=6, **QUICK):
        decay = (1 + report.step) / (10 + report.step)
        last = weights(regularizer)
        mean = decay * mean + (1 - decay) * last
    assert torch.allclose(weights(regularizer), mean, rtol=1e-5, atol=1e-7)
    assert (last - mean).abs().max() > 1e-4


def test_a_loss_that_is_not_finite_ends_the_run_at_its_last_good_state(tmp_path: Path):
    def batch(step: int, size: int) -> torch.Tensor:
        return blobs(step, size) * (math.nan if step == 2 else 1)

    regularizer, path = network(), tmp_path / "run.pt"
    options = QUICK | {"steps": 4, "checkpoint": path, "every": 1}
    run = pretrain(regularizer, SimpleNamespace(seed=0, batch=batch), **options)
    assert [next(run).step, next(run).step] == [1, 2]
    good = weights(regularizer)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        next(run)
    assert torch.equal(weights(regularizer), good)
    assert [report.step for report in pretrain(regularizer, patches(), **options)] == [3, 4]


def test_a_rate_much_too_high_is_told():
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        list(pretrain(network(), patches(), steps=5, **(QUICK | {"learning_rate": 1e18})))


@pytest.mark.parametrize(("capability", "precision"), [("AVX2", "float32"), ("AVX512", "bfloat16")])
def test_direct_steps_are_what_the_processor_is_fast_in_and_gradient_steps_exact(
    monkeypatch, capability, precision
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for direct, same in ((1, precision), (0, "float32")):
        first = {
            name: next(
                pretrain(network(), patches(), steps=1, direct=direct, **(QUICK | {"precision": name}))
            ).loss
            for name in ("auto", "float32", "bfloat16")
        }
        assert first["auto"] == first[same]
        assert first["float32"] != first["bfloat16"]


def test_half_precision_is_close():
    """The network's alone: images, noise and the loss are the same."""
    first = {
        precision: next(pretrain(network(), patches(), steps=2, **(QUICK | {"precision": precision}))).loss
        for precision in ("float32", "bfloat16")
    }
    assert first["bfloat16"] != first["float32"]
    assert first["bfloat16"] == pytest.approx(first["float32"], rel=0.01)
