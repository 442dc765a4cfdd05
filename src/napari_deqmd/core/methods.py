"""Methods by name: a regularizer and the solver that runs on it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from napari_deqmd.core.config import LEARNED, ReconstructionConfig
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import NoRegularizer, Regularizer, TotalVariation, placed
from napari_deqmd.core.solvers import SOLVERS, Step
from napari_deqmd.core.solvers.bregman import bregman_pnp, bregman_red
from napari_deqmd.core.solvers.richardson_lucy import richardson_lucy

_FIXED: dict[str, Callable[[], Regularizer]] = {
    "md-tv": TotalVariation,
    "rl": NoRegularizer,
    "rl-accelerated": NoRegularizer,
}
_DIRECT: dict[str, Callable[..., Generator[Step, None, None]]] = {
    "b-pnp": bregman_pnp,
    "rl": richardson_lucy,
    "rl-accelerated": partial(richardson_lucy, accelerated=True),
}


def regularizer_of(config: ReconstructionConfig, learned: Regularizer | None, device: str) -> Regularizer:
    """Return the regularizer of a method on its device, in the precision and orientations asked for."""
    regularizer = learned if config.method in LEARNED and learned is not None else _FIXED[config.method]()
    return in_precision(placed(regularizer, device).averaged(config.orientations), config.precision)


def in_precision(regularizer: Regularizer, precision: str) -> Regularizer:
    """Return the regularizer as it is, or with its network in half precision for ``"bfloat16"``."""
    return HalfPrecision(regularizer) if precision == "bfloat16" else regularizer


def solve(
    problem: Problem, config: ReconstructionConfig, start: Tensor | None = None
) -> Generator[Step, None, None]:
    """Run the method of a configuration on a problem, from an object or else from the data."""
    solver = solver_of(config.method, config.solver)
    return solver(problem, start, max_iter=config.max_iter, tol=config.tol)


def solver_of(method: str, solver: str) -> Callable[..., Generator[Step, None, None]]:
    """Return what runs a method, by a solver where it leaves the choice."""
    chosen = _DIRECT.get(method) or SOLVERS[solver]
    return partial(bregman_red, solver=chosen) if method == "b-red" else chosen


class HalfPrecision(Regularizer):
    """A regularizer whose network runs in bfloat16; its energy and gradient are float32."""

    rounding = torch.finfo(torch.bfloat16).eps / 2

    def __init__(self, inner: Regularizer) -> None:
        super().__init__()
        self.inner: nn.Module = inner
        self.ndim, self.shifts, self.reach = inner.ndim, inner.shifts, inner.reach
        self.orientations = inner.orientations
        self.slice_weight, self.across_weight = inner.slice_weight, inner.across_weight

    def energy(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return the inner energy under autocast."""
        with torch.autocast(x.device.type, torch.bfloat16):
            energy: Any = self.inner.energy(x, peak)  # type: ignore[operator]
        return torch.as_tensor(energy).float()

    def at(self, gamma: float) -> HalfPrecision:
        """Return the same for a Bregman denoiser at another precision of the noise."""
        return HalfPrecision(self.inner.at(gamma))  # type: ignore[operator]

    def weight(self, peak: Tensor) -> Tensor:
        """Return the inner weight of a Bregman denoiser."""
        return self.inner.weight(peak)  # type: ignore[operator, no-any-return]

    def curvature(self, x: Tensor, peak: Tensor) -> Tensor:
        """Return the inner curvature."""
        return self.inner.curvature(x, peak)  # type: ignore[operator, no-any-return]
