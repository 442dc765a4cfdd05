"""Save result: what the button writes, the command line makes again, bit for bit."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch  # noqa: F401  (its first import may take longer than a test waits)
from napari.layers import Image
from qtpy.QtWidgets import QFileDialog

from napari_deqmd.cli import main
from napari_deqmd.core.errors import UserError
from napari_deqmd.io.sidecar import fingerprint, read_sidecar
from napari_deqmd.io.stack import Stack, read_stack, write_stack
from napari_deqmd.widgets import run as run_module
from napari_deqmd.widgets.form import PsfChoice
from napari_deqmd.widgets.layers import read_layer
from napari_deqmd.widgets.opening import layers_of, place_of
from napari_deqmd.widgets.reconstruct import default_job
from napari_deqmd.widgets.saving import FILTERS, Record, ending_of
from napari_deqmd.widgets.saving import save as save_result

SIZES = (0.1, 0.13)


@pytest.fixture
def opened(bench: Any, tmp_path: Path) -> Any:
    """Return the bench with the real job and a file of two channels opened, and the second of them chosen."""
    bench.widget.job_factory = default_job
    counts = np.random.default_rng(0).poisson(20, (2, 40, 48)).astype(np.uint16)
    bench.path = tmp_path / "in.ome.tif"
    write_stack(bench.path, Stack(counts, "CYX", SIZES, ("DAPI", "GFP")))
    for data, arguments in layers_of(read_stack(bench.path), str(bench.path)):
        layer = bench.viewer.add_image(data, **arguments)
    bench.widget.image.layer_combo.choose(layer)
    bench.find("method").setCurrentText("md-tv")
    return bench


def save(bench: Any, qtbot: Any, path: Path) -> None:
    assert bench.find("save_result").isEnabled()
    bench.widget.save_path(str(path))
    qtbot.waitUntil(lambda: bench.find("save_result").isEnabled(), timeout=10_000)


def again(bench: Any, sidecar: Path, capsys: Any) -> Any:
    """Run a sidecar on the command line; return the words, and whether it is the same result."""
    capsys.readouterr()
    target = sidecar.with_name("again.ome.tif")
    assert (
        main(
            [
                "reconstruct",
                str(bench.path),
                "--from",
                str(sidecar),
                "-o",
                str(target),
                "--json",
                "--overwrite",
            ]
        )
        == 0
    )
    printed = capsys.readouterr()
    return printed.err, json.loads(printed.out)["same_result"]


def test_a_saved_result_runs_again(opened: Any, qtbot: Any, tmp_path: Path, capsys: Any) -> None:
    assert not opened.find("save_result").isEnabled()
    opened.run(max_iter=4)
    opened.wait_idle()
    for name in ("out.ome.tif", "out.ome.zarr"):
        save(opened, qtbot, tmp_path / name)
        stack = read_stack(tmp_path / name).load()
        assert np.array_equal(stack.data, opened.viewer.layers["in GFP deconvolved"].data)
        assert (stack.axes, stack.voxel_size, stack.channel_names) == ("YX", pytest.approx(SIZES), ("GFP",))
        content = read_sidecar(tmp_path / name)
        assert stack.metadata["provenance"]["psf"] == content["psf"]
        assert content["input"]["path"] == str(opened.path)
        assert again(opened, tmp_path / f"{name}.json", capsys) == ("", True)


def test_a_region_a_psf_layer_and_a_stop(opened: Any, qtbot: Any, tmp_path: Path, capsys: Any) -> None:
    y, x = np.mgrid[-3:4, -3:4]
    opened.viewer.add_image(np.exp(-(y**2 + x**2) / 3.0), name="bead", scale=SIZES, units=("um", "um"))
    opened.widget.image.layer_combo.choose(opened.viewer.layers["in GFP"])
    opened.find("psf_source").setCurrentText("Layer")
    opened.find("psf_layer").setCurrentText("bead")
    corners = np.array([[4, 6], [4, 40], [36, 40], [36, 6]]) - 0.5
    opened.viewer.add_shapes(corners * SIZES, name="box", units=("um", "um"))
    opened.find("roi").setCurrentText("box")
    opened.find("tol").setText("1e-12")
    opened.run()
    opened.wait_preview("in GFP deconvolved (region)")
    opened.find("stop").click()
    opened.wait_idle()
    save(opened, qtbot, tmp_path / "out")
    content = read_sidecar(tmp_path / "out.ome.tif")
    assert content["stopped_by"] == "user"
    assert content["input"]["given"]["part"] == {"C": 1, "Y": [4, 35], "X": [6, 39]}
    told, same = again(opened, tmp_path / "out.ome.tif.json", capsys)
    assert same is True
    assert told == ""


def test_a_saved_region_lies_where_it_was(bench: Any, qtbot: Any, tmp_path: Path) -> None:
    bench.widget.job_factory = default_job
    counts = np.random.default_rng(0).poisson(20, (4, 2, 24, 32)).astype(np.uint16)
    known = {"origin": {"T": 10.0, "Y": 5.0, "X": -3.0}, "time_interval": 2.0}
    write_stack(tmp_path / "in.ome.tif", Stack(counts, "TCYX", SIZES, (), known))
    for data, arguments in layers_of(read_stack(tmp_path / "in.ome.tif"), str(tmp_path / "in.ome.tif")):
        layer = bench.viewer.add_image(data, **arguments)
    assert tuple(layer.translate) == pytest.approx((5.0, 5.0, -3.0))
    assert tuple(layer.axis_labels) == ("t", "y", "x")
    corners = np.array([[4, 6], [4, 30], [20, 30], [20, 6]]) - 0.5
    bench.viewer.add_shapes(corners * SIZES + (5.0, -3.0), name="box", units=("um", "um"))
    bench.widget.image.layer_combo.choose(layer)
    bench.find("method").setCurrentText("rl")
    bench.find("roi").setCurrentText("box")
    bench.find("time_choice").setCurrentText("2-3")
    bench.run(max_iter=2)
    bench.wait_idle()
    save(bench, qtbot, tmp_path / "out.ome.tif")
    stack = read_stack(tmp_path / "out.ome.tif")
    assert (stack.axes, stack.data.shape) == ("TYX", (2, 16, 24))
    assert stack.metadata["origin"] == pytest.approx({"T": 14.0, "Y": 5.4, "X": -3 + 6 * 0.13})
    ((_, arguments),) = layers_of(stack, "out.ome.tif")
    result = bench.viewer.layers[f"{layer.name} deconvolved (region)"]
    assert arguments["translate"] == pytest.approx(tuple(result.translate))
    assert result.metadata["origin"] == pytest.approx(stack.metadata["origin"])


def test_what_other_programs_keep_under_our_names_is_no_hindrance(
    bench: Any, qtbot: Any, tmp_path: Path
) -> None:
    odd = {"origin": (0, 0), "time_interval": "2 s", "channel_colors": {"a": 1}, "optics": None}
    bench.add((4, 24, 24), axis_labels=("t", "y", "x"), metadata=odd)
    bench.widget.job_factory = default_job
    bench.find("method").setCurrentText("rl")
    bench.find("time_choice").setCurrentText("2-3")
    bench.run(max_iter=2)
    bench.wait_idle()
    save(bench, qtbot, tmp_path / "out.ome.tif")
    assert read_stack(tmp_path / "out.ome.tif").data.shape == (2, 24, 24)


def test_a_result_of_a_result_says_so(opened: Any, qtbot: Any, tmp_path: Path) -> None:
    opened.find("method").setCurrentText("rl")
    opened.run(max_iter=3)
    opened.wait_idle()
    first = opened.viewer.layers["in GFP deconvolved"]
    opened.widget.image.layer_combo.choose(first)
    opened.run(max_iter=2)
    opened.wait_idle()
    save(opened, qtbot, tmp_path / "out.ome.tif")
    source = read_sidecar(tmp_path / "out.ome.tif")["input"]
    assert (source["path"], source["given"]["part"], source["given"]["axes"]) == (None, None, "YX")
    assert source["sha256"] == fingerprint(first.data)
    made = source["provenance"]
    assert made["input"] == {"layer": "in GFP", "path": str(opened.path)}
    assert (made["config"]["method"], made["config"]["max_iter"]) == ("rl", 3)


def test_an_origin_needs_a_scale() -> None:
    known = {"origin": {"T": 4.0, "Y": 5.0}}
    assert "translate" not in place_of("TYX", None, known)
    assert place_of("TYX", (0.1, 0.1), known)["translate"] == (0.0, 5.0, 0.0)
    assert place_of("TYX", None, known | {"time_interval": 2.0})["translate"] == (2.0, 0.0, 0.0)


def test_a_mask_is_saved_with_its_result(opened: Any, qtbot: Any, tmp_path: Path, capsys: Any) -> None:
    dead = np.zeros((40, 48), int)
    dead[10:12, 20] = 3
    opened.viewer.layers["in GFP"].data[10:12, 20] = 60_000
    write_stack(
        opened.path,
        Stack(np.stack([layer.data for layer in opened.viewer.layers]), "CYX", SIZES),
        overwrite=True,
    )
    opened.viewer.add_labels(dead, name="dead")
    opened.viewer.add_shapes(
        (np.array([[4, 6], [4, 40], [36, 40], [36, 6]]) - 0.5) * SIZES, name="box", units=("um", "um")
    )
    opened.widget.image.layer_combo.choose(opened.viewer.layers["in GFP"])
    opened.find("mask_layer").setCurrentText("dead")
    opened.find("roi").setCurrentText("box")
    opened.run(max_iter=4)
    opened.wait_idle()
    report = opened.viewer.layers["in GFP deconvolved (region)"].metadata["report"]
    assert report["items"][0]["bad_pixels"] == 2
    assert report["peak"] < 100
    for name in ("out.ome.tif", "out.ome.zarr"):
        save(opened, qtbot, tmp_path / name)
        mask = read_sidecar(tmp_path / name)["maps"]["mask"]
        assert Path(mask["source"]).name == f"out-mask{name.removeprefix('out')}"
        assert np.array_equal(read_stack(mask["source"]).load().data != 0, dead[4:36, 6:40] != 0)
        told, same = again(opened, tmp_path / f"{name}.json", capsys)
        assert (told.count("map"), same) == (0, True)


@pytest.fixture
def beaded(opened: Any) -> Any:
    """Return the bench after a run with a PSF that is a layer."""
    y, x = np.mgrid[-3:4, -3:4]
    opened.viewer.add_image(np.exp(-(y**2 + x**2) / 3.0), name="bead", scale=SIZES, units=("um", "um"))
    opened.widget.image.layer_combo.choose(opened.viewer.layers["in GFP"])
    opened.find("psf_source").setCurrentText("Layer")
    opened.find("psf_layer").setCurrentText("bead")
    opened.find("method").setCurrentText("rl")
    opened.run(max_iter=2)
    opened.wait_idle()
    return opened


def test_a_save_that_fails_leaves_nothing(
    beaded: Any, qtbot: Any, tmp_path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_deqmd.io import sidecar

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sidecar, "write_into", full)
        save(beaded, qtbot, tmp_path / "out")
    assert len(notices) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.ome.tif"]
    save(beaded, qtbot, tmp_path / "out")
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"in.ome.tif", "out.ome.tif", "out.ome.tif.json", "out-psf.ome.tif"}


def test_what_lies_beside_is_replaced_only_if_it_is_the_results(
    beaded: Any, qtbot: Any, tmp_path: Path, notices: list[str]
) -> None:
    foreign = tmp_path / "out-psf.ome.tif"
    for earlier in ((), ("out.ome.tif",)):
        for name in (foreign.name, *earlier):
            write_stack(tmp_path / name, Stack(np.ones((5, 5), np.float32), "YX"), overwrite=True)
        before = foreign.read_bytes()
        save(beaded, qtbot, tmp_path / "out.ome.tif")
        assert "out-psf.ome.tif exists already" in notices.pop()
        assert foreign.read_bytes() == before
    foreign.unlink()
    for _ in range(2):
        save(beaded, qtbot, tmp_path / "out.ome.tif")
    assert notices == []
    assert read_stack(foreign).data.shape == (7, 7)


def test_save_follows_the_run_while_it_saves(
    bench: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def wait(*_: Any, **__: Any) -> Path:
        go.wait(10)
        return tmp_path / "out.ome.tif"

    monkeypatch.setattr(run_module, "save", wait)
    button = bench.find("save_result")
    bench.add()
    bench.run(max_iter=2)
    bench.wait_idle()
    bench.widget.save_path("out.ome.tif")
    bench.run(max_iter=2)
    bench.wait_idle()
    assert not button.isEnabled()  # it still saves
    bench.run()
    go.set()
    qtbot.waitUntil(lambda: bench.widget._saving._worker is None, timeout=5000)
    assert not button.isEnabled()  # it runs
    bench.find("stop").click()
    bench.wait_idle()
    assert button.isEnabled()


def test_the_input_is_not_overwritten(opened: Any, qtbot: Any, notices: list[str]) -> None:
    opened.run(max_iter=2)
    opened.wait_idle()
    before = opened.path.read_bytes()
    save(opened, qtbot, opened.path)
    assert "is the input" in notices[0]
    assert opened.path.read_bytes() == before


def test_a_result_that_left_cannot_be_saved(bench: Any) -> None:
    layer = bench.add()
    bench.run(max_iter=2)
    bench.wait_idle()
    assert bench.find("save_result").isEnabled()
    bench.viewer.layers.remove(f"{layer.name} deconvolved")
    assert not bench.find("save_result").isEnabled()
    with pytest.raises(UserError, match="press Run first"):
        bench.widget.runner.saving("out.tif")


def test_a_preview_is_no_result(bench: Any) -> None:
    bench.add()
    bench.find("max_iter").setValue(2)
    bench.find("preview").click()
    bench.wait_idle()
    assert not bench.find("save_result").isEnabled()


def test_the_kind_that_was_chosen_is_written(
    bench: Any, qtbot: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "cells"), "OME-Zarr (*.ome.zarr)")
    )
    bench.add()
    bench.run(max_iter=3)
    bench.wait_idle()
    bench.find("save_result").click()
    qtbot.waitUntil(lambda: "Saved as" in bench.find("status").text(), timeout=10_000)
    assert (tmp_path / "cells.ome.zarr").is_dir()


@pytest.mark.parametrize("kind", FILTERS.split(";;"))
def test_endings_of_the_kinds(kind: str) -> None:
    assert f"*{ending_of(kind)})" in kind
    assert ending_of("") == ".ome.tif"


def test_an_ome_zarr_has_its_folders_name(tmp_path: Path) -> None:
    """File dialogs ask for a file in it; and it is no place for a result of its own."""
    path = tmp_path / "cells.ome.zarr"
    write_stack(path, Stack(np.ones((8, 8), np.float32), "YX", SIZES))
    mark = next(path / name for name in ("zarr.json", ".zattrs") if (path / name).exists())
    ((_, arguments),) = layers_of(read_stack(mark), str(mark))
    assert arguments["name"] == "cells"
    layer = Image(np.ones((8, 8), np.float32), **arguments)
    image = read_layer(layer, "YX")
    psf = np.ones((1, 1), np.float32)
    record = Record.of(image, image.load(), PsfChoice(theory="gaussian:sigma=1"), psf, image.maps())
    with pytest.raises(UserError, match="is the input"):
        save_result(str(path), image.load(), record, {})
