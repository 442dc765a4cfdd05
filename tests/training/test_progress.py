"""What the trainings share: the optimiser's steps, averaged weights, checkpoints that resume bit by bit, arithmetic."""

from __future__ import annotations

import copy
import errno
import math
import os
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.regularizers import DnCNN, Red
from napari_deqmd.training import progress
from napari_deqmd.training.progress import Trainer, arithmetic


class Few(nn.Module):
    """Three weights and one number, float64."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64))
        self.number = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))


def few(learning_rate: float = 0.01, steps: int = 400, **options: object) -> Trainer:
    return Trainer(Few(), learning_rate=learning_rate, steps=steps, **options)


def pull(trainer: Trainer, weights: list[float], number: float = 0.0) -> None:
    """Take a step with these gradients."""
    trainer.model.weights.grad = torch.tensor(weights, dtype=torch.float64)
    trainer.model.number.grad = torch.tensor(number, dtype=torch.float64)
    trainer.update()


def network(seed: int = 0, channels: int = 3) -> Red:
    torch.manual_seed(seed)
    return Red(DnCNN(channels=channels, depth=3))


def train(trainer: Trainer, until: int) -> None:
    """Gradients that depend on the weights and the step."""
    while trainer.step < until:
        rng = torch.Generator().manual_seed(trainer.step)
        x, peak = torch.rand(2, 1, 8, 8, generator=rng), torch.tensor([30.0, 90.0])
        trainer.model.energy(x, peak).sum().backward()
        trainer.update()


def states(trainer: Trainer) -> list[torch.Tensor]:
    """Weights, averages and the optimiser's moments."""
    found = [*trainer.model.parameters(), *trainer.averaged.parameters()]
    for parameter in trainer.model.parameters():
        found += trainer.optimiser.state[parameter].values()
    return found


def same(a: Trainer, b: Trainer) -> bool:
    return all(torch.equal(p, q) for p, q in zip(states(a), states(b), strict=True))


# --- steps ---


def test_rates_rise_then_fall_by_a_cosine_to_a_twentieth():
    """Adam moves by its rate under a constant gradient."""
    trainer = few()
    weight, number = [], []
    for _ in range(400):
        weight.append(trainer.model.weights[0].item())
        number.append(trainer.model.number.item())
        pull(trainer, [0.3, 0.3, 0.3], 0.3)
    weight.append(trainer.model.weights[0].item())
    number.append(trainer.model.number.item())
    rates = [(a - b) / 0.01 for a, b in pairwise(weight)]
    assert rates[0] == pytest.approx(1 / 50, rel=1e-5)
    assert rates[24] == pytest.approx(25 / 50, rel=0.01)
    assert 0.95 < max(rates) < 1
    assert all(a < b for a, b in pairwise(rates[:50]))
    assert all(a > b for a, b in pairwise(rates[50:]))
    assert rates[200] == pytest.approx((1 + 1 / 20) / 2, rel=1e-5)
    assert rates[300] == pytest.approx(1 / 20 + 19 / 20 * (1 - math.sqrt(0.5)) / 2, rel=1e-5)
    assert rates[-1] == pytest.approx(1 / 20, rel=1e-3)
    assert [(a - b) / 0.1 for a, b in pairwise(number)] == pytest.approx(rates, rel=1e-6)


def test_beyond_its_schedule_the_rate_stays_at_a_twentieth():
    trainer = few(steps=60)
    for _ in range(70):
        before = trainer.model.weights[0].item()
        pull(trainer, [0.3, 0.3, 0.3])
    assert before - trainer.model.weights[0].item() == pytest.approx(0.01 / 20, rel=1e-5)


def test_long_gradients_are_shortened_and_short_ones_are_not():
    """Weights and numbers together; seen in Adam's first moment, a tenth of the first gradient."""
    for length, seen in ((50.0, 2.0), (1.9, 1.9)):
        trainer = few(clip=2.0)
        pull(trainer, [0.6 * length, 0.0, 0.0], -0.8 * length)
        moments = [trainer.optimiser.state[p]["exp_avg"] for p in trainer.model.parameters()]
        assert moments[0].tolist() == pytest.approx([0.06 * seen, 0, 0], rel=1e-5)
        assert moments[1].item() == pytest.approx(-0.08 * seen, rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_takes_no_step(bad):
    trainer, reference = few(), few()
    for each in (trainer, reference):
        pull(each, [0.3, 0.1, -0.2], 0.4)
    pull(trainer, [bad, 0.1, 0.1], 0.1)
    for found, expected in zip(trainer.model.parameters(), reference.model.parameters(), strict=True):
        assert torch.equal(found, expected)
        assert torch.equal(
            trainer.optimiser.state[found]["exp_avg"], reference.optimiser.state[expected]["exp_avg"]
        )
    assert trainer.step == 2
    before = trainer.model.weights.detach().clone()
    pull(trainer, [0.3, 0.1, -0.2], 0.4)
    assert ((before - trainer.model.weights) * torch.tensor([1, 1, -1]) > 1e-4).all()


def test_gradients_are_cleared_and_what_has_none_stays():
    trainer = few()
    trainer.model.weights.grad = torch.ones(3, dtype=torch.float64)
    trainer.update()
    assert trainer.model.weights.grad is None
    assert trainer.model.number.item() == 0.5
    assert (trainer.model.weights < torch.tensor([0.1, -0.2, 0.3])).all()


@pytest.mark.parametrize("average", [0.99, 0.3, 0.0])
def test_averaged_weights_forget_the_start_of_a_short_training(average):
    trainer = few(learning_rate=0.5, average=average)
    mean = trainer.model.weights.detach().clone()
    for k in range(1, 20):
        pull(trainer, [1.0, (-1.0) ** k, math.cos(k)])
        decay = min(average, (1 + k) / (10 + k))
        mean = decay * mean + (1 - decay) * trainer.model.weights.detach()
        assert trainer.averaged.weights.tolist() == pytest.approx(mean.tolist(), rel=1e-12)
    assert torch.equal(trainer.averaged.weights, trainer.model.weights) == (average == 0)
    assert not any(p.requires_grad for p in trainer.averaged.parameters())


def test_a_regularizer_is_trained_in_place():
    regularizer = network()
    before = copy.deepcopy(regularizer)
    trainer = Trainer(regularizer, learning_rate=0.01, steps=10)
    train(trainer, 2)
    assert trainer.model is regularizer
    for old, new in zip(before.parameters(), regularizer.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_reports_count_steps_and_the_seconds_of_all_runs(tmp_path: Path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    path = tmp_path / "run.pt"
    trainer = few(checkpoint=path)
    for _ in range(3):
        clock[0] += 2
        pull(trainer, [0.1, 0.1, 0.1])
    trainer.save()
    report = trainer.report(0.25)
    assert (report.step, report.loss, report.seconds, report.validation) == (3, 0.25, 6.0, {})
    clock[0] += 1000  # nothing runs
    resumed = few(checkpoint=path)
    clock[0] += 5
    pull(resumed, [0.1, 0.1, 0.1])
    report = resumed.report(0.2, {"psnr": 21.0})
    assert (report.step, report.seconds, report.validation) == (4, 11.0, {"psnr": 21.0})


def test_a_schedule_may_end_by_the_clock(monkeypatch):
    """Half of the time over is half of the schedule over, whatever the steps say."""
    clock = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    trainer = few(steps=1000, limit=100.0, warm_up=1)
    rates = []
    for _ in range(5):
        clock[0] += 25
        pull(trainer, [0.1, 0.1, 0.1])
        rates.append(trainer.optimiser.param_groups[0]["lr"] / 0.01)
        if trainer.elapsed >= 1:
            break
    assert trainer.step == 4
    assert rates == pytest.approx(
        [0.05 + 0.95 * (1 + math.cos(math.pi * t)) / 2 for t in (0, 0.25, 0.5, 0.75)]
    )


def test_single_numbers_have_a_rate_of_their_own():
    trainer = few(numbers=300.0, warm_up=1)
    before = trainer.model.number.item(), trainer.model.weights[0].item()
    pull(trainer, [0.1, 0.1, 0.1], number=0.1)
    moved = trainer.model.number.item() - before[0], trainer.model.weights[0].item() - before[1]
    assert moved == pytest.approx((-3.0, -0.01), rel=1e-3)


# --- checkpoints ---


def test_a_resumed_training_is_the_same_bit_by_bit(tmp_path: Path):
    path = tmp_path / "run.pt"
    whole = Trainer(network(), learning_rate=0.01, steps=8)
    train(whole, 8)
    first = Trainer(network(), learning_rate=0.01, steps=8, checkpoint=path)
    train(first, 3)
    first.save()
    train(first, 5)  # lost
    resumed = Trainer(network(seed=9), learning_rate=0.01, steps=8, checkpoint=path)
    assert resumed.step == 3
    assert not same(resumed, first)
    train(resumed, 8)
    assert same(resumed, whole)


def test_the_first_losses_are_kept_over_an_interruption(tmp_path: Path):
    path = tmp_path / "run.pt"
    trainer = few(checkpoint=path)
    for step in range(3):
        pull(trainer, [0.1, 0.1, 0.1])
        trainer.report(float(step))
    trainer.save()
    resumed = few(checkpoint=path)
    for step in range(3, 30):
        pull(resumed, [0.1, 0.1, 0.1])
        resumed.report(float(step))
    assert resumed.first_losses == [float(step) for step in range(20)]


def test_a_checkpoint_is_one_file_in_a_folder_made_for_it(tmp_path: Path):
    path = tmp_path / "runs" / "a" / "run.pt"
    trainer = few(checkpoint=path)
    assert not path.parent.exists()
    for _ in range(2):
        pull(trainer, [0.1, 0.1, 0.1])
        trainer.save()
    assert list(path.parent.iterdir()) == [path]
    assert few(checkpoint=path).step == 2


def test_without_a_checkpoint_nothing_is_written(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = few()
    pull(trainer, [0.1, 0.1, 0.1])
    trainer.save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("when", ["writing", "renaming"])
def test_a_save_that_fails_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch, when):
    path = tmp_path / "run.pt"
    trainer = few(checkpoint=path)
    pull(trainer, [0.1, 0.1, 0.1])
    trainer.save()
    kept = path.read_bytes()

    def fail(what: Path, where: object) -> None:
        if when == "writing":
            with what.open("wb") as file:
                file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((Path, "write_bytes") if when == "writing" else (os, "replace")), fail)
        pull(trainer, [0.1, 0.1, 0.1])
        with pytest.raises(UserError, match=r"disk of .* is full: make room"):
            trainer.save()
    assert path.read_bytes() == kept
    assert list(tmp_path.iterdir()) == [path]
    assert few(checkpoint=path).step == 1
    trainer.save()
    assert few(checkpoint=path).step == 2


def test_a_checkpoint_of_another_network_is_a_users_error(tmp_path: Path):
    path = tmp_path / "run.pt"
    trainer = Trainer(network(), learning_rate=0.01, steps=8, checkpoint=path)
    train(trainer, 1)
    trainer.save()
    for other in (network(channels=4), Few()):
        with pytest.raises(UserError, match=r"run\.pt is not a checkpoint of this training: choose another"):
            Trainer(other, learning_rate=0.01, steps=8, checkpoint=path)


def write_foreign(path: Path, kind: str) -> None:
    trainer = few(checkpoint=path)
    pull(trainer, [0.1, 0.1, 0.1])
    trainer.save()
    state = torch.load(path, weights_only=True)
    if kind == "text":
        path.write_text("no checkpoint")
    elif kind == "cut short":
        path.write_bytes(path.read_bytes()[:500])
    elif kind == "no dictionary":
        torch.save([1, 2], path)
    else:
        torch.save({key: value for key, value in state.items() if key != kind}, path)


@pytest.mark.parametrize(
    "kind",
    [
        "model",
        "averaged",
        "optimiser",
        "architecture",
        "step",
        "seconds",
        "text",
        "cut short",
        "no dictionary",
    ],
)
def test_a_file_that_is_no_checkpoint_is_a_users_error(tmp_path: Path, kind):
    path = tmp_path / "run.pt"
    write_foreign(path, kind)
    with pytest.raises(UserError, match=r"run\.pt"):
        few(checkpoint=path)


# --- arithmetic ---


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_networks_run_in_the_precision_asked_for(precision, dtype):
    context = arithmetic(torch.device("cpu"), precision)
    regularizer = network()
    v, peak = torch.rand(1, 1, 8, 8), torch.tensor([60.0])
    for _ in range(2):
        with context():
            assert regularizer.residual(v, peak).dtype == dtype
        assert regularizer.residual(v, peak).dtype == torch.float32
    with context():
        energy = regularizer.residual(v, peak).float().square().sum()
    energy.backward()
    assert {p.grad.dtype for p in regularizer.network.parameters()} == {torch.float32}
