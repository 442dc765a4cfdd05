"""Run the paper's public code beside this project, on the same image and the same weights.

    git clone https://github.com/christiandaniele/DEQ-MD CODE
    python scripts/public_code.py --code CODE/DEQs/python_files --data DATA --model NAME|PATH [--side N]

Its iteration (`f_theta_2.py`, `DEQ.py`) with its defaults minimises the objective of our model: the middle of the
butterfly of Set3C, the motion kernel, peak 100. Ours are the accelerated solver, the plain iteration with its
certificate, and the plain iteration with the paper's step sizes and rule. What the public code imports for other
purposes (deepinv, torchvision, hdf5storage) need not be there.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from functools import partial
from pathlib import Path
from unittest.mock import MagicMock

import torch
from torch import Tensor

from napari_deqmd.benchmarks.kernels import KERNELS, kernel
from napari_deqmd.benchmarks.paper import until_still
from napari_deqmd.benchmarks.paper_cases import SET3C, centre, counted
from napari_deqmd.benchmarks.restoration import psnr
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.solvers import accelerated_mirror_descent, mirror_descent
from napari_deqmd.training.data import load_natural
from napari_deqmd.training.models import load_model


def main() -> int:
    """Run and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--code", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True, help="for colour photographs")
    parser.add_argument("--side", type=int, default=128, help="of the centre crop, pixels")
    parser.add_argument(
        "--iterations", type=int, default=3000, help="the most of ours (the public code has no most)"
    )
    arguments = parser.parse_args()
    image = centre(load_natural(arguments.data / SET3C, colours=3)["butterfly"], arguments.side)
    data = counted("Set3C levin", image, kernel(KERNELS[2], arguments.data), 100.0).measurement
    problem = data.problem(load_model(arguments.model).regularizer.requires_grad_(False))
    most = arguments.iterations
    papers = partial(mirror_descent, max_iter=most, tol=1e-12, growth=1.0)
    *_, best = accelerated_mirror_descent(problem, max_iter=most, tol=1e-6)
    print("| run | objective | evaluations | seconds | ms each | PSNR, dB | distance to the lowest |")
    print("|---|---|---|---|---|---|---|")
    for name, steps in (
        ("accelerated", partial(accelerated_mirror_descent, max_iter=most)),
        ("plain", partial(mirror_descent, max_iter=most)),
        ("plain, paper's steps and rule", partial(until_still, papers)),
    ):
        began = time.perf_counter()
        *_, end = steps(problem)
        report(
            name, problem, end.iterate, end.iteration, time.perf_counter() - began, best.iterate, data.truth
        )
    began = time.perf_counter()
    x, iterations = public(arguments.code, problem, data.electrons / data.peak[0])
    report("public code", problem, x, iterations, time.perf_counter() - began, best.iterate, data.truth)
    print(f"Lowest found: objective {best.objective:.6f}, certificate {best.residual:.1e}.")
    return 0


def report(
    name: str, problem: Problem, x: Tensor, count: int, seconds: float, best: Tensor, truth: Tensor
) -> None:
    """Print a line of the table."""
    objective = float(problem.value(problem.evaluate(problem.burg.to_u(x))).sum())
    distance = float((x - best).norm() / best.norm())
    decibels = float(psnr(problem.likelihood.operator.crop(x), truth, 1.0))
    figures = (
        f"{objective:.5f}",
        str(count),
        f"{seconds:.1f}",
        f"{1e3 * seconds / count:.0f}",
        f"{decibels:.2f}",
    )
    print(f"| {name} | {' | '.join(figures)} | {distance:.1e} |", flush=True)


def public(code: Path, problem: Problem, y: Tensor) -> tuple[Tensor, int]:
    """Return where the public code ends, and after how many iterations."""
    sys.path.insert(0, str(code))
    for name in ("deepinv", "deepinv.loss", "deepinv.loss.metric", "torchvision", "hdf5storage"):
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = MagicMock()
    iteration, deq = importlib.import_module("f_theta_2"), importlib.import_module("DEQ")
    operator, regularizer, peak = problem.likelihood.operator, problem.regularizer, problem.peak

    class Physics:
        """Its operator: colours are images of a batch to ours."""

        def __call__(self, x: Tensor) -> Tensor:
            return operator.forward(x)

        def A_adjoint(self, y: Tensor) -> Tensor:  # noqa: N802 (its name)
            return operator.adjoint(y)

    def network(x: Tensor) -> Tensor:
        energy = regularizer.energy(x, peak)
        return energy.flatten(1).sum(1, keepdim=True)

    calls = 0

    class Counted(iteration.f_theta_2):
        def forward(self, *words: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            return super().forward(*words, **named)

    physics = Physics()
    start = physics.A_adjoint(y)
    f = Counted(network)
    x, _, _ = deq.forward_pass("cpu", f, y, start, 1e-8, physics, torch.full((len(y),), 0.5), 0.5)
    return x.detach(), calls


if __name__ == "__main__":
    raise SystemExit(main())
