"""A long evaluation says how far it is, and can be broken off between its pieces; what was reached is kept."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch

from core.problems import gaussian
from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.regularizers import DnCNN, Red, base, evaluate
from napari_deqmd.core.watching import Interrupted, watched
from napari_deqmd.reconstruction import Reconstruction


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(base, "PIECE", {"cpu": 200})


def test_the_shares_of_an_evaluation_rise_to_one():
    shares = []
    stack = torch.rand(1, 1, 3, 12, 12)
    with watched(shares.append):
        evaluate(Red(DnCNN(channels=2, depth=2)), stack, torch.tensor([60.0]))
    assert len(shares) > 2
    assert shares == sorted(set(shares))
    assert shares[-1] == 1
    evaluate(Red(DnCNN(channels=2, depth=2)), stack, torch.tensor([60.0]))
    assert shares[-1] == 1, "nobody watches any more"


def job(method="deq-md"):
    image = np.random.default_rng(0).poisson(30, (2, 4, 12, 12)).astype(np.float32) + np.eye(
        12, dtype=np.float32
    )
    psf = gaussian(0.8, 3).float().numpy()
    return Reconstruction(image, psf, ReconstructionConfig(axes="TZYX", method=method, max_iter=3, tol=1e-9))


class Impatient:
    """Breaks the evaluation off that is under way after so many pieces."""

    def __init__(self, patience):
        self.left = patience

    def __call__(self, share):
        self.left -= 1
        if self.left < 0:
            raise Interrupted


def test_what_was_reached_is_kept_when_an_evaluation_is_broken_off():
    running = job()
    with watched(watch := Impatient(10**6)), closing(running.steps()) as steps:
        reached = next(steps)
        preview = running.preview(reached)
        watch.left = 2
        with pytest.raises(Interrupted):
            next(steps)
    result = running.result()
    assert result.stopped_by == "user"
    np.testing.assert_array_equal(result.image[0], preview)
    assert not result.image[1].any()


def test_before_the_first_step_there_is_nothing_to_keep():
    running = job()
    with watched(Impatient(2)), closing(running.steps()) as steps, pytest.raises(Interrupted):
        next(steps)
    with pytest.raises(UserError, match="Nothing was reconstructed"):
        running.result()
