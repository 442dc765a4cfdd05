"""Fine-tuning of a model on a lab's own images, within minutes, kept where held-out patches gain by it."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

from napari_deqmd.core.device import resolve_device
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.methods import in_precision
from napari_deqmd.core.regularizers import Regularizer
from napari_deqmd.training.equilibrium import train_equilibrium
from napari_deqmd.training.finetune_reports import Outcome, Progress, Settings, card
from napari_deqmd.training.judging import restored
from napari_deqmd.training.models import Model, save_model
from napari_deqmd.training.progress import NOT_A_CHECKPOINT, write_checkpoint
from napari_deqmd.training.sources import Source
from napari_deqmd.training.teaching import lessons

__all__ = ["Finetuning", "Outcome", "Progress", "Settings", "card"]

CHANCE = 0.05
"""Probability that at one look the held-out patches seem to gain by weights that are as good as the base."""

# Held-out patches between two looks at the clock.
_SCORED_AT_ONCE = 4

SCORING = 5.0
"""Training lasts this many times as long as the scoring after it."""

FIRST_SCORING = 0.2
"""Share of the time that may go by before the base is scored: on a slow machine fewer held-out patches judge."""

ROLLBACKS = 4


@dataclass
class _State:
    """What a fine-tuning knows: everything that a checkpoint must hold beside the training's own."""

    before: Tensor  # scores of the patches by the base
    highest: Tensor  # and by the weights that scored highest of those that were kept
    best: dict[str, Tensor]
    gain: float = 0.0
    best_step: int = 0
    rate: float = 0.0
    steps: int = 0  # of trainings that were rolled back
    seconds: float = 0.0  # before the present training began
    rollbacks: int = 0
    notes: list[str] = field(default_factory=list)


class Finetuning:
    """A fine-tuning to be run step by step.

    Parameters
    ----------
    base : Model
        Where it starts; left as it is.
    source : Source
        What it learns from and is judged by.
    settings : Settings, optional
        How.
    checkpoint : path, optional
        File to resume from when it exists, written at every score; the training keeps its own beside it.

    Raises
    ------
    UserError
        A base model that is not for planes.
    """

    def __init__(
        self, base: Model, source: Source, settings: Settings | None = None, *, checkpoint: Path | None = None
    ) -> None:
        if base.card["ndim"] != 2:
            raise UserError(
                f"The model {base.card['name']} is for 3D stacks: choose a base model for 2D images."
            )
        self.base, self.source, self.settings = base, source, settings or Settings()
        self.device = torch.device(resolve_device(self.settings.device))
        self._checkpoint = checkpoint
        self._training = checkpoint and checkpoint.with_name(f"{checkpoint.stem}-training{checkpoint.suffix}")
        self._state: _State | None = None
        self._cost = 0.0  # seconds of one scoring
        self._step, self._seconds, self._scored = 0, 0.0, 0.0  # of the present training
        self._patch: NDArray[np.float32] | None = None

    @property
    def measured(self) -> NDArray[np.float32]:
        """First held-out patch as it was measured, ``(Y, X)``, photo-electrons: see `Progress.patch`."""
        return np.array(self.source.held_out.electrons[0, 0].numpy())

    @property
    def scored(self) -> bool:
        """Whether the base was scored, so that there is a `result`."""
        return self._state is not None

    def steps(self) -> Generator[Progress, None, None]:
        """Run, yielding the base's score, then every step. Closing the generator keeps the best weights so far."""
        regularizer = copy.deepcopy(self.base.regularizer).to(self.device)
        self._state = state = self._resumed() or self._begin(regularizer)
        self._save()
        yield self._progress(math.nan, self._mean(0.0))
        while state.rollbacks <= ROLLBACKS:
            regularizer.load_state_dict(state.best)
            self._step, self._seconds, self._scored = 0, 0.0, time.monotonic()
            try:
                yield from self._train(regularizer, state)
            except FloatingPointError:
                self._roll_back(state)
            else:
                return

    def result(self) -> Outcome:
        """Return the best weights so far.

        Raises
        ------
        UserError
            The base was not scored yet.
        """
        state = self._state
        if state is None:
            raise UserError("Nothing was trained: run the fine-tuning first.")
        regularizer = copy.deepcopy(self.base.regularizer)
        regularizer.load_state_dict(state.best)
        regularizer.eval().requires_grad_(False)
        kept, figure = state.gain > 0, self.source.held_out.figure
        before, after = self._mean(0.0), self._mean(state.gain)
        if kept:
            verdict = f"Fine-tuning helped: {figure} of held-out patches went {_from_to(before, after)}."
        elif not state.steps + self._step:
            verdict = "No training step was taken, so the base model is kept: give it more time."
        else:
            verdict = (
                "Fine-tuning did not help: nothing reconstructed the held-out patches reliably better than the base "
                "model, which is kept."
            )
        return Outcome(
            regularizer,
            kept,
            figure,
            before,
            after,
            len(state.before),
            state.seconds + self._seconds,
            state.steps + self._step,
            state.best_step,
            (*self.source.notes, *state.notes, verdict),
        )

    def save(self, target: Path, outcome: Outcome) -> Path:
        """Write the weights of an outcome with their card, and return where they are.

        That is `target`, as `save_model` takes it, or the first numbered name after it where another model has
        appeared since the name was chosen.
        """
        paths = (target.with_stem(f"{target.stem}-{n}") if n > 1 else target for n in count(1))
        path = next(path for path in paths if not (path.exists() or path.with_suffix(".json").exists()))
        save_model(outcome.regularizer, path, card(outcome, self.base, self.source, self.settings))
        return path

    def _begin(self, regularizer: Regularizer) -> _State:
        began = time.monotonic()
        before = self._score(regularizer)
        self._cost = time.monotonic() - began
        state = _State(
            before, before, _weights(regularizer), rate=self.settings.learning_rate, seconds=self._cost
        )
        if len(before) < (held := len(self.source.held_out.peak)):
            state.notes.append(f"In this time {len(before)} of the {held} held-out patches judge.")
        return state

    def _train(self, regularizer: Regularizer, state: _State) -> Generator[Progress, None, None]:
        """Train from the best weights until steps or time are up."""
        settings = self.settings
        limit = 60 * settings.minutes - state.seconds - self._cost
        if limit <= 0 or state.steps >= settings.steps:
            return
        scored = True
        draw = lessons(self.source.draw, self._teacher, settings.seed)
        regularizer.requires_grad_(True)
        run = train_equilibrium(
            regularizer,
            lambda number, batch: draw(state.steps + number, batch),
            steps=settings.steps - state.steps,
            limit=limit,
            batch=settings.batch,
            learning_rate=state.rate,
            numbers=settings.numbers,
            warm_up=settings.warm_up,
            groups=settings.groups,
            lifetime=settings.lifetime,
            precision=settings.precision,
            validate=self._validate,
            every=settings.every or 5,
            checkpoint=self._training,
        )
        with closing(run):
            for report in run:
                self._step, self._seconds = report.step, report.seconds
                scored = "score" in report.validation
                yield self._progress(report.loss, report.validation.get("score"))
        if not scored:
            began = time.monotonic()
            score = self._judge(regularizer)
            self._seconds += time.monotonic() - began
            yield self._progress(report.loss, score)

    def _teacher(self) -> Regularizer:
        """Return the best model so far."""
        assert self._state is not None
        teacher = copy.deepcopy(self.base.regularizer).to(self.device)
        teacher.load_state_dict(self._state.best)
        return teacher

    def _validate(self, averaged: Regularizer) -> Mapping[str, float]:
        """Score the averaged weights of the step under way, when it is time to."""
        now = time.monotonic()
        if self.settings.every is None and now - self._scored < SCORING * self._cost:
            return {}
        self._step += 1
        score = self._judge(averaged)
        self._scored = time.monotonic()
        self._cost = self._scored - now
        return {"score": score}

    def _judge(self, regularizer: Regularizer) -> float:
        """Return the score; keep weights whose gain chance does not explain, and that score higher than all before.

        The least gain is Student's quantile, one-sided, times the standard error of the patches' gains. It holds at one
        look and is not corrected for their number: see docs/design-notes.md. Where objects gain by what the score does
        not see, weights that are within one standard error of the highest are kept as well: they have learned longer.
        """
        state = self._state
        assert state is not None
        try:
            scores = self._score(regularizer)
        except UserError as error:
            raise FloatingPointError("the objective is not finite") from error
        held_out = self.source.held_out
        gains, lead = (held_out.sign * (scores - known) for known in (state.before, state.highest))
        gain, ahead = gains.mean().item(), lead.mean().item()
        if not math.isfinite(gain):
            raise FloatingPointError("the score is not finite")
        if gain > _least_gain(gains) and (ahead > 0 or (held_out.coarse and -ahead < _standard_error(lead))):
            state.gain, state.best_step = gain, state.steps + self._step
            state.best = _weights(regularizer)
            if ahead > 0:
                state.highest = scores
        self._save()
        return scores.mean().item()

    def _score(self, regularizer: Regularizer) -> Tensor:
        """Return the scores of the held-out patches, ``(N,)``, solved afresh: what a user would get.

        They are those that the base was scored on, itself on as many as its share of the time allows.
        """
        scores: list[Tensor] = []
        model = in_precision(regularizer, self.settings.precision)
        data = self.source.held_out
        if self._state is None:
            judging, limit = len(data.peak), FIRST_SCORING * 60 * self.settings.minutes
        else:
            judging, limit = len(self._state.before), math.inf
        part_of = min(self.settings.batch, _SCORED_AT_ONCE)
        began = time.monotonic()
        for start in range(0, judging, part_of):
            if start and (time.monotonic() - began) * (1 + part_of / start) > limit:
                break
            part = data[start : min(start + part_of, judging)].to(self.device)
            shown, found = restored(part, model)
            if start == 0:
                self._patch = np.array((shown[0, 0] * part.peak[0]).cpu().numpy())
            scores.append(found.cpu().double())
        return torch.cat(scores)

    def _roll_back(self, state: _State) -> None:
        state.rollbacks += 1
        state.notes.append(
            f"After step {state.steps + self._step} the loss was not finite: training went back to the best weights "
            "and halved its rate."
        )
        state.rate /= 2
        state.steps += self._step
        state.seconds += self._seconds
        self._save()
        if self._training is not None:
            self._training.unlink(missing_ok=True)

    def _mean(self, gain: float) -> float:
        """Return the mean score of the base plus a gain."""
        assert self._state is not None
        return self._state.before.mean().item() + self.source.held_out.sign * gain

    def _progress(self, loss: float, score: float | None) -> Progress:
        assert self._state is not None
        state = self._state
        return Progress(
            state.steps + self._step,
            state.seconds + self._seconds,
            loss,
            score,
            self._mean(state.gain),
            None if score is None else self._patch,
        )

    def _save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        if self._checkpoint is None or self._state is None:
            return
        state = {item.name: getattr(self._state, item.name) for item in fields(_State)}
        write_checkpoint(self._checkpoint, state | self._identity())

    def _identity(self) -> dict[str, str]:
        return {"base": self.base.card["sha256"], "kind": self.source.kind}

    def _resumed(self) -> _State | None:
        if self._checkpoint is None or not self._checkpoint.exists():
            return None
        try:
            state = torch.load(self._checkpoint, weights_only=True)
            if {key: state.pop(key) for key in ("base", "kind")} != self._identity():
                raise KeyError("base")
            return _State(**state)
        except NOT_A_CHECKPOINT as error:
            raise UserError(
                f"{self._checkpoint} is not a checkpoint of this fine-tuning: choose another checkpoint file."
            ) from error


def _least_gain(gains: Tensor) -> float:
    """Return the mean from which on gains, `(N,)`, are more than chance."""
    n = len(gains)
    return float(stdtrit(n - 1, 1 - CHANCE)) * _standard_error(gains) if n > 1 else math.inf


def _standard_error(values: Tensor) -> float:
    return values.std().item() / math.sqrt(len(values))


def _from_to(before: float, after: float) -> str:
    """Write two numbers with as many digits as tell them apart, four at least."""
    told = (f"from {before:.{digits}g} to {after:.{digits}g}" for digits in range(4, 9))
    return next((text for text in told if text.split()[1] != text.split()[3]), f"from {before} to {after}")


def _weights(regularizer: Regularizer) -> dict[str, Tensor]:
    """Return a copy of the weights on the CPU: they outlive the device."""
    return {name: tensor.to("cpu", copy=True) for name, tensor in regularizer.state_dict().items()}
