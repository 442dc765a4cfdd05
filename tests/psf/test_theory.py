"""Theoretical PSFs and their spelling."""

import numpy as np
import pytest

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.theory import make_psf, parse_psf


@pytest.mark.parametrize(
    ("kind", "ndim", "params"),
    [
        ("gaussian", 2, {"sigma": 1.2}),
        ("gaussian", 3, {"sigma": (3.0, 1.4, 1.4)}),
        ("gaussian", 2, {"sigma": 0.1}),
        ("uniform", 2, {"size": 9}),
        ("uniform", 3, {"size": (1, 5, 7)}),
    ],
)
def test_psf_is_centred_odd_and_sums_to_one(kind, ndim, params):
    psf = make_psf(kind, ndim=ndim, **params)
    assert psf.dtype == np.float32
    assert psf.ndim == ndim
    assert all(size % 2 for size in psf.shape)
    assert psf.sum() == pytest.approx(1, abs=1e-6)
    assert np.array_equal(psf, psf[(slice(None, None, -1),) * ndim])


def test_gaussian_has_its_standard_deviations():
    psf = make_psf(ndim=3, sigma=(3.0, 1.4, 2.0)).astype(float)
    for axis, sigma in enumerate((3.0, 1.4, 2.0)):
        profile = psf.sum(axis=tuple({0, 1, 2} - {axis}))
        where = np.arange(profile.size) - profile.size // 2
        assert np.sqrt(profile @ where**2) == pytest.approx(sigma, rel=2e-3)


@pytest.mark.parametrize(
    ("text", "ndim", "same"),
    [
        ("gaussian:sigma=1.2", 2, make_psf("gaussian", sigma=1.2)),
        ("gaussian:sigma=3,1.4,1.4", 3, make_psf("gaussian", ndim=3, sigma=(3, 1.4, 1.4))),
        (" gaussian : sigma = 2, 1", 2, make_psf("gaussian", sigma=(2, 1))),
        ("uniform:size=9", 2, make_psf("uniform", size=9)),
    ],
)
def test_parse(text, ndim, same):
    assert np.array_equal(parse_psf(text, ndim), same)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("airy:na=1", "Unknown PSF 'airy'"),
        ("gaussian", "needs sigma"),
        ("gaussian:1.2", "write it like gaussian:sigma=1.2"),
        ("gaussian:sigma=wide", "Cannot read 'sigma=wide'"),
        ("gaussian:sigma=1,sigma=2", "twice"),
        ("gaussian:sigma=1,size=2", "no parameter 'size'"),
        ("gaussian:sigma=", "Cannot read"),
        ("gaussian:sigma=0", "above 0"),
        ("gaussian:sigma=nan", "finite"),
        ("gaussian:sigma=3,1,1", "3 values for 2 axes"),
        ("gaussian:sigma=1e9", "pixels wide"),
        ("uniform:size=8", "odd whole number"),
        ("uniform:size=2.5", "odd whole number"),
        ("", "Unknown PSF ''"),
        ("widefield:wavelength=0.5", "needs na"),
        ("widefield:na=1.4,wavelength=520", "give micrometres"),
        ("widefield:na=1.4,wavelength=0.52,ni=1.33", "below its immersion"),
        ("widefield:na=1.4,wavelength=0.52,pinhole=1", "no parameter 'pinhole'"),
        ("widefield:na=1.4,wavelength=0.52", "needs the image's voxel size"),
        ("widefield:na=1.4,wavelength=0.52,voxel_size=0", "not above 0"),
        ("widefield:na=1.4,wavelength=0.52,voxel_size=0.1,0.2", "square pixels"),
        ("widefield:na=1.4,wavelength=0.52,voxel_size=1e-6", "check that the voxel size"),
        ("widefield:na=1.4,wavelength=0.52,voxel_size=0.1,size=8", "odd whole numbers"),
        ("confocal:na=1.4,wavelength=0.52,voxel_size=0.1,pinhole=0", "Airy units"),
        ("lightsheet:na=1.4,wavelength=0.52", "needs sheet"),
        ("gaussian:sigma=1.5,ndim=2", "has no parameter 'ndim': it takes sigma"),
        ("uniform:size=9,kind=1", "has no parameter 'kind'"),
        ("widefield:na=1.4,wavelength=0.52,image_shape=9", "has no parameter 'image_shape'"),
        ("lightsheet:na=1.4,wavelength=0.52,voxel_size=0.1,sheet=0", "full width"),
        ("two-photon:na=1.4,wavelength=0.9,depth=-5", "from 0 to 200"),
    ],
)
def test_bad_text_says_what_to_do(text, says):
    with pytest.raises(UserError, match=says):
        parse_psf(text, 2)


def test_bad_parameters_from_python():
    with pytest.raises(UserError, match="give a number"):
        make_psf(sigma="wide")
    with pytest.raises(UserError, match="2 or 3 dimensions"):
        make_psf(ndim=4, sigma=1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("two-photon:na=1,wavelength=0.52", "give the laser's wavelength"),
        ("confocal:na=1.2,wavelength=0.488,excitation=0.52", "longer than the emission"),
    ],
)
def test_wavelengths_that_are_mixed_up_are_told(text, says):
    with pytest.warns(UserWarning, match=says):
        parse_psf(text, 2, 0.1)
