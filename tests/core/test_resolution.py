"""Fourier ring correlation on pairs whose agreement is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.resolution import THRESHOLD_TO_TRUTH, fourier_ring_correlation, split_photons


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def band_limited(shape: tuple[int, ...], sizes: tuple[float, ...], cut: float, seed: int) -> np.ndarray:
    """Return noise without anything beyond a physical frequency."""
    squares: Any = 0.0
    for axis, (n, d) in enumerate(zip(shape, sizes, strict=True)):
        squares = squares + np.expand_dims(
            np.fft.fftfreq(n, d) ** 2, [i for i in range(len(shape)) if i != axis]
        )
    return np.fft.ifftn(np.fft.fftn(noise(shape, seed)) * (np.sqrt(squares) <= cut)).real


@pytest.mark.parametrize("shape", [(64, 64), (61, 96), (16, 32, 32)])
def test_an_image_agrees_with_itself_whatever_its_scale(shape: tuple[int, ...]) -> None:
    image = noise(shape, 0)
    found = fourier_ring_correlation(image, 3 * image + 5, 0.1)
    np.testing.assert_allclose(found.correlation, 1, atol=1e-4)
    assert found.resolution is None
    assert found.frequency[-1] == pytest.approx(5, rel=0.1)
    assert (np.diff(found.frequency) > 0).all()


def test_unrelated_noise_does_not_agree() -> None:
    found = fourier_ring_correlation(noise((128, 128), 0), noise((128, 128), 1))
    # A ring of n independent pairs scatters by 1 / sqrt(n): the outer ones hold hundreds.
    assert np.abs(found.correlation[16:]).max() < 0.2
    assert abs(found.correlation[16:].mean()) < 0.02


def test_opposite_images_anticorrelate() -> None:
    found = fourier_ring_correlation(noise((64, 64), 0), -noise((64, 64), 0))
    np.testing.assert_allclose(found.correlation, -1, atol=1e-4)
    assert found.resolution == math.inf


@pytest.mark.parametrize("threshold", [1 / 7, THRESHOLD_TO_TRUTH])
@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((128, 128), (0.1, 0.1)),
        ((128, 96), (0.1, 0.1)),
        ((128, 128), (0.2, 0.1)),
        ((24, 64, 64), (0.3, 0.1, 0.1)),
    ],
)
def test_what_agrees_up_to_a_frequency_crosses_there(
    shape: tuple[int, ...], sizes: tuple[float, ...], threshold: float
) -> None:
    cut = 1.4
    common = band_limited(shape, sizes, cut, 0)
    pair = [common + 0.5 * noise(shape, seed) for seed in (1, 2)]
    found = fourier_ring_correlation(*pair, sizes, threshold=threshold)
    ring = max(1 / (n * d) for n, d in zip(shape[-2:], sizes[-2:], strict=True))
    assert found.resolution is not None
    # The window lets a ring's signal spill over into the next, where the low threshold still sees it.
    assert 1 / found.resolution == pytest.approx(cut, abs=(1 if threshold > 0.4 else 2) * ring)


def test_rings_are_round_in_physical_frequency() -> None:
    """Stripes of one period are one ring, along a coarse axis as along a fine one."""
    sizes = (0.3, 0.1)
    y, x = (np.arange(n) * d for n, d in zip((60, 180), sizes, strict=True))
    along = np.sin(2 * np.pi * y)[:, None] + 0 * x
    across = np.sin(2 * np.pi * x) + 0 * y[:, None]
    for stripes in (along, across):
        pair = [stripes + 0.5 * noise(stripes.shape, seed) for seed in (1, 2)]
        found = fourier_ring_correlation(*pair, sizes)
        assert found.frequency[found.correlation.argmax()] == pytest.approx(1.0, abs=1 / 18)


def test_the_known_correlation_of_signal_in_noise() -> None:
    signal = noise((256, 256), 0)
    pair = [signal + noise((256, 256), seed) for seed in (1, 2)]
    found = fourier_ring_correlation(*pair)
    assert found.correlation[20:].mean() == pytest.approx(0.5, abs=0.02)
    against = fourier_ring_correlation(pair[0], signal)
    half = found.correlation[20:].mean()
    # Rosenthal & Henderson: what makes 1/7 between halves 0.5 against the truth.
    assert against.correlation[20:].mean() == pytest.approx(math.sqrt(half), abs=0.02)


def test_halves_add_up_and_are_independent() -> None:
    electrons = np.random.default_rng(0).poisson(20, (200, 200))
    first, second = split_photons(electrons, np.random.default_rng(1))
    np.testing.assert_array_equal(first + second, electrons)
    assert first.mean() == pytest.approx(10, rel=0.02)
    assert first.var() == pytest.approx(10, rel=0.05)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("first", "second", "size", "words"),
    [
        (np.ones((8, 8)), np.ones((8, 9)), 1.0, "like with like"),
        (np.ones(8), np.ones(8), 1.0, "no rings"),
        (np.ones((8, 8)), np.full((8, 8), np.nan), 1.0, "NaN"),
        (np.ones((8, 8)), np.ones((8, 8)), 0.0, "voxel size"),
    ],
)
def test_refuses(first: Any, second: Any, size: float, words: str) -> None:
    with pytest.raises(UserError, match=words):
        fourier_ring_correlation(first, second, size)


def test_empty_images_do_not_divide_by_zero() -> None:
    found = fourier_ring_correlation(np.zeros((16, 16)), noise((16, 16), 0))
    np.testing.assert_array_equal(found.correlation, 0)
