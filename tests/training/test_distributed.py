"""Two processes take the steps that one takes on both their batches; each runs this file."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from pathlib import Path

import torch
from torch import distributed

from napari_deqmd.core.regularizers import build
from napari_deqmd.training.distributed import own, processes, rank
from napari_deqmd.training.progress import Trainer
from toy import TOY


def train(folder: Path, batch: int) -> None:
    """Take three steps on what both processes together are given, and write the weights down."""
    torch.manual_seed(0)
    regularizer = build("red", {"channels": 4, "depth": 2})
    with processes("cpu"):
        group = weakref.ref(distributed.group.WORLD) if distributed.is_initialized() else lambda: None
        trainer = Trainer(regularizer, learning_rate=1e-2, steps=3)
        for step in range(3):
            x = torch.cat([image(own(step) * batch + i) for i in range(batch)])
            (regularizer.energy(x, torch.full((batch,), 60.0)).sum() / batch).backward()
            trainer.update()
        torch.save(regularizer.state_dict(), folder / f"{batch}-{rank()}.pt")
    assert group() is None, "threads of a group that lives on abort the process as it exits"


def image(number: int) -> torch.Tensor:
    return torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(number))


def launch(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *command],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


RECIPE = TOY.replace("steps = 2", "steps = 100000\nminutes = 0.05")


def test_two_processes_end_by_one_clock(tmp_path):
    (tmp_path / "toy.toml").write_text(RECIPE, encoding="utf-8")
    deqmd = [str(Path(sys.executable).with_name("deqmd")), "train", "pretrain", str(tmp_path / "toy.toml")]
    out = launch("--", *deqmd, "--data", str(tmp_path), "--run", str(tmp_path / "run"), "--device", "cpu")
    assert out.count("Saved ") == 1
    state = torch.load(tmp_path / "run" / "toy-pretraining.pt", weights_only=True)
    assert 0 < state["step"] < 100000
    assert 3 <= state["seconds"] < 60


def test_two_processes_train_one_model(tmp_path):
    train(tmp_path, 2)
    launch(__file__, str(tmp_path))
    whole, first, second = (
        torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("2-0", "1-0", "1-1")
    )
    for name, tensor in whole.items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], tensor, atol=1e-5)


if __name__ == "__main__":
    train(Path(sys.argv[1]), 1)
