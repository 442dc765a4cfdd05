"""Counts to photo-electrons, and the automatic peak and background on scenes whose truth is known."""

import functools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data

from napari_deqmd.core.electrons import to_electrons
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.levels import without_hot_pixels
from napari_deqmd.core.photons import estimate_photons
from napari_deqmd.training.scenes import make_scene

PEAKS = (5, 60, 1000)
BACKGROUNDS = (0.0, 0.05, 0.2)


@functools.cache
def blurred(kind):
    if kind == "camera":
        sharp = data.camera()[::2, ::2].astype(float)
    else:
        shape = (16, 96, 96) if kind.endswith("3d") else (256, 256)
        sharp = make_scene(kind, shape, np.random.default_rng(3)).astype(float)
    smooth = gaussian_filter(sharp, (2.5, 1.4, 1.4)[-sharp.ndim :])
    return smooth / smooth.max()


def lines():
    """Thin lines over 3 % of the field."""
    sharp = np.zeros((300, 300))
    sharp[20:280, 150] = sharp[150, 20:280] = 1
    np.fill_diagonal(sharp, 1)
    smooth = gaussian_filter(sharp, 1.2)
    return np.minimum(smooth / np.percentile(smooth[sharp > 0], 50), 1.0)


def noisy(mean, seed=0):
    return np.random.default_rng(seed).poisson(mean).astype(np.uint16)


@pytest.mark.parametrize("peak", PEAKS)
@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize(
    "kind", ["lines", "filaments", "nuclei", "cells", "nuclei_3d", "shells_3d", "camera"]
)
def test_scenes(kind, peak, background):
    mean = peak * ((lines() if kind == "lines" else blurred(kind)) + background)
    found = estimate_photons(noisy(mean))
    # What is missed of the background counts as object, and only so much may be missed.
    missed = background - found.background / peak
    assert 0.6 < found.peak / peak - missed < 1.25
    # A photograph has no place that only background lights: too little is found, never too much.
    assert -0.1 < missed <= (0.2 if kind == "camera" else 0.1)
    assert found.warnings == ()


@pytest.mark.parametrize("peak", [100, 1000])
@pytest.mark.parametrize("kind", ["filaments", "nuclei", "cells", "network", "bacteria", "filaments_3d"])
def test_peak_is_the_brightest_place_of_the_blurred_object(kind, peak):
    shape = (12, 96, 96) if kind.endswith("3d") else (192, 192)
    mean = gaussian_filter(make_scene(kind, shape, np.random.default_rng(5)).astype(float), 1.3)
    mean *= peak / mean.max()
    assert estimate_photons(noisy(mean + 0.05 * peak)).peak == pytest.approx(peak, rel=0.15)


@pytest.mark.parametrize("peak", [5, 20])
@pytest.mark.parametrize("kind", ["filaments", "nuclei", "network"])
def test_of_few_photons_the_peak_is_as_uncertain_as_said(kind, peak):
    mean = peak * blurred(kind)
    found = [estimate_photons(noisy(mean, seed)) for seed in range(8)]
    errors = np.array([(one.peak - peak) / one.peak_error for one in found])
    assert np.sqrt(np.mean(errors**2)) < 2
    assert all(one.peak_error > 0.08 * one.peak for one in found)


def test_thin_lines_that_cross():
    """What a smoothed image is darker by at its maxima is given back."""
    sharp = np.zeros((200, 200))
    sharp[20::23] = sharp[:, 15::31] = 1
    mean = gaussian_filter(sharp, 1.0)
    assert estimate_photons(noisy(300 * mean / mean.max() + 10)).peak == pytest.approx(300, rel=0.1)


def test_lines_are_within_a_tenth():
    found = estimate_photons(noisy(60 * lines() + 6))
    assert found.peak == pytest.approx(60, rel=0.1)
    assert found.background == pytest.approx(6, abs=1)


def found_share(mean, peak):
    """Background as a share of the peak."""
    return estimate_photons(noisy(peak * mean)).background / peak


@pytest.mark.parametrize("peak", [30, 60, 200])
def test_plateau_is_the_background(peak):
    assert found_share(lines() + 0.04, peak) == pytest.approx(0.04, abs=0.008)


@pytest.mark.parametrize("dark", [60, 120])
def test_plateau_is_believed_whatever_the_rest(dark):
    """A fifth or two fifths of the field are dark, and everything else is bright."""
    mean = gaussian_filter(np.random.default_rng(0).random((300, 300)), 2) + 0.3
    mean[:, :dark] = 0
    assert found_share(gaussian_filter(mean, 1.4) + 0.1, 100) == pytest.approx(0.1, abs=0.006)


def test_without_a_plateau_the_lowest_level_is_no_background():
    """Shallow waves down to a few dark places: less than half of what is lowest there."""
    y, x = np.mgrid[:256, :256] / 256
    mean = 0.5 + 0.22 * np.sin(7 * x + 3 * y) + 0.22 * np.cos(5 * y - 2 * x)
    assert 0 <= found_share(mean, 100) < mean.min() / 2


def test_haze_is_hardly_taken_for_background():
    y, x = np.mgrid[:300, :300] / 300 - 0.5
    haze = 0.3 * np.exp(-4 * (x**2 + y**2))
    assert 0.04 - 0.03 < found_share(lines() + haze + 0.04, 100) < 0.04 + haze.min()


def test_no_background_is_found_where_there_is_none():
    assert found_share(lines(), 60) < 0.002


def test_crowded_image_keeps_its_dark_parts():
    mean = 100 * gaussian_filter(np.random.default_rng(0).random((256, 256)), 2)
    assert estimate_photons(noisy(mean)).background <= np.percentile(mean, 1)


def test_hot_pixels_change_nothing():
    image = noisy(60 * lines() + 3)
    rng = np.random.default_rng(1)
    hot = image.copy()
    hot.flat[rng.choice(image.size, 40, replace=False)] = 60000
    hot[7, 7:9] = 60000
    clean, found = estimate_photons(image), estimate_photons(hot)
    assert found.peak == pytest.approx(clean.peak, rel=0.01)
    assert found.background == pytest.approx(clean.background, rel=0.01)


@pytest.mark.parametrize("at", [(0, 0), (0, 60), (80, 190), (120, 40)])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (2, 3), (3, 2), (1, 6)])
def test_clusters_of_hot_pixels_change_nothing(size, at):
    """Of a cosmic ray: each pixel has bright neighbours."""
    image = noisy(60 * lines() + 3)
    hot = image.copy()
    hot[tuple(slice(start, start + length) for start, length in zip(at, size, strict=True))] = 20000
    assert estimate_photons(hot).peak == pytest.approx(estimate_photons(image).peak, rel=0.01)


def test_clusters_of_hot_voxels_and_in_small_images_change_nothing():
    stack = noisy(100 * blurred("nuclei_3d") + 5)
    hot, small = stack.copy(), stack[8:9, 20:40, 20:40]
    hot[7:9, 40:42, 40:43] = 20000
    assert estimate_photons(hot).peak == pytest.approx(estimate_photons(stack).peak, rel=0.01)
    hot = small.copy()
    hot[0, 2:4, 2:4] = 20000
    assert estimate_photons(hot).peak == pytest.approx(estimate_photons(small).peak, rel=0.05)


@pytest.mark.parametrize("place", [0.0, 0.5])
@pytest.mark.parametrize("peak", [30, 300, 10000])
def test_small_dots_are_no_hot_pixels(peak, place):
    y, x = np.mgrid[:64, :64] - 32 - place
    dot = noisy(peak * np.exp(-(x**2 + y**2) / 2) + 0.05 * peak)
    assert np.array_equal(without_hot_pixels(dot[None].astype(np.float32))[0], dot)


def test_offset_and_gain_scale_the_answer():
    image = noisy(60 * lines() + 3)
    plain = estimate_photons(image)
    scaled = estimate_photons(image * 2.5 + 100, offset=100, gain=2.5)
    assert scaled.peak == pytest.approx(plain.peak, rel=1e-4)
    assert scaled.background == pytest.approx(plain.background, rel=1e-3)
    assert (scaled.offset, scaled.gain) == (100, 2.5)


@pytest.mark.parametrize("shape", [(40, 512, 512), (4200, 2100)])
def test_large_images_are_sampled(shape):
    plane = 50 * np.tile(lines(), (15, 15))[: shape[-2], : shape[-1]] + 5
    found = estimate_photons(np.broadcast_to(noisy(plane), shape))
    assert found.peak == pytest.approx(50, rel=0.2)
    assert found.background == pytest.approx(5, abs=1)


def test_few_pixels_in_the_dark():
    image = np.zeros((400, 400))
    image[200:202, 200:203] = 150
    image = gaussian_filter(image, 1.0)
    assert 5 < estimate_photons(image).peak < 50


@pytest.mark.parametrize("size", [1, 2])
def test_hot_pixels_alone_are_told(size):
    image = np.zeros((64, 64))
    image[30 : 30 + size, 30 : 30 + size] = 50
    with pytest.raises(UserError, match="single hot pixels"):
        estimate_photons(image)


def test_clipping_is_counted_and_told():
    counts = np.full((10, 10), 110, np.uint16)
    counts[0, :5] = 90
    electrons, clipped = to_electrons(counts, offset=100, gain=2)
    assert electrons.dtype == np.float32
    assert electrons.min() == 0
    assert electrons.max() == 5
    assert clipped == 0.05
    assert (
        "5.0% of the pixels lie below the offset of 100" in estimate_photons(counts, offset=100).warnings[0]
    )


def test_why_pixels_lie_below_the_offset():
    rng = np.random.default_rng(0)
    light = noisy(60 * lines() + 4)
    counts = 100 + 2.0 * (light + 3 * rng.standard_normal(light.shape))
    assert "give the camera's read noise" in estimate_photons(counts, offset=100, gain=2).warnings[0]
    assert estimate_photons(counts, offset=100, gain=2, read_noise=3).warnings == ()
    assert "probably too high" in estimate_photons(counts, offset=115, gain=2).warnings[0]
    assert "probably too high" in estimate_photons(counts, offset=160, gain=2, read_noise=3).warnings[0]


def test_a_dark_frame_with_light_is_refused():
    counts = 100 + 2 * noisy(60 * lines() + 4)
    dark = np.random.default_rng(0).normal(100, 2, (64, 64))
    assert estimate_photons(counts, offset="auto", dark=dark).offset == pytest.approx(100, abs=0.2)
    with pytest.raises(UserError, match="taken without light"):
        estimate_photons(counts, offset="auto", dark=dark + 300)


@pytest.mark.parametrize("peak", [10, 100])
def test_the_usual_deviation_is_that_of_the_estimates(peak):
    """Of one scene, many noises: its own share of the deviation is the same each time, and within what is said."""
    truth = estimate_photons(1e4 * lines() + 500).peak / 1e4 * peak
    found = [estimate_photons(noisy(peak * lines() + peak / 20, seed=i)) for i in range(12)]
    errors = np.array([(one.peak - truth) / one.peak_error for one in found])
    assert 0.1 < np.sqrt(np.mean(errors**2)) < 2
    off = np.array([(one.background - peak / 20) / one.background_error for one in found])
    assert 0.1 < np.sqrt(np.mean(off**2)) < 2


def test_one_percent_below_the_offset_passes():
    counts = np.arange(1000).reshape(20, 50)
    assert estimate_photons(counts, offset=5).warnings == ()
    assert estimate_photons(counts, offset=5).clipped_fraction == 0.005


def test_saturation_is_told():
    image = np.minimum(noisy(400 * lines()), 255).astype(np.uint8)
    assert "saturates" in estimate_photons(image).warnings[0]


@pytest.mark.parametrize(("gain", "offset"), [(6.0, 0), (0.2, 0), (2.0, 100)])
def test_noise_that_is_not_photon_noise_is_told(gain, offset):
    counts = gain * noisy(60 * lines() + 5) + offset
    assert "times the variance of photon noise" in estimate_photons(counts).warnings[0]
    assert estimate_photons(counts, gain=gain, offset=offset).warnings == ()


def test_counts_are_left_alone():
    counts = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)
    before = counts.copy()
    to_electrons(counts, offset=0, gain=1)
    assert np.array_equal(counts, before)


@pytest.mark.parametrize(
    ("image", "options", "says"),
    [
        (np.full((8, 8), 7), {}, "Every pixel of the image is 7"),
        (np.zeros((8, 8)), {}, "above the offset"),
        (np.full((8, 8), 7), {"offset": 9}, "above the offset of 9"),
        (np.zeros((0, 8)), {}, "empty"),
        (np.ones(8), {}, "two dimensions"),
        (np.array([[1.0, np.nan]]), {}, "NaN"),
        (np.array([[1.0, -np.inf]]), {}, "NaN, infinite"),
        (np.array([[1.0, 1e300]]), {}, "far too large"),
        (np.ones((2, 2), complex), {}, "real numbers"),
        (np.ones((2, 2), bool), {}, "real numbers"),
        (np.eye(2), {"gain": 0}, "gain is 0"),
        (np.eye(2), {"gain": np.nan}, "gain is nan"),
        (np.eye(2), {"offset": np.inf}, "offset is inf"),
        (np.eye(2), {"offset": "Auto"}, "offset is 'Auto': give a finite number"),
        (np.eye(2), {"offset": "Auto", "gain": "auto"}, "offset is 'Auto'"),
    ],
)
def test_unusable_image_is_refused(image, options, says):
    with pytest.raises(UserError, match=says):
        estimate_photons(image, **options)


@pytest.mark.parametrize("offset", [0.0, "auto"])
def test_values_scaled_to_1_are_told_once(offset):
    image = noisy(60 * lines() + 6).astype(float)
    found = estimate_photons(image / image.max(), offset=offset)
    assert sum("scaled" in sentence for sentence in found.warnings) == 1
    assert "scaled" not in " ".join(estimate_photons(image).warnings)
