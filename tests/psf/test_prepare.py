"""Hygiene of PSFs: what comes in crooked goes out straight, what is exact stays exact."""

import numpy as np
import pytest

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.prepare import fit_voxels, prepare_psf
from napari_deqmd.psf.theory import make_psf

VOLUME = (64, 64, 64)
SPOT = make_psf(ndim=3, sigma=(2.0, 1.4, 1.1))


def prepare(psf, ndim=3, shape=VOLUME, **options):
    return prepare_psf(psf, ndim=ndim, image_shape=shape[-ndim:], **options)


def test_exact_psf_loses_no_more_than_a_thousandth():
    psf = prepare(SPOT)
    inside = tuple(
        slice((old - new) // 2, (old - new) // 2 + new)
        for old, new in zip(SPOT.shape, psf.shape, strict=True)
    )
    assert SPOT[inside].sum() >= 0.999
    assert psf == pytest.approx(SPOT[inside] / SPOT[inside].sum(), abs=1e-7)
    assert psf.dtype == np.float32
    assert psf.sum() == pytest.approx(1, abs=1e-6)


def test_uniform_psf_is_left_alone():
    psf = make_psf("uniform", size=9)
    assert np.array_equal(prepare(psf, 2), psf)


@pytest.mark.parametrize(
    "pad", [((0, 9), (4, 0), (3, 5)), ((0, 1), (0, 1), (0, 1)), ((1, 0), (6, 0), (0, 0))]
)
def test_spot_off_the_middle_is_centred(pad):
    with pytest.warns(UserWarning, match="off the middle: it was moved there"):
        moved = prepare(np.pad(SPOT, pad))
    assert np.array_equal(moved, prepare(SPOT))


def test_by_how_much_a_spot_was_off_is_told():
    with pytest.warns(UserWarning, match=r"\+2, -3, \+0 voxels \(Z, Y, X\)"):
        prepare(np.pad(SPOT, ((4, 0), (0, 6), (1, 1))))


@pytest.mark.parametrize("size", [32, 33])
def test_spot_in_the_corner_is_centred(size):
    psf = np.zeros((size,) * 3, np.float32)
    psf[tuple(slice(0, n) for n in SPOT.shape)] = SPOT
    psf = np.roll(psf, [-(n // 2) for n in SPOT.shape], axis=(0, 1, 2))
    assert np.array_equal(prepare(psf), prepare(SPOT))


def motion_kernel():
    path = np.zeros((15, 15))
    path[7, 2:13] = 0.6
    path[2:8, 12] = 0.6
    path[2:4, 12] = 2.0  # where the camera rested
    return path


def test_motion_kernel_keeps_the_middle_of_its_array():
    psf = prepare(motion_kernel(), 2)
    kept = motion_kernel()[2:13, 2:13]
    assert psf == pytest.approx(kept / kept.sum(), abs=1e-7)
    assert np.array_equal(prepare(motion_kernel(), 2, center=False), psf)


def test_lopsided_spot_in_an_even_array_keeps_the_middle():
    psf = np.zeros((8, 9))
    psf[4, 4], psf[3, 4] = 1.0, 0.9
    assert np.unravel_index(prepare(psf, 2).argmax(), (3, 1)) == (1, 0)


@pytest.mark.filterwarnings("ignore:.*off the middle:UserWarning")
def test_flipped_spot_is_centred_the_same():
    psf = np.pad(SPOT, ((0, 3), (2, 0), (0, 0)))
    assert prepare(psf[::-1, ::-1, ::-1]) == pytest.approx(prepare(psf)[::-1, ::-1, ::-1], abs=1e-7)


def test_singleton_axes_are_dropped():
    psf = make_psf(sigma=1.2)
    assert np.array_equal(prepare(psf[np.newaxis], 2), prepare(psf, 2))


def test_small_negatives_are_clipped_silently_and_large_ones_with_a_warning():
    noisy = np.pad(SPOT, 1)
    noisy[0, 0, 0] = -1e-3
    assert prepare(noisy).min() >= 0
    noisy[0] = -1.0
    with pytest.warns(UserWarning, match="background subtraction"):
        assert prepare(noisy).min() >= 0


def test_one_deep_negative_voxel_is_told():
    deep = np.pad(SPOT, 1)
    deep[0, 0, 0] = -0.2 * deep.max()
    with pytest.warns(UserWarning, match="down to 0.2 of the maximum"):
        prepare(deep)


def test_pedestal_is_told_and_subtracted():
    with pytest.warns(UserWarning, match="which was subtracted"):
        psf = prepare(np.pad(SPOT, 4) + 1e-4)
    assert psf == pytest.approx(prepare(SPOT), abs=1e-5)


@pytest.mark.parametrize(("shape", "expected"), [((5, 64, 64), (9, 11, 9)), ((6, 64, 5), (11, 11, 5))])
def test_larger_than_the_image_is_cropped_with_a_warning(shape, expected):
    with pytest.warns(UserWarning, match=r"larger than the image.*drops \d"):
        psf = prepare(SPOT, shape=shape)
    assert psf.shape == expected
    assert psf.sum() == pytest.approx(1, abs=1e-6)
    middle = tuple(
        slice(n // 2 - m // 2, n // 2 + m // 2 + 1) for n, m in zip(SPOT.shape, psf.shape, strict=True)
    )
    assert psf == pytest.approx(SPOT[middle] / SPOT[middle].sum(), rel=1e-5)


def test_a_cone_of_light_keeps_the_planes_that_the_stack_can_see():
    """The same light in each of 25 planes, ever wider: cropping by energy or to the image would end it early."""
    planes, y, x = np.mgrid[-12:13, -20:21, -20:21]
    cone = np.hypot(y, x) <= 1 + 1.2 * np.abs(planes)
    psf = cone / cone.sum(axis=(1, 2), keepdims=True)
    assert prepare(psf, shape=(13, 64, 64)).shape[0] == 25
    assert prepare(psf, shape=(64, 64, 64)).shape[0] == 25
    with pytest.warns(UserWarning, match="larger than the image"):
        assert prepare(psf, shape=(10, 64, 64)).shape[0] == 19


@pytest.mark.parametrize("shape", [(8, 64, 5), (9, 6, 7), (64, 4, 1)])
def test_larger_than_a_periodic_image_is_wrapped(shape):
    psf = prepare(SPOT, shape=shape, boundary="periodic")
    whole = prepare(SPOT)
    field = np.random.default_rng(0).random(shape)
    expected = sum(
        value * np.roll(field, np.subtract(place, np.array(whole.shape) // 2), axis=(0, 1, 2))
        for place, value in np.ndenumerate(whole)
    )
    padded = np.zeros(shape)
    padded[tuple(slice(n) for n in psf.shape)] = psf
    padded = np.roll(padded, [-(n // 2) for n in psf.shape], axis=(0, 1, 2))
    found = np.fft.ifftn(np.fft.fftn(field) * np.fft.fftn(padded)).real
    assert all(n <= limit for n, limit in zip(psf.shape, shape, strict=True))
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("psf", "ndim", "says"),
    [
        (np.zeros((5, 5)), 2, "zero everywhere"),
        (-np.ones((5, 5)), 2, "zero everywhere"),
        (np.full((5, 5), np.nan), 2, "NaN"),
        (np.ones((5, 5), complex), 2, "real numbers"),
        (np.ones((5, 5), bool), 2, "real numbers"),
        (np.ones((3, 5, 5)), 2, "image is 2D"),
        (np.ones((5, 5)), 3, "image is a 3D stack"),
        (np.ones((2, 3, 5, 5)), 3, r"shape \(2, 3, 5, 5\)"),
        (np.ones(5), 2, r"shape \(5,\)"),
        (np.ones((0, 5)), 2, r"shape \(0, 5\)"),
    ],
)
def test_unusable_psf_is_refused(psf, ndim, says):
    with pytest.raises(UserError, match=says):
        prepare(psf, ndim)


def test_other_voxels_are_resampled_about_the_spot():
    """A Gaussian between voxels of an even array, at half the pixels: sampled anew, it is one in the middle."""
    fine = np.arange(64) - 31.5
    psf = np.exp(-((fine[:, None] / 4) ** 2 + (fine / 3) ** 2) / 2)
    fitted = fit_voxels(psf, (0.05, 0.1), (0.1, 0.1))
    assert fitted.shape == (31, 63)
    coarse, same = np.arange(-15, 16), np.arange(-31, 32)
    assert fitted == pytest.approx(np.exp(-((coarse[:, None] / 2) ** 2 + (same / 3) ** 2) / 2), abs=2e-3)


def test_voxels_within_two_percent_and_unknown_ones_are_left():
    assert fit_voxels(SPOT, (0.2, 0.1, 0.1), (0.2, 0.1015, 0.1)) is SPOT
    assert fit_voxels(SPOT, None, (0.2, 0.1, 0.1)) is SPOT
    with pytest.raises(UserError, match="check their units"):
        fit_voxels(SPOT, (200, 100, 100), (0.2, 0.1, 0.1))
