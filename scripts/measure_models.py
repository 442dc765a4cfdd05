"""Print the table of restoration quality: python scripts/measure_models.py DATA [MODEL ...]."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from napari_deqmd.benchmarks.restoration import table
from napari_deqmd.training.models import load_model


def main() -> None:
    """Measure the default model, or the ones named."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    torch.set_num_threads(2)
    models = {Path(name).stem: load_model(name).regularizer for name in sys.argv[2:] or ["default"]}
    for model in models.values():
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for line in table(
        Path(sys.argv[1]), models, report=lambda what: print(what, file=sys.stderr, flush=True)
    ):
        print(line)


if __name__ == "__main__":
    main()
