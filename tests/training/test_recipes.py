"""Recipes: what a file may say, and that a job does what it says, resumes, and is the same again."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage import io as skio

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.regularizers import Learned, build
from napari_deqmd.training import progress, recipes
from napari_deqmd.training.data import Sampler
from napari_deqmd.training.grid import penalty
from napari_deqmd.training.measurements import Measurement
from napari_deqmd.training.models import BUNDLED, load_model
from napari_deqmd.training.recipe_files import Recipe
from napari_deqmd.training.recipes import run_equilibrium, run_pretraining, started

REPOSITORY = Path(__file__).parents[2]

TEXT = """
name = "toy"
description = "A toy."
family = "red"
seed = 3
[options]
channels = 4
depth = 2
domain = "root"
[data]
natural = "photographs"
[pretraining]
steps = 3
batch = 2
[pretraining.draws]
mix = { simulated = 0.5, natural = 0.5 }
patch = [24, 24]
pool = 2
side = 32
[equilibrium]
steps = 3
batch = 2
groups = 2
warm_up = 1
learning_rate = 1e-2
lifetime = 2
strength = [0.5, 0.25]
afterwards = 0.5
[equilibrium.draws]
mix = { natural = 1.0 }
patch = [28, 28]
[equilibrium.solve]
first = 4
again = 2
enough = 1.0
"""


@pytest.fixture
def recipe(tmp_path):
    return written(tmp_path, TEXT)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    skio.imsave(folder / "noise.png", rng.integers(0, 255, (40, 40), dtype=np.uint8), check_contrast=False)
    return tmp_path


def written(folder: Path, text: str) -> Recipe:
    path = folder / "toy.toml"
    path.write_text(text, encoding="utf-8")
    return Recipe.read(path)


@pytest.mark.parametrize("mix", ["natural = 1.0", "natural = 1.0, simulated = 0"])
def test_a_card_names_only_what_was_drawn_from(mix, tmp_path):
    recipe = written(tmp_path, TEXT.replace("simulated = 0.5, natural = 0.5", mix))
    assert recipe.equilibrium is not None
    assert recipes.card(recipe, recipe.equilibrium, [1.0])["data"].keys() == {"natural", "held back"}


@pytest.mark.parametrize("card", sorted(BUNDLED.glob("*.json")), ids=lambda path: path.stem)
def test_every_bundled_model_has_its_recipe(card):
    recipe = Recipe.read(REPOSITORY / "recipes" / f"{card.stem}.toml")
    assert recipe.name == card.stem
    assert recipe.equilibrium is not None or recipe.family.startswith("bregman")
    told = json.loads(card.read_text(encoding="utf-8"))
    options = {name: list(v) if isinstance(v, tuple) else v for name, v in recipe.options.items()}
    assert (told["family"], told["options"], told["ndim"]) == (recipe.family, options, recipe.ndim)


def test_a_training_from_nothing_ends_with_a_model(recipe, data, tmp_path):
    run = tmp_path / "run"
    reports = list(run_pretraining(recipe, data, run))
    assert [report.step for report in reports] == [1, 2, 3]
    pretrained = load_model(run / "toy-pretrained.safetensors")
    assert pretrained.card["recipe"]["pretraining"]["steps"] == 3
    assert len(list(run_equilibrium(recipe, data, run))) == 3
    trained = load_model(run / "toy.safetensors")
    assert trained.card["seed"] == 3
    assert trained.card["base"] == {"name": "toy-pretrained", "sha256": pretrained.card["sha256"]}
    assert trained.card["description"] == "A toy."
    assert trained.card["data"].keys() == {"natural", "simulated", "held back"}
    assert trained.card["recipe"]["equilibrium"]["draws"]["patch"] == [28, 28]
    moved = [
        float((a - b).abs().max())
        for a, b in zip(trained.regularizer.parameters(), pretrained.regularizer.parameters(), strict=True)
    ]
    assert min(moved) > 0
    # Three steps move it by little; the recipe sets it, and halves it at the end.
    assert float(trained.regularizer.strength.a) == pytest.approx(0.5 - np.log(2), abs=0.5)
    assert float(trained.regularizer.strength.p) == pytest.approx(0.25, abs=0.5)


def test_a_training_ends_when_nothing_better_comes_and_keeps_the_best(data, tmp_path, monkeypatch):
    text = TEXT.replace(
        "steps = 3\nbatch = 2\ngroups",
        "steps = 9\nevery = 1\nvalidation = 2\npatience = 2\nbatch = 2\ngroups",
    )
    text = text.replace("natural = 1.0", "simulated = 1.0").replace(
        "patch = [28, 28]", "patch = [28, 28]\nside = 32\npool = 2"
    )
    recipe, run = written(tmp_path, text), tmp_path / "run"
    for _ in run_pretraining(recipe, data, run):
        pass
    scores, models = iter([20.0, 22.0, 21.0, 20.0, 30.0]), []

    def score(self, problem, x):
        models.append(problem.regularizer)
        return torch.full((2,), next(scores))

    monkeypatch.setattr(Measurement, "score", score)
    some = islice(run_equilibrium(recipe, data, run), 3)  # interrupted after the third look
    assert [report.validation["score"] for report in some] == [20.0, 22.0, 21.0]
    rest = list(run_equilibrium(recipe, data, run))
    assert [report.step for report in rest] == [4]
    best = torch.load(run / "toy-best.pt", weights_only=True)
    assert (best["score"], best["looks"]) == (22.0, 2)
    weights = load_model(run / "toy.safetensors").regularizer.state_dict()
    for name, tensor in best["weights"].items():
        if tensor.ndim:
            torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-6)


def drawn(recipe: Recipe, data: Path, name: str, *, unseen: bool = False) -> set[bytes]:
    """The images of one kind that patches are drawn of."""
    sampler = recipes._sampler(recipe, recipe.equilibrium.draws, data, 0, unseen=unseen)
    return {image.tobytes() for image in sampler._images[name]}


VALIDATED = TEXT.replace("groups = 2", "groups = 2\nvalidation = 2")


def many(folder: Path, count: int) -> None:
    """Write images of a lab, on no list of ours."""
    folder.mkdir()
    y, x = np.mgrid[:120, :120]
    for n in range(count):
        spots = 200 * np.clip(np.sin(y / (5 + n)) * np.sin(x / 7), 0, 1)
        skio.imsave(folder / f"{n:02}.png", spots.astype(np.uint8), check_contrast=False)


@pytest.mark.parametrize("name", ["natural", "fluorescence"])
def test_what_validates_is_not_trained_on(name, tmp_path):
    many(tmp_path / "photographs", 12)
    text = VALIDATED.replace("natural", name)
    recipe = written(tmp_path, text)
    trained, unseen = (drawn(recipe, tmp_path, name, unseen=part) for part in (False, True))
    assert (len(trained), len(unseen)) == (10, 2)
    assert not trained & unseen
    assert len(drawn(written(tmp_path, text.replace("validation = 2", "")), tmp_path, name)) == 12


def test_both_jobs_are_kept_from_what_validates(tmp_path, monkeypatch):
    many(tmp_path / "photographs", 12)
    made = []

    def spy(*args, **options):
        made.append(sampler := Sampler(*args, **options))
        return sampler

    monkeypatch.setattr(recipes, "Sampler", spy)
    recipe, run = written(tmp_path, VALIDATED), tmp_path / "run"
    list(run_pretraining(recipe, tmp_path, run))
    list(run_equilibrium(recipe, tmp_path, run))
    first, second, unseen = ({image.tobytes() for image in sampler._images["natural"]} for sampler in made)
    assert first == second
    assert len(unseen) == 2
    assert not first & unseen


def test_listed_images_are_what_is_kept_where_there_are_some(tmp_path):
    many(tmp_path / "photographs", 12)
    (tmp_path / "photographs" / "05.png").rename(tmp_path / "photographs" / "BPAE_actin.png")
    text = VALIDATED.replace("natural", "fluorescence")
    recipe = written(tmp_path, text)
    assert len(drawn(recipe, tmp_path, "fluorescence", unseen=True)) == 1
    for one in (text, text.replace("validation = 2", "")):
        assert len(drawn(written(tmp_path, one), tmp_path, "fluorescence")) == 11


def test_too_few_images_to_keep_some_are_told(data, tmp_path):
    recipe = written(tmp_path, VALIDATED)
    with pytest.raises(UserError, match=r"natural images in .* none would be left to train on: give more"):
        next(run_pretraining(recipe, data, tmp_path))
    with pytest.raises(UserError, match="the mix has natural images, of which there are none"):
        drawn(written(tmp_path, TEXT.replace('natural = "photographs"', "")), data, "natural")


def test_a_training_may_end_by_the_clock(data, tmp_path, monkeypatch):
    """Of a million steps, as many as go into a minute at 25 seconds each."""
    seconds = itertools.count(0, 25)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    recipe = written(tmp_path, TEXT.replace("steps = 3", "steps = 1000000\nminutes = 1"))
    for job in (run_pretraining, run_equilibrium):
        assert [report.seconds for report in job(recipe, data, tmp_path / "run")] == [25, 50, 75]
    assert list(run_equilibrium(recipe, data, tmp_path / "run")) == []  # it has ended, in steps or not
    card = load_model(tmp_path / "run" / "toy.safetensors").card
    assert card["recipe"]["equilibrium"]["minutes"] == 1


def test_a_pretraining_starts_from_the_base_if_the_recipe_has_one(recipe, data, tmp_path):
    run = tmp_path / "run"
    list(run_pretraining(recipe, data, run))
    base = load_model(path := run / "toy-pretrained.safetensors")
    next_one = replace(recipe, name="next", base=str(path), seed=9)
    list(run_pretraining(next_one, data, run, steps=0))
    begun = load_model(run / "next-pretrained.safetensors")
    assert begun.card["base"]["sha256"] == base.card["sha256"]
    for a, b in zip(begun.regularizer.parameters(), base.regularizer.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_bregman_denoiser_needs_no_equilibrium(data, tmp_path):
    text = TEXT.replace('"red"', '"bregman"').replace('domain = "root"\n', "").partition("[equilibrium]")[0]
    text = text.replace("batch = 2", 'batch = 2\nnoise = "inverse-gamma"\nstrength = [0.5, 0.75]')
    recipe = written(tmp_path, text)
    assert len(list(run_pretraining(recipe, data, tmp_path))) == 3
    model = load_model(tmp_path / "toy.safetensors", method="b-red")
    assert float(model.regularizer.strength.a) == 0.5
    assert float(model.regularizer.strength.p) == 0.75
    with pytest.raises(UserError, match="toy is for b-red or b-pnp, not deq-md"):
        load_model(tmp_path / "toy.safetensors", method="deq-md")


def test_a_recipe_for_one_psf_and_peak_says_so_in_its_name(recipe, data, tmp_path):
    told = recipe.told(psf="uniform:size=3", peak=40.0)
    assert (told.name, told.equilibrium.psf) == ("toy-uniform-size-3-40", "uniform:size=3")
    assert told.equilibrium.ranges.peak == (40, 40)
    assert recipe.told() is recipe
    # Of the same run folder: another PSF of the same kind is another training.
    assert recipe.told(psf="uniform:size=5", peak=40.0).name != told.name
    with pytest.raises(UserError, match="above 0"):
        recipe.told(peak=-1.0)
    list(run_pretraining(recipe, data, tmp_path))
    read = []
    base = tmp_path / recipe.pretrained
    kernel = lambda text: read.append(text) or np.full((3, 3), 1 / 9)  # noqa: E731
    assert len(list(run_equilibrium(told, data, tmp_path, base=base, read_psf=kernel))) == 3
    assert read == ["uniform:size=3"]
    assert (
        load_model(tmp_path / "toy-uniform-size-3-40.safetensors").card["recipe"]["equilibrium"]["upper"]
        == 10
    )


def test_a_ridge_model_goes_through_both_jobs(data, tmp_path):
    options = "channels = [2, 3]\nkernels = [3, 3]\n"
    text = TEXT.replace('"red"', '"ridge"').replace("channels = 4\ndepth = 2\n", options)
    recipe, run = written(tmp_path, text), tmp_path / "run"
    assert len(list(run_pretraining(recipe, data, run))) == 3
    assert len(list(run_equilibrium(recipe, data, run))) == 3
    before = load_model(run / "toy-pretrained.safetensors").regularizer.state_dict()
    after = load_model(run / "toy.safetensors").regularizer.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in after)


def test_a_bank_of_filters_of_stacks_goes_through_both_jobs(data, tmp_path):
    options = "ndim = 3\nchannels = [2, 3]\nkernels = [[1, 3, 3], [3, 1, 1]]\n"
    text = TEXT.replace('"red"\n', '"ridge"\nndim = 3\n').replace("channels = 4\ndepth = 2\n", options)
    text = text.replace("natural = 0.5", "natural = 0").replace("{ natural = 1.0 }", "{ simulated = 1 }")
    text = text.replace("[24, 24]", "[4, 20, 20]").replace("[28, 28]", "[14, 18, 18]")
    text = text.replace("afterwards", 'boundary = "periodic"\nafterwards')
    recipe, run = written(tmp_path, text), tmp_path / "run"
    assert len(list(run_pretraining(recipe, data, run))) == 3
    assert len(list(run_equilibrium(recipe, data, run))) == 3
    model = load_model(run / "toy.safetensors")
    assert model.card["ndim"] == model.regularizer.ndim == 3
    before = load_model(run / "toy-pretrained.safetensors").regularizer.state_dict()
    after = model.regularizer.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in after)


def test_an_uneven_grid_can_be_made_to_cost(recipe, data, tmp_path):
    list(run_pretraining(recipe, data, tmp_path / "run"))
    costly = dataclasses.replace(recipe, equilibrium=dataclasses.replace(recipe.equilibrium, even=2.0))
    reports = list(run_equilibrium(costly, data, tmp_path / "run"))
    model = load_model(tmp_path / "run" / "toy-pretrained.safetensors").regularizer
    with torch.no_grad():
        model.strength.a.fill_(0.5)
        assert reports[0].validation["penalty"] == pytest.approx(2 * penalty(model, 0).item(), rel=1e-4)
    assert load_model(tmp_path / "run" / "toy.safetensors").card["recipe"]["equilibrium"]["even"] == 2


def test_only_a_gray_residual_has_a_grid_that_can_be_judged(data, tmp_path):
    text = TEXT.replace('"red"', '"scalar"').replace("depth = 2", "depth = 1")
    recipe = written(tmp_path, text.replace("afterwards = 0.5", "afterwards = 0.5\neven = 1.0"))
    list(run_pretraining(recipe, data, tmp_path / "run"))
    with pytest.raises(UserError, match="leave even out"):
        next(run_equilibrium(recipe, data, tmp_path / "run"))


@pytest.mark.parametrize("path", sorted((REPOSITORY / "recipes").rglob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_that_comes_along_can_be_begun(path):
    recipe = Recipe.read(path)
    regularizer = build(recipe.family, dict(recipe.options))
    assert recipe.name == path.stem
    assert isinstance(regularizer, Learned)


def test_the_same_recipe_gives_the_same_losses(recipe, data, tmp_path):
    losses = [
        [report.loss for report in islice(run_pretraining(recipe, data, tmp_path / name), 2)]
        for name in ("one", "two")
    ]
    assert losses[0] == losses[1]


def test_the_card_has_the_losses_by_which_its_recipe_is_checked(recipe, data, tmp_path):
    run = tmp_path / "run"
    assert len(list(islice(run_pretraining(recipe, data, run, steps=2), 2))) == 2
    list(run_pretraining(recipe, data, run, steps=2))  # resumed, or begun again: the card is the whole job's
    list(run_equilibrium(recipe, data, run))
    for job, name in ((partial(run_pretraining, steps=2), "toy-pretrained"), (run_equilibrium, "toy")):
        again = [report.loss for report in job(recipe, data, tmp_path / "again")]
        told = load_model(run / f"{name}.safetensors").card["first_losses"]
        assert told == pytest.approx(again, abs=1e-6)
        assert len(told) == len(again) > 0


def test_an_interrupted_job_goes_on(recipe, data, tmp_path):
    run = tmp_path / "run"
    list(run_pretraining(recipe, data, run, steps=2))
    short = load_model(run / "toy-pretrained.safetensors").card["recipe"]["pretraining"]
    assert short["steps"] == 2
    assert [report.step for report in run_pretraining(recipe, data, run)] == [3]


OTHERS = {  # what the recipe of another training says: how its checkpoint is known not to be of it
    "learning_rate": ("learning_rate = 1e-2", "learning_rate = 2e-2"),
    "strength": ("strength = [0.5, 0.25]", "strength = [0.5, 0.5]"),
    "draws": ("patch = [28, 28]", "patch = [30, 30]"),
    "solve": ("first = 4", "first = 5"),
    "seed": ("seed = 3", "seed = 4"),
    "data": ('"photographs"', '"./photographs"'),
    "options": ("depth = 2", "depth = 2\nacross_weight = 0.1"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_another_training_is_refused(name, recipe, data, tmp_path):
    run = tmp_path / "run"
    list(run_pretraining(recipe, data, run))
    list(run_equilibrium(recipe, data, run, steps=1))
    other = written(tmp_path, TEXT.replace(*OTHERS[name]))
    with pytest.raises(
        UserError, match=rf"toy-equilibrium\.pt is of a training that differs in {name}: give"
    ):
        next(run_equilibrium(other, data, run))


def test_a_checkpoint_of_another_base_or_pretraining_is_refused(recipe, data, tmp_path):
    run = tmp_path / "run"
    list(run_pretraining(recipe, data, run))
    list(run_equilibrium(recipe, data, run, steps=1))
    list(run_pretraining(recipe, data, tmp_path / "other", steps=1))
    with pytest.raises(UserError, match="differs in base:"):
        next(run_equilibrium(recipe, data, run, base=tmp_path / "other" / "toy-pretrained.safetensors"))
    other = written(tmp_path, TEXT.replace("batch = 2", "batch = 3", 1))
    with pytest.raises(UserError, match=r"toy-pretraining\.pt is of a training that differs in batch:"):
        next(run_pretraining(other, data, run, steps=9))


def test_the_best_weights_of_another_training_are_refused(data, tmp_path):
    text = TEXT.replace("natural = 1.0", "simulated = 1.0").replace(
        "[28, 28]", "[28, 28]\nside = 32\npool = 2"
    )
    text = text.replace("groups = 2", "groups = 2\nevery = 1\nvalidation = 2")
    run = tmp_path / "run"
    recipe = written(tmp_path, text)
    list(run_pretraining(recipe, data, run))
    list(run_equilibrium(recipe, data, run, steps=1))
    (run / "toy-equilibrium.pt").unlink()
    other = written(tmp_path, text.replace("lifetime = 2", "lifetime = 3"))
    with pytest.raises(UserError, match=r"toy-best\.pt is of a training that differs in lifetime:"):
        next(run_equilibrium(other, data, run))


def test_a_training_goes_on_for_longer_and_ends_otherwise(recipe, data, tmp_path):
    run = tmp_path / "run"
    list(run_pretraining(recipe, data, run, steps=1))
    longer = TEXT.replace("steps = 3", "steps = 4\nminutes = 9").replace(
        "afterwards = 0.5", "every = 1\npatience = 9"
    )
    longer = longer.replace("batch = 2", "batch = 2\nstrength = [0.5, 1]", 1)
    other = written(tmp_path, longer)
    assert next(run_pretraining(other, data, run)).step == 2
    list(run_equilibrium(recipe, data, run, steps=1))
    assert next(run_equilibrium(other, data, run)).step == 2


def test_a_checkpoint_of_before_they_said_of_what_goes_on(recipe, data, tmp_path):
    run = tmp_path / "run"
    list(run_pretraining(recipe, data, run, steps=2))
    state = torch.load(run / "toy-pretraining.pt", weights_only=True)
    del state["identity"]
    torch.save(state, run / "toy-pretraining.pt")
    assert [report.step for report in run_pretraining(recipe, data, run)] == [3]


def test_a_base_of_another_architecture_is_refused():
    recipe = Recipe("other", "", "red", {"channels": 8, "depth": 2})
    with pytest.raises(UserError, match="another architecture than other"):
        started(recipe, build("red", {"channels": 4, "depth": 2}))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('name = "toy"', 'name = "toy', "is not TOML"),
        ('name = "toy"', "", "lacks a setting"),
        ("seed = 3", "sead = 3", "unknown setting 'sead'"),
        ("seed = 3", "ndim = 4", "In the recipe toy.toml ndim is 4: give 2 or 3"),
        ("depth = 2", "depth = 2\nndim = 3", "options.ndim = 3 and ndim = 2: give both the same"),
        ("seed = 3", "ndim = 3", "patch of 2 numbers: give 3"),
        ("groups = 2", "groops = 2", "unknown setting 'groops'"),
        (
            "groups = 2",
            "loss = 'l2'",
            r"\[equilibrium\] of .* loss is \"l2\": give log-mse or mse or l1",
        ),
        ("first = 4", "last = 4", "unknown setting 'last'"),
        ("mix = { natural = 1.0 }", "", "lacks a setting"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(old, new, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        written(tmp_path, TEXT.replace(old, new, 1))


VALUES = {  # what stands for a line of the recipe: what is said of it
    "pretraining": {
        "steps = 3": ('steps = "3"', "steps = -5", "steps = 2.5", "steps = true", "steps = 1979-05-27"),
        "batch = 2": (
            *("batch = 0", 'minutes = "a"', "minutes = 0", "minutes = inf", "minutes = nan"),
            *("learning_rate = -1.0", "learning_rate = 0", "sigma = [0, 0.3]", "sigma = [0.3]"),
            *("sigma = [0.3, 0.1]", "sigma = [0.3, 1]", "sigma = 0.3", "brightest = 0", "direct = -1"),
            *('noise = "pink"', "strength = 1.0", "strength = [1]"),
        ),
    },
    "pretraining.draws": {
        "mix = { simulated = 0.5, natural = 0.5 }": (
            *('mix = ["simulated"]', 'mix = { simulated = "a" }', "mix = { simulated = 2, natural = -1 }"),
        ),
        "patch = [24, 24]": ("patch = 32", "patch = [24]", "patch = [24, 28]", 'patch = ["a", "a"]'),
        "pool = 2": ("pool = 0",),
        "side = 32": ("side = 0",),
    },
    "equilibrium": {
        "groups = 2": (
            *('numbers = "a"', "numbers = -1", 'even = "x"', "even = -1", "groups = 0", "every = 0"),
            *('boundary = "periodc"', 'precision = "bfloat61"', "psf = 3", "wide = 2", "upper = 0"),
            *("validation = -1", "patience = 0", "gradient_steps = -1", 'shifted = "no"'),
        ),
        "warm_up = 1": ("warm_up = -1",),
        "lifetime = 2": ("lifetime = 0",),
        "afterwards = 0.5": ("afterwards = 0", "afterwards = inf"),
        "strength = [0.5, 0.25]": ('strength = "a"',),
    },
    "equilibrium.solve": {"first = 4": ("first = 0", "tol = 0"), "enough = 1.0": ("enough = 0",)},
    "": {
        'name = "toy"': ('name = "../toy"', 'name = "a/b"', 'name = ""', 'name = "default"', "name = 3"),
        'description = "A toy."': ("description = 1",),
        'family = "red"': ("family = 1",),
        "seed = 3": ("seed = -1", 'seed = "a"', "base = 2", 'options = "x"', 'data = "x"'),
    },
}


@pytest.mark.parametrize(
    ("section", "old", "new"),
    [(section, old, new) for section, lines in VALUES.items() for old, news in lines.items() for new in news],
)
def test_a_value_that_cannot_be_is_named_with_what_can(section, old, new, tmp_path):
    text = TEXT.replace(old, new, 1)
    for table in ("options", "data"):
        if new.startswith(table):
            head, _, rest = text.partition(f"[{table}]")
            text = head + "[" + rest.partition("[")[2]
    place = f"In [{section}] of the recipe toy.toml" if section else "In the recipe toy.toml"
    name = new.partition(" = ")[0]
    with pytest.raises(UserError, match=rf"^{re.escape(place)} {name} is .*: give [^\n]*\.$"):
        written(tmp_path, text)


@pytest.mark.parametrize(
    "line",
    [
        *("peak = [0, 10]", "peak = 10", "peak = [20, 10]", "background = [0, 0.1]", "no_background = 2"),
        *("brightness = [0.5]", "brightness = [2, 1]", "peak_error = -1", 'read_noise = "a"'),
    ],
)
def test_a_range_that_cannot_be_is_named_with_what_can(line, tmp_path):
    name = line.partition(" = ")[0]
    with pytest.raises(UserError, match=rf"^In \[equilibrium\.ranges\] .* {name} is .*: give [^\n]*\.$"):
        written(tmp_path, f"{TEXT}\n[equilibrium.ranges]\n{line}")


def test_what_is_allowed_is_said_in_words(tmp_path):
    with pytest.raises(
        UserError, match=r"sigma is \[0, 0.3\]: give a list of 2, each a finite number above 0 and"
    ):
        written(tmp_path, TEXT.replace("batch = 2", "sigma = [0, 0.3]", 1))
    with pytest.raises(
        UserError, match=r"name is \"\.\./toy\": give text of letters, digits, dots and dashes"
    ):
        written(tmp_path, TEXT.replace('"toy"', '"../toy"'))


def test_a_training_without_a_warm_up_has_its_full_rate_at_once(data, tmp_path):
    recipe = written(tmp_path, TEXT.replace("warm_up = 1", "warm_up = 0"))
    list(run_pretraining(recipe, data, tmp_path / "run"))
    assert next(run_equilibrium(recipe, data, tmp_path / "run")).step == 1


def test_a_recipe_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        Recipe.read(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("depth = 2", "depht = 2", "options of toy do not fit red"),
        ('family = "red"', 'family = "tv"', "is no denoiser|do not fit"),
        ('family = "red"', 'family = "blue"', "Unknown regularizer family"),
        ('natural = "photographs"', 'natural = "empty"', "no TIFF, PNG or JPEG images"),
        ("patch = [24, 24]", "patch = [48, 48]", "no natural image of at least 48 x 48"),
        ("depth = 2", "depth = 2\nkernels = 3", "options of toy do not fit red"),
        ("channels = 4", "channels = -4", "options of toy do not fit red"),
        (
            "depth = 2",
            "depth = 2\nslice_weight = 'x'",
            'do not fit red: slice_weight is "x": give a finite number',
        ),
    ],
)
def test_what_does_not_fit_is_said_before_the_first_step(old, new, sentence, data, tmp_path):
    (data / "empty").mkdir()
    recipe = written(tmp_path, TEXT.replace(old, new, 1))
    with pytest.raises(UserError, match=sentence):
        next(run_pretraining(recipe, data, tmp_path / "run"))


def test_a_patch_that_the_psf_leaves_nothing_of_is_said(data, tmp_path):
    recipe = written(tmp_path, TEXT.replace("patch = [28, 28]", "patch = [16, 16]"))
    list(run_pretraining(recipe, data, tmp_path))
    with pytest.raises(UserError, match="16 x 16 pixels is smaller than the PSF of 21 x 21"):
        next(run_equilibrium(recipe, data, tmp_path))


def test_a_missing_job_or_base_is_said(recipe, data, tmp_path):
    with pytest.raises(UserError, match="There is no model"):
        next(run_equilibrium(recipe, data, tmp_path / "run"))
    alone = written(tmp_path, TEXT[: TEXT.index("[pretraining]")])
    with pytest.raises(UserError, match="has no \\[pretraining\\]"):
        next(run_pretraining(alone, data, tmp_path))
    with pytest.raises(UserError, match="has no \\[equilibrium\\]"):
        next(run_equilibrium(alone, data, tmp_path))
