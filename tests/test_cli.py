"""The command line: the main job, what it prints and writes, and one sentence for everything that cannot work."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from napari_deqmd.cli import main
from napari_deqmd.cli.picture import side_by_side
from napari_deqmd.core.errors import UserError
from napari_deqmd.io.sidecar import read_sidecar, sidecar_path
from napari_deqmd.io.stack import Stack, read_stack, write_stack
from napari_deqmd.psf.theory import make_psf
from toy import TOY

KEYS = {
    "seconds", "iterations", "stopped_by", "objective_first", "objective_last", "objective_estimated", "certificate",
    "peak", "background", "device", "peak_memory_bytes",
}  # fmt: skip
PSF = "gaussian:sigma=1.2"


def scene(shape=(48, 40)):
    sharp = np.zeros(shape)
    sharp[..., 10:30, 12] = sharp[..., 20, 5:35] = 40
    return gaussian_filter(sharp, (0,) * (len(shape) - 2) + (1.2, 1.2))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts = np.random.default_rng(0).poisson(scene() + 2).astype(np.uint16)
    tifffile.imwrite("in.tif", counts, imagej=True, resolution=(10, 10), metadata={"unit": "micron"})
    return tmp_path


def reconstruct(*more, psf=PSF, image="in.tif", output="out.tif"):
    return main(
        [
            "reconstruct",
            image,
            "-o",
            output,
            "--psf",
            psf,
            "--method",
            "rl",
            "--max-iter",
            "3",
            "--device",
            "cpu",
        ]
        + [str(word) for word in more]
    )


def refused(capsys, says, *, written=("in.tif",), folder=None):
    """Exit status 1 was one line on stderr and nothing on stdout; nothing was written."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("deqmd: ")
    assert printed.err.count("\n") == 1
    assert says in printed.err
    if folder is not None:
        assert sorted(path.name for path in folder.iterdir()) == sorted(written)


class TestReconstruct:
    def test_image_sidecar_and_line(self, folder, capsys):
        assert reconstruct("--offset", 1, "--gain", 2) == 0
        assert "out.tif: not yet converged, stopped after 3 iterations" in capsys.readouterr().out
        stack = read_stack("out.tif")
        assert stack.data.dtype == np.float32
        assert stack.data.shape == (48, 40)
        assert np.isfinite(stack.data).all()
        assert stack.voxel_size == pytest.approx((0.1, 0.1))
        beside = read_sidecar("out.tif")
        assert beside["config"]["method"] == "rl"
        assert (beside["config"]["offset"], beside["config"]["gain"]) == (1, 2)
        assert beside["input"]["path"] == str(folder / "in.tif")
        assert beside["psf"]["source"] == PSF
        assert beside["versions"].keys() >= {"python", "numpy", "torch"}
        assert sorted(path.name for path in folder.iterdir()) == ["in.tif", "out.tif", "out.tif.json"]

    def test_json(self, folder, capsys):
        assert reconstruct("--json") == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed.keys() >= KEYS
        assert printed["iterations"] == 3
        assert printed["output"] == str(folder / "out.tif")

    def test_read_noise(self, folder):
        assert reconstruct("--read-noise", 1.5) == 0
        assert read_sidecar("out.tif")["config"]["read_noise"] == 1.5

    def test_maps_and_mask_from_files(self, folder):
        bad = np.zeros((48, 40), np.uint8)
        bad[5, 5:8] = 255
        tifffile.imwrite("bad.tif", bad)
        tifffile.imwrite("gain.tif", np.full((48, 40), 2, np.float32))
        assert reconstruct("--gain", "gain.tif", "--mask", "bad.tif", output="mapped.tif") == 0
        beside = read_sidecar("mapped.tif")
        assert beside["bad_pixels"] == 3
        assert beside["config"]["gain"] == 2
        assert beside["maps"]["gain"].keys() == {"source", "shape", "sha256"}
        assert beside["maps"]["mask"]["source"] == str(folder / "bad.tif")
        assert reconstruct("--gain", 2) == 0
        mapped, plain = (read_stack(name).data for name in ("mapped.tif", "out.tif"))
        np.testing.assert_allclose(mapped[20:], plain[20:], rtol=0.05, atol=0.05)
        assert not np.array_equal(mapped, plain)

    def test_saturated_pixels(self, folder, capsys):
        counts = np.minimum(tifffile.imread("in.tif") * 20, 255).astype(np.uint8)
        tifffile.imwrite("in.tif", counts)
        assert reconstruct("--gain", 20) == 0
        assert "saturated pixels were left out, at 255 counts" in capsys.readouterr().err
        assert read_sidecar("out.tif")["saturated_pixels"] == (counts == 255).sum()
        assert reconstruct("--gain", 20, "--no-mask-saturated", output="all.tif") == 0
        assert "left out" not in capsys.readouterr().err
        assert read_sidecar("all.tif")["config"]["mask_saturated"] is False

    def test_config_in_the_sidecar_runs_again(self, folder):
        from napari_deqmd.core.config import ReconstructionConfig

        assert reconstruct("--peak", 30, "--background", 2) == 0
        config = ReconstructionConfig.from_dict(read_sidecar("out.tif")["config"])
        assert (config.peak, config.background, config.axes, config.max_iter) == (30, 2, "YX", 3)

    @pytest.mark.parametrize("name", ["out.tif", "out.ome.tif"])
    def test_time_and_channels_keep_their_places_and_names(self, folder, name):
        data = np.random.default_rng(0).poisson(scene((2, 3, 24, 40)) + 2).astype(np.float32)
        write_stack("tc.ome.tif", Stack(data, "TCYX", (0.1, 0.1), ("a", "b", "c")))
        assert reconstruct(image="tc.ome.tif", output=name) == 0
        stack = read_stack(name)
        assert (stack.axes, stack.data.shape, stack.channel_names) == ("TCYX", data.shape, ("a", "b", "c"))
        assert stack.voxel_size == pytest.approx((0.1, 0.1))

    def test_stack_in_the_order_xyz(self, folder, capsys):
        stack = np.random.default_rng(0).poisson(20 * scene((8, 48, 40)) + 2).astype(np.uint16)
        tifffile.imwrite("zyx.tif", stack)
        tifffile.imwrite("xyz.tif", stack.T, photometric="minisblack")
        words = ["--psf", "gaussian:sigma=1", "--method", "rl", "--max-iter", "2"]
        assert main(["reconstruct", "zyx.tif", "-o", "one.ome.tif", *words]) == 0
        assert "last axis" not in capsys.readouterr().err
        more = ["--axes", "XYZ", "--voxel-size", "0.1,0.1,0.3"]
        assert main(["reconstruct", "xyz.tif", "-o", "two.ome.tif", *words, *more]) == 0
        one, two = read_stack("one.ome.tif"), read_stack("two.ome.tif")
        np.testing.assert_array_equal(one.data, two.data)
        assert (two.axes, two.voxel_size) == ("ZYX", pytest.approx((0.3, 0.1, 0.1)))
        assert main(["reconstruct", "--from", "two.ome.tif.json", "xyz.tif", "-o", "three.ome.tif"]) == 0
        assert "the same result" in capsys.readouterr().out
        assert main(["estimate", "xyz.tif"]) == 0
        assert "if that axis is Z, give the axes as XYZ or YXZ" in capsys.readouterr().err

    def test_stack_with_axes_and_voxel_size_given(self, folder):
        tifffile.imwrite("z.tif", np.random.default_rng(0).poisson(scene((6, 24, 40)) + 2).astype(np.uint16))
        more = ("--axes", "ZYX", "--voxel-size", "0.3,0.1,0.1")
        assert reconstruct(*more, image="z.tif", psf="gaussian:sigma=1,1.2,1.2") == 0
        stack = read_stack("out.tif")
        assert stack.axes == "ZYX"
        assert stack.voxel_size == pytest.approx((0.3, 0.1, 0.1))

    def test_psf_from_a_file(self, folder):
        y, x = np.mgrid[-6:7, -6:7]
        write_stack("psf.tif", Stack(np.exp(-(y**2 + x**2) / 2.88).astype(np.float32), "YX", (0.1, 0.1)))
        assert reconstruct(psf="psf.tif") == 0
        assert reconstruct(output="same.tif") == 0
        assert read_stack("out.tif").data == pytest.approx(read_stack("same.tif").data, rel=1e-2, abs=0.1)

    def test_progress_and_warnings_go_to_stderr(self, folder, capsys, monkeypatch):
        monkeypatch.setattr("napari_deqmd.cli.console._PAUSE", 0)
        assert reconstruct("--offset", 2, "--json") == 0
        printed = capsys.readouterr()
        json.loads(printed.out)
        assert "step 1 of at most 3" in printed.err
        assert "note: " in printed.err
        assert "below the offset" in printed.err

    def test_bar_on_a_terminal(self, folder, capsys, monkeypatch):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        assert reconstruct() == 0
        assert "0/3 [00:00" in capsys.readouterr().err

    def test_overwrite(self, folder, capsys):
        assert reconstruct() == 0
        before = (folder / "out.tif").read_bytes()
        capsys.readouterr()
        assert reconstruct("--peak", 10) == 1
        refused(capsys, "exists already")
        assert (folder / "out.tif").read_bytes() == before
        assert reconstruct("--peak", 10, "--overwrite") == 0
        assert (folder / "out.tif").read_bytes() != before

    def test_memory_that_is_enough(self, folder):
        assert reconstruct("--memory", "1GB", "--tile", "none") == 0


class TestAgain:
    """``--from``: the same settings, PSF and model, and a word where something is not as it was."""

    @pytest.fixture(autouse=True)
    def quick(self, models):
        """A model in a moment."""

    def again(self, *more, sidecar="out.tif.json", image="in.tif"):
        return main(["reconstruct", image, "--from", sidecar, *(str(word) for word in more)])

    def first(self, *more, psf=PSF):
        assert reconstruct("--peak", 30, "--offset", 1, *more, psf=psf) == 0
        return read_sidecar("out.tif")

    @pytest.mark.parametrize("more", [(), ("--method", "deq-md", "--model", "tiny", "--seed", 3)])
    def test_same_bits(self, folder, capsys, more):
        self.first(*more)
        capsys.readouterr()
        assert self.again("-o", "again.tif", "--json") == 0
        printed = capsys.readouterr()
        assert json.loads(printed.out)["same_result"] is True
        assert "earlier" not in printed.err
        assert np.array_equal(read_stack("again.tif").data, read_stack("out.tif").data)
        before, after = read_sidecar("out.tif"), read_sidecar("again.tif")
        for name in ("config", "psf", "model", "versions", "peak", "background", "certificate"):
            assert before[name] == after[name]
        assert before["input"] == after["input"]

    def test_maps_too(self, folder, capsys):
        rng = np.random.default_rng(0)
        tifffile.imwrite("noise.tif", rng.random((48, 40), np.float32))
        tifffile.imwrite("bad.tif", (rng.random((48, 40)) < 0.02).astype(np.uint8))
        first = self.first("--read-noise", "noise.tif", "--mask", "bad.tif", "--no-mask-saturated")
        capsys.readouterr()
        assert self.again("-o", "again.tif", "--json") == 0
        printed = capsys.readouterr()
        assert json.loads(printed.out)["same_result"] is True
        assert "earlier" not in printed.err
        after = read_sidecar("again.tif")
        assert (after["maps"], after["config"]) == (first["maps"], first["config"])
        tifffile.imwrite("bad.tif", np.eye(48, 40, dtype=np.uint8))
        assert self.again("-o", "other.tif") == 0
        assert "The maps of the camera's pixels are not those" in capsys.readouterr().err
        (folder / "bad.tif").unlink()
        assert self.again("-o", "third.tif") == 1
        assert "bad.tif" in capsys.readouterr().err

    def test_name_comes_from_input_and_earlier_output(self, folder, capsys):
        self.first("--dtype", "uint16")
        assert self.again() == 0
        assert "the same result, bit for bit" in capsys.readouterr().out
        assert read_stack("in-deconvolved.tif").data.dtype == np.uint16

    def test_what_is_given_wins_also_where_it_is_the_default(self, folder, capsys):
        self.first("--strength", 0.5)
        assert self.again("-o", "again.tif", "--strength", 1, "--max-iter", 2) == 0
        config = read_sidecar("again.tif")["config"]
        assert (config["strength"], config["max_iter"], config["offset"]) == (1, 2, 1)
        assert "another result" in capsys.readouterr().out

    def test_how_the_input_was_read(self, folder, capsys):
        tifffile.imwrite("z.tif", np.random.default_rng(0).poisson(scene((6, 24, 40)) + 2).astype(np.uint16))
        assert reconstruct("--axes", "TYX", "--voxel-size", "0.2,0.2", image="z.tif") == 0
        assert self.again("-o", "again.tif", image="z.tif") == 0
        stack = read_stack("again.tif")
        assert (stack.axes, stack.voxel_size) == ("TYX", pytest.approx((0.2, 0.2)))

    def test_another_input_psf_version_or_model_is_told(self, folder, capsys):
        from napari_deqmd.core.regularizers import build
        from napari_deqmd.training.models import save_model

        write_stack("psf.tif", Stack(np.ones((5, 5), np.float32), "YX", (0.1, 0.1)))
        content = self.first("--method", "deq-md", "--model", "tiny", psf="psf.tif")
        content["versions"]["torch"] = "1.0"
        sidecar_path("out.tif").write_text(json.dumps(content))
        write_stack("psf.tif", Stack(np.eye(5, dtype=np.float32) + 1, "YX", (0.1, 0.1)), overwrite=True)
        write_stack("in.tif", Stack(scene().astype(np.float32), "YX", (0.1, 0.1)), overwrite=True)
        card = {"family": "red", "options": {"channels": 4, "depth": 3}, "ndim": 2, "description": "other"}
        (folder / "models" / "tiny.json").unlink()
        (folder / "models" / "tiny.safetensors").unlink()
        save_model(build("red", card["options"]), folder / "models" / "tiny.safetensors", card)
        capsys.readouterr()
        assert self.again("-o", "again.tif") == 0
        told = capsys.readouterr().err
        assert "made by torch 1.0 (now " in told
        for what in ("The input's pixels are not", "The PSF is not", "The model tiny has not the weights"):
            assert what in told

    def test_stopped_before_its_first_iteration(self, folder, capsys):
        content = self.first() | {"stopped_by": "user", "iterations": 0}
        sidecar_path("out.tif").write_text(json.dumps(content))
        capsys.readouterr()
        assert self.again("-o", "again.tif", "--json") == 0
        assert json.loads(capsys.readouterr().out)["iterations"] == 1

    def test_psf_that_is_gone(self, folder, capsys):
        write_stack("psf.tif", Stack(np.ones((5, 5), np.float32), "YX", (0.1, 0.1)))
        self.first(psf="psf.tif")
        (folder / "psf.tif").unlink()
        capsys.readouterr()
        assert self.again("-o", "again.tif") == 1
        refused(capsys, "is not there any more")

    def test_model_that_is_gone(self, folder, capsys):
        self.first("--method", "deq-md", "--model", "tiny")
        (folder / "models" / "tiny.safetensors").unlink()
        capsys.readouterr()
        assert self.again("-o", "again.tif") == 1
        refused(capsys, "The model tiny of the earlier result is not to be had")

    @pytest.mark.parametrize(
        ("place", "value", "says"),
        [
            (("model",), "tiny", "its model is 'tiny'"),
            (("config", "max_iter"), -3, "max_iter is -3"),
            (("config", "peak"), "lots", "peak is 'lots'"),
            (("input", "given", "voxel_size"), "0.1", "its voxel_size is '0.1'"),
            (("output", "dtype"), "int3", "its dtype is 'int3'"),
        ],
    )
    def test_damaged_sidecar(self, folder, capsys, place, value, says):
        content = section = self.first()
        for name in place[:-1]:
            section = section[name]
        section[place[-1]] = value
        sidecar_path("out.tif").write_text(json.dumps(content))
        capsys.readouterr()
        assert self.again("-o", "again.tif") == 1
        refused(
            capsys,
            f"out.tif.json is damaged, or from another version: {says}",
            folder=folder,
            written=("in.tif", "models", "out.tif", "out.tif.json"),
        )

    @pytest.mark.parametrize("content", ["{}", '{"config": 3}', '{"config": {"colour": 1}}'])
    def test_no_sidecar_of_a_reconstruction(self, folder, capsys, content):
        Path("out.tif.json").write_text(content)
        assert self.again("-o", "again.tif") == 1
        refused(capsys, "")

    def test_from_elsewhere(self, folder, capsys, monkeypatch):
        write_stack("psf.tif", Stack(np.ones((5, 5), np.float32), "YX", (0.1, 0.1)))
        self.first(psf="psf.tif")
        (folder / "there").mkdir()
        monkeypatch.chdir(folder / "there")
        assert self.again("-o", "again.tif", sidecar="../out.tif.json", image="../in.tif") == 0
        assert "bit for bit" in capsys.readouterr().out


class TestZarr:
    """Wherever an image is named, an OME-Zarr can be."""

    @pytest.fixture(autouse=True)
    def libraries(self, folder):
        pytest.importorskip("ome_zarr_models")
        write_stack("in.ome.zarr", read_stack("in.tif"))
        y, x = np.mgrid[-6:7, -6:7]
        psf = np.exp(-(y**2 + x**2) / 2.88).astype(np.float32)
        write_stack("psf.zarr", Stack(psf, "YX", (0.1, 0.1)))
        write_stack("psf.tif", Stack(psf, "YX", (0.1, 0.1)))

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_same_result_as_from_tiff(self, folder, capsys, version):
        assert reconstruct(psf="psf.tif") == 0
        words = ("--zarr-version", version)
        assert reconstruct(*words, image="in.ome.zarr", psf="psf.zarr", output="out.ome.zarr") == 0
        stack = read_stack("out.ome.zarr")
        assert np.array_equal(stack.load().data, read_stack("out.tif").data)
        assert stack.voxel_size == pytest.approx((0.1, 0.1))
        assert stack.metadata["provenance"]["config"] == read_sidecar("out.ome.zarr")["config"]
        capsys.readouterr()
        assert main(["reconstruct", "in.ome.zarr/zarr.json", "--from", "out.ome.zarr.json"]) == 0
        printed = capsys.readouterr()
        assert "in-deconvolved.ome.zarr: " in printed.out
        assert (folder / "in-deconvolved.ome.zarr/zarr.json").is_file() == (version == "0.5")
        assert "bit for bit" in printed.out
        assert printed.err == ""

    def test_other_commands(self, folder, capsys):
        assert main(["estimate", "in.ome.zarr", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["background"] == pytest.approx(2, abs=1)
        assert main(["simulate", "in.ome.zarr", "-o", "sim.zarr", "--psf", "psf.zarr", "--peak", "50"]) == 0
        assert read_stack("sim.zarr").data.shape == (48, 40)
        assert main(["psf", "inspect", "psf.zarr"]) == 0
        assert main(["psf", "make", "gaussian:sigma=1.2", "-o", "made.zarr", "--ndim", "2"]) == 0
        assert read_stack("made.zarr").axes == "YX"

    @pytest.mark.parametrize(
        ("more", "options", "says"),
        [
            (("--level", 3), {}, "has 1 levels of resolution"),
            (("--level", 1), {"image": "in.tif"}, "has no levels of resolution"),
            ((), {"output": "in.ome.zarr"}, "exists already"),
            (("--overwrite",), {"output": "in.ome.zarr"}, "is an input"),
            (("--overwrite",), {"output": "in.ome.zarr", "image": "in.ome.zarr/zarr.json"}, "is an input"),
            ((), {"output": "nowhere/out.zarr"}, "no folder"),
        ],
    )
    def test_refused(self, folder, capsys, more, options, says):
        before = sorted(path.name for path in folder.iterdir())
        assert reconstruct(*more, **{"image": "in.ome.zarr"} | options) == 1
        refused(capsys, says, written=before, folder=folder)

    def test_psf_in_nanometres_said_to_be_micrometres(self, folder, capsys):
        stack = read_stack("psf.tif")
        write_stack("psf.zarr", Stack(stack.data, "YX", (100.0, 100.0)), overwrite=True)
        assert reconstruct(psf="psf.zarr") == 1
        refused(capsys, "check their units")

    def test_without_multiscales(self, folder, capsys):
        import zarr

        zarr.open_group("in.ome.zarr", mode="a").attrs.put({"ome": {"version": "0.5"}})
        assert reconstruct(image="in.ome.zarr") == 1
        refused(capsys, "is a Zarr without multiscales")

    def test_without_the_libraries(self, folder, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "ome_zarr_models", None)
        assert reconstruct(image="in.ome.zarr") == 1
        refused(capsys, "OME-Zarr needs more libraries")
        assert reconstruct(output="out.zarr") == 1
        refused(capsys, "OME-Zarr needs more libraries")


@pytest.mark.parametrize(("more", "told"), [((), 1), (("--gain", 2), 1), (("--gain", 2, "--offset", 0), 0)])
def test_gain_of_the_file_is_told_where_it_could_be_missed(folder, capsys, more, told):
    tifffile.imwrite("in.ome.tif", scene().astype(np.float32), metadata={"axes": "YX"})
    text = tifffile.tiffcomment("in.ome.tif").replace(
        "<Image ",
        '<Instrument ID="Instrument:0"><Detector ID="Detector:0" Gain="2.2" Offset="100"/></Instrument><Image ',
        1,
    )
    tifffile.tiffcomment("in.ome.tif", text.encode())
    assert reconstruct(*more, image="in.ome.tif") == 0
    assert capsys.readouterr().err.count("of its detector Gain 2.2 and Offset 100, without a unit") == told


def test_stack_without_its_distance_of_planes_is_told(folder, capsys):
    counts = np.random.default_rng(0).poisson(scene((6, 24, 40)) + 2).astype(np.uint16)
    tifffile.imwrite("z.tif", counts, resolution=(1e5, 1e5), resolutionunit=3)
    assert reconstruct(image="z.tif", psf="gaussian:sigma=1,1.2,1.2") == 0
    assert "note: z.tif does not say the distance of its planes along Z" in capsys.readouterr().err
    assert reconstruct(image="z.tif", psf="widefield:na=1.2,wavelength=0.5,ni=1.33", output="b.tif") == 1
    assert "voxel size" in capsys.readouterr().err.splitlines()[-1]


class TestDtype:
    def test_uint16_with_its_scale(self, folder):
        assert reconstruct() == 0
        assert reconstruct("--dtype", "uint16", output="out.ome.tif") == 0
        exact, stored = read_stack("out.tif").data, read_stack("out.ome.tif")
        output = read_sidecar("out.ome.tif")["output"]
        assert (stored.data.dtype, stored.data.max()) == (np.uint16, 65535)
        assert stored.data * output["scale"] == pytest.approx(exact, abs=0.51 * output["scale"])
        assert stored.metadata["provenance"]["output"] == output

    def test_imagej_shows_photo_electrons(self, folder):
        assert reconstruct("--dtype", "uint16") == 0
        with tifffile.TiffFile("out.tif") as tif:
            found = tif.imagej_metadata
        assert (found["vunit"], found["cf"]) == ("photo-electrons", 0)
        assert found["c1"] == pytest.approx(read_sidecar("out.tif")["output"]["scale"])


class TestRefused:
    @pytest.mark.parametrize(
        ("more", "says"),
        [
            (("--peak", 0), "peak is 0"),
            (("--peak", -3), "peak is -3"),
            (("--peak", "nan"), "peak is nan"),
            (("--background", -1), "background is -1"),
            (("--gain", 0), "gain is 0"),
            (("--offset", "inf"), "offset is inf"),
            (("--offset", "none.tif"), "none.tif"),
            (("--mask", "none.tif"), "none.tif"),
            (("--max-iter", 0), "max_iter is 0"),
            (("--upper", 0), "upper is 0"),
            (("--axes", "ZYX"), "name 3 dimensions"),
            (("--axes", "XZ"), "cannot be used"),
            (("--voxel-size", "0.3,0.1,0.1"), "3 numbers for the axes Y,X"),
            (("--voxel-size", "0,0.1"), "above 0"),
            (("--device", "abacus"), "abacus"),
            (("--memory", "1kB"), "are allowed"),
            (("--memory", "much"), "memory size"),
            (("--tile", "1,64,64"), "The tile has 3 numbers for the axes Y,X"),
            (("--tile", "4,4"), "A tile of 4 × 4 is smaller than what has to be read"),
            (("--tile", "0,16"), "tile is 0"),
            (("--tile", "16,-16"), "tile is -16"),
            (("--tile", "16,16", "--boundary", "periodic"), "cannot be cut into tiles"),
            (("--scheduler", "nowhere"), "no scheduler file nowhere"),
            (("--scheduler", "tcp://localhost:1"), "No Dask scheduler answers at tcp://localhost:1"),
            (("--method", "deq-md", "--model", "nowhere"), "nowhere"),
        ],
    )
    def test_setting(self, folder, capsys, more, says):
        assert reconstruct(*more) == 1
        refused(capsys, says, folder=folder)

    @pytest.mark.parametrize(
        ("psf", "says"),
        [
            ("airy:na=1", "Unknown PSF"),
            ("gaussian:sigma=1,2,3", "3 values for 2 axes"),
            ("none.tif", "no file"),
        ],
    )
    def test_psf(self, folder, capsys, psf, says):
        assert reconstruct(psf=psf) == 1
        refused(capsys, says, folder=folder)

    @pytest.mark.parametrize(
        ("psf", "axes", "size", "says"),
        [
            (np.zeros((5, 5)), "YX", (0.1, 0.1), "zero everywhere"),
            (np.full((5, 5), np.nan), "YX", (0.1, 0.1), "NaN"),
            (np.ones((5, 5, 5)), "ZYX", (0.1, 0.1, 0.1), "3D but the image is 2D"),
            (np.ones((3, 5, 5)), "TYX", (0.1, 0.1), "the axes TYX"),
            (np.ones((5, 5)), "YX", (100, 100), "check their units"),
        ],
    )
    def test_psf_file(self, folder, capsys, psf, axes, size, says):
        write_stack("psf.ome.tif", Stack(psf.astype(np.float32), axes, size))
        assert reconstruct(psf="psf.ome.tif") == 1
        refused(capsys, says, written=("in.tif", "psf.ome.tif"), folder=folder)

    def test_psf_of_other_voxels_is_resampled_and_told(self, folder, capsys):
        y, x = np.mgrid[-9:10, -14:15]
        psf = np.exp(-((y / 1.2) ** 2 + (x / 2.4) ** 2) / 2)
        write_stack("psf.tif", Stack(psf.astype(np.float32), "YX", (0.1, 0.05)))
        assert reconstruct(psf="psf.tif") == 0
        assert "The PSF was resampled" in capsys.readouterr().err
        assert reconstruct(output="same.tif") == 0
        assert read_stack("out.tif").data == pytest.approx(read_stack("same.tif").data, rel=1e-2, abs=0.1)

    def test_only_sizes_that_are_known_are_compared_and_told(self, folder, capsys):
        counts = np.random.default_rng(0).poisson(20, (6, 24, 24)).astype(np.uint16)
        write_stack("flat.ome.tif", Stack(counts, "ZYX", metadata={"lateral": 0.1}))
        write_stack("psf.ome.tif", Stack(make_psf(ndim=3, sigma=(1, 2, 2)), "ZYX", (0.3, 0.05, 0.05)))
        assert reconstruct(psf="psf.ome.tif", image="flat.ome.tif") == 0
        told = capsys.readouterr().err
        assert "The image has no voxel size along Z: taken to be the PSF's" in told
        assert "from voxels of 0.05 × 0.05 µm (Y, X) to those of the image, 0.1 × 0.1 µm (Y, X)." in told

    def test_psf_without_voxel_size_is_told(self, folder, capsys):
        write_stack("psf.tif", Stack(np.ones((5, 5), np.float32), "YX"))
        assert reconstruct(psf="psf.tif") == 0
        assert "The PSF has no voxel size along Y" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("image", "says"),
        [
            (np.full((20, 20), 7, np.uint16), "constant"),
            (np.zeros((20, 20), np.uint16), "constant"),
            (np.where(np.eye(20), np.nan, 1).astype(np.float32), "NaN"),
            (np.where(np.eye(20), np.inf, 1).astype(np.float32), "infinite"),
            (np.where(np.eye(20), -5, 1).astype(np.float32), "negative counts"),
            (np.eye(20).astype(np.complex64), "complex64"),
            (np.zeros((20, 20, 3), np.uint8), "colour"),
            (np.ones((2, 2, 20, 20), np.uint8), "axes"),
        ],
    )
    def test_image(self, folder, capsys, image, says):
        photometric = "rgb" if image.shape[-1] == 3 else "minisblack"
        tifffile.imwrite("in.tif", image, photometric=photometric)
        assert reconstruct() == 1
        refused(capsys, says, folder=folder)

    @pytest.mark.parametrize(("content", "says"), [(b"", "not a TIFF"), (b"hello", "not a TIFF")])
    def test_unreadable_file(self, folder, capsys, content, says):
        (folder / "in.tif").write_bytes(content)
        assert reconstruct() == 1
        refused(capsys, says, folder=folder)

    def test_truncated_file(self, folder, capsys):
        raw = (folder / "in.tif").read_bytes()
        (folder / "in.tif").write_bytes(raw[: len(raw) // 2])
        assert reconstruct() == 1
        refused(capsys, "damaged", folder=folder)

    @pytest.mark.parametrize(
        ("output", "says"),
        [("out.png", "written as TIFF"), ("nowhere/out.tif", "no folder"), ("in.tif", "exists already")],
    )
    def test_output(self, folder, capsys, output, says):
        assert reconstruct(output=output) == 1
        refused(capsys, says, folder=folder)

    @pytest.mark.parametrize(
        "words", [{"image": "n" * 300}, {"psf": "n" * 300 + ".tif"}, {"output": "n" * 300 + ".tif"}]
    )
    def test_name_that_is_too_long(self, folder, capsys, words):
        assert reconstruct(**words) == 1
        refused(capsys, "is too long", folder=folder)

    def test_psf_that_is_empty(self, folder, capsys):
        assert reconstruct(psf="") == 1
        refused(capsys, "Unknown PSF ''", folder=folder)

    def test_peak_that_cannot_be_drawn(self, folder, capsys):
        assert main(["simulate", "in.tif", "--psf", PSF, "--peak", "1e30", "-o", "out.tif"]) == 1
        refused(capsys, "1e+30 photo-electrons cannot be simulated", folder=folder)

    def test_output_is_the_input(self, folder, capsys):
        assert reconstruct("--overwrite", output="in.tif") == 1
        refused(capsys, "is an input", folder=folder)

    @pytest.mark.parametrize("option", ["psf", "offset", "gain", "read-noise", "mask", "model", "from"])
    def test_output_is_another_input(self, folder, capsys, option):
        output = folder / ("maps.tif.json" if option == "from" else "maps.tif")
        write_stack("maps.tif", Stack(np.ones((48, 40), np.float32), "YX", (0.1, 0.1)))
        (folder / "link.tif").symlink_to("maps.tif")
        if option == "from":
            assert reconstruct("--overwrite", output="maps.tif") == 0
        words = ["reconstruct", "in.tif", "-o", "maps.tif", "--overwrite", "--method", "rl"]
        words += [] if option in ("psf", "from") else ["--psf", PSF]
        words += [f"--{option}", "link.tif" if option != "from" else "maps.tif.json"]
        before = output.read_bytes()
        capsys.readouterr()
        assert main(words) == 1
        refused(capsys, f"{output} is an input")
        assert output.read_bytes() == before

    def test_other_commands_keep_their_inputs_too(self, folder, capsys):
        words = ["simulate", "in.tif", "--psf", "psf.tif", "--peak", "9", "-o", "psf.tif", "--overwrite"]
        write_stack("psf.tif", Stack(np.ones((5, 5), np.float32), "YX", (0.1, 0.1)))
        assert main(words) == 1
        refused(capsys, "psf.tif is an input")
        Path("in.tif").rename("in.png")
        assert main(["estimate", "in.png", "--plot", "in.png", "--overwrite"]) == 1
        refused(capsys, "in.png is an input")
        assert main(["psf", "inspect", "in.png", "--picture", "in.png", "--overwrite"]) == 1
        refused(capsys, "in.png is an input")
        assert main(["psf", "distill", "in.png", "-o", "psf.tif", "--theory", "psf.tif", "--overwrite"]) == 1
        refused(capsys, "psf.tif is an input")

    def test_read_only_folder(self, folder, capsys, monkeypatch):
        def refuse(self, *args):
            raise OSError(errno.EROFS, "read-only")

        monkeypatch.setattr("pathlib.Path.open", refuse)
        assert reconstruct() == 1
        refused(capsys, "cannot be written to", folder=folder)

    def test_disk_full_in_the_end(self, folder, capsys, monkeypatch):
        def full(handle, *args, **options):
            handle.write(b"II*")
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(tifffile, "imwrite", full)
        assert reconstruct() == 1
        refused(capsys, "is full", folder=folder)


class TestInterrupted:
    def steps(self, error):
        def steps(self):
            raise error
            yield

        return steps

    @pytest.mark.parametrize(
        ("error", "status", "says"),
        [
            (KeyboardInterrupt(), 130, "interrupted"),
            (MemoryError(), 1, "not enough memory"),
            (RuntimeError("CUDA out of memory. Tried"), 1, "ran out of memory"),
        ],
    )
    def test_nothing_is_left(self, folder, capsys, monkeypatch, error, status, says):
        monkeypatch.setattr("napari_deqmd.api.Reconstruction.steps", self.steps(error))
        assert reconstruct() == status
        refused(capsys, says, folder=folder)

    def test_a_bug_is_not_hidden(self, folder, monkeypatch):
        monkeypatch.setattr("napari_deqmd.api.Reconstruction.steps", self.steps(RuntimeError("bug")))
        with pytest.raises(RuntimeError, match="bug"):
            reconstruct()


class TestEstimate:
    def test_line_and_json_agree(self, folder, capsys):
        assert main(["estimate", "in.tif"]) == 0
        assert "peak" in capsys.readouterr().out
        assert main(["estimate", "in.tif", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found.keys() >= {"offset", "gain", "peak", "background", "clipped_fraction", "warnings"}
        assert found["background"] == pytest.approx(2, abs=1)

    def test_channels(self, folder, capsys):
        data = np.random.default_rng(0).poisson(scene((2, 48, 40)) * [[[1]], [[5]]] + 2).astype(np.float32)
        write_stack("c.ome.tif", Stack(data, "CYX", None, ("weak", "strong")))
        assert main(["estimate", "c.ome.tif", "--offset", "3", "--json"]) == 0
        weak, strong = json.loads(capsys.readouterr().out)["channels"]
        assert strong["peak"] > 2 * weak["peak"]
        assert main(["estimate", "c.ome.tif", "--offset", "3"]) == 0
        printed = capsys.readouterr()
        assert "strong: peak" in printed.out
        assert "note: weak: " in printed.err

    def test_camera_with_its_plot(self, folder, capsys):
        rng = np.random.default_rng(0)
        y, x = np.mgrid[:320, :320]
        bright = 200 * (np.sin(x / 19) * np.sin(y / 23)) ** 2
        counts = np.rint(2 * rng.poisson(bright + 5) + 100).astype(np.uint16)
        tifffile.imwrite("camera.tif", counts)
        assert main(["estimate", "camera.tif", "--json", "--plot", "fit.png"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["cannot_tell"] == ""
        assert found["gain"] == pytest.approx(2, rel=0.1)
        assert abs(found["offset"] - 100) < 4 * found["offset_error"]
        with Image.open("fit.png") as plot:
            assert plot.size > (400, 300)
        assert main(["estimate", "camera.tif"]) == 0
        assert "± " in capsys.readouterr().out
        dark = np.full((64, 64), 100) + rng.integers(0, 2, (64, 64))
        tifffile.imwrite("dark.tif", dark.astype(np.uint16))
        assert main(["estimate", "camera.tif", "--json", "--dark", "dark.tif"]) == 0
        assert json.loads(capsys.readouterr().out)["offset"] == pytest.approx(100.5, abs=0.1)
        assert main(["estimate", "camera.tif", "--plot", "fit.png"]) == 1
        assert "exists already" in capsys.readouterr().err

    def test_says_what_it_cannot_tell(self, folder, capsys):
        assert main(["estimate", "in.tif", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["offset"], found["gain"], found["gain_error"]) == (None, None, None)
        assert found["assumed"] == {"offset": 0, "gain": 1}
        assert 0 < found["peak_error"] < 0.2 * found["peak"]
        assert "too small" in found["cannot_tell"]
        assert main(["estimate", "in.tif", "--gain", "1", "--plot", "fit.png"]) == 0
        assert "if the offset is 0\n" in capsys.readouterr().out
        with Image.open("fit.png") as plot:
            assert plot.size > (400, 300)

    def test_refused(self, folder, capsys):
        assert main(["estimate", "none.tif"]) == 1
        refused(capsys, "no file", folder=folder)


class TestSimulate:
    def test_counts(self, folder, capsys):
        write_stack("clean.tif", Stack(scene().astype(np.float32), "YX", (0.1, 0.1)))
        words = [
            "--psf",
            PSF,
            "--peak",
            "50",
            "--background",
            "3",
            "--offset",
            "100",
            "--gain",
            "2",
            "--seed",
            "4",
        ]
        assert main(["simulate", "clean.tif", "-o", "sim.tif", *words]) == 0
        assert "counts" in capsys.readouterr().out
        stack = read_stack("sim.tif")
        assert stack.voxel_size == pytest.approx((0.1, 0.1))
        assert np.median(stack.data) == pytest.approx(106, abs=3)
        assert read_sidecar("sim.tif")["settings"]["peak"] == 50
        assert main(["simulate", "clean.tif", "-o", "again.tif", *words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["seed"] == 4
        assert np.array_equal(read_stack("again.tif").data, stack.data)

    @pytest.mark.parametrize(("peak", "told"), [(200, True), (5, False)])
    def test_estimate_finds_the_peak_again_or_says_how_badly(self, folder, capsys, peak, told):
        clean = np.zeros((128, 128), np.float32)
        clean[10::17] = clean[:, 12::29] = 1
        write_stack("clean.tif", Stack(clean, "YX"))
        words = ["--psf", "gaussian:sigma=1.2", "--peak", str(peak), "--background", str(peak / 20)]
        assert main(["simulate", "clean.tif", "-o", "sim.tif", *words]) == 0
        capsys.readouterr()
        assert main(["estimate", "sim.tif", "--offset", "0", "--gain", "1", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert abs(found["peak"] - peak) < (0.15 * peak if told else 3 * found["peak_error"])
        assert main(["estimate", "sim.tif", "--offset", "0", "--gain", "1"]) == 0
        assert ("peak cannot be told better than" in capsys.readouterr().err) is not told

    def test_refused(self, folder, capsys):
        assert main(["simulate", "in.tif", "-o", "sim.tif", "--psf", PSF, "--peak", "0"]) == 1
        refused(capsys, "peak is 0", folder=folder)


@pytest.fixture
def models(tmp_path, monkeypatch):
    from napari_deqmd.core.regularizers import build
    from napari_deqmd.training.models import save_model

    monkeypatch.setenv("DEQMD_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    card = {"family": "red", "options": {"channels": 4, "depth": 2}, "ndim": 2, "description": "a test"}
    save_model(build("red", card["options"]), tmp_path / "models" / "tiny.safetensors", card)


class TestModels:
    def test_list_and_info(self, models, capsys):
        assert main(["models", "list"]) == 0
        assert "tiny  2D  a test" in capsys.readouterr().out
        assert main(["models", "list", "--json"]) == 0
        assert "tiny" in {card["name"] for card in json.loads(capsys.readouterr().out)["models"]}
        assert main(["models", "info", "tiny"]) == 0
        assert "family: red" in capsys.readouterr().out
        assert main(["models", "info", "tiny", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["options"] == {"channels": 4, "depth": 2}

    def test_none(self, monkeypatch, capsys):
        monkeypatch.setattr("napari_deqmd.training.models.list_models", list)
        assert main(["models", "list"]) == 0
        assert "No models" in capsys.readouterr().out

    def test_unknown(self, models, capsys):
        assert main(["models", "info", "nowhere"]) == 1
        refused(capsys, "nowhere")

    def test_export_and_import(self, models, folder, tmp_path, capsys):
        out = tmp_path / "to send"
        assert main(["models", "export", "tiny", str(out)]) == 0
        copy = Path(capsys.readouterr().out.strip())
        assert copy == out / "tiny.safetensors"
        assert main(["models", "import", str(copy)]) == 1
        refused(capsys, "exists already")
        assert main(["models", "import", str(copy), "--name", "again", "--json"]) == 0
        assert Path(json.loads(capsys.readouterr().out)["card"]).name == "again.json"
        assert reconstruct("--method", "deq-md", "--model", "again") == 0

    def test_a_full_disk(self, models, tmp_path, capsys, monkeypatch):
        def full(path, content):
            raise OSError(errno.ENOSPC, "No space left on device")

        (tmp_path / "to send").mkdir()
        monkeypatch.setattr(Path, "write_bytes", full)
        assert main(["models", "export", "tiny", str(tmp_path / "to send")]) == 1
        refused(capsys, "is full: make room")
        assert list((tmp_path / "to send").iterdir()) == []

    def test_a_folder_of_models_that_cannot_be_made(self, models, tmp_path, capsys, monkeypatch):
        model = tmp_path / "models" / "tiny.safetensors"
        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setenv("DEQMD_MODELS", str(tmp_path / "file" / "models"))
        assert main(["models", "import", str(model), "--name", "other"]) == 1
        refused(capsys, "Cannot write")

    def test_reconstruct_with_it(self, models, folder):
        assert reconstruct("--method", "deq-md", "--model", "tiny", "--json") == 0
        assert read_sidecar("out.tif")["model"]["name"] == "tiny"


def finetune(kind="noisy", *more, psf="gaussian:sigma=1", name="mine", inputs=("low",)):
    if kind != "clean":
        more = ("--offset", 100, "--gain", 2, *more)
    words = ["--input", *inputs, "--psf", psf, "--base", "tiny", "--minutes", 1, "--name", name, *more]
    return main(["train", "finetune", "--kind", kind, *(str(word) for word in words)])


class TestTrain:
    """The fine-tuning itself is replaced by one step that only scores: it is tested by itself."""

    def test_psf_that_needs_a_voxel_size(self, data, helps, capsys):
        helps()
        theory = "widefield:na=0.8,wavelength=0.52"
        assert finetune(psf=theory) == 1
        refused(capsys, "needs the image's voxel size")
        assert finetune("noisy", "--voxel-size", "0.1,100nm", psf=theory) == 0

    @pytest.fixture
    def data(self, folder, models):
        rng = np.random.default_rng(0)
        sharp = np.array([gaussian_filter((rng.random((48, 48)) > 0.97) * 40.0, 2) for _ in range(4)])
        for name, peak in (("low", 30), ("high", 600)):
            (folder / name).mkdir()
            for i, image in enumerate(sharp):
                counts = rng.poisson(peak * (image / image.max() + 0.05)).astype(np.uint16)
                tifffile.imwrite(folder / name / f"{i}.tif", 2 * counts + 100)
        return folder

    @pytest.fixture
    def helps(self, monkeypatch):
        """A training of two steps that scores 1 better, or 1 worse."""

        def install(gain=1.0):
            from napari_deqmd.training import finetune as module
            from napari_deqmd.training.progress import Report

            def train(regularizer, draw, *, validate, **options):
                for step in (1, 2):
                    draw(step, 1)
                    regularizer.strength.a.data += 1
                    yield Report(step, 0.5, float(step), validate(regularizer) if step == 2 else {})

            def score(job, regularizer):
                import torch

                moved = regularizer.strength.a.item() - job.base.regularizer.strength.a.item()
                return torch.full((8,), 5 + job.source.held_out.sign * gain * moved / 2, dtype=torch.float64)

            monkeypatch.setattr(module, "train_equilibrium", train)
            monkeypatch.setattr(module.Finetuning, "_score", score)

        return install

    @pytest.mark.parametrize(
        ("kind", "more", "measure"),
        [
            ("clean", ("--peak", "20:40"), "PSNR"),
            ("paired", ("--target", "high"), "deviance"),
            ("noisy", ("--peak", 30), "deviance"),
        ],
    )
    def test_json_and_an_installed_model_with_its_card(self, data, helps, capsys, kind, more, measure):
        from napari_deqmd.training.models import load_model

        helps()
        assert finetune(kind, "--json", "--seed", 3, *more) == 0
        found = json.loads(capsys.readouterr().out)
        assert found.keys() >= {
            "score_before",
            "score_after",
            "score",
            "seconds",
            "steps",
            "model_path",
            "kept",
        }
        assert measure in found["score"]
        assert (found["kept"], found["steps"]) == (True, 2)
        assert found["score_before"] == 5
        assert found["score_after"] == (6 if kind == "clean" else 4)
        model = load_model("mine")
        assert str(model.path) == found["model_path"]
        assert model.regularizer.strength.a.item() == pytest.approx(2)
        card = model.card
        assert (card["data"]["kind"], card["seed"], card["base"]["name"]) == (kind, 3, "tiny")
        assert card["base"]["sha256"] == load_model("tiny").card["sha256"]
        assert card["results"]["base"] == 5
        assert reconstruct("--method", "deq-md", "--model", "mine") == 0

    def test_offset_and_gain_are_taken_off(self, data, helps, capsys):
        from napari_deqmd.training.models import find_model

        helps()
        assert finetune("noisy") == 0
        printed = capsys.readouterr()
        assert "helped" in printed.out
        assert "rounded" not in printed.err
        assert find_model("mine").card["data"]["peaks"] == pytest.approx([30] * 4, rel=0.4)

    def test_into_a_folder_under_a_name(self, data, helps, capsys):
        helps()
        assert finetune("noisy", "--out", "out", "--json") == 0
        assert sorted(path.name for path in (data / "out").iterdir()) == ["mine.json", "mine.safetensors"]
        assert json.loads(capsys.readouterr().out)["model_path"] == str(data / "out" / "mine.safetensors")

    def test_what_did_not_help_is_said_and_nothing_saved(self, data, helps, capsys):
        helps(gain=-1.0)
        assert finetune("noisy", "--out", "out") == 0
        assert "did not help" in capsys.readouterr().out
        assert list((data / "out").iterdir()) == []
        assert finetune("noisy", "--out", "out", "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["kept"], found["score_after"], found["score_before"]) == (False, 5, 5)
        assert Path(found["model_path"]).name == "tiny.safetensors"

    def test_unreadable_files_are_named(self, data, helps, capsys):
        helps()
        (data / "low" / "broken.tif").write_bytes(b"no")
        assert finetune("noisy") == 0
        assert "note: Left out: broken.tif is not a TIFF file" in capsys.readouterr().err

    def test_a_real_run(self, data, capsys, monkeypatch):
        """Two seconds or so with the whole mechanism, for which a tiny network has hardly any use."""
        assert finetune("noisy", "--minutes", 0.03, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["kept"] == Path(found["model_path"]).name.startswith("mine")
        assert np.isfinite(found["score_before"])

    @pytest.mark.parametrize(
        ("kind", "more", "options", "says"),
        [
            ("paired", (), {}, "--target belongs to --kind paired"),
            ("noisy", ("--target", "high"), {}, "--target belongs to --kind paired"),
            ("noisy", ("--peak", "10:20"), {}, "range of peaks is for clean images"),
            ("clean", ("--peak", "20:10"), {}, "peak 20:10 is not possible"),
            ("noisy", ("--minutes", 0), {}, "minutes is 0"),
            ("noisy", ("--seed", -1), {}, "seed is -1"),
            ("noisy", ("--base", "nowhere"), {}, "nowhere"),
            ("noisy", ("--out", "in.tif"), {}, "in.tif"),
            ("noisy", (), {"name": "../up"}, "cannot name a model"),
            ("noisy", (), {"name": "tiny"}, "exists already"),
            ("noisy", (), {"name": "fluorescence-2d"}, "name of a bundled model"),
            ("noisy", (), {"psf": "none.tif"}, "no file"),
            ("noisy", (), {"inputs": ("none",)}, "no file"),
            ("noisy", (), {"inputs": ("low/0.tif",)}, "too few or too small"),
            ("noisy", ("--gain", 0), {}, "gain is 0"),
            ("paired", ("--target", "high/0.tif"), {}, "4 input files and 1 targets"),
        ],
    )
    def test_refused_before_anything_long(self, data, capsys, monkeypatch, kind, more, options, says):
        monkeypatch.setattr("napari_deqmd.training.finetune.Finetuning.steps", None)
        before = sorted(path.name for path in (data / "models").iterdir())
        assert finetune(kind, *more, **options) == 1
        refused(capsys, says, written=("in.tif", "low", "high", "models"), folder=data)
        assert sorted(path.name for path in (data / "models").iterdir()) == before

    def test_interrupted(self, data, capsys, monkeypatch):
        def steps(job):
            raise KeyboardInterrupt
            yield

        monkeypatch.setattr("napari_deqmd.training.finetune.Finetuning.steps", steps)
        assert finetune("noisy") == 130
        refused(capsys, "interrupted", written=("in.tif", "low", "high", "models"), folder=data)

    @pytest.mark.parametrize(
        ("error", "status", "says"),
        [
            (KeyboardInterrupt(), 130, "interrupted: "),
            (RuntimeError("CUDA out of memory"), 1, "the device ran out of memory"),
            (UserError("Read this."), 1, "Read this."),
        ],
    )
    def test_what_was_better_outlasts_an_end_too_early(
        self, data, helps, capsys, monkeypatch, error, status, says
    ):
        from napari_deqmd.training.finetune import Finetuning

        steps = Finetuning.steps

        def interrupted(job):
            yield from steps(job)
            raise error

        helps()
        monkeypatch.setattr(Finetuning, "steps", interrupted)
        assert finetune("noisy") == status
        printed = capsys.readouterr().err
        assert "the best model so far is" in printed
        assert says in printed
        assert (data / "models" / "mine.safetensors").exists()

    def test_a_model_that_appeared_meanwhile_is_left_as_it_is(self, data, helps, capsys, monkeypatch):
        from napari_deqmd.training.finetune import Finetuning
        from napari_deqmd.training.models import load_model

        steps, other = Finetuning.steps, data / "models" / "mine.safetensors"

        def racing(job):
            yield from steps(job)
            other.write_bytes(b"another")
            (data / "models" / "mine-2.json").write_text("{}")

        helps()
        monkeypatch.setattr(Finetuning, "steps", racing)
        assert finetune("noisy", "--json") == 0
        assert other.read_bytes() == b"another"
        found = Path(json.loads(capsys.readouterr().out)["model_path"])
        assert found == load_model("mine-3").path

    def test_progress_goes_to_stderr(self, data, helps, capsys, monkeypatch):
        monkeypatch.setattr("napari_deqmd.cli.console._PAUSE", 0)
        helps()
        assert finetune("noisy", "--json") == 0
        printed = capsys.readouterr()
        json.loads(printed.out)
        assert "step 2, " in printed.err


def test_a_name_that_is_no_text(folder, capfdbinary):
    name = os.fsdecode(b"caf\xe9.tif")
    Path("in.tif").rename(name)
    assert reconstruct(image=name, output=f"out-{name}") == 0
    assert read_sidecar(f"out-{name}")["input"]["path"].endswith("caf\\udce9.tif")
    done = subprocess.run(
        [Path(sys.executable).with_name("deqmd"), "reconstruct", name, "-o", f"out-{name}", "--psf", PSF],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"exists already" in done.stderr


def test_a_reader_that_leaves_is_no_error(folder):
    deqmd = Path(sys.executable).with_name("deqmd")
    done = subprocess.run(
        ["sh", "-c", f"'{deqmd}' models info fluorescence-2d | head -c 1"], capture_output=True, check=False
    )
    assert len(done.stdout) == 1
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["~nosuchuser/x.tif", "-o", "out.tif", "--psf", PSF], "begins with ~"),
        (["in.tif", "-o", "out.tif", "--psf", PSF, "--device", "meta"], "device 'meta'"),
    ],
)
def test_one_sentence(folder, capsys, more, says):
    assert main(["reconstruct", *more]) == 1
    refused(capsys, says, folder=folder)


class TestWholeTrainings:
    @pytest.fixture(autouse=True)
    def toy(self, folder):
        Path("toy.toml").write_text(TOY)

    def train(self, *more, job="pretrain", run="run"):
        return main(["train", job, "toy.toml", "--data", ".", "--run", run, *more])

    def test_from_a_recipe_to_a_model(self, folder, capsys):
        assert self.train("--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["steps"] == 2
        assert Path(found["model_path"]) == folder / "run" / "toy-pretrained.safetensors"
        assert self.train("--device", "cpu", job="equilibrium") == 0
        assert f"Saved {folder / 'run' / 'toy.safetensors'}" in capsys.readouterr().out

    @pytest.mark.parametrize("device", ["quantum", "cuda:99"])
    def test_a_device_that_is_not_there(self, folder, capsys, device):
        assert self.train("--device", device) == 1
        refused(capsys, f"device '{device}'", written=("in.tif", "toy.toml", "run"), folder=folder)

    @pytest.mark.parametrize("job", ["pretrain", "equilibrium"])
    def test_fewer_steps_than_none(self, folder, capsys, job):
        assert self.train("--steps", "-5", job=job) == 1
        refused(capsys, "steps is -5: give a whole", written=("in.tif", "toy.toml", "run"), folder=folder)

    def test_a_run_that_cannot_be_written_is_told_before_the_first_step(self, folder, capsys):
        assert self.train(run="in.tif/run") == 1
        refused(capsys, "Cannot write", written=("in.tif", "toy.toml"), folder=folder)

    def test_interrupted(self, folder, capsys, monkeypatch):
        def stop(*args, **options):
            raise KeyboardInterrupt
            yield

        monkeypatch.setattr("napari_deqmd.training.recipes.pretrain", stop)
        assert self.train() == 130
        assert "goes on from the last checkpoint" in capsys.readouterr().err

    def test_a_full_disk(self, folder, capsys, monkeypatch):
        def full(path, content):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        assert self.train() == 1
        refused(capsys, "is full: make room", written=("in.tif", "toy.toml", "run"), folder=folder)


class TestDemo:
    @pytest.fixture(autouse=True)
    def quick(self, models, monkeypatch):
        monkeypatch.setattr("napari_deqmd.training.models.DEFAULTS", {2: "tiny", 3: "tiny"})

    def test_images_and_picture(self, folder, capsys):
        assert main(["demo", "--headless", "--max-iter", "2"]) == 0
        printed = capsys.readouterr().out
        assert "dB before" in printed
        assert str(folder / "demo-output") in printed
        names = sorted(path.name for path in (folder / "demo-output").iterdir())
        assert names == ["before-after.png", "raw.tif", "result.tif", "result.tif.json", "truth.tif"]
        with Image.open(folder / "demo-output" / "before-after.png") as picture:
            assert picture.width > 3 * 512
        assert read_stack(folder / "demo-output" / "result.tif").voxel_size == pytest.approx((0.1, 0.1))
        assert main(["demo", "--headless", "--max-iter", "2"]) == 0

    def test_without_a_display_or_napari(self, folder, monkeypatch):
        monkeypatch.setattr("napari_deqmd.cli.demo.has_display", lambda: False)
        assert main(["demo", "--max-iter", "1", "--output", "there"]) == 0
        monkeypatch.setattr("napari_deqmd.cli.demo.has_display", lambda: True)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert main(["demo", "--max-iter", "1", "--output", "elsewhere"]) == 0
        assert (folder / "there" / "result.tif").exists()
        assert (folder / "elsewhere" / "result.tif").exists()

    def test_with_a_display(self, folder, monkeypatch):
        shown = []
        monkeypatch.setattr("napari_deqmd.cli.demo.has_display", lambda: True)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
        monkeypatch.setattr("napari_deqmd.cli.demo.show", lambda sample, max_iter: shown.append(max_iter))
        assert main(["demo", "--max-iter", "1"]) == 0
        assert shown == [1]
        assert not (folder / "demo-output").exists()

    def test_what_napari_is_asked_for(self, folder, monkeypatch):
        napari, dock = MagicMock(), MagicMock()
        napari.Viewer.return_value.window.add_plugin_dock_widget.return_value = (None, dock)
        monkeypatch.setitem(sys.modules, "napari", napari)
        monkeypatch.setattr("napari_deqmd.cli.demo.has_display", lambda: True)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
        assert main(["demo", "--max-iter", "1"]) == 0
        viewer = napari.Viewer.return_value
        names = [call.kwargs["name"] for call in viewer.add_image.call_args_list]
        assert names == ["Filaments", "Filaments truth"]
        viewer.window.add_plugin_dock_widget.assert_called_once_with("napari-deqmd", "Reconstruct")
        dock.run.assert_called_once_with()
        napari.run.assert_called_once_with()

    def test_files_of_no_demo_are_left_alone(self, folder, capsys):
        Path("result.tif").write_bytes(b"mine")
        assert main(["demo", "--headless", "--output", "."]) == 1
        refused(capsys, "is of no demo", written=("in.tif", "models", "result.tif"), folder=folder)
        assert Path("result.tif").read_bytes() == b"mine"

    def test_folder_that_cannot_be(self, folder, capsys):
        assert main(["demo", "--headless", "--output", "in.tif"]) == 1
        refused(capsys, "Cannot make the folder", written=("in.tif", "models"), folder=folder)


@pytest.mark.parametrize(
    ("display", "there"), [({}, False), ({"DISPLAY": ":9"}, True), ({"WAYLAND_DISPLAY": "w"}, True)]
)
def test_display(monkeypatch, display, there):
    from napari_deqmd.cli.demo import has_display

    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in display.items():
        monkeypatch.setenv(name, value)
    assert has_display() is there
    monkeypatch.setattr(sys, "platform", "darwin")
    assert has_display()


def test_picture_has_one_contrast():
    dark, bright = np.zeros((8, 8)), np.full((8, 8), 5.0)
    picture = np.asarray(side_by_side([("a", dark), ("b", bright), ("c", 2 * bright)], white=10.0))
    row = picture[picture.shape[0] // 2]
    values, counts = np.unique(row, return_counts=True)
    assert dict(zip(values.tolist(), (counts >= 512).tolist(), strict=True)) == {
        0: True,
        24: False,
        128: True,
        255: True,
    }


@pytest.mark.parametrize(
    "words",
    [
        "",
        "nonsense",
        "reconstruct in.tif",
        "reconstruct --peak much",
        "reconstruct --voxel-size a,b",
        "models",
        "train",
        "train finetune --kind noisy",
        "train finetune --kind odd --input a --psf p --minutes 1 --name n",
        "train finetune --kind clean --input a --psf p --minutes 1 --name n --peak 1:2:3",
        "benchmark fun",
    ],
)
def test_usage(words, capsys):
    assert main(words.split()) == 2
    assert "usage: deqmd" in capsys.readouterr().err


@pytest.mark.parametrize("minutes", ["inf", "nan", "long"])
def test_a_time_without_end_is_refused(minutes, capsys):
    words = f"train finetune --kind noisy --input a --psf p --minutes {minutes} --name n"
    assert main(words.split()) == 2
    assert f"The time is '{minutes}': type a " in capsys.readouterr().err


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys; from napari_deqmd.cli import main; s = main(['--help']) + main(['--version']);"
        "print(sorted({'numpy', 'torch', 'scipy', 'tifffile', 'qtpy', 'napari'} & set(sys.modules))); sys.exit(s)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_sidecar_name():
    assert sidecar_path("a/out.ome.tif").name == "out.ome.tif.json"


def test_a_console_that_lacks_characters(monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), "cp932", write_through=True)
    monkeypatch.setattr(sys, "stdout", console)
    assert main(["--version"]) == 0
    console.buffer.truncate(0)
    console.buffer.seek(0)
    print("5 \u00b5m \udcff")
    assert console.buffer.getvalue() == b"5 \\xb5m \xff\n"


def test_every_channel_has_its_own_peak(folder, capsys):
    counts = np.random.default_rng(0).poisson(np.stack([scene() + 2, 4 * scene() + 2])).astype(np.uint16)
    tifffile.imwrite("two.tif", counts, imagej=True, metadata={"axes": "CYX"})
    arguments = ["reconstruct", "two.tif", "-o", "out.tif", "--psf", PSF, "--method", "rl", "--max-iter", "2"]
    assert main([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    first, last = printed["channels"]
    assert (printed["peak"], printed["background"]) == (last["peak"], last["background"])
    assert main([*arguments, "--overwrite"]) == 0
    assert f"(peak {first['peak']:.4g} to {last['peak']:.4g}, background" in capsys.readouterr().out
