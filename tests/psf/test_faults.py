"""What is told of a PSF that is used: where it shifts the result, and where it is too narrow."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_deqmd import reconstruct
from napari_deqmd.psf.faults import faults, shift_of, shifted
from napari_deqmd.psf.inspect import inspect_psf
from napari_deqmd.psf.prepare import prepare_psf
from napari_deqmd.psf.theory import make_psf
from psf.test_prepare import motion_kernel


def gaussian(size, *middle, sigma=2.0):
    y, x = np.mgrid[:size, :size]
    return np.exp(-((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / (2 * sigma**2))


def prepared(psf):
    return prepare_psf(psf, ndim=psf.ndim, image_shape=(200,) * psf.ndim)


@pytest.mark.parametrize("sigma", [0.8, 2.0])
@pytest.mark.parametrize("by", [0.0, 0.2, 0.5])
def test_the_shift_is_measured(by, sigma):
    assert shift_of(gaussian(25, 12 + by, 12, sigma=sigma)) == pytest.approx((by, 0), abs=0.03)


def test_a_result_is_shifted_by_what_is_told():
    point = np.zeros((48, 48))
    point[24, 24] = 5e4
    counts = np.random.default_rng(0).poisson(gaussian_filter(point, 2) + 2)
    result = reconstruct(counts, gaussian(16, 7.5, 8), method="rl", max_iter=20, background=2, peak=2000)
    centre = (result.image.sum(axis=1) @ np.arange(48)) / result.image.sum()
    assert centre == pytest.approx(24.5, abs=0.05)
    assert "shifts the result by +0.50 voxels along Y:" in result.report["warnings"][0]


@pytest.mark.filterwarnings("ignore:.*off the middle:UserWarning")
@pytest.mark.parametrize(
    "psf", [gaussian(33, 13, 20), gaussian(16, 8, 8), motion_kernel(), make_psf("uniform", size=9)]
)
def test_whole_voxels_and_kernels_without_a_spot_shift_nothing(psf):
    assert shifted(prepared(psf)) == ()


@pytest.mark.parametrize("depth", [3.0, 20.0])
@pytest.mark.parametrize("kind", ["widefield", "confocal"])
def test_lop_sided_planes_deep_in_a_sample_shift_nothing(kind, depth):
    lens = {"na": 1.4, "wavelength": 0.52, "ni": 1.515, "ns": 1.33, "voxel_size": (0.2, 0.1, 0.1)}
    psf = prepared(make_psf(kind, ndim=3, depth=depth, **lens))
    assert shifted(psf) == ()


def test_inspect_says_the_same():
    (sentence,) = shifted(prepared(gaussian(17, 8.4, 8)))
    assert sentence in inspect_psf(gaussian(17, 8.4, 8)).warnings


def test_undersampling_is_told_of_a_run():
    lens = {"na": 1.4, "wavelength": 0.52, "ni": 1.515}
    psf = prepared(make_psf("widefield", ndim=3, voxel_size=(1.0, 0.4, 0.4), **lens))
    (sentence,) = faults(psf)
    assert "less than 2 voxels wide along Z, Y, X:" in sentence
    assert sentence in inspect_psf(psf).warnings
    assert faults(prepared(make_psf("widefield", ndim=3, voxel_size=(0.2, 0.08, 0.08), **lens))) == ()
    image = np.random.default_rng(0).poisson(9, (12, 32, 32))
    assert (
        sentence in reconstruct(image, psf, method="rl", max_iter=1, peak=20, background=1).report["warnings"]
    )
