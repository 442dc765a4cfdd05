"""Draw the convergence theorem at work: docs/images/theorem.png, and its numbers.

    python scripts/theorem.py --data DATA [--model NAME|PATH] [--iterations N] [--side N] [-o FILE]

Butterfly of Set3C in gray, the motion kernel, peak 100: the plain iteration with a model, the paper's (steps that
never grow again) and the accelerated one.
"""

from __future__ import annotations

import argparse
import itertools
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt

from napari_deqmd.benchmarks.kernels import KERNELS, kernel
from napari_deqmd.benchmarks.paper_cases import SET3C, centre, counted
from napari_deqmd.benchmarks.theorem import Moment, follow
from napari_deqmd.core.solvers import accelerated_mirror_descent, mirror_descent
from napari_deqmd.training.data import load_natural
from napari_deqmd.training.models import load_model

PANELS = (
    ("distance to the fixed point", "distance", True),
    ("certificate", "certificate", True),
    ("step size τ", "step_size", True),
    ("relative smoothness met (solid), local bound ρ of KL (dotted)", "smoothness", True),
    ("sum of Bregman distances", "total", False),
    ("lowest and highest value of the iterate", "highest", False),
)


def main() -> int:
    """Run, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--side", type=int, default=128, help="of the centre crop, pixels")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(__file__).parents[1] / "docs" / "images" / "theorem.png"
    )
    arguments = parser.parse_args()
    gray = centre(load_natural(arguments.data / SET3C)["butterfly"][None], arguments.side)
    data = counted("Set3C levin", gray, kernel(KERNELS[2], arguments.data), 100.0).measurement
    problem = data.problem(load_model(arguments.model).regularizer)
    *_, end = accelerated_mirror_descent(problem, max_iter=2 * arguments.iterations, tol=1e-6)
    print(f"fixed point: objective {end.objective:.6f}, certificate {end.residual:.1e}")
    most = partial(mirror_descent, max_iter=arguments.iterations, tol=1e-7)
    runs = {
        "plain": most(problem),
        "paper's steps": most(problem, growth=1.0),
        "accelerated": accelerated_mirror_descent(problem, max_iter=arguments.iterations, tol=1e-6),
    }
    found = {name: list(follow(problem, steps, end.iterate)) for name, steps in runs.items()}
    for name, moments in found.items():
        print(f"{name}: {told(moments)}")
    draw(found, arguments.output)
    return 0


def told(moments: list[Moment]) -> str:
    """Return what the theorem asks for, in words."""
    falls = all(b.objective <= a.objective for a, b in itertools.pairwise(moments))
    products = [moment.smoothness * moment.step_size for moment in moments]
    last = moments[-1]
    return (
        f"{len(moments)} accepted of {last.iteration}, objective {last.objective:.6f} "
        f"{'never rose' if falls else 'ROSE'}, largest smoothness x tau {max(products):.3f}, rho "
        f"{min(m.bound for m in moments):.2f} to {max(m.bound for m in moments):.2f}, tau "
        f"{min(m.step_size for m in moments):.2g} to {max(m.step_size for m in moments):.2g}, values "
        f"{min(m.lowest for m in moments):.1e} to {max(m.highest for m in moments):.3f}, sum of Bregman distances "
        f"{last.total:.1f}, last one {last.divergence:.1e}, certificate {last.certificate:.1e}, distance "
        f"{last.distance:.1e}"
    )


def draw(found: dict[str, list[Moment]], path: Path) -> None:
    """Draw every figure against the iterations."""
    figure, axes = plt.subplots(2, 3, figsize=(15, 8), layout="constrained")
    for axis, (title, name, logarithmic) in zip(axes.flat, PANELS, strict=True):
        for run, moments in found.items():
            iterations = [moment.iteration for moment in moments]
            (line,) = axis.plot(iterations, [getattr(moment, name) for moment in moments], label=run)
            second = {"smoothness": "bound", "highest": "lowest"}.get(name)
            if second and (name == "highest" or run == "plain"):
                values = [getattr(moment, second) for moment in moments]
                axis.plot(iterations, values, ":", color=line.get_color())
        if logarithmic:
            axis.set_yscale("log")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("evaluations")
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    raise SystemExit(main())
