"""What a file knows of its image survives read, write and read; checked with tifffile and ome-types."""

import dataclasses
import re
import warnings

import numpy as np
import pytest
import tifffile

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.sidecar import write_result
from napari_deqmd.io.stack import Stack, read_stack, write_stack

SIZES = {"T": 2, "C": 3, "Z": 4, "Y": 5, "X": 6}

INSTRUMENT = """
<Experimenter ID="Experimenter:0" FirstName="Ada" LastName="L"/>
<Instrument ID="Instrument:0"><Microscope Manufacturer="Acme" Model="One"/>
  <Laser ID="LightSource:0" Wavelength="405" WavelengthUnit="nm"/>
  <Detector ID="Detector:0" Gain="2.2" Offset="100"/>
  <Objective ID="Objective:0" Model="63x" LensNA="1.4" Immersion="Oil" NominalMagnification="63"/>
  <Objective ID="Objective:1" Model="10x" LensNA="0.3" Immersion="Air"/></Instrument>
"""
BEFORE = """<AcquisitionDate>2026-01-02T03:04:05</AcquisitionDate><ExperimenterRef ID="Experimenter:0"/>
<Description>fixed &amp; stained, µ</Description><InstrumentRef ID="Instrument:0"/>
<ObjectiveSettings ID="Objective:0" RefractiveIndex="1.518" Medium="Oil"/>
<StageLabel Name="well 3" X="1" Y="2" Z="3"/>"""
CHANNELS = (
    '<Channel ID="Channel:0:0" Name="DAPI" Color="65535" EmissionWavelength="461" Fluor="DAPI" '
    'SamplesPerPixel="1"><LightSourceSettings ID="LightSource:0"/><DetectorSettings ID="Detector:0"/></Channel>',
    '<Channel ID="Channel:0:1" Name="GFP" EmissionWavelength="0.509" EmissionWavelengthUnit="µm" '
    'ExcitationWavelength="4880" ExcitationWavelengthUnit="Å" SamplesPerPixel="1"/>',
    '<Channel ID="Channel:0:2" Name="RFP" SamplesPerPixel="1"/>',
)
NOTES = """<StructuredAnnotations><MapAnnotation ID="Annotation:7" Namespace="theirs">
<Value><M K="sample">A7</M></Value></MapAnnotation></StructuredAnnotations>"""


def ome_tiff(path, axes, *, namespace="2016-06", **changes):
    """A file full of metadata, written by hand around tifffile's pages."""
    shape = tuple(SIZES[letter] for letter in axes)
    data = np.arange(np.prod(shape)).reshape(shape).astype(np.uint16)
    count = {letter: SIZES[letter] if letter in axes else 1 for letter in "TCZYX"} | changes
    order = "XY" + "".join(letter for letter in reversed(axes) if letter not in "YX")
    order += "".join(letter for letter in "CZT" if letter not in order)
    planes = "".join(
        f'<Plane TheT="{t}" TheC="{c}" TheZ="{z}" DeltaT="{t}.5" ExposureTime="0.0{c + 1}" PositionZ="{z}.25"/>'
        for t in range(count["T"])
        for c in range(count["C"])
        for z in range(count["Z"])
    )
    sizes = " ".join(f'Size{letter}="{size}"' for letter, size in count.items())
    ending = f"""<Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint16" {sizes} PhysicalSizeX="120"
      PhysicalSizeXUnit="nm" PhysicalSizeY="0.1" PhysicalSizeZ="0.0003" PhysicalSizeZUnit="mm" TimeIncrement="500"
      TimeIncrementUnit="ms">{"".join(CHANNELS[: count["C"]])}<TiffData/>{planes}</Pixels>
      <AnnotationRef ID="Annotation:7"/>"""
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/{namespace}" Creator="theirs">'
        f'{INSTRUMENT}<Image ID="Image:0" Name="field 3">{BEFORE}{ending}</Image>{NOTES}</OME>'
    )
    text = re.sub(r">\s+<", "><", text)
    tifffile.imwrite(path, data, photometric="minisblack", metadata=None, description=text.encode())
    return path


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "CYX", "CZYX", "TZYX", "TCZYX", "TZCYX"])
@pytest.mark.parametrize("name", ["out.ome.tif", "between.ome.zarr", "between.tif"])
def test_all_of_ome_survives(tmp_path, axes, name):
    """Through a result in each format, and from there into OME-TIFF: read by other libraries."""
    ome_types = pytest.importorskip("ome_types")
    if name.endswith("zarr"):
        pytest.importorskip("ome_zarr_models")
    source = ome_tiff(tmp_path / "in.ome.tif", axes)
    stack = read_stack(source)
    content = {"peak": 60.0, "config": {"method": "rl"}, "input": {"path": "in"}}
    write_result(tmp_path / name, stack, content)
    write_stack(tmp_path / "last.ome.tif", read_stack(tmp_path / name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = ome_types.from_tiff(source)
        after = ome_types.from_tiff(tmp_path / "last.ome.tif", validate=True)
    assert (after.instruments, after.experimenters) == (before.instruments, before.experimenters)
    old, new = before.images[0], after.images[0]
    for field in (
        "name",
        "acquisition_date",
        "description",
        "objective_settings",
        "stage_label",
        "instrument_ref",
    ):
        assert getattr(new, field) == getattr(old, field)
    assert new.pixels.channels == old.pixels.channels
    if "ZC" not in axes or name.endswith("tif"):
        assert new.pixels.planes == old.pixels.planes
    for field in ("size_t", "size_c", "size_z", "size_y", "size_x"):
        assert getattr(new.pixels, field) == getattr(old.pixels, field)
    for axis, size in zip("xyz", (0.12, 0.1, 0.3), strict=True):
        if axis != "z" or "Z" in axes:
            assert getattr(new.pixels, f"physical_size_{axis}_quantity").to("um").magnitude == pytest.approx(
                size
            )
    assert new.pixels.time_increment_quantity.to("s").magnitude == pytest.approx(0.5)
    notes = {note.id: note for note in after.structured_annotations}
    assert notes["Annotation:7"].value == before.structured_annotations[0].value
    assert '"method": "rl"' in notes["Annotation:napari-deqmd"].value
    assert {ref.id for ref in new.annotation_refs} == set(notes)
    with tifffile.TiffFile(tmp_path / "last.ome.tif") as tif:
        assert tif.series[0].shape == stack.data.shape if "ZC" not in axes else True
        assert tif.series[0].dtype == np.float32


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("</OME>", "</OM", "OME-XML that is damaged or cut off"),
        ("<Pixels ", "<Pixels <", "OME-XML that is damaged or cut off"),
        ('PhysicalSizeX="120"', 'PhysicalSizeX="NaN"', "'NaN' wide along X"),
        ('Type="uint16"', 'Type="float"', "pixels of type uint16, and OME-XML that says float"),
    ],
)
def test_doubtful_ome_is_told_and_its_pixels_read(tmp_path, right, wrong, says):
    source = ome_tiff(tmp_path / "in.ome.tif", "ZYX")
    with tifffile.TiffFile(source) as tif:
        data, text = tif.asarray(), tif.ome_metadata
    text = text.replace(right, wrong).encode()
    tifffile.imwrite(source, data, photometric="minisblack", metadata=None, description=text)
    with pytest.warns(UserWarning, match=says):
        stack = read_stack(source)
    assert np.array_equal(stack.data, data)


@pytest.mark.parametrize("namespace", ["2016-06", "2015-01", "2011-06"])
def test_optics(tmp_path, namespace):
    metadata = read_stack(ome_tiff(tmp_path / "in.ome.tif", "CYX", namespace=namespace)).metadata
    assert metadata["optics"] == {"na": 1.4, "ni": 1.518}
    assert [one.get("wavelength") for one in metadata["channel_optics"]] == [461, 509, None]
    assert [one.get("excitation") for one in metadata["channel_optics"]] == [None, 488, None]
    assert all(one["na"] == 1.4 for one in metadata["channel_optics"])


def test_detector(tmp_path):
    metadata = read_stack(ome_tiff(tmp_path / "in.ome.tif", "CYX")).metadata
    assert metadata["detector"] == {"Gain": "2.2", "Offset": "100"}


def test_optics_of_one_channel_are_those_of_the_image(tmp_path):
    metadata = read_stack(ome_tiff(tmp_path / "in.ome.tif", "ZYX")).metadata
    assert metadata["optics"] == {"na": 1.4, "ni": 1.518, "wavelength": 461}


def test_layers_have_their_own_optics(tmp_path):
    pytest.importorskip("napari")
    from napari_deqmd.widgets.opening import layers_of
    from napari_deqmd.widgets.sections.theory import optics_of

    layers = layers_of(read_stack(ome_tiff(tmp_path / "in.ome.tif", "CYX")), "in.ome.tif")
    assert [optics_of(arguments["metadata"]).get("wavelength") for _, arguments in layers] == [461, 509, None]
    assert all(optics_of(arguments["metadata"])["ni"] == 1.518 for _, arguments in layers)


def test_colours_and_name_in_both_formats_words(tmp_path):
    zarr = pytest.importorskip("zarr")
    pytest.importorskip("ome_zarr_models")
    stack = read_stack(ome_tiff(tmp_path / "in.ome.tif", "CYX"))
    assert (stack.metadata["name"], stack.metadata["channel_colors"]) == ("field 3", ["0000FF", "", ""])
    assert stack.part({"C": (0, 1)}).metadata["channel_colors"] == ["0000FF", ""]
    write_stack(tmp_path / "out.zarr", stack)
    ome = zarr.open_group(tmp_path / "out.zarr", mode="r").attrs["ome"]
    assert [channel["color"] for channel in ome["omero"]["channels"]] == ["0000FF", "00FF00", "00FFFF"]
    assert ome["multiscales"][0]["name"] == "field 3"
    changed = {"name": "zname", "channel_colors": ["00FF88", "FF0000", ""]}
    write_stack(tmp_path / "out.ome.tif", dataclasses.replace(stack, metadata=changed))
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tif:
        assert 'Name="zname"' in tif.ome_metadata
        assert re.findall(r'Color="(-?\d+)"', tif.ome_metadata) == ["16746751", "-16776961"]
    assert read_stack(tmp_path / "out.ome.tif").metadata["channel_colors"] == changed["channel_colors"]


def test_optics_of_another_format_become_ome(tmp_path):
    optics = [{"na": 1.2, "ni": 1.333, "wavelength": 520.0, "excitation": 488.0}]
    stack = Stack(
        np.ones((4, 5), np.float32), "YX", (0.1, 0.1), (), {"optics": optics[0], "channel_optics": optics}
    )
    write_stack(tmp_path / "out.ome.tif", stack)
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tif:
        text = tif.ome_metadata
    for words in ('LensNA="1.2"', 'RefractiveIndex="1.333"', 'EmissionWavelength="520.0"'):
        assert words in text
    assert read_stack(tmp_path / "out.ome.tif").metadata["optics"] == optics[0]


class TestImageJ:
    def save(self, path, info, *, channels=2, **metadata):
        data = np.arange(channels * 60, dtype=np.uint16).reshape(2, channels, 5, 6)
        axes = {"axes": "ZCYX", "Info": info}
        tifffile.imwrite(path, data, imagej=True, photometric="minisblack", metadata=axes | metadata)
        return path

    INFO = (
        "Information|Instrument|Objective|LensNA #1 = 1.40\nObjectiveSettings|RefractiveIndex #1 = 1.518\n"
        "Information|Image|Channel|EmissionWavelength #1 = 461.0\n"
        "Information|Image|Channel|ExcitationWavelength #1 = 405\n"
        "Channel|Emission Wavelength #2 = 0.509 µm\nEmissionWavelength #9 = 700\nDNA = 3\nNA = many\n"
    )

    def test_info_of_bio_formats(self, tmp_path):
        metadata = read_stack(self.save(tmp_path / "in.tif", self.INFO)).metadata
        assert metadata["optics"] == {"na": 1.4, "ni": 1.518}
        first, second = metadata["channel_optics"]
        assert first == {"na": 1.4, "ni": 1.518, "wavelength": 461.0, "excitation": 405.0}
        assert second == {"na": 1.4, "ni": 1.518, "wavelength": 509.0}

    def test_it_survives(self, tmp_path):
        before = read_stack(self.save(tmp_path / "in.tif", self.INFO))
        write_stack(tmp_path / "out.tif", before)
        assert read_stack(tmp_path / "out.tif").metadata == before.metadata

    @pytest.mark.parametrize("info", ["", "hello", "NumericalAperture = 95", "Emission = green"])
    def test_info_without_optics(self, tmp_path, info):
        assert (
            not {"optics", "channel_optics"}
            & read_stack(self.save(tmp_path / "in.tif", info)).metadata.keys()
        )

    def test_channels_named_by_labels(self, tmp_path):
        stack = read_stack(self.save(tmp_path / "in.tif", "", Labels=["DAPI", "GFP"] * 2))
        assert stack.channel_names == ("DAPI", "GFP")

    def test_calibration_of_counts_is_not_kept(self, tmp_path):
        before = read_stack(self.save(tmp_path / "in.tif", "", cf=0, c0=1.0, c1=2.0, vunit="OD"))
        assert not {"cf", "c0", "c1", "vunit"} & before.metadata["imagej"].keys()


class TestProvenance:
    @pytest.mark.parametrize("name", ["out.tif", "out.ome.tif"])
    def test_embedded_with_that_of_the_input(self, tmp_path, name):
        stack = Stack(np.ones((4, 5), np.float32), "YX", (0.1, 0.1))
        for step, target in enumerate((tmp_path / f"first.{name}", tmp_path / name)):
            written = write_result(target, stack, {"step": step, "input": {"path": "x"}, "items": [1] * 9})
            stack = read_stack(target)
        found = stack.metadata["provenance"]
        assert found == {key: value for key, value in written.items() if key != "items"}
        assert (found["step"], found["input"]["provenance"]["step"]) == (1, 0)

    def test_integers_hold_no_negative_values(self, tmp_path):
        stack = Stack(np.array([[-1.0, 2.0]], np.float32), "YX")
        with pytest.raises(UserError, match="values down to -1, which uint16 cannot hold"):
            write_result(tmp_path / "out.tif", stack, {}, dtype="uint16")
        assert list(tmp_path.iterdir()) == []


class TestLarge:
    """Files above a size stay on the disk."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr("napari_deqmd.io.tiff.LARGE", 1000)

    @pytest.mark.parametrize("name", ["in.tif", "in.ome.tif"])
    @pytest.mark.parametrize("bigtiff", [False, True])
    def test_mapped(self, tmp_path, name, bigtiff):
        data = np.arange(2000, dtype=np.uint16).reshape(20, 10, 10)
        tifffile.imwrite(
            tmp_path / name, data, photometric="minisblack", bigtiff=bigtiff, metadata={"axes": "TYX"}
        )
        stack = read_stack(tmp_path / name)
        assert isinstance(stack.data, np.memmap)
        assert not stack.data.flags.writeable
        assert stack.axes == "TYX"
        assert np.array_equal(stack.data[7], data[7])
        assert isinstance(stack.load().data.base, np.memmap)

    def test_not_below_the_size(self, tmp_path):
        tifffile.imwrite(tmp_path / "in.tif", np.zeros((20, 20), np.uint8))
        assert not isinstance(read_stack(tmp_path / "in.tif").data, np.memmap)

    def test_not_when_compressed(self, tmp_path):
        data = np.arange(2000, dtype=np.uint16).reshape(20, 100)
        tifffile.imwrite(tmp_path / "in.tif", data, compression="zlib")
        assert np.array_equal(read_stack(tmp_path / "in.tif").data, data)

    def test_big_endian_becomes_native_when_loaded(self, tmp_path):
        data = np.arange(2000, dtype=np.uint16).reshape(20, 100)
        tifffile.imwrite(tmp_path / "in.tif", data, byteorder=">")
        loaded = read_stack(tmp_path / "in.tif").load().data
        assert loaded.dtype.isnative
        assert np.array_equal(loaded, data)

    @pytest.mark.parametrize("name", ["in.tif", "in.ome.tif"])
    def test_cut_off(self, tmp_path, name):
        path = tmp_path / name
        tifffile.imwrite(path, np.zeros((20, 30, 40), np.uint16), photometric="minisblack")
        path.write_bytes(path.read_bytes()[:30000])
        with pytest.raises(UserError, match="damaged or cut off"):
            read_stack(path)


class TestBadInput:
    @pytest.mark.parametrize("changes", [{"Z": 9}, {"Z": 2}, {"Y": 50}, {"X": 3}, {"T": 4}])
    def test_ome_that_lies_about_sizes(self, tmp_path, changes):
        path = ome_tiff(tmp_path / "in.ome.tif", "CZYX", **changes)
        with pytest.raises(
            UserError, match=r"does not hold the pixels that its OME-XML describes|is damaged"
        ):
            read_stack(path)

    def test_truncated_ome(self, tmp_path):
        path = ome_tiff(tmp_path / "in.ome.tif", "CZYX")
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        with pytest.raises(UserError, match="damaged or cut off"):
            read_stack(path)

    @pytest.mark.parametrize("axes", ["ZCTYX", "TZCYX", "CTZYX", "ZTCYX"])
    def test_any_order_of_planes(self, tmp_path, axes):
        stack = read_stack(ome_tiff(tmp_path / "in.ome.tif", axes))
        assert stack.axes == axes
        assert stack.data.shape == tuple(SIZES[letter] for letter in axes)
        assert stack.voxel_size == pytest.approx((0.3, 0.1, 0.12))

    @pytest.mark.parametrize("axes", ["XYZ", "YXZ", "XYZC"])
    @pytest.mark.parametrize("name", ["out.ome.tif", "out.tif", "out.ome.zarr"])
    def test_any_order_that_is_told(self, tmp_path, axes, name):
        shape = tuple(SIZES[letter] for letter in axes)
        pixels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
        tifffile.imwrite(tmp_path / "in.tif", pixels, photometric="minisblack")
        voxels = {"Z": 0.3, "Y": 0.1, "X": 0.12}
        told = tuple(voxels[letter] for letter in axes if letter in voxels)
        stack = read_stack(tmp_path / "in.tif", axes=axes, voxel_size=told)
        write_stack(tmp_path / name, stack)
        again = read_stack(tmp_path / name)
        assert stack.axes == again.axes == ("CZYX" if "C" in axes else "ZYX")
        assert again.voxel_size == pytest.approx((0.3, 0.1, 0.12))
        np.testing.assert_array_equal(again.data, pixels.transpose([axes.index(a) for a in again.axes]))

    def test_order_xyz_that_is_not_told_is_noticed(self, tmp_path):
        path = tmp_path / "in.tif"
        tifffile.imwrite(path, np.zeros((40, 48, 8), np.uint16), photometric="minisblack")
        with pytest.warns(
            UserWarning, match="40 x 48 x 8.*read as ZYX; if that axis is Z, give the axes as XYZ"
        ):
            assert read_stack(path).axes == "ZYX"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_stack(path, axes="ZYX").data.shape == (40, 48, 8)
            assert read_stack(path, axes="XYZ").data.shape == (8, 48, 40)
            write_stack(tmp_path / "said.ome.tif", read_stack(path, axes="ZYX"))
            assert read_stack(tmp_path / "said.ome.tif").data.shape == (40, 48, 8)
