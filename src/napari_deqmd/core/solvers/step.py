"""What every solver yields."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Step:
    """One iteration of a solver on a batch of images.

    Attributes
    ----------
    iteration : int
        Number of evaluations of the objective's network and operator so far, the start not counted.
    iterate : Tensor
        ``(B, 1, *object_shape)``, the object in units of the peak. Read it, do not write to it.
    objectives, residuals, step_sizes : Tensor
        ``(B,)``, float64 where the device has it: the objective, the first-order certificate of
        `Problem.certificate`, and the step size.
    stopped_by : str
        ``""`` while the solver goes on; the last step says ``"converged"``, ``"max_iter"`` or ``"diverged"``.
    """

    iteration: int
    iterate: Tensor
    objectives: Tensor
    residuals: Tensor
    step_sizes: Tensor
    stopped_by: str = ""

    @property
    def objective(self) -> float:
        """Objective summed over the batch."""
        return float(self.objectives.sum())

    @property
    def residual(self) -> float:
        """Largest certificate of the batch."""
        return float(self.residuals.max())

    @property
    def step_size(self) -> float:
        """Smallest step size of the batch."""
        return float(self.step_sizes.min())
