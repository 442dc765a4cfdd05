"""The Train widget, driven by object names; first on a fake job, then on the real one with tiny images."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QFileDialog, QMenu, QToolButton
from scipy.ndimage import gaussian_filter

from napari_deqmd.core.config import KINDS
from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets.order import default_train_job
from napari_deqmd.widgets.plot import TrainPlot
from widgets.jobs import FakeTrainJob

NAMES = (
    "train_data train_target train_kind train_axes train_psf_source train_psf_layer train_psf_file train_psf_sigma "
    "train_offset train_gain train_peak base_model minutes train_run train_stop train_save model_name train_progress "
    "train_plot train_patches train_device_label train_use"
).split()


def items(combo: Any) -> list[str]:
    return [combo.itemText(row) for row in range(combo.count())]


def wait_for(qtbot: Any, condition: Any) -> None:
    qtbot.waitUntil(condition, timeout=10_000)


def wait_scores(train: Any, qtbot: Any, count: int = 4) -> None:
    wait_for(qtbot, lambda: len(train.find("train_plot").scores) >= count)


# --- the form ---


def test_every_control_has_its_name_and_teaches(train: Any) -> None:
    for name in NAMES:
        assert train.find(name).toolTip(), name


def test_choices(train: Any) -> None:
    assert tuple(items(train.find("train_kind"))) == KINDS
    assert all(f"<b>{kind}</b>" in train.find("train_kind").toolTip() for kind in KINDS)
    assert items(train.find("train_psf_source")) == ["Theory", "Layer", "File"]
    assert train.find("base_model").currentText() == "default"
    assert "fluorescence-2d" in items(train.find("base_model"))
    assert train.find("train_run").isEnabled()
    assert not train.find("train_stop").isEnabled()
    assert not train.find("train_save").isEnabled()


def test_targets_are_asked_for_with_pairs_only(train: Any) -> None:
    assert train.find("train_target").isHidden() or not train.find("train_target").isVisibleTo(train.widget)
    train.find("train_kind").setCurrentText("paired")
    assert train.find("train_target").isVisibleTo(train.widget)
    train.find("train_kind").setCurrentText("clean")
    assert not train.find("train_target").isVisibleTo(train.widget)
    assert not train.find("train_offset").isEnabled()


def test_the_order_says_what_the_form_says(train: Any) -> None:
    FakeTrainJob.steps_ = 3
    train.add(metadata={"offset": 100.0, "gain": 2.0})
    train.find("train_kind").setCurrentText("clean")
    train.find("train_peak").setText("20:200")
    train.find("train_psf_sigma").setText("1.2")
    train.find("minutes").setValue(2.5)
    train.run()
    train.wait_idle()
    order = train.jobs[0].order
    assert (order.kind, order.peak, order.minutes, order.base) == ("clean", (20, 200), 2.5, "default")
    assert (order.offset, order.gain, order.psf.theory) == (100, 2, "gaussian:sigma=1.2")
    assert [image.name for image in order.inputs] == ["cells"]
    assert order.inputs[0].axes == "TYX"


def test_layers_folders_and_files_are_named_in_one_field(train: Any, tmp_path: Path) -> None:
    FakeTrainJob.steps_ = 3
    train.add((32, 32), name="a")
    train.add((32, 32), name="b")
    train.add(name="c", axis_labels=("t", "y", "x"))
    train.find("train_data").setCurrentText(f"a; c; {tmp_path}")
    train.add((32, 32), name="later")
    train.find("train_kind").setCurrentText("paired")
    train.find("train_target").setCurrentText("b")
    train.run()
    train.wait_idle()
    order = train.jobs[0].order
    assert [getattr(image, "name", image) for image in order.inputs] == ["a", "c", str(tmp_path)]
    assert [image.axes for image in order.inputs[:2]] == ["YX", "TYX"]
    assert [image.name for image in order.targets] == ["b"]


def test_the_button_finds_folders_files_and_selected_layers(train: Any, monkeypatch: Any) -> None:
    train.add((32, 32), name="a")
    train.add((32, 32), name="b")
    field = train.find("train_data").parent()
    folder, files, selected = field.findChild(QToolButton).findChild(QMenu).actions()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "/some/folder")
    folder.trigger()
    assert train.find("train_data").currentText() == "/some/folder"
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: (["/1.tif", "/2.tif"], ""))
    files.trigger()
    assert train.find("train_data").currentText() == "/1.tif; /2.tif"
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: ([], ""))
    files.trigger()
    assert train.find("train_data").currentText() == "/1.tif; /2.tif"
    train.viewer.layers.selection = set(train.viewer.layers)
    selected.trigger()
    assert train.find("train_data").currentText() == "a; b"


def test_a_chosen_layer_may_be_renamed(train: Any) -> None:
    layer = train.add((32, 32), name="a")
    train.add((32, 32), name="b")
    train.find("train_data").setCurrentIndex(items(train.find("train_data")).index("a"))
    layer.name = "renamed"
    assert train.find("train_data").currentText() == "renamed"
    train.viewer.layers.remove(layer)
    assert train.find("train_data").currentText() == "b"


# --- the run, on a fake job ---


@pytest.fixture(autouse=True)
def _fake_defaults(monkeypatch: Any) -> None:
    """What a test changes in the fake job's class is put back."""
    for name in ("steps_", "helps", "notes", "delay"):
        monkeypatch.setattr(FakeTrainJob, name, getattr(FakeTrainJob, name))


def test_the_loss_is_drawn_as_the_mean_of_the_last_steps(qtbot: Any) -> None:
    """Batches of noisy images measure two things in turn, which lie far apart."""
    plot = TrainPlot()
    qtbot.addWidget(plot)
    values = [0.0, -6.0, 3.0, float("nan"), *(-5.0, 1.0) * 8]
    plot.add(SimpleNamespace(step=step, loss=value, score=None) for step, value in enumerate(values, 1))
    steps, drawn = plot._first.getData()
    assert steps.tolist() == [1, 2, 3, *range(5, 21)]
    assert drawn[:4].tolist() == [0, -3, -1, -2]
    assert (drawn[-8:] == -2).all()


def test_a_run_shows_curves_patches_and_progress(train: Any, qtbot: Any) -> None:
    train.add()
    train.find("minutes").setValue(0.1)
    train.run()
    assert not train.find("train_run").isEnabled()
    assert not train.find("train_save").isEnabled()
    wait_scores(train, qtbot)
    plot = train.find("train_plot")
    assert plot.scores[0] == (0, 30)
    assert plot.losses[0] == (1, 1)
    assert 0 < train.find("train_progress").value() < train.find("train_progress").maximum()
    assert "best so far" in train.find("train_status").text()
    assert "rounded to whole ones" in train.find("train_notes").text()
    measured, before, now = train.find("train_patches").arrays
    assert measured.shape == before.shape == now.shape
    assert before[0, 0] == 1 < now[0, 0]
    train.find("train_stop").click()
    train.wait_idle()
    assert not train.find("train_stop").isEnabled()


def test_stop_keeps_the_best_and_save_writes_it(train: Any, qtbot: Any, notices: list[str]) -> None:
    train.add()
    train.run()
    wait_scores(train, qtbot)
    train.find("train_stop").click()
    train.wait_idle()
    assert "Stopped after" in train.find("train_status").text()
    assert "helped" in train.find("train_status").text()
    _, before, after = train.find("train_patches").arrays
    assert after[0, 0] > before[0, 0]
    train.find("model_name").setText("mine")
    train.find("train_save").click()
    wait_for(qtbot, lambda: "Saved as mine" in train.find("train_status").text())
    ((target, outcome),) = train.jobs[0].saved
    assert target.name == "mine.safetensors"
    assert outcome.kept
    assert train.find("train_save").isEnabled()
    assert not notices


def test_what_did_not_help_is_said_and_cannot_be_saved(train: Any) -> None:
    FakeTrainJob.helps, FakeTrainJob.steps_ = False, 9
    train.add()
    train.run()
    train.wait_idle()
    assert "did not help" in train.find("train_status").text()
    assert not train.find("train_save").isEnabled()
    progress = train.find("train_progress")
    assert progress.value() == progress.maximum()


def test_names_that_cannot_be(train: Any, qtbot: Any, notices: list[str]) -> None:
    FakeTrainJob.steps_ = 9
    train.add()
    train.run()
    train.wait_idle()
    for name, words in (
        ("fluorescence-2d", "name of a bundled model: choose another"),
        ("", "cannot name a model"),
        ("../up", "cannot name a model"),
    ):
        notices.clear()
        train.find("model_name").setText(name)
        train.find("train_save").click()
        wait_for(qtbot, train.find("train_save").isEnabled)
        assert len(notices) == 1
        assert words in notices[0]
    assert not train.jobs[0].saved


def test_files_that_were_left_out_are_named(train: Any, qtbot: Any, notices: list[str]) -> None:
    FakeTrainJob.notes = tuple(f"Left out: {i}.tif is not a TIFF file: save it again." for i in range(5))
    FakeTrainJob.steps_ = 9
    train.add()
    train.run()
    train.wait_idle()
    assert len(notices) == 1
    assert "0.tif" in notices[0]
    assert "2 more" in notices[0]


def test_errors_are_told_and_leave_the_widget_ready(train: Any, notices: list[str]) -> None:
    train.add()
    works = train.widget.job_factory
    for error in (RuntimeError("broken"), UserError("Choose other images."), MemoryError()):
        notices.clear()

        class Broken(FakeTrainJob):
            def steps(self, error: Exception = error) -> Any:
                raise error
                yield

        train.widget.job_factory = Broken
        train.run()
        train.wait_idle()
        assert len(notices) == 1
        assert train.find("train_status").text() == notices[0]
    FakeTrainJob.steps_ = 9
    train.widget.job_factory = works
    train.run()
    train.wait_idle()
    assert "helped" in train.find("train_status").text()


def test_an_error_leaves_what_was_better_to_be_saved(train: Any, qtbot: Any, notices: list[str]) -> None:
    class Broken(FakeTrainJob):
        def steps(self) -> Any:
            yield from super().steps()
            raise RuntimeError("out of memory")

    FakeTrainJob.steps_ = 9
    train.widget.job_factory = Broken
    train.add()
    train.run()
    train.wait_idle()
    assert len(notices) == 1
    assert train.find("train_status").text() == notices[0]
    train.find("model_name").setText("mine")
    train.find("train_save").click()
    wait_for(qtbot, lambda: "Saved as mine" in train.find("train_status").text())


def test_two_runs_do_not_start(train: Any, qtbot: Any) -> None:
    train.add()
    train.run()
    wait_scores(train, qtbot, 1)
    train.widget.run()
    train.find("train_stop").click()
    train.wait_idle()
    assert len(train.jobs) == 1


def test_removing_the_layer_leaves_the_run_alone(train: Any, qtbot: Any) -> None:
    train.add()
    train.run()
    wait_scores(train, qtbot, 1)
    train.viewer.layers.clear()
    wait_scores(train, qtbot, 4)
    train.find("train_stop").click()
    train.wait_idle()
    assert train.find("train_save").isEnabled()


def test_closing_the_viewer_stops_the_run(train: Any, qtbot: Any, notices: list[str]) -> None:
    train.add()
    train.run()
    wait_scores(train, qtbot, 1)
    train.viewer.close()
    wait_for(qtbot, train.jobs[0].closed.is_set)
    assert QThreadPool.globalInstance().waitForDone(5000)
    qtbot.wait(50)
    assert not notices


def test_closing_the_dock_stops_the_run_and_leaks_nothing(train: Any, qtbot: Any, notices: list[str]) -> None:
    train.add()
    train.run()
    wait_scores(train, qtbot, 1)
    widget = weakref.ref(train.widget)
    train.viewer.window.remove_dock_widget(train.dock)
    train.widget = train.dock = train.find = train.run = train.wait_idle = None
    wait_for(qtbot, train.jobs[0].closed.is_set)
    assert QThreadPool.globalInstance().waitForDone(5000)
    qtbot.wait(100)
    gc.collect()
    train.viewer.theme = "light"
    train.viewer.layers.clear()
    assert widget() is None
    assert not notices


def test_the_window_refuses_at_once(train: Any, notices: list[str]) -> None:
    """One sentence, before any work."""
    train.find("train_kind").setCurrentText("paired")
    for name, text, words in (
        ("train_data", "", "No images are chosen"),
        ("train_data", "cells", "No targets are chosen"),
        ("train_target", "cells", "Images and targets are the same"),
        ("train_target", "others", "others"),
        ("train_axes", "YXZ", "ending in YX"),
        ("train_axes", "YYX", "each once"),
        ("train_axes", "YX", "3 dimensions"),
        ("train_axes", "", ""),
        ("train_peak", "1:2:3", "a range like 20:200"),
        ("train_psf_sigma", "wide", "σ is 'wide'"),
    ):
        notices.clear()
        control = train.find(name)
        (control.setCurrentText if name in ("train_data", "train_target") else control.setText)(text)
        if text == "others":
            train.add(name="others", rgb=True, shape=(32, 32, 3))
        if not words:
            train.viewer.layers.remove("others")
            train.add(name="others")
            continue
        if name == "train_data" and text == "cells":
            train.add()
        train.run()
        assert train.find("train_run").isEnabled(), text
        assert len(notices) == 1, (name, text)
        assert words in notices[0]
        if name in ("train_peak", "train_psf_sigma"):
            control.setText("1")
    assert not train.jobs


# --- the real job ---


def counts(peak: float, seed: int = 0, shape: tuple[int, ...] = (4, 72, 80)) -> np.ndarray:
    sharp = gaussian_filter((np.random.default_rng(1).random(shape) > 0.97) * 40.0, (0, 2, 2))
    return np.random.default_rng(seed).poisson(peak * (sharp / sharp.max() + 0.05)).astype(np.uint16)


@pytest.fixture
def real(train: Any, monkeypatch: Any) -> Any:
    """A tiny base model, and a training of two steps that each help."""
    import torch

    from napari_deqmd.core.regularizers import build
    from napari_deqmd.training import finetune
    from napari_deqmd.training.models import save_model, user_folder
    from napari_deqmd.training.progress import Report

    options = {"channels": 4, "depth": 2}
    card = {"family": "red", "options": options, "ndim": 2}
    for name, ndim in (("tiny", 2), ("stacks", 3)):
        save_model(build("red", options), user_folder() / f"{name}.safetensors", card | {"ndim": ndim})

    def steps(regularizer: Any, draw: Any, *, validate: Any, **_: Any) -> Any:
        train.device = regularizer.strength.a.device.type
        for step in (1, 2):
            draw(step, 1)
            regularizer.strength.a.data += 1
            yield Report(step, 0.5, float(step), validate(regularizer))

    def score(job: Any, regularizer: Any) -> Any:
        moved = regularizer.strength.a.item() - job.base.regularizer.strength.a.item()
        job._patch = np.ones((16, 16), np.float32) + moved
        return torch.full((8,), 5 + job.source.held_out.sign * moved / 2, dtype=torch.float64)

    monkeypatch.setattr(finetune, "train_equilibrium", steps)
    monkeypatch.setattr(finetune.Finetuning, "_score", score)
    train.widget.job_factory = default_train_job
    train.find("base_model").refresh()
    train.find("base_model").setCurrentText("tiny")
    train.find("train_psf_sigma").setText("1")
    train.find("minutes").setValue(1)
    return train


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_appears_in_reconstruct_at_once_with_its_card(
    real: Any, reconstruct_beside: Any, qtbot: Any, notices: list[str], kind: str
) -> None:
    reconstruct = reconstruct_beside(real.viewer)
    reconstruct.method.method_combo.setCurrentText("rl")
    models = reconstruct.method.model_combo
    models.setCurrentText("fluorescence-2d")
    real.viewer.add_image(counts(600, seed=2), name="long")
    real.viewer.add_image(counts(30), name="short")
    real.find("train_kind").setCurrentText(kind)
    real.find("train_data").setCurrentText("long" if kind == "clean" else "short")
    real.find("train_target").setCurrentText("long")
    real.run()
    real.wait_idle()
    assert "Fine-tuning helped" in real.find("train_status").text()
    assert real.find("train_device_label").text().startswith(f"{real.device.upper()}: ")
    assert not real.find("train_use").isEnabled()
    real.find("model_name").setText("mine")
    real.find("train_save").click()
    wait_for(qtbot, lambda: "mine" in items(models))
    assert models.currentText() == "fluorescence-2d"
    assert "mine" in items(real.find("base_model"))
    wait_for(qtbot, real.find("train_use").isEnabled)
    real.find("train_use").click()
    assert not reconstruct.parent().isHidden()
    assert reconstruct.method.values()["method"] == "deq-md"
    assert models.currentText() == "mine"
    assert "tiny fine-tuned" in models.toolTip()
    assert "of held-out patches: 5 before" in models.toolTip()
    wait_for(qtbot, real.find("train_save").isEnabled)
    assert not notices
    real.find("train_save").click()
    wait_for(qtbot, lambda: bool(notices))
    assert "exists already: choose another name" in notices[0]


def test_a_folder_with_an_unreadable_file(real: Any, tmp_path: Path, notices: list[str]) -> None:
    folder = tmp_path / "low"
    folder.mkdir()
    for i, image in enumerate(counts(30)):
        tifffile.imwrite(folder / f"{i}.tif", image)
    (folder / "broken.tif").write_bytes(b"no")
    real.find("train_data").setCurrentText(str(folder))
    real.run()
    real.wait_idle()
    assert len(notices) == 1
    assert notices[0].startswith("Left out: broken.tif is not a TIFF file")
    assert "broken.tif" in real.find("train_notes").text()
    assert "Fine-tuning helped" in real.find("train_status").text()


def test_offset_and_gain_are_taken_off(real: Any) -> None:
    real.viewer.add_image(2 * counts(30) + 100, name="short", metadata={"offset": 100.0, "gain": 2.0})
    real.run()
    real.wait_idle()
    _, outcome = real.widget.runner.kept
    assert real.widget.runner.kept[0].source.facts["peaks"] == pytest.approx([30] * 4, rel=0.4)
    assert not any("rounded" in note for note in outcome.notes)


WIDE = np.array([counts(peak, seed, (1, 96, 160))[0] for seed, peak in enumerate((30, 600))])
REFUSED: tuple[tuple[dict[str, Any], np.ndarray | None, np.ndarray, str], ...] = (
    ({}, None, counts(30)[0, :40, :40], "too few or too small"),
    ({}, None, counts(30)[:, :20, :20], "too few or too small"),
    ({}, None, np.zeros((4, 48, 48)), "black"),
    ({}, counts(600)[:, :, :40], counts(30), "shapes (72, 80) and (72, 40)"),
    ({}, counts(600)[:3], counts(30), "different numbers of planes"),
    ({}, WIDE[1, :, 25:], WIDE[0, :, :-25], "are shifted by 25 pixels"),
    ({"train_axes": "ZYX"}, None, counts(30), "is a stack along Z"),
    ({"base_model": "stacks"}, None, counts(30), "is for 3D stacks"),
    ({"train_data": "nowhere"}, None, counts(30), "There is no file nowhere"),
    ({"train_data": "short; flat"}, None, counts(30), "There is no file flat"),
    ({"train_peak": "20:200"}, None, counts(30), "range of peaks is for clean images"),
)


def test_images_that_cannot_be_learned_from(real: Any, notices: list[str]) -> None:
    """One sentence each, and the widget is ready again."""
    usual = {"train_data": "short", "train_target": "long", "base_model": "tiny"}
    usual |= {"train_axes": "", "train_peak": "auto"}
    for options, targets, images, words in REFUSED:
        notices.clear()
        real.viewer.layers.clear()
        for name, data in (("long", targets), ("short", images)):
            if data is not None:
                real.viewer.add_image(data, name=name, contrast_limits=(0, 1))
        real.find("train_kind").setCurrentText("noisy" if targets is None else "paired")
        for name, text in (usual | options).items():
            control = real.find(name)
            (control.setText if name in ("train_axes", "train_peak") else control.setCurrentText)(text)
        real.run()
        real.wait_idle()
        assert len(notices) == 1, words
        assert words in notices[0]
        assert real.find("train_status").text() == notices[0]
        assert not real.find("train_save").isEnabled()


def test_a_labelled_stack_is_refused_and_may_be_called_a_series(real: Any, notices: list[str]) -> None:
    real.viewer.add_image(counts(30), name="stack", axis_labels=("z", "y", "x"))
    real.run()
    real.wait_idle()
    assert "stack is a stack along Z" in notices[0]
    real.find("train_axes").setText("tyx")
    real.run()
    real.wait_idle()
    assert "Fine-tuning helped" in real.find("train_status").text()


def test_a_result_that_was_not_saved_can_be_while_the_next_is_made(
    train: Any, qtbot: Any, notices: list[str]
) -> None:
    FakeTrainJob.steps_ = 9
    train.add()
    train.run()
    train.wait_idle()
    assert notices == []
    FakeTrainJob.steps_, FakeTrainJob.helps = 100_000, False
    train.run()
    assert len(notices) == 1
    assert "not saved" in notices[0]
    wait_scores(train, qtbot, 1)
    train.find("train_stop").click()
    train.wait_idle()
    train.find("model_name").setText("mine")
    train.find("train_save").click()
    wait_for(qtbot, lambda: bool(train.jobs[0].saved))
    wait_for(qtbot, lambda: "Saved as mine" in train.find("train_status").text())
    train.run()
    assert len(notices) == 1
    assert not train.find("train_save").isEnabled()
    train.find("train_stop").click()
    train.wait_idle()


def test_the_dashed_line_has_a_name(train: Any) -> None:
    assert train.find("train_plot")._line_name.toPlainText() == "base"


def test_a_folder_has_not_the_camera_of_the_layer_before(train: Any, tmp_path: Path) -> None:
    own = train.find("train_gain").value()
    train.add(metadata={"offset": 100, "gain": 2.2, "psf": "gaussian:sigma=3"})
    assert train.find("train_gain").value() == 2.2
    train.widget.images.input.combo.choose_several([str(tmp_path)])
    assert (train.find("train_offset").value(), train.find("train_gain").value()) == (0, own)
    assert train.find("train_psf_sigma").text() != "3"
