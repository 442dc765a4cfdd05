"""Nothing mixes devices: what may run on a GPU runs on a pretended one, and gives the CPU's numbers."""

from __future__ import annotations

import math
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pretend
from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.pixels import PixelMaps
from napari_deqmd.core.regularizers import DnCNN, Red
from napari_deqmd.psf.theory import make_psf
from napari_deqmd.reconstruction import Reconstruction
from napari_deqmd.training.equilibrium import Solve, train_equilibrium
from napari_deqmd.training.finetune import Finetuning, Settings
from napari_deqmd.training.measurements import measure
from napari_deqmd.training.models import Model
from napari_deqmd.training.pretraining import pretrain
from napari_deqmd.training.sources import clean_source, noisy_source

SHORT = Solve(first=5, again=3, enough=1)
METHODS = ("deq-md", "md-tv", "rl", "rl-accelerated", "b-red", "b-pnp")


# Of torch, whose device "meta" has no numbers; the pretended one has.
pytestmark = pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter:UserWarning")


@pytest.fixture
def device(monkeypatch):
    with pretend.device() as name:
        monkeypatch.setattr("napari_deqmd.core.device.NARROW", {name})
        monkeypatch.setattr("napari_deqmd.training.judging.ITERATIONS", 4)
        short = partial(train_equilibrium, solve=SHORT)
        monkeypatch.setattr("napari_deqmd.training.finetune.train_equilibrium", short)
        for module in ("reconstruction", "job.item", "training.finetune"):
            monkeypatch.setattr(f"napari_deqmd.{module}.resolve_device", str)
        yield name


def run(image, psf, device, *, maps=None, start=None, **settings):
    config = ReconstructionConfig(device=device, max_iter=3, **settings)
    job = Reconstruction(image, psf, config, start, maps)
    with closing(job.steps()) as steps:
        for progress in steps:
            job.preview(progress)
    return job.result()


def scene(*shape):
    rng = np.random.default_rng(1)
    return rng.poisson(20 + 60 * rng.random(shape) ** 4).astype(np.float32)


def same(found, expected):
    np.testing.assert_allclose(found.image, expected.image, rtol=0, atol=2e-3 * expected.image.max())


@pytest.mark.parametrize("method", METHODS)
def test_every_method(device, method):
    image, psf = scene(12, 16), make_psf("gaussian", sigma=1.2)
    same(run(image, psf, device, method=method), run(image, psf, "cpu", method=method))


def test_the_plain_solver(device):
    image, psf = scene(12, 16), make_psf("gaussian", sigma=1.2)
    same(run(image, psf, device, solver="plain"), run(image, psf, "cpu", solver="plain"))


def test_a_stack_with_everything(device):
    """Channels, a mask, full pixels, maps of the camera, and going on from an earlier run."""
    image, psf = scene(2, 4, 12, 16), make_psf("gaussian", ndim=3, sigma=(0.8, 1.2, 1.2))
    image[0, 1, 5:7, 5] = 255
    maps = PixelMaps(gain=np.full((12, 16), 1.5), mask=np.eye(12, 16))
    image, places = image.astype(np.uint8), (device, "cpu")
    options = {"maps": maps, "axes": "CZYX"}
    first = [run(image, psf, where, method="rl", **options) for where in places]
    same(*first)
    same(*(run(image, psf, where, start=first[1].iterates, **options) for where in places))


def learned():
    torch.manual_seed(0)
    return Red(DnCNN(channels=4, depth=3), domain="root")


PATCHES = SimpleNamespace(
    seed=0,
    patch=(28, 28),
    batch=lambda step, size: torch.rand(size, 1, 28, 28, generator=torch.Generator().manual_seed(step)) ** 4,
)


def test_trainings(device):
    """Pretraining, then equilibrium training with its implicit gradients: losses are the CPU's."""
    losses = []
    for where in (device, "cpu"):
        model = learned()
        before = pretrain(model, PATCHES, steps=2, batch=2, device=where, precision="float32")
        after = train_equilibrium(
            model,
            partial(measure, PATCHES),
            steps=2,
            batch=2,
            groups=1,
            solve=SHORT,
        )
        losses.append([report.loss for run_ in (before, after) for report in run_])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def source(kind):
    psf, clean = make_psf("gaussian", sigma=1.0), [scene(36, 36) for _ in range(4)]
    if kind == "clean":
        return clean_source(clean, psf, peak=30, sides=(16,))
    return noisy_source(clean, psf, sides=(16,))


@pytest.mark.parametrize("kind", ["clean", "noisy"])
def test_fine_tuning(device, kind):
    data, found = source(kind), []
    card = {"name": "toy", "ndim": 2, "family": "red", "options": {}, "sha256": ""}
    for where in (device, "cpu"):
        settings = Settings(
            minutes=math.inf, steps=1, batch=4, every=1, groups=1, precision="float32", device=where
        )
        job = Finetuning(Model(learned(), card, Path("toy")), data, settings)
        found.append([(progress.loss, progress.score) for progress in job.steps()])
        job.result()
    np.testing.assert_allclose(*np.array(found, float), atol=0.02)
