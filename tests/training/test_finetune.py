"""Fine-tuning: badly tuned bases improve on every kind of data; what held-out patches do not confirm is not kept."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from core.problems import gaussian
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.poisson import per_image
from napari_deqmd.core.regularizers import Regularizer, TotalVariation
from napari_deqmd.core.regularizers.learned import Strength
from napari_deqmd.core.watching import Interrupted, watched
from napari_deqmd.training import finetune, judging
from napari_deqmd.training.finetune import Finetuning, Settings, card
from napari_deqmd.training.models import Model
from napari_deqmd.training.progress import Report
from napari_deqmd.training.sources import Source, clean_source, noisy_source, paired_source

PSF = gaussian(1.0).float().numpy()
PEAK = 30
QUICK = Settings(
    minutes=math.inf,
    steps=6,
    batch=3,
    learning_rate=2e-3,
    warm_up=1,
    groups=2,
    lifetime=6,
    every=3,
    precision="float32",
)


class Weighted(Regularizer):
    """Total variation with a learned strength: good, and badly tuned when the strength is far off."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.tv = TotalVariation(weight=1.0, exponent=0.0, eps=0.05)
        self.strength = Strength()
        with torch.no_grad():
            self.strength.a.fill_(math.log(strength))
            self.strength.p.fill_(0.0)

    def energy(self, x: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
        return per_image(self.strength(peak), x) * self.tv.energy(x, peak)

    def curvature(self, x: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
        return per_image(self.strength(peak).detach(), x) * self.tv.curvature(x, peak)


def base(strength: float = 1.0, **card: Any) -> Model:
    known = {"name": "toy", "ndim": 2, "family": "toy", "options": {}, "sha256": "f00"}
    return Model(Weighted(strength), known | card, Path("toy.safetensors"))


def islands(seed: int) -> np.ndarray:
    """Flat patches of two brightnesses all over the image: what total variation is right for."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((56, 56)), 3)
    return np.where(noise > 0, 1.0, 0.2).astype(np.float32)


SCENES = [islands(seed) for seed in range(4)]


def counted(peak: float, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    blurred = [gaussian_filter(scene, 1.0) for scene in SCENES]
    return [rng.poisson(peak * (b / b.max() + 0.05)).astype(np.float32) for b in blurred]


def source(kind: str) -> Source:
    options = {"sides": (16,)}
    if kind == "clean":
        return clean_source(SCENES, PSF, peak=PEAK, **options)
    if kind == "paired":
        return paired_source(counted(PEAK), counted(20 * PEAK, seed=1), PSF, **options)
    return noisy_source(counted(PEAK), PSF, **options)


@pytest.fixture(scope="module")
def noisy() -> Source:
    return source("noisy")


@pytest.fixture
def quick_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "ITERATIONS", 15)


# --- the whole job ---


@pytest.mark.usefixtures("quick_scores")
@pytest.mark.parametrize(("kind", "gain"), [("clean", 0.5), ("paired", 1.0), ("noisy", 0.01)])
def test_a_base_of_far_too_strong_a_prior_improves(kind, gain):
    """Decibels, or deviance; the other measurements of the same fields must agree."""
    model = base(1.0)
    job = Finetuning(model, source(kind), QUICK)
    reports = list(job.steps())
    outcome = job.result()
    assert outcome.kept
    sign = job.source.held_out.sign
    assert sign * (outcome.score_after - outcome.score_before) > gain
    assert outcome.regularizer.strength.a < model.regularizer.strength.a - 0.5
    assert [report.step for report in reports] == list(range(7))
    assert [report.step for report in reports if report.score is not None] == [0, 3, 6]
    assert reports[-1].best == outcome.score_after
    assert "helped" in outcome.notes[-1]
    assert "PSNR" in outcome.score if kind == "clean" else "deviance" in outcome.score


@pytest.mark.usefixtures("quick_scores")
def test_pure_noise_keeps_the_base():
    rng = np.random.default_rng(0)
    model = base(1.0)
    noise = [rng.poisson(20.0, (48, 48)).astype(np.float32) for _ in range(4)]
    job = Finetuning(model, noisy_source(noise, PSF, peak=20.0, sides=(16,)), QUICK)
    list(job.steps())
    outcome = job.result()
    assert not outcome.kept
    assert outcome.score_after == outcome.score_before
    assert outcome.best_step == 0
    assert "did not help" in outcome.notes[-1]
    for name, tensor in model.regularizer.state_dict().items():
        assert torch.equal(outcome.regularizer.state_dict()[name], tensor)


@pytest.mark.usefixtures("quick_scores")
def test_the_same_seed_gives_the_same_model(noisy):
    def run() -> list[float]:
        job = Finetuning(base(), noisy, Settings(**(vars(QUICK) | {"steps": 2, "every": 2})))
        return [report.best for report in job.steps()] + [job.result().regularizer.strength.a.item()]

    assert run() == run()


@pytest.mark.usefixtures("quick_scores")
def test_the_base_is_left_as_it_is_and_the_patch_is_shown(noisy):
    model = base()
    before = {name: tensor.clone() for name, tensor in model.regularizer.state_dict().items()}
    job = Finetuning(model, noisy, Settings(**(vars(QUICK) | {"steps": 1, "every": 1})))
    reports = list(job.steps())
    assert all(torch.equal(model.regularizer.state_dict()[name], before[name]) for name in before)
    first, last = (report.patch for report in reports)
    assert first.shape == (16, 16)
    assert np.abs(first - last).max() > 0
    assert abs(first.mean() / noisy.held_out.electrons[0].mean().item() - 1) < 0.3  # photo-electrons


@pytest.mark.usefixtures("quick_scores")
def test_a_resumed_run_goes_on(noisy, tmp_path: Path):
    """Bit by bit while no batch is visited again: a resumed run has no fixed points to start from."""
    settings = Settings(**(vars(QUICK) | {"steps": 3, "every": 1, "groups": 3}))
    whole = Finetuning(base(), noisy, settings)
    expected = [report.best for report in whole.steps()]
    checkpoint = tmp_path / "run.pt"
    first = Finetuning(base(), noisy, settings, checkpoint=checkpoint)
    run = first.steps()
    assert [next(run).step for _ in range(2)] == [0, 1]
    run.close()
    second = Finetuning(base(), noisy, settings, checkpoint=checkpoint)
    reports = list(second.steps())
    assert [report.step for report in reports] == [0, 2, 3]
    assert [report.best for report in reports[1:]] == expected[2:]
    assert second.result().score_before == whole.result().score_before
    with pytest.raises(UserError, match=r"run\.pt is not a checkpoint of this fine-tuning: choose another"):
        list(Finetuning(base(sha256="other"), noisy, settings, checkpoint=checkpoint).steps())
    checkpoint.write_text("nonsense")
    with pytest.raises(UserError, match=r"run\.pt is not a checkpoint"):
        list(Finetuning(base(), noisy, settings, checkpoint=checkpoint).steps())


# --- what is kept, by scripted scores ---


class Script:
    """A training whose every step adds 1 to the strength, and scores by what it has reached."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, score: Callable[[float], list[float]]) -> None:
        self.runs: list[dict[str, Any]] = []
        self.fails: dict[int, Exception] = {}
        monkeypatch.setattr(finetune, "train_equilibrium", self.train)
        monkeypatch.setattr(
            Finetuning, "_score", lambda job, r: torch.tensor(score(r.strength.a.item())).double()
        )

    def train(self, regularizer: Weighted, draw: object, **options: Any) -> Generator[Report, None, None]:
        self.runs.append(options | {"draw": draw, "started": regularizer.strength.a.item()})
        for step in range(1, options["steps"] + 1):
            if error := self.fails.pop(sum(run["steps"] >= 0 for run in self.runs) * 100 + step, None):
                raise error
            with torch.no_grad():
                regularizer.strength.a += 1
            figures = options["validate"](regularizer) if step % options["every"] == 0 else {}
            yield Report(step, 0.5, 0.1 * step, figures)


def scripted(
    monkeypatch: pytest.MonkeyPatch, noisy: Source, score: Callable[[float], list[float]], **settings: Any
) -> tuple[Script, Finetuning]:
    script = Script(monkeypatch, score)
    return script, Finetuning(base(), noisy, Settings(**(vars(QUICK) | {"steps": 6, "every": 1} | settings)))


def test_the_best_is_kept_though_later_weights_are_worse(monkeypatch, noisy):
    """Deviance: 2 at the base, least after four steps."""
    _, job = scripted(monkeypatch, noisy, lambda a: [2 - 0.1 * (4 - abs(a - 4)) for _ in range(8)])
    bests = [report.best for report in job.steps()]
    assert bests == pytest.approx([2, 1.9, 1.8, 1.7, 1.6, 1.6, 1.6])
    outcome = job.result()
    assert (outcome.kept, outcome.best_step, outcome.steps) == (True, 4, 6)
    assert outcome.regularizer.strength.a.item() == 4
    assert (outcome.score_before, outcome.score_after) == pytest.approx((2, 1.6))


@pytest.mark.parametrize(("kind", "kept"), [("noisy", 5), ("clean", 2)])
def test_of_weights_that_second_counts_cannot_tell_apart_the_longest_trained_are_kept(
    kind, kept, monkeypatch
):
    """Highest after two steps, as high within chance until five, and worse than that after six; truths tell apart."""
    judged = source(kind)
    chance = np.array([1, -1, 1, -1, 1, -1, 1, -1])
    gains = [0, 1, 2, 1.95, 1.9, 1.95, 1.5]
    spread = [0, 0, 0, 0.3, 0.3, 0.3, 0.3]

    def score(a):
        return (2 + judged.held_out.sign * (gains[int(a)] + spread[int(a)] * chance)).tolist()

    _, job = scripted(monkeypatch, judged, score)
    bests = [judged.held_out.sign * (report.best - 2) for report in job.steps()]
    assert bests == pytest.approx([0, 1, 2, *([1.95, 1.9, 1.95, 1.95] if kept == 5 else [2] * 4)])
    assert job.result().best_step == kept


def test_a_gain_that_chance_explains_is_not_kept(monkeypatch, noisy):
    gains = np.array([1, -1, 1, -1, 1, -1, 1, -0.8])
    _, job = scripted(monkeypatch, noisy, lambda a: (2.0 - (a > 0) * gains).tolist())
    list(job.steps())
    assert gains.mean() > 0
    assert not job.result().kept
    _, job = scripted(monkeypatch, noisy, lambda a: (2.0 - (a > 0) * (gains + 2)).tolist())
    list(job.steps())
    assert job.result().kept


@pytest.mark.parametrize("patches", [2, 4, 12])
def test_few_patches_must_gain_more(patches):
    """Of gains that are chance one mean in twenty is enough."""
    rng = torch.Generator().manual_seed(0)
    gains = torch.randn(4000, patches, generator=rng, dtype=torch.float64)
    enough = [(each.mean() > finetune._least_gain(each)).item() for each in gains]
    assert np.mean(enough) == pytest.approx(finetune.CHANCE, abs=0.012)
    assert finetune._least_gain(gains[0, :1]) == math.inf


def test_worse_weights_are_never_kept(monkeypatch, noisy):
    _, job = scripted(monkeypatch, noisy, lambda a: [2 + a] * 8)
    list(job.steps())
    outcome = job.result()
    assert (outcome.kept, outcome.score_after, outcome.regularizer.strength.a.item()) == (False, 2, 0)


def test_stopping_keeps_the_best_so_far(monkeypatch, noisy):
    _, job = scripted(monkeypatch, noisy, lambda a: [2 - a] * 8)
    run = job.steps()
    for _ in range(3):
        next(run)
    run.close()
    outcome = job.result()
    assert (outcome.kept, outcome.best_step, outcome.steps) == (True, 2, 2)


def test_no_result_before_the_base_is_scored(noisy):
    with pytest.raises(UserError, match="run the fine-tuning first"):
        Finetuning(base(), noisy, QUICK).result()


@pytest.mark.parametrize("where", ["loss", "score"])
def test_numbers_that_are_not_finite_lead_back_to_the_best_weights_at_half_the_rate(
    monkeypatch, noisy, where
):
    """The loss fails at the third step of the first training; or the score does at a strength of 3, once."""
    once = iter([math.nan])
    script, job = scripted(
        monkeypatch,
        noisy,
        lambda a: [next(once, 0.0) if where == "score" and a == 3 else 2 - 0.1 * a] * 8,
    )
    if where == "loss":
        script.fails[103] = FloatingPointError("the loss is not finite")
    list(job.steps())
    first, second = script.runs
    assert second["learning_rate"] == first["learning_rate"] / 2
    assert second["started"] == 2
    outcome = job.result()
    assert sum("was not finite" in note and "halved its rate" in note for note in outcome.notes) == 1
    assert outcome.kept
    assert outcome.steps == 6  # the steps that were lost are not taken again


def test_a_training_that_always_fails_ends_with_the_base(monkeypatch, noisy):
    script, job = scripted(monkeypatch, noisy, lambda a: [2.0] * 8)
    script.fails = {100 * run + 1: FloatingPointError() for run in range(1, 10)}
    assert [report.step for report in job.steps()] == [0]
    assert len(script.runs) == finetune.ROLLBACKS + 1
    assert not job.result().kept


def test_weights_without_a_finite_objective_are_rolled_back_too(monkeypatch, noisy):
    failing = itertools.chain([False, True], itertools.repeat(False))

    def score(a: float) -> list[float]:
        if next(failing):
            raise UserError("The objective is not finite at the start")
        return [2 - 0.1 * a] * 8

    script, job = scripted(monkeypatch, noisy, score)
    list(job.steps())
    assert len(script.runs) == 2
    assert job.result().kept


@pytest.mark.usefixtures("quick_scores")
def test_a_real_training_that_runs_away_is_caught(noisy):
    """Weights that overflow: the objective of the second step has no number."""
    settings = Settings(**(vars(QUICK) | {"learning_rate": 1e6, "steps": 2, "batch": 1, "every": 5}))
    job = Finetuning(base(0.01), noisy, settings)
    list(job.steps())
    outcome = job.result()
    assert not outcome.kept
    assert any("was not finite" in note for note in outcome.notes)


def test_the_time_is_for_everything(monkeypatch, noisy):
    """Ten seconds for a score of the base, of two minutes: the training gets the rest less one for its last score."""
    clock = [0.0]
    script, job = scripted(
        monkeypatch, noisy, lambda a: clock.__setitem__(0, clock[0] + 10) or [2.0] * 8, minutes=2
    )
    monkeypatch.setattr(finetune.time, "monotonic", lambda: clock[0])
    list(job.steps())
    assert script.runs[0]["limit"] == pytest.approx(100)
    assert script.runs[0]["warm_up"] == 1


def test_without_time_for_a_step_the_base_is_kept(monkeypatch, noisy):
    script, job = scripted(monkeypatch, noisy, lambda a: [2.0] * 8, minutes=1e-9)
    assert [report.step for report in job.steps()] == [0]
    assert not script.runs
    assert not job.result().kept
    assert "No training step was taken" in job.result().notes[-1]


def test_scores_take_a_share_of_the_time(monkeypatch, noisy):
    clock = [0.0]

    def score(a: float) -> list[float]:
        clock[0] += 1
        return [2 - 0.1 * a] * 8

    _, job = scripted(monkeypatch, noisy, score, steps=100, every=None)
    monkeypatch.setattr(finetune.time, "monotonic", lambda: clock[0])
    seen = []
    for report in job.steps():
        clock[0] += 0.2
        seen += [report.step] if report.score is not None else []
    assert seen[0] == 0
    assert seen[-1] == 100  # the last weights are always scored
    assert 3 <= len(seen) <= 6
    assert job.result().best_step == 100


def test_on_a_slow_machine_fewer_patches_judge(monkeypatch, noisy):
    clock, solved = [0.0], []

    def slow(problem, **options):
        clock[0] += 10
        solved.append(len(problem.likelihood.y))
        return problem.start(), torch.zeros(solved[-1])

    monkeypatch.setattr(judging, "fixed_point", slow)
    monkeypatch.setattr(finetune.time, "monotonic", lambda: clock[0])
    held = len(noisy.held_out.peak)
    job = Finetuning(base(1.0), noisy, replace(QUICK, minutes=1))
    next(job.steps())
    assert (sum(solved), held > 3) == (3, True)  # a batch took 10 seconds of the 12 there are
    assert job.result().notes[-2] == f"In this time 3 of the {held} held-out patches judge."
    assert len(job._score(Weighted(1.0))) == 3


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (11.02, 11.5, "from 11.02 to 11.5"),
        (1.06238, 1.06188, "from 1.0624 to 1.0619"),
        (2.0, 2.0, "from 2.0 to 2.0"),
    ],
)
def test_a_gain_is_seen_in_its_sentence(before, after, text):
    assert finetune._from_to(before, after) == text


def test_a_scoring_and_a_step_can_be_broken_off(noisy):
    """In the base's score there is no result yet; later the best so far stands."""
    told: list[float] = []

    def watch(share: float) -> None:
        told.append(share)
        if len(told) in (2, 4):
            raise Interrupted

    job = Finetuning(base(), noisy, QUICK)
    with watched(watch), pytest.raises(Interrupted):
        next(job.steps())
    assert len(told) == 2
    assert not job.scored
    run = job.steps()
    next(run)
    with watched(watch), pytest.raises(Interrupted):
        next(run)
    assert len(told) == 4
    assert not job.result().kept


# --- settings, base, card ---


@pytest.mark.parametrize("minutes", [0, -1, math.nan])
def test_a_time_must_be_above_zero(minutes):
    with pytest.raises(UserError, match="minutes is"):
        Settings(minutes=minutes)


def test_a_seed_must_be_a_seed():
    with pytest.raises(UserError, match="seed is -1"):
        Settings(seed=-1)


def test_a_base_for_stacks_is_refused():
    with pytest.raises(UserError, match="toy is for 3D stacks: choose a base model for 2D images"):
        Finetuning(base(ndim=3), SimpleNamespace())


def test_the_card_says_how_the_model_came_about(monkeypatch, noisy):
    _, job = scripted(monkeypatch, noisy, lambda a: [2 - 0.1 * a] * 8, seed=7)
    list(job.steps())
    found = card(job.result(), job.base, noisy, job.settings)
    assert json.loads(json.dumps(found)).keys() >= {"family", "options", "ndim", "limits", "versions"}
    assert found["base"] == {"name": "toy", "sha256": "f00"}
    assert found["data"]["kind"] == "noisy"
    assert found["data"]["images"] == 4
    assert (found["seed"], found["recipe"]["steps"], found["recipe"]["learning_rate"]) == (7, 6, 2e-3)
    results = found["results"]
    assert results["fine-tuned"] == pytest.approx(1.4)
    assert results["held-out patches"] == 8  # as many as were scored, of 12
