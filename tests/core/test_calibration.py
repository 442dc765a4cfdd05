"""Gain, offset and read noise of simulated cameras; and images that cannot tell them say so."""

import functools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, median_filter, zoom

from napari_deqmd.core.calibration import estimate_camera
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.photons import estimate_photons
from napari_deqmd.training.scenes import make_scene


@functools.cache
def structure(kind="cells", shape=(512, 512)):
    smooth = gaussian_filter(make_scene(kind, shape, np.random.default_rng(3)).astype(float), 1.4)
    return smooth / np.percentile(smooth, 99.8)


def camera(mean, gain=2.0, offset=100.0, read_noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(mean) + read_noise * rng.standard_normal(mean.shape)
    return np.clip(np.rint(gain * electrons + offset), 0, 65535).astype(np.uint16)


def vanishing(gain, offset, read_noise):
    """The level without noise; rounding is noise too."""
    return offset - gain * read_noise**2 - 1 / 12 / gain


@pytest.mark.parametrize("kind", ["cells", "filaments", "nuclei"])
@pytest.mark.parametrize(("gain", "offset", "read_noise"), [(0.6, 0, 0.3), (2.2, 100, 1.6), (4.7, 480, 2.9)])
@pytest.mark.parametrize("peak", [60, 600])
def test_structured_image(kind, gain, offset, read_noise, peak):
    found = estimate_camera(camera(peak * (structure(kind) + 0.1), gain, offset, read_noise))
    if found.cannot_tell:
        assert "well enough" in found.cannot_tell
        assert found.gain is None
        return
    assert found.gain == pytest.approx(gain, rel=0.1)
    assert abs(found.gain - gain) < 3.5 * found.gain_error < 0.2 * gain
    assert abs(found.offset - vanishing(gain, offset, read_noise)) < 3.5 * found.offset_error
    assert found.read_noise is None
    assert any("dark frame" in sentence for sentence in found.warnings)


def test_the_usual_image_is_told():
    assert not estimate_camera(camera(200 * (structure() + 0.1))).cannot_tell


def test_points_lie_on_the_line():
    found = estimate_camera(camera(200 * (structure() + 0.1)))
    line = found.slope * np.array(found.levels) + found.intercept
    assert found.levels[-1] > 3 * (found.levels[0] - found.offset) + found.offset
    assert np.abs(np.array(found.variances) / line - 1).mean() < 0.05


def test_time_series_tells_what_its_frames_cannot():
    mean = 8 * (structure("filaments", (160, 160)) + 0.1)
    series = np.stack([camera(mean, 1.5, seed=seed) for seed in range(60)])
    assert estimate_camera(series[0]).cannot_tell
    found = estimate_camera(series, axes="TYX")
    assert found.gain == pytest.approx(1.5, rel=0.08)


def test_difference_of_frames_sees_no_structure():
    """Noise-like structure of single pixels, which no single frame tells from noise."""
    mean = 100 * np.random.default_rng(1).gamma(2, 0.5, (256, 256)) * structure("cells", (256, 256)) + 5
    series = np.stack([camera(mean, 2.0, seed=seed) for seed in range(8)])
    assert "separated" in estimate_camera(series, axes="ZYX").cannot_tell
    assert estimate_camera(series, axes="TYX").gain == pytest.approx(2.0, rel=0.08)


def test_dark_frame_tells_offset_and_read_noise():
    dark = camera(np.zeros((128, 128)), 2.0, 100, 2.5, seed=5)
    dark[3, 4] = 9000  # a hot pixel
    found = estimate_camera(camera(40 * (structure() + 0.1), 2.0, 100, 2.5), dark=dark)
    assert found.gain == pytest.approx(2.0, rel=0.1)
    assert found.offset == pytest.approx(100, abs=0.2)
    assert found.read_noise == pytest.approx(2.5, rel=0.1)
    assert found.warnings == ()


def test_flat_and_dark_frames_tell_the_gain_without_structure():
    uneven = 1 + 0.02 * np.random.default_rng(2).standard_normal((128, 128))
    flat = np.stack([camera(300 * uneven, 3.0, 100, 2.0, seed=seed) for seed in (1, 2)])
    dark = np.stack([camera(0 * uneven, 3.0, 100, 2.0, seed=seed) for seed in (3, 4)])
    found = estimate_camera(np.ones((8, 8)), dark=dark, flat=flat)
    assert found.gain == pytest.approx(3.0, rel=0.06)
    assert found.read_noise == pytest.approx(2.0, rel=0.1)


def test_one_flat_frame_is_a_picture():
    y, x = np.mgrid[:256, :256] / 256
    flat = camera(400 * (1.05 - (x - 0.5) ** 2 - (y - 0.5) ** 2), 1.7, 100, 1.0)
    dark = camera(np.zeros((128, 128)), 1.7, 100, 1.0, seed=1)
    assert estimate_camera(np.ones((8, 8)), dark=dark, flat=flat).gain == pytest.approx(1.7, rel=0.06)


def test_given_offset_tells_the_read_noise():
    image = camera(40 * (structure() + 0.02), 2.0, 100, 3.0)
    found = estimate_camera(image, offset=100)
    assert found.read_noise == pytest.approx(3.0, abs=max(3 * found.read_noise_error, 0.1))
    assert found.read_noise_error < 0.5
    given = estimate_camera(image, read_noise=3.0)
    assert given.offset == pytest.approx(100, abs=3 * given.offset_error)


def test_given_gain_tells_the_level_without_noise():
    found = estimate_camera(camera(200 * (structure() + 0.1), 2.0, 100, 0.0), gain=2.0)
    assert (found.gain, found.gain_error) == (2.0, 0.0)
    assert found.offset == pytest.approx(100, abs=4)


PROCESSED = {
    "smoothed": lambda counts: gaussian_filter(counts.astype(float), 0.6),
    "median": lambda counts: median_filter(counts, 3),
    "resampled": lambda counts: zoom(counts.astype(float), 1.2, order=1),
    "doubled": lambda counts: counts.repeat(2, 0).repeat(2, 1),
    "square root": lambda counts: np.sqrt(counts.astype(float) - 90),
    "gamma": lambda counts: ((counts - 90.0) / counts.max()) ** 0.5,
    "clipped below": lambda counts: np.maximum(counts, 130) - 130,
    "stretched": lambda counts: np.clip((counts - 138.0) * 255 / 400, 0, 255).astype(np.uint8),
    "few levels": lambda counts: (counts // 64).astype(np.uint8),
    "white noise": lambda counts: (
        gaussian_filter(counts.astype(float), 3) + np.random.default_rng(0).normal(0, 5, counts.shape)
    ),
    "constant": lambda counts: np.full_like(counts, 7),
    "too small": lambda counts: counts[:40, :40],
    "no range": lambda counts: camera(np.full(counts.shape, 50.0)),
}


@pytest.mark.parametrize("what", PROCESSED)
def test_says_that_it_cannot_tell(what):
    found = estimate_camera(PROCESSED[what](camera(200 * (structure() + 0.1), read_noise=2)))
    assert found.cannot_tell.startswith("The gain cannot be told")
    assert found.cannot_tell.count(". ") == 0
    assert found.gain is None


@functools.cache
def fine_lines(blur):
    """Curved lines of one pixel, blurred, maximum 1."""
    rng = np.random.default_rng(1)
    sharp = np.zeros((256, 256))
    turns = np.cumsum(0.1 * rng.standard_normal((60, 150)), axis=1) + rng.uniform(0, 2 * np.pi, (60, 1))
    places = rng.uniform(0, 256, (2, 60, 1)) + np.cumsum([np.sin(turns), np.cos(turns)], axis=2)
    y, x = places[:, np.all((places > 0) & (places < 255), axis=0)].astype(int)
    sharp[y, x] = 1
    smooth = gaussian_filter(sharp, blur)
    return smooth / smooth.max()


@pytest.mark.parametrize("blur", [0.0, 0.6, 1.0, 1.3])
@pytest.mark.parametrize("peak", [30, 200, 1000])
def test_fine_lines_are_told_rightly_or_not_at_all(blur, peak):
    found = estimate_camera(camera(peak * (fine_lines(blur) + 0.05), 2.2, 100, 1.6, seed=peak))
    assert found.cannot_tell or found.gain == pytest.approx(2.2, rel=0.1)


def test_fine_lines_with_many_photons_are_told():
    assert not estimate_camera(camera(200 * (fine_lines(1.6) + 0.05), 2.2, 100, 1.0)).cannot_tell


@pytest.mark.parametrize("kind", ["cells", "nuclei"])
def test_read_noise_that_is_cut_off_at_zero_misleads_nobody(kind):
    found = estimate_camera(camera(30 * (structure(kind) + 0.03), 0.7, 0, 2.5))
    assert found.cannot_tell or found.gain == pytest.approx(0.7, rel=0.1)


def test_dark_places_without_read_noise_are_no_clipping():
    """Many pixels have the offset's value, as of the 2D sample."""
    found = estimate_camera(camera(60 * (structure() + 0.02), 2.0, 100, 0.0))
    assert found.gain == pytest.approx(2.0, rel=0.1)


def test_scaled_values_are_told_in_their_units():
    counts = camera(200 * (structure() + 0.1))
    found = estimate_camera(counts / 65535)
    assert found.gain * 65535 == pytest.approx(2.0, rel=0.1)
    assert "scaled" in found.warnings[0]


def test_averaged_frames_are_noticed():
    frames = [camera(200 * (structure() + 0.1), seed=seed).astype(float) for seed in range(4)]
    found = estimate_camera(np.mean(frames, axis=0))
    assert found.gain == pytest.approx(0.5, rel=0.1)
    assert "1/4" in found.warnings[0]


@pytest.mark.parametrize("image", [np.zeros(5), np.full((80, 80), np.nan), np.zeros((4, 4), complex)])
def test_refused(image):
    with pytest.raises(UserError):
        estimate_camera(image)


class TestPhotons:
    def test_auto_scales_the_peak(self):
        mean = 300 * (structure() + 0.1)
        found = estimate_photons(camera(mean, 3.0, 200, 1.0), offset="auto", gain="auto")
        told = estimate_photons(camera(mean, 3.0, 200, 1.0), offset=200, gain=3)
        assert found.gain == pytest.approx(3.0, rel=0.1)
        assert found.peak == pytest.approx(told.peak, rel=0.12)
        assert found.camera.gain_error > 0

    def test_assumed_numbers_are_named(self):
        counts = gaussian_filter(camera(200 * (structure() + 0.1)).astype(float), 1)
        found = estimate_photons(counts, offset="auto", gain="auto")
        assert (found.offset, found.gain) == (0, 1)
        assert any("offset 0 and gain 1 were assumed" in sentence for sentence in found.warnings)

    def test_more_read_noise_than_there_is(self):
        found = estimate_photons(camera(20 * structure(), 1, 0, 0), read_noise=50)
        assert 0 <= found.background < 20
        assert 0 < found.peak < 40

    def test_numbers_that_are_given_stay(self):
        found = estimate_photons(camera(300 * (structure() + 0.1)), offset=100, gain="auto")
        assert found.offset == 100
        assert found.gain == pytest.approx(2, rel=0.1)
        assert estimate_photons(camera(300 * structure())).camera is None
