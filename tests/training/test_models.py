"""Model files: what was saved comes back, what is broken or foreign is told in one sentence, and nothing runs code."""

from __future__ import annotations

import errno
import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.regularizers import Red, Regularizer, build, evaluate
from napari_deqmd.training import models
from napari_deqmd.training.models import find_model, list_models, load_model, read_card, save_model

OPTIONS = {"channels": 4, "depth": 2}
CARD = {"family": "red", "options": OPTIONS, "ndim": 2, "data": "noise", "limits": "a test"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEQMD_MODELS", str(tmp_path))
    return tmp_path


def tiny(seed: int = 0) -> Regularizer:
    torch.manual_seed(seed)
    regularizer = build("red", OPTIONS)
    assert isinstance(regularizer, Red)
    with torch.no_grad():
        regularizer.strength.a.fill_(0.123456789)
    return regularizer


@pytest.fixture
def saved(folder: Path) -> Path:
    path = folder / "tiny.safetensors"
    save_model(tiny(), path, CARD)
    return path


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


def edit(path: Path, **changes: object) -> None:
    card_path = path.with_suffix(".json")
    card = json.loads(card_path.read_text()) | changes
    card_path.write_text(json.dumps({key: value for key, value in card.items() if value is not None}))


def replace_weights(path: Path, blob: bytes) -> None:
    """Write other weights, and a card that vouches for them: what a hostile file would do."""
    import hashlib

    path.write_bytes(blob)
    edit(path, sha256=hashlib.sha256(blob).hexdigest())


def test_what_was_saved_comes_back(saved):
    before, model = tiny(), load_model("tiny")
    assert model.path == saved
    assert model.card["data"] == "noise"
    assert model.card["parameters"] == sum(p.numel() for p in before.parameters())
    for name, value in model.regularizer.state_dict().items():
        assert value.dtype == torch.float32
        # Weights lose what half precision loses; single numbers nothing.
        torch.testing.assert_close(
            value, before.state_dict()[name], rtol=1e-3 if value.ndim else 1e-7, atol=1e-7
        )
    assert not any(p.requires_grad for p in model.regularizer.parameters())
    assert not model.regularizer.training
    x, peak = torch.rand(1, 1, 8, 8), torch.tensor([40.0])
    found = evaluate(model.regularizer, x, peak).gradient()
    torch.testing.assert_close(found, evaluate(before, x, peak).gradient(), rtol=0.02, atol=1e-3)


def test_a_card_may_say_that_an_option_is_zero(folder):
    options = OPTIONS | {"across_weight": 0}
    save_model(build("red", options), folder / "flat.safetensors", CARD | {"options": options})
    assert load_model("flat").regularizer.across_weight == 0


@pytest.mark.parametrize("convex", [False, True])
def test_a_ridge_model_comes_back(convex, folder):
    options = {"channels": [2, 3], "kernels": [3, 3], "scales": 2, "convex": convex, "domain": "root"}
    before = build("ridge", options)
    save_model(before, folder / "bank.safetensors", CARD | {"family": "ridge", "options": options})
    after = load_model("bank").regularizer
    assert str(after) == str(before)
    x, peak = torch.rand(2, 1, 8, 8), torch.tensor([40.0, 900.0])
    found, expected = evaluate(after, x, peak), evaluate(before, x, peak)
    torch.testing.assert_close(found.energy, expected.energy, rtol=0.02, atol=1e-5)
    torch.testing.assert_close(found.gradient(), expected.gradient(), rtol=0.02, atol=1e-3)
    assert torch.equal(after.curvature(x, peak) > 0, torch.ones_like(x) > 0)


def test_saving_what_was_loaded_changes_nothing(saved, folder):
    save_model(load_model("tiny").regularizer, folder / "again.safetensors", CARD)
    assert (folder / "again.safetensors").read_bytes() == saved.read_bytes()
    card = read_card(folder / "again.safetensors")
    assert card["name"] == "again"
    assert card["sha256"] == read_card(saved)["sha256"]


def test_nothing_but_the_two_files_is_left(saved, folder):
    assert {path.name for path in folder.iterdir()} == {"tiny.safetensors", "tiny.json"}


def test_an_interrupted_save_leaves_the_old_model(saved, folder, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"disk of .* is full"):
        save_model(tiny(1), saved, CARD)
    monkeypatch.undo()
    monkeypatch.setenv("DEQMD_MODELS", str(folder))
    torch.testing.assert_close(
        load_model("tiny").regularizer.state_dict()["strength.a"], torch.tensor(0.123456789)
    )


@pytest.mark.parametrize("when", ["writing", "renaming"])
@pytest.mark.parametrize("older", [True, False], ids=["over another", "new"])
def test_a_disk_that_is_full_at_the_card_leaves_the_old_model_or_none(folder, monkeypatch, older, when):
    path = folder / "tiny.safetensors"
    if older:
        save_model(tiny(), path, CARD)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    owner, name = (Path, "write_bytes") if when == "writing" else (os, "replace")
    act, full = getattr(owner, name), [False, True]

    def at_the_card(what: Path, where: object) -> object:
        if what.match(".tiny.json.*.part") and full.pop():
            raise OSError(errno.ENOSPC, "No space left on device")
        return act(what, where)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, at_the_card)
        with pytest.raises(UserError, match=r"disk of .* is full"):
            save_model(tiny(1), path, CARD)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_saving_makes_the_folder(folder):
    save_model(tiny(), folder / "mine" / "first.safetensors", CARD)
    assert load_model(folder / "mine" / "first.safetensors").card["name"] == "first"


def test_weights_that_are_not_finite_are_not_saved(folder):
    broken = tiny()
    with torch.no_grad():
        next(p for p in broken.parameters() if p.ndim).fill_(1e6)  # infinite in half precision
    with pytest.raises(UserError, match="not finite"):
        save_model(broken, folder / "broken.safetensors", CARD)
    assert not list(folder.iterdir())


def test_models_of_the_users_folder_are_listed(saved, folder):
    save_model(tiny(1), folder / "other.safetensors", CARD)
    names = [info.name for info in list_models()]
    assert {"tiny", "other"} <= set(names)
    assert names == list(dict.fromkeys(names))
    info = next(info for info in list_models() if info.name == "tiny")
    assert info.path == saved
    assert info.card["limits"] == "a test"


def test_listing_loads_no_torch(saved):
    code = "import sys; from napari_deqmd.training.models import list_models; print(len(list_models())); "
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1


@pytest.mark.parametrize(
    "content", ["{", "[]", "null", "3", '{"format": "of something else"}', "[" * 100_000, "\udcff"], ids=repr
)
def test_a_broken_card_hides_its_model_only(saved, folder, content):
    (folder / "bad.safetensors").write_bytes(b"")
    (folder / "bad.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert "tiny" in [info.name for info in list_models()]
    with pytest.raises(UserError):
        load_model(folder / "bad.safetensors")


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("DEQMD_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert models.user_folder() == tmp_path / "data" / "napari-deqmd" / "models"
    assert isinstance(list_models(), list)  # a folder that is not there is no error


def test_a_name_a_path_and_its_card_all_find_it(saved):
    for given in ("tiny", saved, str(saved), saved.with_suffix(".json")):
        assert find_model(given).path == saved


def test_a_model_travels_by_export_and_import(saved, elsewhere, monkeypatch, tmp_path):
    home = tmp_path / "home"
    copy = models.export_model("tiny", elsewhere)
    assert copy == elsewhere / "tiny.safetensors"
    assert copy.read_bytes() == saved.read_bytes()
    assert read_card(copy) == read_card(saved)
    monkeypatch.setenv("DEQMD_MODELS", str(home))  # another machine
    found = models.import_model(copy, name="from a friend 1.2")
    assert found.path == home / "from a friend 1.2.safetensors"
    assert load_model("from a friend 1.2").card == read_card(saved) | {"name": "from a friend 1.2"}
    assert {path.suffix for path in home.iterdir()} == {".safetensors", ".json"}


def test_export_and_import_replace_only_when_allowed(saved, elsewhere):
    copy = models.export_model("tiny", elsewhere)
    for act in (partial(models.export_model, "tiny", elsewhere), partial(models.import_model, copy)):
        with pytest.raises(UserError, match="exists already"):
            act()
        act(overwrite=True)
    assert load_model("tiny").card["data"] == "noise"


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", "a\\b", "default", ".hidden", "a\n"])
def test_names_that_are_no_file_names_are_refused(saved, folder, elsewhere, name):
    with pytest.raises(UserError, match="cannot name a model"):
        models.import_model(saved, name=name)
    edit(saved, name=name)
    with pytest.raises(UserError, match="cannot name a model"):
        models.export_model(saved, elsewhere)
    assert {path.name for path in folder.iterdir()} == {"tiny.safetensors", "tiny.json", "elsewhere"}
    assert not list(elsewhere.iterdir())


def test_a_bundled_name_is_taken(saved):
    with pytest.raises(UserError, match="bundled"):
        models.import_model(saved, name=models.DEFAULTS[2])


def test_import_takes_nothing_corrupt(saved, folder, elsewhere):
    copy = models.export_model("tiny", elsewhere)
    flipped(copy)
    with pytest.raises(UserError, match="corrupt"):
        models.import_model(copy, name="other")
    assert not (folder / "other.json").exists()


def test_an_unknown_name_lists_the_installed(saved):
    with pytest.raises(UserError, match=r"no model 'teeny'.*tiny"):
        find_model("teeny")


def flipped(path: Path) -> None:
    blob = bytearray(path.read_bytes())
    blob[-5] ^= 1
    path.write_bytes(bytes(blob))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def without_card(path: Path) -> None:
    path.with_suffix(".json").unlink()


def gone(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def truncated_and_vouched_for(path: Path) -> None:
    replace_weights(path, path.read_bytes()[:-7])


def endless_header(path: Path) -> None:
    replace_weights(path, struct.pack("<Q", 2**62) + b"{}")


def foreign(path: Path) -> None:
    replace_weights(path, b"II*\0" + bytes(1000))


def other_names(path: Path) -> None:
    replace_weights(path, save({"layer.weight": torch.zeros(3, 3)}))


def other_shapes(path: Path) -> None:
    replace_weights(path, save({name: torch.zeros(2, 2) for name in load_file(path)}))


def a_weight_missing(path: Path) -> None:
    replace_weights(path, save({name: tensor for name, tensor in load_file(path).items() if tensor.ndim}))


def stored_as(dtype: torch.dtype) -> Callable[[Path], None]:
    return lambda path: replace_weights(
        path, save({name: tensor.to(dtype) for name, tensor in load_file(path).items()})
    )


def one_more_tensor(path: Path) -> None:
    replace_weights(path, save(load_file(path) | {"more": torch.zeros(2**20, dtype=torch.uint8)}))


def nan_weights(path: Path) -> None:
    replace_weights(path, save({name: tensor * torch.nan for name, tensor in load_file(path).items()}))


def oversized(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, models.LARGEST + 1)


BROKEN = {
    "flipped byte": (flipped, "corrupt"),
    "truncated": (truncated, "corrupt"),
    "empty": (emptied, "corrupt"),
    "truncated, with its checksum": (truncated_and_vouched_for, "corrupt"),
    "endless header": (endless_header, "corrupt"),
    "foreign": (foreign, "corrupt"),
    "other names": (other_names, "corrupt"),
    "other shapes": (other_shapes, "corrupt"),
    "a weight missing": (a_weight_missing, "corrupt"),
    "nan": (nan_weights, "invalid numbers"),
    "one more tensor": (one_more_tensor, "corrupt"),
    **{
        f"stored as {dtype}": (stored_as(dtype), "corrupt")
        for dtype in (torch.int64, torch.bool, torch.complex64, torch.float64)
    },
    "oversized": (oversized, "larger than"),
    "no card": (without_card, "card"),
    "gone": (gone, "no model"),
    "a folder": (a_folder, ""),
    "older version": (lambda path: edit(path, format_version=0), "version 0"),
    "newer version": (lambda path: edit(path, format_version=2), "version 2"),
    "no version": (lambda path: edit(path, format_version=None), "version"),
    "other format": (lambda path: edit(path, format="onnx"), "not the card"),
    "no name": (lambda path: edit(path, name=None), "incomplete"),
    "four dimensions": (lambda path: edit(path, ndim=4), "incomplete"),
    "stacks and images": (lambda path: edit(path, options=OPTIONS | {"ndim": 3}), "incomplete"),
    "options no dict": (lambda path: edit(path, options=[4, 2]), "incomplete"),
    "no checksum": (lambda path: edit(path, sha256=None), "corrupt"),
    "unknown family": (lambda path: edit(path, family="gan"), "gan"),
    "no family": (lambda path: edit(path, family=None), "family"),
    "unknown option": (lambda path: edit(path, options={"width": 4}), "corrupt"),
    "option of another type": (lambda path: edit(path, options={"channels": "many"}), "corrupt"),
    "a weight that is none": (
        lambda path: edit(path, options=OPTIONS | {"slice_weight": "x"}),
        'tiny.safetensors cannot be used: slice_weight is "x": give a finite number of at least 0',
    ),
    "a weight that is true": (
        lambda path: edit(path, options=OPTIONS | {"across_weight": True}),
        "across_weight is true",
    ),
    "a choice that is none": (
        lambda path: edit(path, family="scalar", options=OPTIONS | {"mean": "x"}),
        'mean is "x": give true or false',
    ),
    "no channels": (lambda path: edit(path, options={"channels": 0, "depth": 2}), "corrupt"),
    "negative channels": (lambda path: edit(path, options={"channels": -4, "depth": 2}), "corrupt"),
    "other channels": (lambda path: edit(path, options={"channels": 5, "depth": 2}), "corrupt"),
    "huge channels": (lambda path: edit(path, options={"channels": 2**31, "depth": 2}), "corrupt"),
    "endless channels": (lambda path: edit(path, options={"channels": 10**30, "depth": 2}), "corrupt"),
    "endless depth": (lambda path: edit(path, options={"channels": 4, "depth": 10**7}), "corrupt"),
    "fractional depth": (lambda path: edit(path, options={"channels": 4, "depth": 2.5}), "corrupt"),
    "two scales": (
        lambda path: edit(path, family="red-three-scale", options={"channels": [4, 6]}),
        "corrupt",
    ),
    "filters without sides": (
        lambda path: edit(path, family="ridge", options={"channels": [4, 8], "kernels": [3]}),
        "corrupt",
    ),
    "no filters": (
        lambda path: edit(path, family="ridge", options={"channels": [], "kernels": []}),
        "corrupt",
    ),
    "endless list": (
        lambda path: edit(path, family="ridge", options={"channels": [1] * 10**6, "kernels": [1] * 10**6}),
        "corrupt",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_one_sentence(name, saved):
    spoil, word = BROKEN[name]
    spoil(saved)
    with pytest.raises(UserError) as caught:
        load_model(saved)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_file_from_a_stranger_runs_no_code(kind, saved, folder):
    fuse = folder / "exploded"
    if kind == "pickle":
        replace_weights(saved, pickle.dumps(Bomb(fuse)))
    else:
        torch.save({"weights": Bomb(fuse)}, saved)
        replace_weights(saved, saved.read_bytes())
    with pytest.raises(UserError, match="corrupt"):
        load_model(saved)
    assert not fuse.exists()


def test_a_card_that_names_python_builds_nothing(saved):
    edit(saved, family="os.system", options={"command": "touch exploded"})
    with pytest.raises(UserError):
        load_model(saved)


def test_a_stranger_does_not_shadow_a_bundled_model(folder):
    """A file that calls itself like a bundled model is not what that name loads."""
    bundled = [info for info in list_models() if info.path.parent == models.BUNDLED]
    save_model(tiny(), folder / "evil.safetensors", CARD | {"name": models.DEFAULTS[2]})
    if bundled:
        (default,) = (info.path for info in bundled if info.name == models.DEFAULTS[2])
        assert find_model("default").path == default
    else:
        assert find_model("default").path == folder / "evil.safetensors"
