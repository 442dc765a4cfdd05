"""OME-Zarr in and out: lazily, both versions, atomically; everything survives; bad ones get one sentence."""

import errno
import json
import os
import shutil
import sys

import numpy as np
import pytest

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.planes import read_planes
from napari_deqmd.io.sidecar import read_sidecar, write_result
from napari_deqmd.io.stack import Stack, read_stack, write_stack

zarr = pytest.importorskip("zarr")
pytest.importorskip("ome_zarr_models")

SIZES = {"T": 2, "C": 3, "Z": 4, "Y": 5, "X": 6}
VOXELS = {"Z": 0.3, "Y": 0.1, "X": 0.12}


def pixels(axes, dtype=np.float32):
    shape = tuple(SIZES[letter] for letter in axes)
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def made(axes, **metadata):
    sizes = tuple(VOXELS[letter] for letter in axes if letter in "ZYX")
    names = ("DAPI", "GFP µ", "a=b") if "C" in axes else ()
    return Stack(pixels(axes), axes, sizes, names, metadata)


def foreign(
    path,
    *,
    axes="zyx",
    version="0.4",
    unit="nanometer",
    scale=(300, 100, 120),
    levels=2,
    dtype="u2",
    **changes,
):
    """An image as another program writes it, made by zarr alone."""
    kinds = {"t": "time", "c": "channel"}
    shape = tuple(SIZES[letter.upper()] for letter in axes)
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(levels):
        data = np.arange(np.prod(shape)).reshape(shape).astype(dtype)[..., :: 2**level, :: 2**level]
        array = group.create_array(f"s{level}", shape=data.shape, dtype=data.dtype, chunks=data.shape)
        array[...] = data
        steps = [step * (2**level if letter in "yx" else 1) for step, letter in zip(scale, axes, strict=True)]
        datasets.append(
            {"path": f"s{level}", "coordinateTransformations": [{"type": "scale", "scale": steps}]}
        )
    named = [{"name": letter, "type": kinds.get(letter, "space")} for letter in axes]
    for axis in named:
        if axis["type"] == "space" and unit:
            axis["unit"] = unit
    image = {"axes": named, "datasets": datasets, "name": "theirs"} | changes
    omero = {
        "channels": [
            {"label": "one", "color": "00FF00", "window": {"min": 0, "max": 9, "start": 0, "end": 9}}
        ]
    }
    if version == "0.4":
        group.attrs.put({"multiscales": [image | {"version": "0.4"}], "omero": omero, "owner": "us"})
    else:
        group.attrs.put({"ome": {"version": "0.5", "multiscales": [image], "omero": omero}, "owner": "us"})
    return path


@pytest.fixture
def there(tmp_path):
    return tmp_path / "image.ome.zarr"


class TestReading:
    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    @pytest.mark.parametrize(
        ("unit", "factor"), [("nanometer", 1), ("micrometer", 1e-3), ("millimeter", 1e-6)]
    )
    def test_both_versions_and_units(self, there, version, unit, factor):
        foreign(there, version=version, unit=unit, scale=[factor * step for step in (300, 100, 120)])
        stack = read_stack(there)
        assert (stack.axes, stack.voxel_size) == ("ZYX", pytest.approx((0.3, 0.1, 0.12)))
        assert np.array_equal(stack.load().data, pixels("ZYX"))
        assert stack.metadata["zarr"]["owner"] == "us"

    @pytest.mark.parametrize("mark", [".zattrs", ".zgroup"])
    def test_named_by_a_file_in_it(self, there, mark):
        assert read_stack(foreign(there) / mark).axes == "ZYX"

    def test_levels(self, there):
        foreign(there)
        small = read_stack(there, level=1)
        assert (small.data.shape, small.voxel_size) == ((4, 3, 3), pytest.approx((0.3, 0.2, 0.24)))
        with pytest.raises(UserError, match="has 2 levels of resolution: choose 0 to 1"):
            read_stack(there, level=2)

    def test_lazy(self, there, monkeypatch):
        foreign(there)
        read = []
        get = zarr.Array.__getitem__

        def noted(self, key):
            found = get(self, key)
            read.extend(found.shape if found.size else ())
            return found

        monkeypatch.setattr(zarr.Array, "__getitem__", noted)
        data = read_stack(there).data
        assert read == []
        assert np.array_equal(np.asarray(data[1]), pixels("ZYX")[1])
        assert read

    def test_scale_of_the_whole_multiplies(self, there):
        foreign(there, coordinateTransformations=[{"type": "scale", "scale": [1, 2, 2]}])
        assert read_stack(there).voxel_size == pytest.approx((0.3, 0.2, 0.24))

    def test_without_units_there_is_no_size(self, there):
        foreign(there, unit=None)
        with pytest.warns(
            UserWarning, match="does not say the unit of Z, Y, X, so sizes are lost: give the vox"
        ):
            assert read_stack(there).voxel_size is None
        assert read_stack(there, voxel_size=(0.3, 0.1, 0.1)).voxel_size == (0.3, 0.1, 0.1)

    def test_times_without_a_unit(self, there):
        foreign(there, axes="tyx", scale=(2, 100, 120))
        with pytest.warns(UserWarning, match="does not say the unit of its times"):
            assert "time_interval" not in read_stack(there).metadata

    def test_order_xyz_becomes_zyx(self, there):
        foreign(there, axes="xyz", scale=(120, 100, 300), levels=1)
        stack = read_stack(there)
        assert (stack.axes, stack.voxel_size) == ("ZYX", pytest.approx((0.3, 0.1, 0.12)))
        assert stack.data.shape == (4, 5, 6)

    def test_big_endian_is_native_in_memory(self, there):
        stack = read_stack(foreign(there, dtype=">u2")).load()
        assert stack.data.dtype == np.uint16
        assert np.array_equal(stack.load().data, pixels("ZYX"))

    def test_axes_and_voxel_size_given(self, there):
        stack = read_stack(foreign(there), axes="TYX", voxel_size=(0.2, 0.2))
        assert (stack.axes, stack.voxel_size) == ("TYX", (0.2, 0.2))
        with pytest.raises(UserError, match="name 2 dimensions but"):
            read_stack(there, axes="YX")

    def test_planes_for_a_training(self, there, tmp_path):
        foreign(there, axes="tyx", scale=(1, 100, 100))
        foreign(tmp_path / "folder" / "b.zarr", axes="yx", scale=(100, 100))
        assert len(read_planes([there]).rows) == 2
        assert len(read_planes([tmp_path / "folder"]).rows) == 1


def test_layers_stay_lazy(there):
    pytest.importorskip("napari")
    from napari_deqmd.widgets.opening import layers_of

    write_stack(there, made("CZYX", channel_optics=[{"na": 1.4, "wavelength": 450.0 + i} for i in range(3)]))
    layers = layers_of(read_stack(there), str(there))
    assert [arguments["name"] for _, arguments in layers] == ["image DAPI", "image GFP µ", "image a=b"]
    assert not any(isinstance(data, np.ndarray) for data, _ in layers)
    assert np.array_equal(np.asarray(layers[1][0]), pixels("CZYX")[1])
    assert [arguments["metadata"]["optics"]["wavelength"] for _, arguments in layers] == [450, 451, 452]
    assert layers[0][1]["scale"] == pytest.approx((0.3, 0.1, 0.12))


class TestRoundTrip:
    @pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "CYX", "CZYX", "TZYX", "TCZYX"])
    def test_everything_comes_back(self, there, axes):
        kept = {
            "optics": {"na": 1.4, "ni": 1.515},
            "channel_optics": [{"na": 1.4, "ni": 1.515, "wavelength": 461.0 + i} for i in range(3)],
            "imagej": {"Info": "objective 63x, λ"},
            "provenance": {"peak": 60},
        } | ({"time_interval": 2.5} if "T" in axes else {})
        before = made(axes, **kept)
        write_stack(there, before)
        after = read_stack(there)
        assert np.array_equal(after.load().data, before.data)
        assert (after.data.dtype, after.axes) == (np.float32, axes)
        assert after.channel_names == before.channel_names
        assert after.voxel_size == pytest.approx(before.voxel_size)
        assert {key: after.metadata[key] for key in kept} == kept

    @pytest.mark.parametrize("axes", ["ZCYX", "TZCYX", "CTYX"])
    def test_order_that_the_format_does_not_have(self, there, axes):
        """OME-Zarr wants TCZYX."""
        before = made(axes)
        write_stack(there, before)
        after = read_stack(there)
        wanted = "".join(letter for letter in "TCZYX" if letter in axes)
        assert after.axes == wanted
        assert np.array_equal(
            after.load().data, before.data.transpose([axes.index(letter) for letter in wanted])
        )
        assert after.channel_names == before.channel_names

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_what_others_wrote(self, tmp_path, there, version):
        foreign(there, version=version)
        before = read_stack(there)
        write_stack(tmp_path / "out.zarr", before)
        after = read_stack(tmp_path / "out.zarr")
        assert after.voxel_size == pytest.approx(before.voxel_size)
        assert after.channel_names == before.channel_names
        assert after.metadata["zarr"]["owner"] == "us"
        assert after.metadata["zarr"]["omero"]["channels"][0]["color"] == "00FF00"

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    @pytest.mark.parametrize("between", ["between.ome.tif", "between.tif", "between.ome.zarr"])
    def test_place_name_and_colour_come_back(self, tmp_path, there, version, between):
        moved = {"type": "translation", "translation": [900, 20, 30]}
        foreign(
            there, version=version, coordinateTransformations=[{"type": "scale", "scale": [1, 1, 1]}, moved]
        )
        write_stack(tmp_path / between, read_stack(there), zarr_version=version)
        write_stack(tmp_path / "out.ome.zarr", read_stack(tmp_path / between), zarr_version=version)
        attributes = zarr.open_group(tmp_path / "out.ome.zarr", mode="r").attrs
        ome = attributes.get("ome", attributes)
        (moved,) = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][1:]
        assert moved["translation"] == pytest.approx([0.9, 0.02, 0.03])
        assert ome["multiscales"][0]["name"] == "theirs"
        assert ome["omero"]["channels"][0]["color"] == "00FF00"

    def test_a_part_and_a_coarser_level_keep_their_places(self, tmp_path, there):
        moved = {"type": "translation", "translation": [0, 100, 100]}
        foreign(there, coordinateTransformations=[{"type": "scale", "scale": [1, 2, 2]}, moved])
        part = read_stack(there).part({"Z": 1, "X": (2, 3)})
        assert part.metadata["origin"] == pytest.approx({"Z": 0.3, "Y": 0.1, "X": 0.1 + 2 * 0.24})
        data = np.ones((1, 300, 300), np.float32)
        write_stack(tmp_path / "out.zarr", Stack(data, "ZYX", (1, 0.1, 0.1), (), {"origin": {"Y": 5.0}}))
        assert read_stack(tmp_path / "out.zarr", level=1).metadata["origin"] == pytest.approx(
            {"Y": 5.05, "X": 0.05}
        )

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    @pytest.mark.parametrize(("step", "shape"), [(0.3, (5, 150, 320)), (0.1, (2, 150, 320))])
    def test_coarser_levels(self, there, version, step, shape):
        data = np.random.default_rng(0).random((5, 301, 640), np.float32)
        write_stack(there, Stack(data, "ZYX", (step, 0.1, 0.1)), zarr_version=version)
        full, half, quarter = (read_stack(there, level=level).load() for level in range(3))
        assert np.array_equal(full.data, data)
        assert (half.data.shape, quarter.data.shape[-2:]) == (shape, (75, 160))
        assert half.voxel_size == pytest.approx((step if step > 0.1 else 0.2, 0.2, 0.2))
        block = data[: 1 if step > 0.1 else 2, :2, :2]
        assert half.data[0, 0, 0] == pytest.approx(block.mean())
        with pytest.raises(UserError, match="has 3 levels"):
            read_stack(there, level=3)
        attributes = zarr.open_group(there, mode="r").attrs
        (image,) = attributes.get("ome", attributes)["multiscales"]
        moved = image["datasets"][1]["coordinateTransformations"][1]["translation"]
        assert moved == pytest.approx([0 if step > 0.1 else 0.05, 0.05, 0.05])
        assert zarr.open_group(there, mode="r").metadata.zarr_format == (2 if version == "0.4" else 3)

    def test_coarser_integers(self, there):
        data = np.full((2, 300), 3, np.uint16)
        data[0] = 65535
        write_result(there, Stack(data, "YX"), {}, dtype="uint16")
        assert (read_stack(there, level=1).load().data == (65535 + 3) / 2).all()

    def test_through_tiff_and_back(self, tmp_path, there):
        write_stack(there, made("CZYX", optics={"na": 1.4}, imagej={"Info": "text"}))
        for name in ("a.ome.tif", "b.tif", "c.zarr"):
            write_stack(tmp_path / name, read_stack(there))
            there = tmp_path / name
        stack = read_stack(there)
        assert (stack.axes, stack.channel_names) == ("CZYX", ("DAPI", "GFP µ", "a=b"))
        assert stack.metadata["optics"]["na"] == 1.4
        assert stack.metadata["imagej"]["Info"] == "text"

    def test_lateral_size_alone(self, there):
        write_stack(there, Stack(pixels("ZYX"), "ZYX", metadata={"lateral": 0.1}))
        with pytest.warns(UserWarning, match="along Z"):
            stack = read_stack(there)
        assert stack.metadata["lateral"] == pytest.approx(0.1)

    def test_result_with_its_sidecar(self, there):
        write_result(there, made("ZYX"), {"peak": 60.0, "input": {"path": "x"}}, dtype="uint16")
        stack = read_stack(there)
        assert (stack.data.dtype, int(stack.data.max())) == (np.uint16, 65535)
        assert stack.metadata["provenance"] == read_sidecar(there)
        assert stack.metadata["provenance"]["output"]["scale"] == pytest.approx(119 / 65535)

    def test_as_plain_zarr_sees_it(self, there):
        write_stack(there, made("TCZYX", time_interval=2.5))
        group = zarr.open_group(there, mode="r")
        ome = group.attrs["ome"]
        (image,) = ome["multiscales"]
        assert ome["version"] == "0.5"
        assert [axis["name"] for axis in image["axes"]] == list("tczyx")
        assert [axis["type"] for axis in image["axes"]] == ["time", "channel", *["space"] * 3]
        assert [axis.get("unit") for axis in image["axes"]] == ["second", None, *["micrometer"] * 3]
        (scale,) = image["datasets"][0]["coordinateTransformations"]
        assert scale["scale"] == pytest.approx([2.5, 1, 0.3, 0.1, 0.12])
        assert [channel["label"] for channel in ome["omero"]["channels"]] == ["DAPI", "GFP µ", "a=b"]
        array = group[image["datasets"][0]["path"]]
        assert array.metadata.dimension_names == tuple("tczyx")
        assert np.array_equal(array[...], pixels("TCZYX"))


class TestBadInput:
    def change(self, path, **changes):
        name = path / ".zattrs"
        name.write_text(json.dumps(json.loads(name.read_text()) | changes))

    def test_without_multiscales(self, there):
        self.change(foreign(there), multiscales=[])
        with pytest.raises(UserError, match="is a Zarr without multiscales"):
            read_stack(there)

    def test_bare_array(self, there):
        zarr.create_array(there, shape=(4, 5), dtype="f4")[...] = 1
        with pytest.raises(UserError, match="is a Zarr without multiscales, one array"):
            read_stack(there)

    def test_axes_that_lie(self, there):
        foreign(there)
        axes = [{"name": letter, "type": "space"} for letter in "yx"]
        datasets = [{"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}]
        self.change(there, multiscales=[{"axes": axes, "datasets": datasets}])
        with pytest.raises(UserError, match="names 2 axes but has 3 dimensions"):
            read_stack(there)

    def test_invalid(self, there):
        self.change(foreign(there), multiscales=[{"axes": [], "datasets": []}])
        with pytest.raises(UserError, match=r"not valid OME-Zarr 0\.4 or 0\.5"):
            read_stack(there)

    def test_level_that_is_gone(self, there):
        shutil.rmtree(foreign(there) / "s0")
        with pytest.raises(UserError, match="damaged: its level s0 is not there"):
            read_stack(there)

    def test_axis_with_another_name(self, there):
        axes = [
            {"name": name} | ({} if name == "lambda" else {"type": "space"}) for name in ("lambda", "y", "x")
        ]
        self.change(
            foreign(there),
            multiscales=[
                {
                    "axes": axes,
                    "datasets": [
                        {
                            "path": "s0",
                            "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 1.0]}],
                        }
                    ],
                }
            ],
        )
        with pytest.raises(UserError, match=r"has 3 dimensions \(4 x 5 x 6\) whose names are none of TCZYX"):
            read_stack(there)
        assert read_stack(there, axes="CYX").axes == "CYX"

    def test_a_chunk_that_is_gone_is_told_and_one_of_zeros_is_written(self, there):
        write_stack(there, Stack(np.zeros((2, 5, 6), np.float32), "TYX", (0.1, 0.1)))
        read_stack(there)
        shutil.rmtree(there / "0" / "c" / "1")
        with pytest.warns(UserWarning, match=r"lacks 1 of its 2 chunks, which read as 0\.0"):
            assert read_stack(there).load().data.shape == (2, 5, 6)

    def test_chunks_that_are_gone(self, there):
        for chunk in (foreign(there) / "s0").glob("[0-9]*"):
            chunk.unlink() if chunk.is_file() else shutil.rmtree(chunk)
        with pytest.raises(UserError, match="holds no pixels at all"):
            read_stack(there)

    def test_chunk_that_is_cut_off(self, there):
        foreign(there)
        chunk = next(path for path in (there / "s0").rglob("*") if path.is_file() and path.name[0] != ".")
        chunk.write_bytes(chunk.read_bytes()[:10])
        with pytest.raises(UserError, match=r"image\.ome\.zarr is not a Zarr image, or a damaged one"):
            read_stack(there).load()

    @pytest.mark.parametrize("text", ["", "{", "[1]"])
    def test_damaged_attributes(self, there, text):
        (foreign(there) / ".zattrs").write_text(text)
        with pytest.raises(UserError):
            read_stack(there)

    def test_without_the_libraries(self, there, monkeypatch):
        foreign(there)
        monkeypatch.setitem(sys.modules, "zarr", None)
        for job in (lambda: read_stack(there), lambda: write_stack(there.with_name("out.zarr"), made("YX"))):
            with pytest.raises(UserError, match=r"pip install \"napari-deqmd\[zarr\]\""):
                job()


class TestBadOutput:
    def test_existing_one_is_kept_unless_allowed(self, there):
        foreign(there)
        with pytest.raises(UserError, match=r"exists already: .* \(--overwrite, in Python"):
            write_stack(there, made("YX"))
        assert read_stack(there).data.shape == (4, 5, 6)
        write_stack(there, made("YX"), overwrite=True)
        assert read_stack(there).data.shape == (5, 6)
        assert [path.name for path in there.parent.iterdir()] == [there.name]

    def test_a_folder_of_other_things_is_never_replaced(self, there):
        there.mkdir()
        (there / "mine.txt").write_text("mine")
        with pytest.raises(UserError, match="is there and no Zarr"):
            write_stack(there, made("YX"), overwrite=True)
        assert (there / "mine.txt").read_text() == "mine"

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("bug")])
    def test_failing_half_way_leaves_things_as_they_were(self, there, monkeypatch, error):
        foreign(there)

        def half(folder, *args):
            folder.mkdir()
            (folder / "zarr.json").write_text("{}")
            raise error

        monkeypatch.setattr("napari_deqmd.io.stack.write_ngff", half)
        with pytest.raises(type(error)):
            write_result(there, made("YX"), {}, overwrite=True)
        assert read_stack(there).data.shape == (4, 5, 6)
        assert [path.name for path in there.parent.iterdir()] == [there.name]

    def test_failing_between_two_renames_brings_the_old_one_back(self, there, monkeypatch):
        foreign(there)
        replace, calls = os.replace, []

        def first_fails(source, target):
            calls.append(target)
            if target == there and calls.count(there) == 1:
                raise OSError(errno.EIO, "gone")
            replace(source, target)

        monkeypatch.setattr("os.replace", first_fails)
        with pytest.raises(UserError, match="Cannot write"):
            write_stack(there, made("YX"), overwrite=True)
        assert read_stack(there).data.shape == (4, 5, 6)
        assert [path.name for path in there.parent.iterdir()] == [there.name]

    def test_read_only_folder(self, there, monkeypatch):
        def refuse(self, *args):
            raise PermissionError(13, "no")

        monkeypatch.setattr("pathlib.Path.open", refuse)
        with pytest.raises(UserError, match="cannot be written to"):
            write_stack(there, made("YX"))
