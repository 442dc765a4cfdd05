"""Provenance beside a result."""

import errno
import json
import os
import pathlib

import numpy as np
import pytest
import tifffile

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.sidecar import (
    check_result,
    read_sidecar,
    sidecar_path,
    versions,
    write_result,
    write_sidecar,
)
from napari_deqmd.io.stack import Stack, read_stack

STACK = Stack(np.ones((4, 5), np.float32), "YX")


def test_values_become_json_and_come_back(tmp_path):
    output = tmp_path / "out.ome.tif"
    write_sidecar(
        output,
        {
            "b": np.float32(0.5),
            "a": (1, np.int64(2)),
            "nested": {3: np.arange(2), "nan": float("nan"), "inf": np.inf},
            "path": pathlib.Path("x"),
            "none": None,
            "yes": np.True_,
            "greek": "µ",
        },
    )
    assert sidecar_path(output).name == "out.ome.tif.json"
    assert read_sidecar(output) == {
        "a": [1, 2], "b": 0.5, "nested": {"3": [0, 1], "nan": None, "inf": None}, "path": "x", "none": None,
        "yes": True, "greek": "µ",
    }  # fmt: skip
    text = sidecar_path(output).read_text(encoding="utf-8")
    assert text.index('"a"') < text.index('"b"')
    assert "µ" in text
    assert read_sidecar(sidecar_path(output)) == read_sidecar(output)


def test_versions_without_importing():
    found = versions()
    assert found["python"].startswith("3.")
    assert {"napari-deqmd", "numpy", "torch"} <= found.keys()


def test_image_and_sidecar_are_written_together(tmp_path):
    write_result(tmp_path / "out.tif", STACK, {"peak": 60})
    assert read_sidecar(tmp_path / "out.tif")["peak"] == 60
    assert read_stack(tmp_path / "out.tif").data.shape == (4, 5)


def test_neither_is_written_when_one_fails(tmp_path, monkeypatch):
    def half(handle, *args, **options):
        raise RuntimeError("bug")

    monkeypatch.setattr(tifffile, "imwrite", half)
    with pytest.raises(RuntimeError):
        write_result(tmp_path / "out.tif", STACK, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.tif", "out.ome.zarr"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_disk_that_fills_at_any_step_leaves_what_was_there(tmp_path, monkeypatch, name, overwrite):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    def second(source, target, replace=os.replace):
        if str(target).endswith(".json") and str(source).endswith(".part") and not replaced:
            replaced.append(target)
            full()
        replace(source, target)

    replaced = []
    if overwrite:
        write_result(tmp_path / name, STACK, {"peak": 60})
    before = sorted(tmp_path.iterdir())
    for owner, method, broken in ((pathlib.Path, "write_bytes", full), (os, "replace", second)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, broken)
            with pytest.raises(UserError, match="is full"):
                write_result(tmp_path / name, STACK, {"peak": 7}, overwrite=overwrite)
        assert sorted(tmp_path.iterdir()) == before
    if overwrite:
        assert read_sidecar(tmp_path / name)["peak"] == 60
        assert read_stack(tmp_path / name).metadata["provenance"]["peak"] == 60


def test_existing_sidecar_is_kept(tmp_path):
    sidecar_path(tmp_path / "out.tif").write_text("mine")
    with pytest.raises(UserError, match=r"out\.tif\.json exists already"):
        write_result(tmp_path / "out.tif", STACK, {})
    assert [path.name for path in tmp_path.iterdir()] == ["out.tif.json"]
    write_result(tmp_path / "out.tif", STACK, {}, overwrite=True)
    assert read_sidecar(tmp_path / "out.tif").keys() == {"output"}


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_damaged_sidecar(tmp_path, text):
    sidecar_path(tmp_path / "out.tif").write_text(text)
    with pytest.raises(UserError, match="damaged"):
        read_sidecar(tmp_path / "out.tif")


def test_missing_sidecar(tmp_path):
    with pytest.raises(UserError, match="There is no"):
        read_sidecar(tmp_path / "out.tif")


def test_sidecar_is_plain_json(tmp_path):
    write_sidecar(tmp_path / "out.tif", {"peak": 1})
    assert json.loads(sidecar_path(tmp_path / "out.tif").read_text()) == {"peak": 1}


def test_a_name_that_is_no_text_is_written_down_legibly(tmp_path):
    name = os.fsdecode(b"caf\xe9.tif")
    write_result(tmp_path / "out.tif", STACK, {"input": {"path": name}})
    assert read_sidecar(tmp_path / "out.tif")["input"]["path"] == "caf\\udce9.tif"
    assert read_stack(tmp_path / "out.tif").metadata["provenance"]["input"]["path"] == "caf\\udce9.tif"


def test_a_name_that_leaves_no_room_for_the_sidecar_s_is_told_before_any_work(tmp_path):
    with pytest.raises(UserError, match="too long"):
        check_result(tmp_path / ("a" * 236 + ".tif"), overwrite=False)
