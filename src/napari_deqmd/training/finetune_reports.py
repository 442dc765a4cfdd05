"""What a fine-tuning is told, and what it tells: settings, progress, outcome and card."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.regularizers import Regularizer
from napari_deqmd.training.models import Model, versions
from napari_deqmd.training.sources import Source


@dataclass(frozen=True)
class Settings:
    """How to fine-tune.

    Attributes
    ----------
    minutes : float
        Time for everything; infinite where `steps` limit it.
    steps : int
        Largest number of steps.
    batch, learning_rate, numbers, warm_up, groups, lifetime
        As in `train_equilibrium`. Single numbers, the strength and its exponent, may move far: a few images suffice to
        tell them.
    every : int, optional
        Steps from score to score; by default so many that scoring takes about a sixth of the time.
    seed : int
        Kept for the card; the source has been drawn with it.
    precision : str
        Arithmetic of the network.
    device : str
        Torch device, or ``"auto"``.
    """

    minutes: float = 10.0
    steps: int = 100_000
    batch: int = 8
    learning_rate: float = 2e-4
    numbers: float = 300.0
    warm_up: int = 5
    groups: int = 4
    lifetime: int = 8
    every: int | None = None
    seed: int = 0
    precision: str = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise UserError(f"minutes is {self.minutes:g}: give a time above 0.")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}: give a whole number of at least 0.")


@dataclass(frozen=True)
class Progress:
    """A step of a fine-tuning.

    Attributes
    ----------
    step : int
        0: the base model was scored.
    seconds : float
        Since the start.
    loss : float
        Of the step's batch; NaN at step 0.
    score : float or None
        Mean of the held-out patches, where it was measured.
    best : float
        Score of the weights that are kept so far.
    patch : ndarray (Y, X) or None
        First held-out patch as reconstructed, photo-electrons, where the score was measured.
    """

    step: int
    seconds: float
    loss: float
    score: float | None
    best: float
    patch: NDArray[np.float32] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Outcome:
    """What a fine-tuning gives.

    Attributes
    ----------
    regularizer : Regularizer
        The weights that are kept; the base's where nothing beat them.
    kept : bool
        Whether fine-tuning helped.
    score : str
        What the scores measure.
    score_before, score_after : float
        Means of the held-out patches, of the base and of `regularizer`.
    seconds : float
        Of the whole run.
    judges : int
        Held-out patches that were scored.
    steps, best_step : int
        Taken, and those that led to `regularizer`.
    notes : tuple of str
        Sentences for the user: what was found in the images, what went wrong, and plainly whether it helped.
    """

    regularizer: Regularizer = field(repr=False)
    kept: bool
    score: str
    score_before: float
    score_after: float
    judges: int
    seconds: float
    steps: int
    best_step: int
    notes: tuple[str, ...]


def card(outcome: Outcome, base: Model, source: Source, settings: Settings) -> dict[str, Any]:
    """Return the card of a fine-tuned model, JSON-able, for `napari_deqmd.training.models.save_model`."""
    recipe = {
        name: value for name, value in asdict(settings).items() if name not in ("seed", "steps", "every")
    }
    return {
        "description": f"{base.card['name']} fine-tuned on {source.kind} images of a lab.",
        "family": base.card["family"],
        "options": base.card["options"],
        "ndim": base.card["ndim"],
        "base": {key: base.card[key] for key in ("name", "sha256")},
        "data": {"kind": source.kind, **source.facts},
        "recipe": {
            "job": "fine-tuning: equilibrium training, the best weights of the held-out patches",
            **recipe,
            "steps": outcome.best_step,
            "seconds": round(outcome.seconds, 1),
        },
        "seed": settings.seed,
        "versions": versions(),
        "results": {
            "score": outcome.score,
            "base": outcome.score_before,
            "fine-tuned": outcome.score_after,
            "held-out patches": outcome.judges,
        },
        "limits": "Tuned for images like those it saw, at their PSF and peak; for others the base may be better.",
        "notes": list(outcome.notes),
    }
