"""The bundled samples: complete, as their description says, and what make.py draws."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import signal

from napari_deqmd import samples
from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.prepare import prepare_psf
from napari_deqmd.psf.theory import parse_psf

MAKE = Path(__file__).parents[1] / "sample_data" / "make.py"


@pytest.mark.parametrize("name", samples.SCENARIOS)
def test_sample_is_what_its_scenario_says(name: str) -> None:
    sample = samples.load_sample(name)
    ndim = len(sample.axes)
    assert sample.raw.dtype == np.uint16
    assert sample.truth.dtype == sample.psf.dtype == np.float32
    assert sample.raw.shape == sample.truth.shape
    assert sample.raw.ndim == sample.psf.ndim == len(sample.voxel_size) == ndim
    assert sample.psf.sum() == pytest.approx(1, rel=1e-5)
    assert all(n % 2 for n in sample.psf.shape)
    assert sample.truth.min() >= 0

    # Away from the border counts are Poisson around the blurred truth plus background.
    expected = signal.fftconvolve(sample.truth, sample.psf, mode="valid") + sample.background
    inner = tuple(slice(n // 2, -(n // 2)) for n in sample.psf.shape)
    electrons = (sample.raw[inner].astype(float) - sample.offset) / sample.gain
    score = (electrons - expected) / np.sqrt(expected)
    assert expected.max() <= sample.peak + sample.background + 0.1
    assert score.mean() == pytest.approx(0, abs=0.02)
    assert score.var() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("name", samples.SCENARIOS)
def test_files_are_imagej_stacks_with_axes_and_voxel_size(name: str) -> None:
    sample = samples.load_sample(name)
    for path in samples.sample_paths(name).values():
        with tifffile.TiffFile(path) as tiff:
            assert tiff.is_imagej
            assert tiff.series[0].axes == sample.axes
            assert tiff.imagej_metadata["unit"] == "um"
            x, unit = tiff.pages[0].tags["XResolution"].value
            assert unit / x == pytest.approx(sample.voxel_size[-1])
            assert tiff.imagej_metadata.get("spacing", 0.1) == pytest.approx(sample.voxel_size[0])


def test_files_are_small() -> None:
    assert (
        sum(p.stat().st_size for n in samples.SCENARIOS for p in samples.sample_paths(n).values()) < 2_500_000
    )


def test_make_draws_the_same_pixels(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_samples", MAKE)
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    make.main(tmp_path)
    for name in samples.SCENARIOS:
        for path in samples.sample_paths(name).values():
            ours, again = tifffile.imread(path), tifffile.imread(tmp_path / path.name)
            np.testing.assert_allclose(again, ours, rtol=1e-5, atol=1 / 64, err_msg=path.name)


@pytest.mark.parametrize(("provider", "ndim"), [(samples.sample_2d, 2), (samples.sample_3d, 3)])
def test_providers_give_image_layers(provider: Callable[[], list[samples.LayerData]], ndim: int) -> None:
    layers = provider()
    assert [kind for _, _, kind in layers] == ["image"] * 3
    for data, meta, _ in layers:
        assert data.ndim == ndim == len(meta["scale"]) == len(meta["axis_labels"])
        assert meta["units"] == "um"
        assert meta["colormap"] == "gray"
    assert [meta.get("visible", True) for _, meta, _ in layers] == [False, False, True]
    known = layers[-1][1]["metadata"]
    psf = known.pop("psf")
    assert known == {"offset": 100.0, "gain": 2.0}
    # What the layer says of its PSF is what the PSF layer holds.
    measured = layers[1][0]
    said = prepare_psf(parse_psf(psf, ndim), ndim=ndim, image_shape=layers[-1][0].shape)
    ours = prepare_psf(measured, ndim=ndim, image_shape=layers[-1][0].shape)
    assert said.shape == ours.shape
    np.testing.assert_allclose(said, ours, atol=0.02 * ours.max())


def test_unknown_and_missing_samples_are_users_errors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="There is no sample 'cats': choose one of filaments, nuclei"):
        samples.load_sample("cats")
    monkeypatch.setattr(samples, "_folder", lambda: tmp_path)
    with pytest.raises(UserError, match=r"filaments_raw\.tif is missing"):
        samples.sample_paths("filaments")


def test_importing_the_samples_loads_neither_torch_nor_qt() -> None:
    code = "import sys, napari_deqmd.samples; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "qtpy", "napari"} & set(loaded)
