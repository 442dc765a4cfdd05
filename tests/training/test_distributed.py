"""Two processes take the steps that one takes on both their batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

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


def test_two_processes_train_one_model(tmp_path):
    run(tmp_path, 2)
    run(tmp_path, 1, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    whole, first, second = (
        torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("2-0", "1-0", "1-1")
    )
    for name, tensor in whole.items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], tensor, atol=1e-5)
