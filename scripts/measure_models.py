"""Print the tables of restoration quality, images and stacks: python scripts/measure_models.py DATA [MODEL ...]."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch

from napari_deqmd.benchmarks.restoration import TV_WEIGHTS, conditions, stacks, table
from napari_deqmd.training.models import load_model

STACK_WEIGHTS = (0.032, 0.064)


def main() -> None:
    """Measure the default model, or the ones named."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    torch.set_num_threads(2)
    models = {Path(name).stem: load_model(name).regularizer for name in sys.argv[2:] or ["default"]}
    for model in models.values():
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for found, weights in ((conditions(Path(sys.argv[1])), TV_WEIGHTS), (stacks(), STACK_WEIGHTS)):
        for line in table(found, models, weights=weights, report=partial(print, file=sys.stderr, flush=True)):
            print(line)
        print()


if __name__ == "__main__":
    main()
