"""What is measured of a PSF, against closed forms, and what is said about a bad one."""

import json

import numpy as np
import pytest
from scipy.special import j1

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.inspect import inspect_psf, middle_planes
from napari_deqmd.psf.theory import make_psf

FWHM = 2 * np.sqrt(2 * np.log(2))
SIGMA = (2.5, 1.4, 1.6)
SPOT = make_psf(ndim=3, sigma=SIGMA).astype(float)


def gaussian(shape, sigma, shift=0.0):
    grids = np.meshgrid(*(np.arange(n) - n // 2 - shift for n in shape), indexing="ij", sparse=True)
    return np.exp(-sum(grid**2 for grid in grids) / (2 * sigma**2))


def airy(size, radius):
    """Return Airy's pattern with its first zero at a radius in pixels."""
    y, x = np.mgrid[-size : size + 1, -size : size + 1]
    v = 3.8317 / radius * np.hypot(y, x) + 1e-9
    return (2 * j1(v) / v) ** 2


def told(psf, *words, **options):
    """Exactly these warnings come, in this order."""
    found = inspect_psf(psf, **options).warnings
    assert len(found) == len(words), found
    for sentence, word in zip(found, words, strict=True):
        assert word in sentence
    return found


def test_widths_of_a_gaussian_in_voxels_and_micrometres():
    report = inspect_psf(SPOT, (0.3, 0.1, 0.1))
    assert report.fwhm == pytest.approx([FWHM * sigma for sigma in SIGMA], rel=2e-3)
    assert report.fwhm_um == pytest.approx(np.multiply(report.fwhm, (0.3, 0.1, 0.1)))
    assert report.warnings == ()
    assert report.odd < 1e-6
    assert report.offset == pytest.approx((0, 0, 0), abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
def test_width_does_not_depend_on_the_place_between_voxels(shift):
    report = inspect_psf(gaussian((25, 25), 1.1, shift))
    assert report.fwhm == pytest.approx((1.1 * FWHM,) * 2, rel=1e-2)
    assert report.offset == pytest.approx((shift,) * 2, abs=0.05)
    assert report.odd < 0.05


def test_cutoff_of_an_airy_pattern_is_abbes():
    radius = 5.0  # 0.61 wavelength / NA, so Abbe's limit is 1.22 / 5 cycles a pixel
    report = inspect_psf(airy(60, radius))
    # The OTF of a round aperture is 1 % of its maximum at 0.944 of its end.
    assert report.cutoff == pytest.approx((0.944 * 2 * 1.22 / radius,) * 2, rel=0.03)
    assert report.otf[0][0] == 1


@pytest.mark.parametrize("half", [9, 20, 30])
def test_light_outside_an_airy_pattern_is_what_a_large_one_holds_there(half):
    outside = 1 - airy(half, 5.0).sum() / airy(400, 5.0).sum()
    assert inspect_psf(airy(half, 5.0)).outside == pytest.approx(outside, rel=0.25)


def test_no_light_is_outside_a_whole_gaussian():
    assert inspect_psf(SPOT).outside < 1e-3


def test_a_box_too_small_is_told():
    told(airy(7, 4.0), "outside the box")


def test_light_outside_cannot_be_told_where_it_does_not_fall_off():
    cone = np.tile(gaussian((21, 21), 2.0), (9, 1, 1))
    report = inspect_psf(cone)
    assert np.isnan(report.outside)
    # Where the box ends is not detail along z.
    assert report.cutoff[0] < 0.6
    # Along z that is what a wide-field microscope does.
    assert not any("fall off" in sentence for sentence in report.warnings)
    assert any(
        "fall off towards the ends of its box along Y:" in one
        for one in inspect_psf(cone.swapaxes(0, 1)).warnings
    )


def test_pedestal_is_found_told_and_kept_out_of_the_widths():
    psf = (
        5000 * np.pad(SPOT, 6) / SPOT.max()
        + 100
        + np.random.default_rng(0).normal(0, 3, np.add(SPOT.shape, 12))
    )
    report = inspect_psf(psf)
    assert report.pedestal == pytest.approx(100, abs=3)
    assert report.pedestal_share > 0.5
    assert report.fwhm == pytest.approx([FWHM * sigma for sigma in SIGMA], rel=0.02)
    told(psf, "background of")


def test_the_sum_is_not_the_problem():
    assert inspect_psf(7e4 * SPOT).warnings == ()


def test_off_centre():
    told(np.pad(SPOT, ((0, 4), (0, 0), (0, 0))), "off the middle by -2.00, +0.00, +0.00 voxels (ZYX)")


def test_corner_origin_is_the_middle():
    corner = np.fft.ifftshift(SPOT)
    assert inspect_psf(corner).offset == pytest.approx((0, 0, 0), abs=1e-6)


def test_even_sizes_say_what_is_done():
    told(gaussian((24, 25), 2.0), "even number of voxels along Y")


def test_undersampled():
    told(gaussian((15, 15), 0.7), "undersampled")


def test_lop_sided():
    psf = gaussian((25, 25), 1.5) + 0.5 * gaussian((25, 25), 1.5, 3.0)
    assert inspect_psf(psf).odd > 0.2
    assert any("lop-sided" in sentence for sentence in inspect_psf(psf).warnings)


def test_negative_values():
    psf = gaussian((25, 25), 1.5)
    psf[:3] = -0.02
    assert "Negative values make" in inspect_psf(psf).warnings[0]
    share = 75 * 0.02 / np.abs(psf).sum()
    assert inspect_psf(psf).negative == pytest.approx(share)
    assert 0.9 < inspect_psf(psf - 0.2).negative < 1


def test_voxels_other_than_the_images():
    told(SPOT, "but the image's 0.3", voxel_size=(0.3, 0.1, 0.1), image_voxel_size=(0.3, 0.108, 0.1))
    told(SPOT, voxel_size=(0.3, 0.1, 0.1), image_voxel_size=(0.3, 0.101, 0.1))


def test_report_is_json():
    report = inspect_psf(SPOT, (0.3, 0.1, 0.1)).to_dict()
    assert json.loads(json.dumps(report))["fwhm"] == list(report["fwhm"])


@pytest.mark.parametrize(
    ("psf", "options", "says"),
    [
        (np.full((5, 5), np.nan), {}, "NaN"),
        (np.zeros((5, 5)), {}, "zero everywhere"),
        (np.ones((2, 3, 5, 5)), {}, "4 dimensions"),
        (np.ones(5), {}, "1 dimensions"),
        (SPOT, {"voxel_size": (0.1, 0.1)}, "2 numbers"),
        (SPOT, {"voxel_size": (0.1, -0.1, 0.1)}, "above 0"),
    ],
)
def test_unusable(psf, options, says):
    with pytest.raises(UserError, match=says):
        inspect_psf(psf, **options)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (1, 1, 1), (1, 9, 9), (9, 1, 9)])
def test_an_axis_of_length_1_stays(shape):
    psf = np.ones(shape) / np.prod(shape)
    report = inspect_psf(psf[np.newaxis], (0.1,) * len(shape))
    assert report.shape == shape
    assert [name for name, _, _ in middle_planes(psf, report)] == ["XY", "XZ"][: len(shape) - 1]
