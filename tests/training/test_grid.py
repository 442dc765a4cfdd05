"""The penalty on the grid of a network with strides."""

from __future__ import annotations

import pytest
import torch

from core.problems import tiny_red
from napari_deqmd.core.regularizers import build
from napari_deqmd.training.grid import penalty, smooth_objects, waves

PEAK = torch.tensor([60.0, 240.0])


class Drawing(torch.nn.Module):
    """A network whose output is always the same."""

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self.image = torch.nn.Parameter(image)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.image.expand(len(maps), 1, -1, -1)


def drawn(image: torch.Tensor) -> torch.Tensor:
    regularizer = build("red", {"channels": 2, "depth": 2})
    regularizer.network = Drawing(image)
    return waves(regularizer, torch.ones(2, 1, 64, 64), PEAK)


@pytest.mark.parametrize(
    ("wave", "share"), [((2, 1), 0.8), ((1, 2), 0.8), ((2, 2), 1), ((4, 1), 0.6), ((4, 4), 1)]
)
def test_waves_of_the_grid_count_in_units_of_the_noise(wave, share):
    """All of them but what a plane through four samples takes of a wave along one axis."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    phase = 2 * torch.pi * (y / wave[0] * (wave[0] > 1) + x / wave[1] * (wave[1] > 1))
    image = 0.01 * torch.cos(phase)
    found = drawn(image) / (4 * PEAK * image.square().mean())
    assert found.tolist() == pytest.approx([share, share], rel=1e-3)


def test_what_is_smooth_has_no_waves():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    assert (drawn(0.3 + 0.01 * y - 0.02 * x) < 1e-6).all()
    assert (drawn(torch.cos(x / 9) * torch.cos(y / 7)) < 1e-2 * drawn(torch.cos(torch.pi * x))).all()


def test_only_strides_make_a_grid():
    torch.manual_seed(0)
    v, peak = smooth_objects(4, torch.Generator().manual_seed(0))
    even = build("red", {"channels": 8, "depth": 3})
    uneven = tiny_red(dtype=torch.float32)
    sizes = [regularizer.residual(v, peak).square().mean() for regularizer in (even, uneven)]
    found = [waves(regularizer, v, peak).mean() for regularizer in (even, uneven)]
    assert found[0] / sizes[0] < 1e-3 * found[1] / sizes[1]


def test_objects_are_what_a_domain_holds_and_peaks_those_of_the_training():
    v, peak = smooth_objects(64, torch.Generator().manual_seed(0))
    assert v.shape == (64, 1, 64, 64)
    assert 0.17 <= v.min() < v.max() < 1.4
    assert 5 <= peak.min() < 10 < 500 < peak.max() <= 1000
    steep = v.diff(dim=-1).abs().amax((1, 2, 3)) / v.amax((1, 2, 3))
    assert steep.median() < 0.15


def test_a_step_has_its_own_objects_and_the_penalty_falls():
    regularizer = tiny_red(dtype=torch.float32).requires_grad_(True)
    before = penalty(regularizer, 3)
    assert before == penalty(regularizer, 3) != penalty(regularizer, 4)
    optimiser = torch.optim.Adam(regularizer.network.parameters(), 3e-3)
    for step in range(30):
        optimiser.zero_grad()
        penalty(regularizer, step, batch=2).backward()
        optimiser.step()
    assert penalty(regularizer, 3) < 0.3 * before
