"""Scenes are sharp, seeded, non-negative and scaled as the training expects."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deqmd.training.rendering import blob, coverage, lines, noise, splat, worms
from napari_deqmd.training.scenes import SCENES, make_scene, random_scene
from napari_deqmd.training.volumes import VOLUMES


def shape_of(kind: str) -> tuple[int, ...]:
    return (7, 40, 48) if kind in VOLUMES else (56, 72)


@pytest.mark.parametrize("kind", SCENES)
def test_scene_is_a_scaled_non_negative_image(kind: str) -> None:
    for seed in range(3):
        image = make_scene(kind, shape_of(kind), np.random.default_rng(seed))
        assert image.shape == shape_of(kind)
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        assert image.min() >= 0
        assert 0.9 < image.max() <= 2.001


@pytest.mark.parametrize("kind", SCENES)
def test_scene_depends_on_the_seed_only(kind: str) -> None:
    first, again, other = (
        make_scene(kind, shape_of(kind), np.random.default_rng(seed)) for seed in (4, 4, 5)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_many_scenes_have_a_black_ground() -> None:
    rng = np.random.default_rng(0)
    black = [np.mean(random_scene((64, 64), rng) == 0) > 0.2 for _ in range(40)]
    assert 10 < sum(black) < 40


def test_random_scene_follows_the_dimension() -> None:
    rng = np.random.default_rng(1)
    assert random_scene((20, 31), rng).shape == (20, 31)
    assert random_scene((5, 24, 31), rng).shape == (5, 24, 31)


def test_unknown_kind_and_wrong_dimension_are_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="unknown scene 'clouds'"):
        make_scene("clouds", (32, 32), rng)
    with pytest.raises(ValueError, match=r"give \(Y, X\)"):
        make_scene("nuclei", (4, 32, 32), rng)


@pytest.mark.parametrize("shape", [(9, 12), (5, 9, 12)])
def test_splatting_keeps_energy_and_centroid(shape: tuple[int, ...]) -> None:
    point = np.array([[2.3, 4.6, 5.25][: len(shape)]])
    image = splat(shape, point, np.array([3.0]))
    centroid = [np.sum(image * axis) / image.sum() for axis in np.indices(shape)]
    assert image.sum() == pytest.approx(3.0, rel=1e-6)
    assert centroid == pytest.approx(point[0], rel=1e-5)


def test_points_outside_the_grid_are_dropped() -> None:
    assert splat((8, 8), np.array([[-3.0, 4.0], [4.0, 99.0]]), np.ones(2)).sum() == 0


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0])
def test_a_line_has_the_crest_asked_for(sigma: float) -> None:
    path = np.stack([np.arange(0, 60, 0.33), 0.37 * np.arange(0, 60, 0.33) + 5], -1)[None]
    step = 0.33 * float(np.hypot(1, 0.37))
    image = lines((60, 60), path, np.array([0.8]), sigma, step=step)
    assert np.median(image[10:40].max(axis=1)) == pytest.approx(0.8, rel=0.2)


def test_worms_advance_by_their_step() -> None:
    curves = worms(np.random.default_rng(0), np.zeros((3, 3)), length=20, persistence=30, aspect=2.0)
    steps = np.diff(curves, axis=1) * (2, 1, 1)
    assert np.linalg.norm(steps, axis=-1) == pytest.approx(0.33)


def test_noise_is_standardised_and_smooth() -> None:
    field = noise(np.random.default_rng(0), (64, 64), 4.0)
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, rel=1e-4)
    assert np.abs(np.diff(field)).max() < 0.8


def test_blob_covers_the_ellipse() -> None:
    window, depth = blob(np.array([30.0, 32.0]), np.array([10.0, 6.0]), 0.4, np.zeros((64, 64), np.float32))
    assert depth.shape == tuple(s.stop - s.start for s in window)
    assert coverage(depth).sum() == pytest.approx(np.pi * 60, rel=0.05)
