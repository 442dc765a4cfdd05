"""What the trainings share: reports, resumable state, averaged weights, arithmetic."""

from __future__ import annotations

import copy
import io
import math
import pickle
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.files import make_folder, replace_file
from napari_deqmd.core.regularizers import placed
from napari_deqmd.training.distributed import agreed, average_gradients, rank

NOT_A_CHECKPOINT = (
    AttributeError,
    EOFError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
"""What reading a file raises that is broken, or of something else."""
RECORDED = 20
"""Losses of so many first steps are kept: by them a card is checked against its recipe."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and numbers, as `replace_file` does; the folder is made."""
    whole = io.BytesIO()
    torch.save(state, whole)
    make_folder(path.parent)
    replace_file(path, whole.getvalue())


def read_checkpoint(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read what `write_checkpoint` wrote, of tensors on the CPU.

    Parameters
    ----------
    path : path
        File whose state may have an ``identity`` of its own.
    identity : mapping
        What the training is that goes on: what one of the two does not say is taken to be the same.

    Raises
    ------
    UserError
        It is of another training.
    `NOT_A_CHECKPOINT`
        It is none.
    """
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    known = state.get("identity", {})
    if other := sorted(name for name in known.keys() & identity.keys() if known[name] != identity[name]):
        raise UserError(
            f"{path} is of a training that differs in {', '.join(other)}: give what it was begun with, or another run."
        )
    return state


@dataclass(frozen=True)
class Report:
    """One training step: its loss, the seconds since the start, and validation figures when they were measured."""

    step: int
    loss: float
    seconds: float
    validation: Mapping[str, float] = field(default_factory=dict)


class Trainer:
    """A regularizer, its optimiser and its averaged copy; saved and resumed as one.

    Parameters
    ----------
    regularizer : nn.Module
        Trained in place.
    learning_rate : float
        Adam's; decays by a cosine to a twentieth at the end, after a linear warm-up.
    steps : int
        Length of the schedule.
    limit : float
        Seconds after which the schedule ends if its steps have not: the rate then falls by the clock, that of the
        first of several processes.
    numbers : float
        Rate of single numbers (a strength), which move on the scale of 1, over that of weights, which move on that of
        a hundredth.
    warm_up : int
        Steps until the rate is full; 0: it is from the first on.
    average : float
        Decay of the exponential moving average of the weights, in [0, 1).
    clip : float
        Largest norm of the gradient.
    checkpoint : path, optional
        File to resume from when it exists, written by `save`.
    identity : mapping, optional
        What makes it this training, plain values by name: a checkpoint of another is refused.

    Attributes
    ----------
    first_losses : list of float
        Of the first `RECORDED` steps, also of a training that was resumed.
    """

    def __init__(
        self,
        regularizer: nn.Module,
        *,
        learning_rate: float,
        steps: int,
        limit: float = math.inf,
        numbers: float = 10.0,
        warm_up: int = 50,
        average: float = 0.99,
        clip: float = 1.0,
        checkpoint: Path | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.model: Any = placed(regularizer)
        self.averaged: Any = copy.deepcopy(self.model).requires_grad_(False)
        groups = ([p for p in self.model.parameters() if (p.ndim == 0) is single] for single in (False, True))
        self._rates = (learning_rate, numbers * learning_rate)
        self.optimiser = torch.optim.Adam([{"params": group} for group in groups], lr=learning_rate)
        self.steps = steps
        self.limit = limit
        self.warm_up = warm_up
        self.average = average
        self.clip = clip
        self.checkpoint = checkpoint
        self.identity = dict(identity or {})
        self.step = 0
        self.seconds = 0.0
        self.first_losses: list[float] = []
        self._clock = time.monotonic()
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)

    @property
    def elapsed(self) -> float:
        """Share of the schedule that is over, by its steps or its seconds; 1 and more: it has ended."""
        done = self.step / self.steps if self.steps else 1.0
        return max(done, self.seconds / self.limit)

    def update(self, trained: Collection[str] = ("weights", "numbers")) -> None:
        """Take one optimiser step with the gradients that were accumulated, then clear them; others stay."""
        for parameter in self.model.parameters():
            if ("weights" if parameter.ndim else "numbers") not in trained:
                parameter.grad = None
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.clip)
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._schedule()
        if bool(torch.isfinite(norm)):
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(self.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        now = time.monotonic()
        self.seconds = agreed(self.seconds + now - self._clock, norm)
        self._clock = now

    def report(self, loss: float, validation: Mapping[str, float] | None = None) -> Report:
        """Freeze the state after a step for the caller."""
        if len(self.first_losses) < min(self.step, RECORDED):
            self.first_losses.append(loss)
        return Report(self.step, loss, self.seconds, validation or {})

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        if self.checkpoint is None or rank() > 0:
            return
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "first_losses": self.first_losses,
            "architecture": str(self.model),
            "identity": self.identity,
        }
        write_checkpoint(self.checkpoint, state)

    def _load(self, checkpoint: Path) -> None:
        try:
            state = read_checkpoint(checkpoint, self.identity)
            if state["architecture"] != str(self.model):
                raise KeyError("architecture")
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            self.first_losses = [float(loss) for loss in state["first_losses"]]
            self.optimiser.load_state_dict(state["optimiser"])
            self.averaged.load_state_dict(state["averaged"])
            self.model.load_state_dict(state["model"])
        except UserError:
            raise
        except NOT_A_CHECKPOINT as error:
            raise UserError(
                f"{checkpoint} is not a checkpoint of this training: choose another checkpoint file."
            ) from error

    def _schedule(self) -> float:
        warm = min(1.0, (self.step + 1) / max(self.warm_up, 1))
        cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * min(1.0, self.elapsed))).item())
        return warm * (0.05 + 0.95 * cosine)


def arithmetic(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """Return the context in which networks run: ``"float32"`` or ``"bfloat16"`` (mixed precision)."""
    return partial(torch.autocast, device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext
