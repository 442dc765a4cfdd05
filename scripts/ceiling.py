"""What one kind of scene, one PSF and one peak allow: a network that was trained for nothing else.

python scripts/ceiling.py nuclei 2.0 100 --minutes 5

It maps the measurement and three iterates of Richardson-Lucy to the object, in one pass. Trained for long it has the
least mean error there is; after minutes it tells how much can be had at least. docs/families.md has figures.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import swa_utils

from napari_deqmd.benchmarks.conditions import PSF_SIZE, Condition, lit_scene, measured, named_rng
from napari_deqmd.benchmarks.restoration import psnr, restore
from napari_deqmd.core.regularizers import NoRegularizer
from napari_deqmd.core.solvers.richardson_lucy import richardson_lucy
from napari_deqmd.psf.theory import make_psf
from napari_deqmd.training.measurements import fit_psf
from napari_deqmd.training.models import load_model

SIDE, PATCH, BATCH = 128, 64, 12
LOOKS = (5, 20, 60)
"""Iterations of Richardson-Lucy that the network sees; it starts from the second."""
TRAINED, JUDGED = 480, 16
"""Scenes."""
BASE = 0.01


class Block(nn.Sequential):
    """Two convolutions."""

    def __init__(self, channels: int, out: int) -> None:
        first, second = (nn.Conv2d(n, out, 3, padding=1, padding_mode="reflect") for n in (channels, out))
        super().__init__(first, nn.GELU(), second, nn.GELU())


class Specialist(nn.Module):
    """A U-Net of three scales, in the square root of brightness."""

    def __init__(self, channels: tuple[int, int, int] = (24, 48, 96)) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.down = nn.ModuleList([Block(1 + len(LOOKS), fine), Block(fine, middle), Block(middle, coarse)])
        self.up = nn.ModuleList([Block(middle + coarse, middle), Block(fine + middle, fine)])
        self.out = nn.Conv2d(fine, 1, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, seen: Tensor) -> Tensor:
        """Return the object, ``(B, 1, Y, X)``."""
        root = torch.sqrt(seen.clamp_min(0) + BASE)
        fine = self.down[0](root)
        middle = self.down[1](functional.avg_pool2d(fine, 2))
        x = self.down[2](functional.avg_pool2d(middle, 2))
        for block, skip in zip(self.up, (middle, fine), strict=True):
            x = block(torch.cat([skip, functional.interpolate(x, scale_factor=2, mode="bilinear")], 1))
        return (root[:, 2:3] + self.out(x)).square() - BASE


def draw(kind: str, sigma: float, peak: float, count: int, seed: int) -> list[Condition]:
    """Draw measured scenes of one kind."""
    psf = fit_psf(make_psf("gaussian", sigma=sigma))
    scenes = (lit_scene(kind, (SIDE, SIDE), PSF_SIZE, named_rng(seed, f"{kind} {i}")) for i in range(count))
    return [
        measured(f"simulated {kind}", scene, psf, peak, image=str(i), seed=seed)
        for i, scene in enumerate(scenes)
    ]


def lucy(condition: Condition, iterations: int) -> Iterator[Tensor]:
    """Yield what Richardson-Lucy makes of the field of view."""
    problem = condition.measurement.problem(NoRegularizer())
    for step in richardson_lucy(problem, max_iter=iterations):
        yield problem.likelihood.operator.crop(step.iterate)


def seen(condition: Condition) -> Tensor:
    """Return what the network sees of a measurement, ``(1, C, Y, X)``."""
    data = condition.measurement
    image = (data.electrons - data.background) / data.peak
    looks = [x for i, x in enumerate(lucy(condition, max(LOOKS)), start=1) if i in LOOKS]
    return torch.cat([image, *looks], 1)


def train(x: Tensor, truth: Tensor, minutes: float) -> tuple[nn.Module, int]:
    """Train for so long on random crops, turned and flipped; return the averaged network and its steps."""
    torch.manual_seed(0)
    network, rng = Specialist(), np.random.default_rng(0)
    averaged = swa_utils.AveragedModel(network, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.995))
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    began, steps = time.monotonic(), 0
    while (elapsed := (time.monotonic() - began) / 60 / minutes) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 1.5e-3 * min(1, (steps + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * elapsed))
        crops = []
        for i in rng.integers(len(x), size=BATCH):
            a, b = rng.integers(SIDE - PATCH + 1, size=2)
            pair = torch.cat([x[i], truth[i]])[:, a : a + PATCH, b : b + PATCH]
            pair = torch.rot90(pair, int(rng.integers(4)), (1, 2))
            crops.append(pair.flip(1) if rng.random() < 0.5 else pair)
        batch = torch.stack(crops)
        error = network(batch[:, :-1]) - batch[:, -1:]
        loss = torch.log(error.square().mean((1, 2, 3)) + 1e-6).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        averaged.update_parameters(network)
        steps += 1
    return averaged, steps


def main() -> None:
    """Train, and print what is gained."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind")
    parser.add_argument("sigma", type=float, help="of the Gaussian PSF, pixels")
    parser.add_argument("peak", type=float, help="photo-electrons")
    parser.add_argument("--minutes", type=float, default=5.0)
    told = parser.parse_args()
    trained, judged = (
        draw(told.kind, told.sigma, told.peak, count, seed)
        for count, seed in ((TRAINED, 7001), (JUDGED, 7002))
    )
    truths = [torch.cat([condition.measurement.truth for condition in part]) for part in (trained, judged)]
    oracle = torch.stack(
        [
            torch.stack([psnr(x, truth[None])[0] for x in lucy(condition, 200)]).max()
            for condition, truth in zip(judged, truths[1], strict=True)
        ]
    )
    bundled = load_model().regularizer
    ours = torch.cat([restore(condition.measurement, bundled, max_iter=300)[0] for condition in judged])
    network, steps = train(torch.cat([seen(condition) for condition in trained]), truths[0], told.minutes)
    with torch.no_grad():
        best = psnr(network(torch.cat([seen(condition) for condition in judged])), truths[1])
    print(f"{told.kind}, PSF {told.sigma:g}, peak {told.peak:g}: {JUDGED} scenes, {steps} steps")
    print(f"Richardson-Lucy, oracle stop: {oracle.mean():.2f} dB")
    for name, found in (("bundled model", ours), ("specialist", best)):
        gain = found - oracle
        above = int((gain >= 0.5).sum())
        print(
            f"{name}: {found.mean():.2f} dB, {gain.mean():+.2f} (worst {gain.min():+.2f}, {above} of {JUDGED} >= +0.5)"
        )


if __name__ == "__main__":
    main()
