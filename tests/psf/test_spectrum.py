"""The width of a PSF against the blur of an image."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from scipy.signal import fftconvolve

from napari_deqmd.cli import main
from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.psf.inspect import inspect_psf
from napari_deqmd.psf.spectrum import compare_spectra, disagreements
from napari_deqmd.psf.theory import make_psf
from napari_deqmd.reconstruction import Reconstruction
from napari_deqmd.training.scenes import make_scene

WIDTH = 1.8


def blurred(kind, *, peak=300, seed=0, shape=(160, 160), psf=None):
    rng = np.random.default_rng(seed)
    psf = make_psf(sigma=WIDTH) if psf is None else psf
    image = fftconvolve(make_scene(kind, shape, rng), psf, mode="same").clip(min=0)
    return rng.poisson(image / np.percentile(image, 99.8) * peak + 0.1 * peak).astype(np.uint16)


@pytest.mark.parametrize("kind", ["filaments", "cells", "puncta", "nuclei", "bars"])
@pytest.mark.parametrize("peak", [30, 1000])
def test_a_psf_that_is_right_is_not_blamed(kind, peak):
    assert compare_spectra(blurred(kind, peak=peak), make_psf(sigma=WIDTH)).warnings == ()


@pytest.mark.parametrize("kind", ["filaments", "tissue", "puncta"])
def test_a_psf_of_another_width_is_found(kind):
    image = blurred(kind, shape=(256, 256))
    wide, narrow = (compare_spectra(image, make_psf(sigma=WIDTH * factor)) for factor in (2.0, 0.5))
    assert wide.factor == pytest.approx(0.5, rel=0.3)
    assert narrow.factor == pytest.approx(2.0, rel=0.3)
    assert "finer detail" in wide.warnings[0]
    assert "smoother" in narrow.warnings[0]


def test_a_stack():
    psf = make_psf(ndim=3, sigma=(2.5, WIDTH, WIDTH))
    image = blurred("filaments_3d", shape=(16, 96, 96), psf=psf)
    assert compare_spectra(image, psf).warnings == ()
    assert "finer" in compare_spectra(image, make_psf(ndim=3, sigma=(2.5, 2 * WIDTH, 2 * WIDTH))).warnings[0]


def test_what_cannot_tell_is_silent():
    psf = make_psf(sigma=WIDTH)
    noise = np.random.default_rng(0).poisson(20, (96, 96))
    assert compare_spectra(noise, psf).warnings == ()
    assert compare_spectra(np.full((96, 96), 7), psf).warnings == ()
    assert compare_spectra(noise[:40], psf) is None


def test_a_wide_field_psf_shorter_than_its_stack_is_told():
    """Every plane of a wide-field PSF has the same light: what is beyond the last one has nowhere to go but haze."""
    image = np.random.default_rng(0).poisson(20, (40, 32, 32))
    wide = np.ones((13, 9, 9)) / (13 * 81)
    (sentence,) = disagreements(image, wide)
    assert "13 planes" in sentence
    assert "has 40: light from further away stays as haze; give a PSF of 39 planes" in sentence
    for fits in (np.ones((39, 9, 9)), make_psf(ndim=3, sigma=(2, 1, 1))):
        assert disagreements(image, fits) == ()
    assert disagreements(image[:12], wide) == ()
    job = Reconstruction(image, wide, ReconstructionConfig(method="rl", max_iter=1, peak=20, background=1))
    list(job.steps())
    assert sentence in job.result().report["warnings"]


def test_the_psf_is_resampled_first():
    image = blurred("filaments")
    coarse = make_psf(sigma=WIDTH / 2)
    options = {"image_voxel_size": (0.1, 0.1), "image": image}
    assert not [one for one in inspect_psf(coarse, (0.2, 0.2), **options).warnings if "The image is" in one]
    assert any("The image is smoother" in one for one in inspect_psf(coarse, (0.1, 0.1), **options).warnings)


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("in.tif", blurred("filaments"))
    assert main(["psf", "inspect", "gaussian:sigma=3.6", "--ndim", "2", "--image", "in.tif"]) == 0
    assert "finer detail than this PSF lets through" in capsys.readouterr().err
    options = ["--method", "rl", "--max-iter", "2", "-o", "out.tif"]
    assert main(["reconstruct", "in.tif", "--psf", "gaussian:sigma=3.6", *options]) == 0
    assert "finer detail than this PSF lets through" in capsys.readouterr().err
