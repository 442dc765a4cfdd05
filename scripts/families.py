"""Train every family of regularizers for the same time, their strengths chosen on validation images.

    python scripts/families.py --data DATA --run RUN [RECIPE...]

Each of recipes/families is pretrained, its strength is searched, it is trained through its reconstructions, and the
factor on its strength at the end is searched. What was chosen is printed, and written into RUN/NAME-chosen.json. The
same command goes on where it was cut.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from napari_deqmd.benchmarks.conditions import batch, conditions, estimated, stacks
from napari_deqmd.benchmarks.restoration import restore
from napari_deqmd.core.regularizers import Learned
from napari_deqmd.training.measurements import Measurement
from napari_deqmd.training.models import load_model
from napari_deqmd.training.recipes import Recipe, run_equilibrium, run_pretraining

RECIPES = Path(__file__).parents[1] / "recipes" / "families"
SEED, SIDE, VOLUME, PEAKS = 921, 64, (12, 48, 48), (15.0, 150.0)
"""Of the validation images and stacks; the benchmarks draw from other seeds."""
STRENGTHS = tuple(2.0**power for power in range(-3, 3))
FACTORS = (0.5, 0.7, 1.0, 1.4)


def main() -> int:
    """Train what is not trained yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", type=Path, nargs="*", help="(all of recipes/families)")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    arguments = parser.parse_args()
    for path in arguments.recipes or sorted(RECIPES.glob("*.toml")):
        recipe = Recipe.read(path)
        train(recipe, arguments.data, arguments.run, validation(arguments.data, recipe.ndim))
    return 0


def validation(data: Path, ndim: int) -> Measurement:
    """Return scenes, with one of two PSFs in turn, and half of the held-back crops, or stacks; at every peak."""
    if ndim == 3:
        return estimated(batch(stacks(peaks=PEAKS, shape=VOLUME, seed=SEED)))
    found = conditions(data, peaks=PEAKS, side=SIDE, seed=SEED)
    images = [found[i : i + len(PEAKS)] for i in range(0, len(found), len(PEAKS))]
    chosen = [image for i, image in enumerate(images) if i % 4 in (0, 3)]
    return estimated(batch([one for image in chosen for one in image if one.label != "natural"]))


def train(recipe: Recipe, data: Path, run: Path, images: Measurement) -> None:
    """Train one family, unless that was done, and write what was chosen, with the steps and seconds of both jobs."""
    notes = run / f"{recipe.name}-chosen.json"
    chosen = json.loads(notes.read_text()) if notes.exists() else {}
    job = recipe.equilibrium
    assert job is not None

    def note(**found: object) -> None:
        chosen.update(found)
        notes.write_text(json.dumps(chosen))
        print(recipe.name, json.dumps(chosen), flush=True)

    if "strength" not in chosen:
        for report in run_pretraining(recipe, data, run):
            chosen["pretraining"] = [report.step, round(report.seconds, 1)]
        regularizer = load_model(run / recipe.pretrained).regularizer
        assert isinstance(regularizer, Learned)
        note(**begin(regularizer, images))
    job = replace(job, strength=tuple(chosen["strength"]))
    if "afterwards" not in chosen:
        once = replace(recipe, equilibrium=replace(job, afterwards=1.0))
        for report in run_equilibrium(once, data, run):
            chosen["equilibrium"] = [report.step, round(report.seconds, 1)]
        model = load_model(run / f"{recipe.name}.safetensors").regularizer
        found = {factor: float(restore(images, model, strength=factor)[0].mean()) for factor in FACTORS}
        note(after=found, afterwards=max(found, key=found.__getitem__))
    ended = replace(recipe, equilibrium=replace(job, afterwards=chosen["afterwards"]))
    for _ in run_equilibrium(ended, data, run):  # it has ended: what is left is to write the model
        pass


def begin(regularizer: Learned, images: Measurement) -> dict[str, object]:
    """Return the strength ``(a, p)`` whose line is nearest to the best of `STRENGTHS` at every peak, and their PSNR."""
    rows = []
    for strength in STRENGTHS:
        with torch.no_grad():
            regularizer.strength.a.fill_(math.log(strength))
            regularizer.strength.p.zero_()
        rows.append(restore(images, regularizer)[0])
    groups = torch.arange(len(images.peak)) % len(PEAKS)
    values = torch.stack([torch.stack(rows)[:, groups == i].mean(1) for i in range(len(PEAKS))])
    best = np.log(STRENGTHS)[values.argmax(1).numpy()]
    slope, level = np.polyfit(np.log(np.divide(PEAKS, 60)), best, 1)
    return {"before": values.tolist(), "strength": [round(float(level), 3), round(float(-slope), 3)]}


if __name__ == "__main__":
    raise SystemExit(main())
