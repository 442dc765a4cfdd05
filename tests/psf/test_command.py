"""``deqmd psf``: what it prints and writes, and a sentence for what cannot work."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_deqmd.cli import main
from napari_deqmd.io.sidecar import read_sidecar
from napari_deqmd.io.stack import Stack, read_stack, write_stack
from napari_deqmd.psf.theory import make_psf
from psf.test_beads import HALVES, VOXEL, field

CONFOCAL = "confocal:na=1.2,wavelength=0.52,ni=1.333,size=15,21,21"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, says):
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert says in printed.err


def test_make_writes_a_psf_that_reconstruct_reads(folder, capsys):
    assert main(["psf", "make", CONFOCAL, "--voxel-size", "200nm,80nm,0.08", "-o", "psf.tif", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["output"] == str(folder / "psf.tif")
    assert printed["fwhm_um"] == pytest.approx(np.multiply(printed["fwhm"], (0.2, 0.08, 0.08)))
    stack = read_stack("psf.tif")
    assert (stack.axes, stack.data.shape) == ("ZYX", (15, 21, 21))
    assert stack.voxel_size == pytest.approx((0.2, 0.08, 0.08))
    assert stack.data.sum() == pytest.approx(1, abs=1e-5)
    assert read_sidecar("psf.tif")["psf"]["source"] == CONFOCAL


def test_make_a_plane(folder, capsys):
    assert main(["psf", "make", "gaussian:sigma=1.5", "--ndim", "2", "-o", "psf.ome.tif"]) == 0
    assert "width at half maximum, voxels: 3.53" in capsys.readouterr().out
    assert read_stack("psf.ome.tif").data.ndim == 2


def test_distill(folder, capsys):
    counts = field()[:, :, 18:]
    tifffile.imwrite("beads.tif", counts, imagej=True, metadata={"axes": "ZYX"})
    assert (
        main(["psf", "distill", "beads.tif", "--voxel-size", "0.2,0.08,0.08", "-o", "psf.tif", "--json"]) == 0
    )
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert len(found["beads"]) == 4
    assert printed.err.count("at the edge") == 2
    assert read_stack("psf.tif").voxel_size == pytest.approx(VOXEL)
    assert read_sidecar("psf.tif")["report"]["residual"] == pytest.approx(found["residual"])
    assert main(["psf", "inspect", "psf.tif"]) == 0
    assert "width at half maximum, µm: 0.5" in capsys.readouterr().out


def test_distill_compares_with_theory(folder, capsys):
    write_stack("beads.tif", Stack(field(HALVES[:1], columns=1), "ZYX", VOXEL))
    words = ["psf", "distill", "beads.tif", "--json", "--overwrite", "-o", "psf.tif", "--theory"]
    assert main([*words, CONFOCAL]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["theory_fwhm"] == pytest.approx(found["fwhm"], rel=0.1)
    assert not any("times as wide" in sentence for sentence in found["warnings"])
    assert main([*words, CONFOCAL.replace("1.2,", "0.8,")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "times as wide" in found["warnings"][0]


def test_inspect_draws_a_picture_and_compares_voxels(folder, capsys):
    arguments = ["psf", "inspect", CONFOCAL, "--voxel-size", "0.2,0.08,0.08", "--picture", "look.png"]
    assert main([*arguments, "--image-voxel-size", "0.3,0.08,0.08"]) == 0
    printed = capsys.readouterr()
    assert "but the image's 0.3" in printed.err
    assert str(folder / "look.png") in printed.out
    with Image.open("look.png") as picture:
        assert picture.width > 3 * 300
        assert len(set(picture.tobytes())) > 20
    assert main(arguments) == 1
    refused(capsys, "exists already")


def test_inspect_finds_a_pedestal(folder, capsys):
    psf = np.full((21, 21), 100.0, np.float32)
    psf[10, 10] = psf[9:12, 10] = psf[10, 9:12] = 1500
    psf[10, 10] = 4000
    write_stack("psf.tif", Stack(psf, "YX"))
    assert main(["psf", "inspect", "psf.tif", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pedestal"] == pytest.approx(100)
    assert "background of 100" in found["warnings"][0]


@pytest.mark.parametrize(
    ("stack", "more", "says"),
    [
        (np.random.default_rng(0).poisson(50, (16, 48, 48)).astype(np.uint16), (), "No beads"),
        (np.minimum(field(HALVES[:1], columns=1, peak=9000), 4095), (), "1 saturated"),
        (np.full((16, 48, 48), np.nan, np.float32), (), "NaN"),
        (np.ones((2, 3, 48, 48), np.uint16), (), "axes"),
        (field(HALVES[:1], columns=1), ("--size", "8,9,9"), "odd numbers"),
        (field(HALVES[:1], columns=1), ("--bead-diameter", "100nm"), "need the voxel size"),
    ],
)
def test_beads_that_cannot_work(folder, capsys, stack, more, says):
    tifffile.imwrite("beads.tif", stack, photometric="minisblack")
    assert main(["psf", "distill", "beads.tif", "-o", "psf.tif", *more]) == 1
    refused(capsys, says)
    assert [path.name for path in folder.iterdir()] == ["beads.tif"]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["make", "widefield:na=1.4,wavelength=0.52", "-o", "psf.tif"], 1, "voxel size"),
        (["make", "gaussian", "-o", "psf.tif"], 1, "needs sigma"),
        (["make", "gaussian:sigma=2", "-o", "psf.png"], 1, "TIFF"),
        (["inspect", "none.tif"], 1, "There is no file"),
        (["inspect", "gaussian:sigma=2", "--picture", "look.jpg"], 1, ".png"),
        (["inspect", "gaussian:sigma=2", "--voxel-size=-0.1,0.1,0.1"], 1, "above 0"),
        (["inspect", "gaussian:sigma=2", "--voxel-size", "3 inches"], 2, "with nm"),
    ],
)
def test_words_that_cannot_work(folder, capsys, words, status, says):
    assert main(["psf", *words]) == status
    assert says in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_what_inspect_knows_of_its_image(folder, capsys):
    """A PSF's planes without their distance are compared across; a theory is at the image's voxel size."""
    psf = make_psf(ndim=3, sigma=(2, 2, 2))
    write_stack("psf.ome.tif", Stack(psf, "ZYX", metadata={"lateral": 0.05}))
    assert main(["psf", "inspect", "psf.ome.tif", "--image-voxel-size", "0.3,0.1,0.1"]) == 0
    printed = capsys.readouterr()
    assert "The PSF's voxels are 0.05 × 0.05 µm (Y, X) but the image's 0.1 × 0.1 µm (Y, X)" in printed.err
    assert main(["psf", "inspect", "psf.ome.tif", "--image-voxel-size", "0.2,0.1"]) == 1
    assert "has 2 numbers for a PSF of 3 axes" in capsys.readouterr().err
    write_stack("in.ome.tif", Stack(np.random.default_rng(0).poisson(9, (20, 20)), "YX", (0.1, 0.1)))
    assert main(["psf", "inspect", "confocal:na=1.2,wavelength=0.52", "--image", "in.ome.tif", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["voxel_size"] == [0.1, 0.1]
    assert main(["psf", "inspect", "confocal:na=1.2,wavelength=0.52"]) == 1
    assert "--voxel-size" in capsys.readouterr().err
