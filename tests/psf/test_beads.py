"""A PSF comes back from simulated beads, and every bad bead is left out with its reason."""

import json
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import fourier_shift
from scipy.signal import fftconvolve

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.ball import ball_of
from napari_deqmd.psf.beads import distil_psf
from napari_deqmd.psf.theory import make_psf

VOXEL = (0.2, 0.08, 0.08)
HALVES = [(0, 0, 0), (0.5, 0.5, 0.5), (0, 0.5, -0.5), (-0.5, 0.25, 0), (0.25, 0, 0.5), (-0.25, -0.5, 0.25)]


@cache
def lens():
    psf = make_psf("confocal", ndim=3, na=1.2, wavelength=0.52, ni=1.333, voxel_size=VOXEL, size=(31, 31, 31))
    return psf.astype(float)


def field(shifts=HALVES, *, spot=None, peak=2000.0, level=20.0, columns=3, pitch=40, seed=0):
    """Return a stack of beads on a lattice, each moved by a part of a voxel, with Poisson noise."""
    spot = lens() if spot is None else spot
    rows = -(-len(shifts) // columns)
    image = np.full((41, rows * pitch, columns * pitch), level)
    for index, shift in enumerate(shifts):
        moved = np.fft.ifftn(fourier_shift(np.fft.fftn(spot), shift)).real.clip(min=0)
        at = np.array([20, (index // columns + 0.5) * pitch, (index % columns + 0.5) * pitch]).astype(int)
        image[tuple(slice(a - n // 2, a - n // 2 + n) for a, n in zip(at, spot.shape, strict=True))] += (
            peak * moved / spot.max()
        )
    return np.random.default_rng(seed).poisson(image).astype(np.uint16)


def distance(psf, truth):
    """Return the relative L2 distance in the box that both have."""
    shape = np.minimum(psf.shape, truth.shape)
    one, other = (
        array[tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(array.shape, shape, strict=True))]
        for array in (psf, truth)
    )
    return np.linalg.norm(one / one.sum() - other / other.sum()) / np.linalg.norm(other / other.sum())


def reasons(found):
    return sorted(bead.reason for bead in found.rejected)


def test_psf_comes_back_from_beads_between_voxels():
    found = distil_psf(field(), VOXEL)
    assert len(found.beads) == len(HALVES)
    assert found.rejected == ()
    assert distance(found.psf, lens()) < 0.05
    assert found.psf.sum() == pytest.approx(1, abs=1e-5)
    assert found.psf.min() >= 0
    assert all(size % 2 for size in found.psf.shape)
    assert found.fwhm_um == pytest.approx(np.multiply(found.fwhm, VOXEL))
    assert 0 < found.residual < 0.2


def test_places_of_beads_are_found_to_a_twentieth_of_a_voxel():
    found = distil_psf(field([(0.5, 0.25, -0.4)], columns=1), VOXEL)
    assert found.beads[0].place == pytest.approx((20.5, 20.25, 19.6), abs=0.05)
    assert any("one bead" in sentence for sentence in found.warnings)
    assert np.isnan(found.residual)


def test_tails_are_kept_as_far_as_they_are_seen():
    """The box that a bead is judged by, 19 voxels along each axis, would cut off more than is missing here."""
    found = distil_psf(field(peak=5000), VOXEL).psf
    whole = np.pad(found, [(max(0, (31 - n) // 2),) * 2 for n in found.shape])
    assert distance(whole, lens()) < 0.03
    noisy = distil_psf(field(peak=100), VOXEL).psf
    assert noisy.size < found.size / 4


def test_a_box_that_nobody_fills_is_told():
    assert distil_psf(field(), VOXEL, size=(41, 39, 39)).warnings[0].startswith("No bead diameter")
    wide = distil_psf(field(), VOXEL, size=(51, 61, 61)).warnings
    assert "larger than the image (41 × 80 × 120)" in wide[0]
    assert "half-way to the next bead" in wide[1]


def test_a_larger_box_leaves_no_bead_out():
    found = distil_psf(field(), VOXEL, size=(31, 37, 37))
    assert len(found.beads) == len(HALVES)
    assert found.psf.shape == (31, 37, 37)
    assert distance(found.psf, lens()) < 0.07


def test_planes_of_beads_give_a_plane():
    flat = lens()[15]
    image = field(spot=flat[None])[20]
    assert distance(distil_psf(image, VOXEL[1:]).psf, flat) < 0.05


def test_the_ball_is_taken_out():
    ball = ball_of(0.3, VOXEL)
    assert ball.sum() == pytest.approx(1, abs=1e-6)
    blurred = fftconvolve(lens(), ball, mode="same").clip(min=0)
    image = field(spot=blurred, peak=4000)
    kept, gone = distil_psf(image, VOXEL), distil_psf(image, VOXEL, bead_diameter=0.3)
    assert distance(kept.psf, lens()) > 0.25
    assert distance(gone.psf, lens()) < 0.1
    assert any("bead diameter" in sentence for sentence in kept.warnings)


def test_a_ball_may_look_narrower_than_it_is():
    """What a long PSF sees of a ball is nearly its shadow."""
    blurred = fftconvolve(lens(), ball_of(0.4, VOXEL), mode="same").clip(min=0)
    found = distil_psf(field(spot=blurred, peak=4000), VOXEL, bead_diameter=0.4)
    assert min(bead.fwhm[1] * VOXEL[1] for bead in found.beads) < 0.35
    assert distance(found.psf, lens()) < 0.15


def test_beads_cut_by_the_edge_are_left_out():
    found = distil_psf(field()[:, :, 18:], VOXEL)
    assert reasons(found) == ["at the edge", "at the edge"]
    assert distance(found.psf, lens()) < 0.05


def test_saturated_beads_are_left_out():
    image = field(HALVES, peak=2000)
    image[:, :40, :40] = np.minimum(3 * image[:, :40, :40].astype(int), 4095)
    image[:, :40, 40:80] = np.minimum(3 * image[:, :40, 40:80].astype(int), 4095)
    found = distil_psf(image, VOXEL)
    assert reasons(found) == ["saturated", "saturated"]
    assert distance(found.psf, lens()) < 0.05


def test_close_pair_is_left_out():
    image = field().astype(float)
    image[5:36, 5:36, 12:43] += 2000 * lens() / lens().max()
    found = distil_psf(image, VOXEL)
    assert reasons(found) == ["overlapping", "overlapping"]
    assert len({bead.place for bead in found.rejected}) == 2
    assert distance(found.psf, lens()) < 0.05


def test_report_is_json():
    found = json.loads(json.dumps(distil_psf(field(), VOXEL).to_dict()))
    assert len(found["beads"]) == len(HALVES)


@pytest.mark.parametrize(
    ("stack", "options", "says"),
    [
        (np.random.default_rng(0).poisson(100, (20, 64, 64)), {}, "No beads"),
        (np.zeros((20, 64, 64)), {}, "No beads"),
        (np.full((20, 64, 64), 7.0), {}, "No beads"),
        (np.full((5, 5, 5), np.nan), {}, "image of beads holds NaN"),
        (np.ones((2, 3, 4, 5)), {}, "4 dimensions"),
        (np.minimum(field(HALVES[:1], columns=1, peak=9000), 4095), {}, "1 saturated"),
        (field(HALVES[:1], columns=1)[:, 18:], {}, "1 at the edge"),
        (field(HALVES[:1], columns=1)[20:22], {}, "at the edge"),
        (field(HALVES[:1], columns=1), {"bead_diameter": 0.1}, "need the voxel size"),
        (field(HALVES[:1], columns=1), {"voxel_size": VOXEL, "bead_diameter": -1}, "diameter is -1: give"),
        (
            field(HALVES[:1], columns=1),
            {"voxel_size": VOXEL, "bead_diameter": 2},
            r"look 0\.\d+ × 0\.2\d* × 0\.2\d* µm wide, but of a diameter of 2 µm",
        ),
        (field(HALVES[:1], columns=1), {"voxel_size": (0.1, 0.1)}, "2 numbers for a PSF of 3 axes"),
        (field(HALVES[:1], columns=1), {"size": (4, 5, 5)}, "odd numbers"),
    ],
)
def test_what_cannot_work_is_a_sentence(stack, options, says):
    with pytest.raises(UserError, match=says):
        distil_psf(stack, **options)
