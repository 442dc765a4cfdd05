"""Solvers by name: a new one is a new module and a line in `SOLVERS`."""

from collections.abc import Callable, Generator

from napari_deqmd.core.solvers.accelerated import accelerated_mirror_descent
from napari_deqmd.core.solvers.mirror_descent import mirror_descent
from napari_deqmd.core.solvers.step import Step

Solver = Callable[..., Generator[Step, None, None]]

SOLVERS: dict[str, Solver] = {"accelerated": accelerated_mirror_descent, "plain": mirror_descent}

__all__ = ["SOLVERS", "Solver", "Step", "accelerated_mirror_descent", "mirror_descent"]
