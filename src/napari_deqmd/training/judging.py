"""Early stopping: held-back measurements, and the weights that have restored them best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_deqmd.core.errors import UserError
from napari_deqmd.training.distributed import agreed, rank
from napari_deqmd.training.equilibrium import fixed_point
from napari_deqmd.training.measurements import Observation
from napari_deqmd.training.progress import NOT_A_CHECKPOINT, read_checkpoint, write_checkpoint

TOL, ITERATIONS = 1e-4, 60
"""Certificate and largest number of evaluations of a restoration that is judged."""


def restored(data: Observation, model: Any) -> tuple[Tensor, Tensor]:
    """Return what a model makes of measurements, solved afresh as for a user, and the scores, ``(B,)``."""
    problem = data.problem(model)
    x, _ = fixed_point(problem, max_iter=ITERATIONS, tol=TOL)
    return problem.likelihood.operator.crop(x), data.score(problem, x)


@dataclass
class Judge:
    """The best of the weights it was shown, also over interruptions.

    Attributes
    ----------
    data : Observation
        Measurements that are not trained on.
    patience : int
        Looks without a better score after which it has seen enough.
    path : path
        File of the best weights.
    identity : mapping
        Of the training, as in `Trainer`.
    at_once : int
        Measurements restored together.
    """

    data: Observation
    patience: int
    path: Path
    identity: Mapping[str, Any] = field(default_factory=dict)
    at_once: int = 4
    score: float = -math.inf
    looks: int = 0
    weights: dict[str, Tensor] | None = None

    def __post_init__(self) -> None:
        if not self.path.exists():
            return
        try:
            known = read_checkpoint(self.path, self.identity)
            self.score, self.looks, self.weights = (
                float(known["score"]),
                int(known["looks"]),
                known["weights"],
            )
        except UserError:
            raise
        except NOT_A_CHECKPOINT as error:
            raise UserError(
                f"{self.path} holds no weights of a training: remove it, or choose another run."
            ) from error

    def __call__(self, model: Any) -> Mapping[str, float]:
        """Score a model and keep its weights if they are the best so far."""
        device = next(model.parameters()).device
        parts = range(0, len(self.data.peak), self.at_once)
        scores = [restored(self.data[n : n + self.at_once].to(device), model)[1].cpu() for n in parts]
        mean = self.data.sign * torch.cat(scores).double().mean().item()
        score = agreed(mean, next(model.parameters()))
        self.looks += 1
        if score > self.score:
            self.score, self.looks = score, 0
            self.weights = {name: tensor.to("cpu", copy=True) for name, tensor in model.state_dict().items()}
        if rank() == 0:
            best = {"score": self.score, "looks": self.looks, "weights": self.weights or {}}
            write_checkpoint(self.path, best | {"identity": dict(self.identity)})
        return {"score": self.data.sign * score}

    def enough(self) -> bool:
        """Return whether the last looks found nothing better."""
        return self.looks >= self.patience
