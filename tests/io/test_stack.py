"""TIFF in and out: axes, voxel size, units and names survive; bad files get one sentence."""

import errno
import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.stack import Stack, read_stack, write_stack

SIZES = {"T": 2, "C": 3, "Z": 4, "Y": 5, "X": 6}


def pixels(axes, dtype=np.uint16):
    shape = tuple(SIZES[letter] for letter in axes)
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def save(path, data, **options):
    tifffile.imwrite(path, data, **({"photometric": "minisblack"} | options))
    return path


@pytest.fixture
def tif(tmp_path):
    return tmp_path / "image.tif"


class TestPlain:
    @pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4", "f8", ">u2", ">f4"])
    def test_pixels_and_native_type(self, tif, dtype):
        data = pixels("YX", dtype)
        stack = read_stack(save(tif, data, byteorder=">" if dtype[0] == ">" else "<"))
        assert np.array_equal(stack.data, data)
        assert stack.data.dtype == np.dtype(dtype).newbyteorder("=")
        assert stack.data.dtype.isnative
        assert (stack.axes, stack.voxel_size, stack.channel_names) == ("YX", None, ())

    @pytest.mark.parametrize("options", [{}, {"metadata": None}, {"metadata": None, "compression": "zlib"}])
    def test_three_dimensions_are_a_z_stack(self, tif, options):
        assert read_stack(save(tif, pixels("ZYX"), **options)).axes == "ZYX"

    @pytest.mark.parametrize("axes", ["TYX", "CYX", "cyx"])
    def test_unless_named_otherwise(self, tif, axes):
        assert read_stack(save(tif, pixels("ZYX")), axes=axes).axes == axes.upper()

    def test_four_dimensions_need_names(self, tif):
        save(tif, pixels("CZYX"))
        with pytest.raises(UserError, match=r"3 x 4 x 5 x 6.*whose names are none of TCZYX: give its axes"):
            read_stack(tif)
        assert read_stack(tif, axes="CZYX").data.shape == (3, 4, 5, 6)

    def test_dimensions_of_length_one_are_dropped_unless_named(self, tif):
        save(tif, pixels("YX")[np.newaxis, np.newaxis])
        assert read_stack(tif).axes == "YX"
        assert read_stack(tif, axes="TZYX").data.shape == (1, 1, 5, 6)

    @pytest.mark.parametrize(
        ("unit", "resolution", "size"),
        [(3, 1e5, 0.1), (2, 254000, 0.1), (2, 300, None), (2, 72, None), (3, 1, None), (1, 10, None)],
    )
    def test_resolution_tags(self, tif, unit, resolution, size):
        save(tif, pixels("YX"), resolution=(resolution, resolution), resolutionunit=unit)
        found = read_stack(tif).voxel_size
        assert found == (None if size is None else pytest.approx((size, size)))

    def test_pixels_that_are_not_square_without_z(self, tif):
        save(tif, pixels("ZYX"), resolution=(1e5, 5e4), resolutionunit=3)
        with pytest.warns(UserWarning, match="does not say the distance of its planes along Z"):
            assert "lateral" not in read_stack(tif).metadata

    def test_lateral_size_without_z(self, tif):
        save(tif, pixels("ZYX"), resolution=(1e5, 1e5), resolutionunit=3)
        with pytest.warns(UserWarning, match="does not say the distance of its planes along Z"):
            stack = read_stack(tif)
        assert stack.voxel_size is None
        assert stack.metadata["lateral"] == pytest.approx(0.1)
        assert read_stack(tif, voxel_size=(0.3, 0.1, 0.1)).voxel_size == (0.3, 0.1, 0.1)

    def test_only_the_first_of_several_images(self, tif):
        with tifffile.TiffWriter(tif) as writer:
            writer.write(pixels("ZYX"), photometric="minisblack")
            writer.write(np.zeros((9, 9), np.uint8), photometric="minisblack")
        with pytest.warns(UserWarning, match="holds 2 images"):
            assert read_stack(tif).data.shape == (4, 5, 6)


class TestImageJ:
    @pytest.mark.parametrize(
        ("unit", "factor"),
        [("micron", 1), ("um", 1), ("\\u00B5m", 1), ("nm", 1e-3), ("mm", 1e3), ("cm", 1e4), ("inch", 25400)],
    )
    def test_units(self, tif, unit, factor):
        save(
            tif,
            pixels("ZYX"),
            imagej=True,
            resolution=(factor / 0.1, factor / 0.2),
            metadata={"axes": "ZYX", "unit": unit, "spacing": 0.3 / factor},
        )
        assert read_stack(tif).voxel_size == pytest.approx((0.3, 0.2, 0.1), rel=1e-4)

    @pytest.mark.parametrize(("unit", "z"), [("micron", 1.0), ("nm", 1e-3)])
    def test_a_distance_of_1_is_left_out(self, tif, unit, z):
        save(tif, pixels("ZYX"), imagej=True, resolution=(10, 5), metadata={"axes": "ZYX", "unit": unit})
        with pytest.warns(
            UserWarning, match=rf"{tif.name} does not say .* planes: {z:g} µm is taken, as ImageJ"
        ):
            stack = read_stack(tif)
        assert stack.voxel_size == pytest.approx((z, 0.2 * z, 0.1 * z))
        assert read_stack(tif, voxel_size=(0.3, 0.1, 0.1)).voxel_size == (0.3, 0.1, 0.1)
        assert read_stack(tif, axes="TYX").voxel_size == pytest.approx((0.2 * z, 0.1 * z))

    @pytest.mark.parametrize("unit", ["pixel", "", "furlong"])
    def test_unit_that_is_no_length(self, tif, unit):
        save(tif, pixels("ZYX"), imagej=True, resolution=(10, 10), metadata={"unit": unit, "spacing": 1.0})
        assert read_stack(tif).voxel_size is None

    def test_axes_and_interval(self, tif):
        save(tif, pixels("TZCYX"), imagej=True, metadata={"axes": "TZCYX", "finterval": 2.5})
        stack = read_stack(tif)
        assert stack.axes == "TZCYX"
        assert stack.metadata["time_interval"] == 2.5

    @pytest.mark.parametrize(("unit", "factor"), [("sec", 1), ("min", 60), ("msec", 1e-3), ("hr", 3600)])
    def test_unit_of_the_interval(self, tmp_path, tif, unit, factor):
        save(tif, pixels("TYX"), imagej=True, metadata={"axes": "TYX", "finterval": 5, "tunit": unit})
        stack = read_stack(tif)
        assert stack.metadata["time_interval"] == pytest.approx(5 * factor)
        write_stack(tmp_path / "again.tif", stack)
        assert read_stack(tmp_path / "again.tif").metadata["time_interval"] == pytest.approx(5 * factor)


class TestOME:
    def test_sizes_units_and_names(self, tmp_path):
        path = tmp_path / "image.ome.tif"
        save(
            path,
            pixels("CZYX"),
            metadata={
                "axes": "CZYX",
                "PhysicalSizeX": 110,
                "PhysicalSizeXUnit": "nm",
                "PhysicalSizeY": 0.00011,
                "PhysicalSizeYUnit": "mm",
                "PhysicalSizeZ": 0.3,
                "Channel": {"Name": ["DAPI", "GFP", "RFP"]},
            },
        )
        stack = read_stack(path)
        assert stack.axes == "CZYX"
        assert stack.voxel_size == pytest.approx((0.3, 0.11, 0.11))
        assert stack.channel_names == ("DAPI", "GFP", "RFP")

    def test_without_sizes(self, tmp_path):
        path = save(tmp_path / "image.ome.tif", pixels("TYX"), metadata={"axes": "TYX"})
        assert (read_stack(path).axes, read_stack(path).voxel_size) == ("TYX", None)


@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif"])
class TestRoundTrip:
    @pytest.mark.parametrize(
        "axes", ["YX", "ZYX", "TYX", "CYX", "ZCYX", "CZYX", "TZYX", "TCZYX", "TZCYX", "CTYX"]
    )
    def test_everything_comes_back(self, tmp_path, name, axes):
        names = ("DAPI", "GFP µ", "a=b") if "C" in axes else ()
        sizes = tuple({"Z": 0.3, "Y": 0.1, "X": 0.12}[letter] for letter in axes if letter in "ZYX")
        kept = {"time_interval": 2.5} if "T" in axes else {}
        before = Stack(pixels(axes, np.float32), axes, sizes, names, kept)
        write_stack(tmp_path / name, before)
        after = read_stack(tmp_path / name)
        assert np.array_equal(after.data, before.data)
        assert after.data.dtype == np.float32
        assert (after.axes, after.channel_names) == (axes, names)
        assert after.voxel_size == pytest.approx(sizes, rel=1e-5)
        assert after.metadata.get("time_interval") == kept.get("time_interval")

    def test_lateral_size_alone_comes_back(self, tmp_path, name):
        write_stack(tmp_path / name, Stack(pixels("ZYX"), "ZYX", None, (), {"lateral": 0.1}))
        with pytest.warns(UserWarning, match="along Z"):
            after = read_stack(tmp_path / name)
        assert after.voxel_size is None
        assert after.metadata["lateral"] == pytest.approx(0.1)

    def test_no_size_at_all(self, tmp_path, name):
        write_stack(tmp_path / name, Stack(pixels("ZYX"), "ZYX"))
        after = read_stack(tmp_path / name)
        assert after.voxel_size is None
        assert "lateral" not in after.metadata

    def test_beyond_what_a_classic_tiff_holds(self, tmp_path, monkeypatch, name):
        monkeypatch.setattr("napari_deqmd.io.tiff._CLASSIC", 1000)
        write_stack(tmp_path / name, Stack(pixels("TCZYX"), "TCZYX", (0.3, 0.1, 0.1)))
        after = read_stack(tmp_path / name)
        assert np.array_equal(after.data, pixels("TCZYX"))
        assert (after.axes, after.voxel_size) == ("TCZYX", pytest.approx((0.3, 0.1, 0.1)))

    def test_nothing_else_is_left_in_the_folder(self, tmp_path, name):
        write_stack(tmp_path / name, Stack(pixels("YX"), "YX"))
        assert [path.name for path in tmp_path.iterdir()] == [name]


def test_imagej_extras_survive_and_display_ranges_do_not(tmp_path):
    labels = [f"plane {i}" for i in range(12)]
    save(
        tmp_path / "in.tif",
        pixels("ZCYX"),
        imagej=True,
        metadata={
            "axes": "ZCYX", "mode": "composite", "Info": "objective 63x, λ 520", "Labels": labels,
            "Ranges": (0.0, 9.0) * 3, "min": 0.0, "max": 9.0, "Properties": {"owner": "us"}, "stage": "up",
        },
    )  # fmt: skip
    write_stack(tmp_path / "out.tif", read_stack(tmp_path / "in.tif"))
    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        found = tif.imagej_metadata
    assert found["Info"] == "objective 63x, λ 520"
    assert found["Labels"] == labels
    assert (found["mode"], found["stage"]) == ("composite", "up")
    assert not {"min", "max", "Ranges"} & found.keys()
    assert (
        read_stack(tmp_path / "out.tif").metadata["imagej"]
        == read_stack(tmp_path / "in.tif").metadata["imagej"]
    )


def test_labels_of_another_number_of_planes_are_dropped(tmp_path):
    stack = Stack(pixels("ZYX"), "ZYX", metadata={"imagej": {"Labels": ["one"], "Info": "kept"}})
    write_stack(tmp_path / "out.tif", stack)
    assert read_stack(tmp_path / "out.tif").metadata["imagej"].keys() >= {"Info"}
    assert "Labels" not in read_stack(tmp_path / "out.tif").metadata["imagej"]


def test_ome_extras_survive(tmp_path):
    channels = [
        {"Name": "DAPI", "EmissionWavelength": "461", "EmissionWavelengthUnit": "nm", "Fluor": "DAPI"},
        {"Name": "GFP", "EmissionWavelength": "509"},
        {"Name": "RFP"},
    ]
    metadata = {
        "axes": "CYX", "Name": "field 3", "Description": "fixed cells", "AcquisitionDate": "2026-01-02T03:04:05",
        "Channel": channels, "TimeIncrement": 500, "TimeIncrementUnit": "ms",
    }  # fmt: skip
    save(tmp_path / "in.ome.tif", pixels("CYX"), metadata=metadata)
    write_stack(tmp_path / "out.ome.tif", read_stack(tmp_path / "in.ome.tif"))
    before, after = read_stack(tmp_path / "in.ome.tif"), read_stack(tmp_path / "out.ome.tif")
    assert after.metadata == before.metadata
    assert after.metadata["ome"]["Channel"] == channels
    assert after.metadata["time_interval"] == 0.5


class TestBadInput:
    def cut(self, path, share):
        raw = path.read_bytes()
        path.write_bytes(raw[: int(len(raw) * share)])
        return path

    @pytest.mark.parametrize("kind", ["plain", "shaped", "imagej", "ome", "zlib"])
    @pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9])
    def test_cut_off(self, tif, kind, share):
        options = {
            "plain": {"metadata": None},
            "shaped": {},
            "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
            "ome": {"ome": True},
            "zlib": {"metadata": None, "compression": "zlib"},
        }[kind]
        save(tif, np.random.default_rng(0).integers(0, 99, (6, 40, 40), np.uint16), **options)
        with pytest.raises(UserError, match=r"image\.tif is"):
            read_stack(self.cut(tif, share))

    def test_logging_is_as_before(self, tif):
        logger = logging.getLogger("tifffile")
        before = list(logger.handlers), logger.propagate
        tif.write_bytes(b"")
        with pytest.raises(UserError):
            read_stack(tif)
        assert (logger.handlers, logger.propagate) == before

    def test_missing(self, tif):
        with pytest.raises(UserError, match="There is no file"):
            read_stack(tif)

    def test_folder(self, tmp_path):
        with pytest.raises(UserError, match="is a folder"):
            read_stack(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(99)])
    def test_no_tiff(self, tif, content):
        tif.write_bytes(content)
        with pytest.raises(UserError, match="not a TIFF file"):
            read_stack(tif)

    def test_compression_without_its_library(self, tif, monkeypatch):
        def missing(self, *args, **options):
            raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

        tifffile.imwrite(tif, np.ones((4, 5), np.float32))
        monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", missing)
        with pytest.raises(UserError, match="pip install imagecodecs"):
            read_stack(tif)

    def test_nothing_but_a_header(self, tif):
        tif.write_bytes(b"II*\0")
        with pytest.raises(UserError, match="damaged or cut off"):
            read_stack(tif)

    def test_unreadable(self, tif, monkeypatch):
        def refuse(path):
            raise PermissionError(errno.EACCES, "Permission denied")

        save(tif, pixels("YX"))
        monkeypatch.setattr(tifffile, "TiffFile", refuse)
        with pytest.raises(UserError, match="may not be read"):
            read_stack(tif)

    @pytest.mark.parametrize("channels", [3, 4])
    def test_colour(self, tif, channels):
        save(tif, np.zeros((8, 9, channels), np.uint8), photometric="rgb")
        with pytest.raises(UserError, match=r"colour \(RGB\)"):
            read_stack(tif)

    @pytest.mark.parametrize(
        ("axes", "says"),
        [("YX", "name 2 dimensions but image.tif has 3"), ("QYX", "cannot be used"), ("TZX", "cannot be used"),
         ("YYX", "cannot be used"), ("", "name 0 dimensions")],
    )  # fmt: skip
    def test_wrong_axes(self, tif, axes, says):
        with pytest.raises(UserError, match=says):
            read_stack(save(tif, pixels("ZYX")), axes=axes)

    @pytest.mark.parametrize(
        ("size", "says"), [((0.1, 0.1), "2 numbers for the axes Z,Y,X"), ((0.3, 0, 0.1), "above 0")]
    )
    def test_wrong_voxel_size(self, tif, size, says):
        with pytest.raises(UserError, match=says):
            read_stack(save(tif, pixels("ZYX")), voxel_size=size)


class TestBadOutput:
    STACK = Stack(np.ones((4, 5), np.float32), "YX")

    def test_existing_file_is_kept(self, tif):
        tif.write_bytes(b"mine")
        with pytest.raises(UserError, match="exists already"):
            write_stack(tif, self.STACK)
        assert tif.read_bytes() == b"mine"
        write_stack(tif, self.STACK, overwrite=True)
        assert read_stack(tif).data.shape == (4, 5)

    @pytest.mark.parametrize("name", ["out.png", "out", "out.tif.json"])
    def test_other_ending(self, tmp_path, name):
        with pytest.raises(UserError, match="written as TIFF"):
            write_stack(tmp_path / name, self.STACK)

    def test_missing_folder(self, tmp_path):
        with pytest.raises(UserError, match="no folder"):
            write_stack(tmp_path / "nowhere" / "out.tif", self.STACK)

    def test_folder_instead_of_file(self, tmp_path):
        (tmp_path / "out.tif").mkdir()
        with pytest.raises(UserError, match="is a folder"):
            write_stack(tmp_path / "out.tif", self.STACK, overwrite=True)

    @pytest.mark.parametrize(
        ("code", "says"),
        [
            (errno.EACCES, "cannot be written to"),
            (errno.EROFS, "cannot be written to"),
            (errno.EIO, "Cannot write"),
        ],
    )
    def test_read_only_folder(self, tif, monkeypatch, code, says):
        def refuse(self, *args):
            raise OSError(code, "no")

        monkeypatch.setattr("pathlib.Path.open", refuse)
        with pytest.raises(UserError, match=says):
            write_stack(tif, self.STACK)

    def test_too_little_room_is_known_before(self, tif, monkeypatch):
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
        with pytest.raises(UserError, match="MB free"):
            write_stack(tif, self.STACK)

    @pytest.mark.parametrize(
        "error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), RuntimeError("bug")]
    )
    def test_failing_half_way_leaves_things_as_they_were(self, tif, monkeypatch, error):
        tif.write_bytes(b"mine")

        def half(handle, *args, **options):
            handle.write(b"II*")
            raise error

        monkeypatch.setattr(tifffile, "imwrite", half)
        expected = UserError if isinstance(error, OSError) else type(error)
        with pytest.raises(expected, match="full" if isinstance(error, OSError) else None):
            write_stack(tif, self.STACK, overwrite=True)
        assert [path.name for path in tif.parent.iterdir()] == ["image.tif"]
        assert tif.read_bytes() == b"mine"


def test_damage_is_told_to_the_thread_that_meets_it(tmp_path):
    """A file that another thread finds damaged meanwhile is none of ours; and tifffile speaks to others again."""
    import logging
    import threading

    from napari_deqmd.io.tiff import _damage_reported

    logger, inside, said = logging.getLogger("tifffile"), threading.Barrier(2), []

    def other():
        try:
            with _damage_reported(Path("broken.tif")):
                inside.wait()
                logger.error("corrupted strip")
                inside.wait()
        except UserError as error:
            said.append(str(error))

    thread = threading.Thread(target=other)
    thread.start()
    with _damage_reported(Path("healthy.tif")):
        inside.wait()
        inside.wait()
    thread.join()
    assert len(said) == 1
    assert said[0].startswith("broken.tif is damaged")
    assert logger.propagate
    with pytest.MonkeyPatch.context() as patch:
        heard = []
        patch.setattr(logger, "callHandlers", lambda record: heard.append(record.getMessage()))
        logger.error("to whom it may concern")
    assert heard == ["to whom it may concern"]


@pytest.mark.parametrize("place", ["x", [1], [0, 1, 2], [0.5, 1], None, {"a": 1}])
def test_a_part_that_is_none(place):
    with pytest.raises(UserError, match="is no part of the axis Y"):
        Stack(np.zeros((4, 5)), "YX").part({"Y": place})
