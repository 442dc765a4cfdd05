"""Memory: predictions grow as the arrays do, a run that cannot fit is refused, sizes are read and written."""

import subprocess
import sys

import pytest

from napari_deqmd.core.errors import UserError
from napari_deqmd.scale import memory
from napari_deqmd.scale.memory import (
    advice,
    available_bytes,
    format_bytes,
    parse_bytes,
    peak_memory,
    predict_bytes,
)


def test_twice_the_image_needs_twice_the_memory():
    one = predict_bytes((1024, 1024), (13, 13), method="rl")
    two = predict_bytes((2048, 1024), (13, 13), method="rl")
    assert two == pytest.approx(2 * one, rel=0.05)


def test_the_extended_object_needs_more():
    sizes = [
        predict_bytes((64, 64, 64), (33, 33, 33), method="md-tv", boundary=boundary)
        for boundary in ("periodic", "extended")
    ]
    assert sizes[1] > 2 * sizes[0]


@pytest.mark.parametrize(("less", "more"), [("rl", "md-tv"), ("md-tv", "deq-md")])
def test_methods_differ(less, more):
    assert predict_bytes((512, 512), (9, 9), method=less) < predict_bytes((512, 512), (9, 9), method=more)


def test_the_plain_solver_remembers_less():
    sizes = [
        predict_bytes((512, 512), (9, 9), method="md-tv", solver=solver)
        for solver in ("plain", "accelerated")
    ]
    assert sizes[0] < sizes[1]


def test_a_network_sees_a_large_stack_in_pieces():
    one = predict_bytes((16, 512, 512), (9, 9, 9), solver="plain")
    eight = predict_bytes((128, 512, 512), (9, 9, 9), solver="plain")
    assert eight < 6 * one


def test_all_orientations_of_a_small_image_are_seen_at_once_and_of_a_large_one_in_turn():
    def grows(side):
        one, four = (predict_bytes((side, side), (9, 9), orientations=many) for many in (1, 4))
        return four / one

    assert grows(64) > 2
    assert grows(1024) == 1


@pytest.mark.parametrize(
    ("method", "first", "told"),
    [
        ("rl", (), "crop the image"),
        ("rl", ("choose smaller tiles",), "choose smaller tiles, or crop the image"),
        ("md-tv", (), "crop the image, or choose method rl, which needs the least"),
    ],
)
def test_nobody_is_told_to_choose_what_he_has(method, first, told):
    assert advice(method, *first) == told


def test_available_memory_is_known_here():
    assert available_bytes("cpu") > 10**7
    assert available_bytes("mps") is None


def test_sources_of_available_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_meminfo", lambda: 5000)
    monkeypatch.setattr(memory, "_cgroup", lambda: 3000)
    assert available_bytes() == 3000
    monkeypatch.setattr(memory, "_cgroup", lambda: None)
    assert available_bytes() == 5000
    monkeypatch.setattr(memory, "_meminfo", lambda: None)
    monkeypatch.setattr(memory, "_psutil", lambda: 4000)
    assert available_bytes() == 4000


def test_container_limit(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 100\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory._cgroup() == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._cgroup() is None


def test_without_files_or_psutil(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    assert memory._meminfo() is None
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert memory._psutil() is None


def test_peak_is_what_was_held():
    code = (
        "from napari_deqmd.scale.memory import peak_memory; a = peak_memory(); b = b'1' * 80_000_000;"
        "print(peak_memory() - a)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) == pytest.approx(80e6, rel=0.2)
    assert peak_memory("cpu") > 0


def test_peak_where_there_is_no_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    assert peak_memory("cpu") > 0
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory("cpu") == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("4 gb", 4 * 10**9),
        ("512MiB", 2**29),
        ("1.5g", 1.5e9),
        ("2e9", 2 * 10**9),
        ("12kB", 12000),
        ("3T", 3 * 10**12),
        ("7B", 7),
    ],
)
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "4XB", "-1GB", "nan", "0", "4 G B", "infGB"])
def test_what_is_no_size(text):
    with pytest.raises(UserError, match="memory size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("size", "text"), [(12, "12 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e13, "30 TB"), (999_999, "1 MB")]
)
def test_sizes_are_written(size, text):
    assert format_bytes(size) == text
