"""Pairs of exposures: shifts are found and undone, brightness is compared without bias, and what is no pair is told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_deqmd.core.errors import UserError
from napari_deqmd.training.registration import SEEN, register


def field(shape: tuple[int, int] = (96, 80)) -> np.ndarray:
    """Smooth structure between 0.1 and 1."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((160, 160)), 3)
    return (0.1 + 0.9 * (noise - noise.min()) / np.ptp(noise))[: shape[0] + 60, : shape[1] + 60]


def exposure(peak: float, shift: tuple[float, float] = (0, 0), seed: int = 0) -> np.ndarray:
    moved = ndimage.shift(field(), shift, order=3, mode="nearest")[30:-30, 30:-30]
    return np.random.default_rng(seed).poisson(peak * np.clip(moved, 0, None)).astype(np.float32)


@pytest.mark.parametrize("shift", [(3.0, -5.0), (0.5, 2.3), (-12.0, 9.0)])
def test_a_shift_is_found_and_undone(shift):
    pair = register(exposure(40), exposure(2000, shift, seed=1))
    assert pair.shift == pytest.approx((-shift[0], -shift[1]), abs=0.2)
    assert pair.low.shape == pair.high.shape
    assert pair.low.shape[0] >= 96 - abs(shift[0]) - 2
    residual = pair.high / pair.exposure - pair.low
    expected = np.sqrt(pair.high / pair.exposure)  # photon noise of the low exposure
    assert np.mean((residual / expected) ** 2) == pytest.approx(1, abs=0.15)


def test_counts_of_the_low_exposure_stay_counts():
    low = exposure(40)
    pair = register(low, exposure(2000, (3.4, 0), seed=1))
    assert (pair.low == np.rint(pair.low)).all()
    height, width = pair.low.shape
    assert np.array_equal(pair.low, low[:height, :width])
    assert height < 96
    assert width == 80


def test_what_is_aligned_is_not_touched():
    low, high = exposure(40), exposure(2000, seed=1)
    pair = register(low, high)
    assert pair.shift == (0.0, 0.0)
    assert np.array_equal(pair.low, low)
    assert np.ptp(pair.high - high) < 1e-3  # but for the offset
    assert SEEN < 0.5


def test_exposure_and_offset():
    low, high = exposure(40), exposure(1000, seed=1) + 60
    pair = register(low, high)
    assert pair.exposure == pytest.approx(25, rel=0.03)
    assert pair.offset == pytest.approx(-60, abs=20)
    assert pair.high.mean() / pair.exposure == pytest.approx(low.mean(), rel=0.01)


def test_noise_of_the_high_exposure_does_not_flatten_the_line():
    pair = register(exposure(60), exposure(60, seed=1))
    assert pair.exposure == pytest.approx(1, rel=0.03)


def test_shapes_must_agree():
    with pytest.raises(UserError, match=r"pair 2 have the shapes \(96, 80\) and \(95, 80\): give pairs"):
        register(exposure(40), exposure(40)[1:], name="pair 2")


def test_a_large_shift_is_refused():
    with pytest.raises(UserError, match=r"pair 1 are shifted by 2\d pixels: align them to within 20 first"):
        register(exposure(400), exposure(2000, (24, 0), seed=1), name="pair 1")


def test_a_saturated_target_is_refused():
    with pytest.raises(UserError, match="target of the pair is saturated"):
        register(exposure(40), np.minimum(exposure(2000, seed=1), 1200))


def test_an_inverted_target_is_refused():
    high = exposure(2000, seed=1)
    with pytest.raises(UserError, match=r"do not show the same field|are shifted by"):
        register(exposure(400), high.max() - high)


def test_one_image_twice_is_refused():
    with pytest.raises(UserError, match="images of pair 3 are the same: give another exposure"):
        register(exposure(40), exposure(40), name="pair 3")


def test_swapped_exposures_are_refused():
    with pytest.raises(
        UserError, match=r"target of pair 2 has 0\.1 times .*: give the long exposures as targets"
    ):
        register(exposure(400), exposure(40, seed=1), name="pair 2")
