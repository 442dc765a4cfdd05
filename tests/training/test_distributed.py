"""Two processes take the steps that one takes on both their batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from toy import TOY

SCRIPT = """
import sys
import torch

from napari_deqmd.core.regularizers import build
from napari_deqmd.training.distributed import own, processes, rank
from napari_deqmd.training.progress import Trainer

torch.set_num_threads(1)
torch.manual_seed(0)
folder, batch = sys.argv[1], int(sys.argv[2])
regularizer = build("red", {"channels": 4, "depth": 2})


def images(number):
    return torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(number))


with processes("cpu") as device:
    trainer = Trainer(regularizer, learning_rate=1e-2, steps=3)
    for step in range(3):
        x = torch.cat([images(own(step) * batch + i) for i in range(batch)])
        (regularizer.energy(x, torch.full((batch,), 60.0)).sum() / batch).backward()
        trainer.update()
    torch.save(regularizer.state_dict(), f"{folder}/{batch}-{rank()}.pt")
"""


def run(folder: Path, batch: int, *launcher: str) -> None:
    script = folder / "job.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(folder), str(batch)],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


RECIPE = TOY.replace("steps = 2", "steps = 100000\nminutes = 0.05")


def test_two_processes_end_by_one_clock(tmp_path):
    (tmp_path / "toy.toml").write_text(RECIPE, encoding="utf-8")
    deqmd = [str(Path(sys.executable).with_name("deqmd")), "train", "pretrain", str(tmp_path / "toy.toml")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--"]
    done = subprocess.run(
        [*launcher, *deqmd, "--data", str(tmp_path), "--run", str(tmp_path / "run"), "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Saved ") == 1
    state = torch.load(tmp_path / "run" / "toy-pretraining.pt", weights_only=True)
    assert 0 < state["step"] < 100000
    assert 3 <= state["seconds"] < 60


def test_two_processes_train_one_model(tmp_path):
    run(tmp_path, 2)
    run(tmp_path, 1, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    whole, first, second = (
        torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("2-0", "1-0", "1-1")
    )
    for name, tensor in whole.items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], tensor, atol=1e-5)
