"""Folders and files as planes: in order, in pairs, and what cannot be read is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.planes import Loaded, read_planes
from napari_deqmd.io.stack import Stack, write_stack


def plane(value: int) -> np.ndarray:
    return np.full((6, 5), value, np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    low = tmp_path / "low"
    low.mkdir()
    for i in (2, 0, 1):
        tifffile.imwrite(low / f"{i}.tif", plane(i))
    return low


def values(found: object) -> list[tuple[int, ...]]:
    return [tuple(int(image.flat[0]) for image in row) for row in found.rows]


def test_a_folder_is_read_in_the_order_of_its_names(folder):
    found = read_planes([folder])
    assert values(found) == [(0,), (1,), (2,)]
    assert found.skipped == ()


def test_files_are_read_in_the_order_given(folder):
    assert values(read_planes([folder / "2.tif", str(folder / "0.tif")])) == [(2,), (0,)]


def test_time_and_channels_are_planes(tmp_path):
    data = np.arange(6, dtype=np.float32).reshape(3, 2, 1, 1) * np.ones((3, 2, 6, 5), np.float32)
    write_stack(tmp_path / "tc.ome.tif", Stack(data, "TCYX", (0.1, 0.1)))
    found = read_planes([tmp_path / "tc.ome.tif"])
    assert values(found) == [(0,), (1,), (2,), (3,), (4,), (5,)]
    assert found.first.voxel_size == pytest.approx((0.1, 0.1))


def test_pictures_are_read(tmp_path):
    Image.fromarray(np.full((6, 5), 9, np.uint8)).save(tmp_path / "a.png")
    assert values(read_planes([tmp_path])) == [(9,)]


def test_the_voxel_size_may_be_given(folder):
    Image.fromarray(np.full((6, 5), 9, np.uint8)).save(folder / "a.png")
    for source in (folder / "0.tif", folder / "a.png"):
        assert read_planes([source], voxel_size=(0.1, 0.2)).first.voxel_size == (0.1, 0.2)
        with pytest.raises(UserError, match="3 numbers for the axes Y,X"):
            read_planes([source], voxel_size=(0.3, 0.1, 0.2))


def test_pixels_of_several_sizes_are_refused_unless_one_is_given(folder, tmp_path):
    for i, size in enumerate((0.1, 0.1005, 0.4)):
        write_stack(tmp_path / f"{i}.ome.tif", Stack(plane(i).astype(np.float32), "YX", (0.1, size)))
    same, other = tmp_path / "1.ome.tif", tmp_path / "2.ome.tif"
    assert len(read_planes([tmp_path / "0.ome.tif", same, folder / "0.tif"]).rows) == 3
    with pytest.raises(
        UserError, match=r"pixels of 0\.1 x 0\.101 to 0\.1 x 0\.4 µm: give images of one size"
    ):
        read_planes([same, other])
    with pytest.raises(UserError, match="give images of one size"):
        read_planes([same], [other])
    assert len(read_planes([same, other], voxel_size=(0.1, 0.1)).rows) == 2


def test_a_palette_of_grays_is_gray_and_one_of_colours_is_refused(tmp_path):
    gray = np.arange(30, dtype=np.uint8).reshape(6, 5) * 8
    indexed = Image.fromarray(gray).convert("P")
    indexed.save(tmp_path / "gray.png")
    with Image.open(tmp_path / "gray.png") as picture:
        assert picture.mode == "P"
    assert np.array_equal(read_planes([tmp_path / "gray.png"]).rows[0][0], gray)
    reversed_ = Image.fromarray(255 - gray)
    reversed_ = reversed_.convert("P")
    reversed_.putpalette([255 - n // 3 for n in range(768)])
    reversed_.save(tmp_path / "reversed.png")
    assert np.array_equal(read_planes([tmp_path / "reversed.png"]).rows[0][0], gray)
    reversed_.putpalette([n % 256 for n in range(768)])
    reversed_.save(tmp_path / "coloured.png")
    with pytest.raises(UserError, match="colour"):
        read_planes([tmp_path / "coloured.png"])


def test_unreadable_files_of_a_folder_are_skipped_and_named(folder):
    (folder / "1.tif").write_bytes(b"no tiff")
    (folder / "3.png").write_bytes(b"no png")
    (folder / "notes.txt").write_text("no image")
    found = read_planes([folder])
    assert values(found) == [(0,), (2,)]
    assert [reason.split()[0] for reason in found.skipped] == ["1.tif", "3.png"]


def test_the_partner_of_an_unreadable_file_is_skipped_too(folder, tmp_path):
    high = tmp_path / "high"
    high.mkdir()
    for i in range(3):
        tifffile.imwrite(high / f"{i}.tif", plane(10 + i))
    (high / "1.tif").write_bytes(b"no tiff")
    assert values(read_planes([folder], [high])) == [(0, 10), (2, 12)]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("named.tif", b"no tiff", r"named\.tif is not a TIFF"),
        ("named.png", b"no png", r"named\.png cannot be read as a picture"),
        ("missing.tif", None, "no file"),
    ],
)
def test_a_named_file_must_be_readable(folder, name, content, says):
    if content is not None:
        (folder.parent / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_planes([folder, folder.parent / name])


def test_a_folder_of_unreadable_files_only(tmp_path):
    (tmp_path / "1.tif").write_bytes(b"no tiff")
    with pytest.raises(UserError, match=r"None of the files could be read: 1\.tif"):
        read_planes([tmp_path])


def test_nothing_to_read(tmp_path):
    with pytest.raises(UserError, match="no images in the input"):
        read_planes([tmp_path])


def test_stacks_along_z_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "z.tif", np.zeros((5, 6, 7), np.uint16))
    with pytest.raises(UserError, match=r"z\.tif is a stack along Z: fine-tuning takes planes"):
        read_planes([tmp_path])
    assert len(read_planes([tmp_path], axes="TYX").rows) == 5


def test_colour_pictures_are_refused(tmp_path):
    Image.fromarray(np.zeros((6, 5, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="colour"):
        read_planes([tmp_path / "a.png"])


def test_targets_must_fit(folder, tmp_path):
    with pytest.raises(UserError, match="3 input files and 1 targets"):
        read_planes([folder], [folder / "0.tif"])
    write_stack(tmp_path / "t.tif", Stack(np.zeros((2, 6, 5), np.float32), "TYX"))
    with pytest.raises(UserError, match="different numbers of planes"):
        read_planes([folder / "0.tif"], [tmp_path / "t.tif"])


def test_a_file_beside_its_folder_counts_once(folder, tmp_path):
    found = read_planes([folder, folder / "1.tif", folder / ".." / "low" / "2.tif"])
    assert values(found) == [(0,), (1,), (2,)]
    assert found.scenes == (0, 1, 2)
    layer = Loaded("layer", Stack(plane(7), "YX"))
    assert values(read_planes([layer, layer])) == [(7,)]


def test_one_image_with_two_targets_is_one_scene(folder):
    found = read_planes([folder / "0.tif", folder / "0.tif"], [folder / "1.tif", folder / "2.tif"])
    assert values(found) == [(0, 1), (0, 2)]
    assert found.scenes == (0, 0)


def test_planes_know_their_file(tmp_path, folder):
    write_stack(tmp_path / "t.ome.tif", Stack(np.ones((2, 6, 5), np.float32), "TYX"))
    found = read_planes([tmp_path / "t.ome.tif", folder / "1.tif"])
    assert [name for (name,) in found.names] == ["t.ome.tif, plane 1", "t.ome.tif, plane 2", "1.tif"]
    assert found.scenes == (0, 0, 1)
