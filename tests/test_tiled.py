"""Reconstructions in tiles: the same image as without them, and everything said of it stays right."""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_deqmd import Reconstruction, ReconstructionConfig, UserError, make_psf, reconstruct, simulate
from napari_deqmd.cli import main
from napari_deqmd.core.fit import Fit
from napari_deqmd.io.sidecar import read_sidecar
from napari_deqmd.scale.memory import predict_bytes
from napari_deqmd.training.scenes import make_scene

PSF = make_psf("gaussian", sigma=1.2)
LEVELS = {"peak": 80.0, "background": 6.0}
TV = {"method": "md-tv", "max_iter": 12}


@pytest.fixture(scope="module")
def measured() -> np.ndarray:
    clean = make_scene("nuclei", (32, 96), np.random.default_rng(2))
    return simulate(clean, PSF, 80, background=6, seed=3)


def run(counts: np.ndarray, psf: np.ndarray = PSF, **options: Any) -> tuple[Reconstruction, Any]:
    job = Reconstruction(counts, psf, ReconstructionConfig(**options))
    for _ in job.steps():
        pass
    return job, job.result()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"method": "rl", "max_iter": 30}, 1e-5),
        ({"method": "rl-accelerated", "max_iter": 10}, 3e-2),  # its steps are those of all pixels together
        ({"method": "md-tv", "max_iter": 150, "tol": 1e-7}, 1e-3),
        ({"method": "deq-md", "max_iter": 60, "tol": 1e-5}, 1e-3),
    ],
)
def test_no_seam(measured: np.ndarray, options: dict[str, Any], error: float) -> None:
    whole = reconstruct(measured, PSF, **LEVELS, **options)
    tiled = reconstruct(measured, PSF, **LEVELS, **options, tile=(32, 48))
    assert tiled.report["tiles"]["count"] == 2
    seam = np.abs(whole.image - tiled.image)[:, 44:52] / 80
    assert seam.max() < error
    assert tiled.report["fit"] == pytest.approx(whole.report["fit"], rel=3e-3)


@pytest.mark.parametrize(
    ("method", "tile", "said"),
    [("rl-accelerated", (32, 48), 1), ("rl-accelerated", "none", 0), ("rl", (32, 48), 0)],
)
def test_tiles_that_step_on_their_own_are_told_once(
    measured: np.ndarray, method: str, tile: Any, said: int
) -> None:
    series = np.stack([measured, measured[::-1]])
    report = reconstruct(series, PSF, axes="TYX", method=method, max_iter=2, tile=tile, **LEVELS).report
    assert sum("choose method rl" in sentence for sentence in report["warnings"]) == said


def test_stacks_are_cut_along_all_axes() -> None:
    psf = make_psf("gaussian", ndim=3, sigma=1.0)
    clean = np.random.default_rng(2).random((52, 20, 56)) ** 8
    counts = simulate(clean, psf, 80, background=6, seed=3)
    whole = reconstruct(counts, psf, method="rl", max_iter=8, **LEVELS)
    tiled = reconstruct(counts, psf, method="rl", max_iter=8, **LEVELS, tile=(16, 20, 20))
    assert tiled.report["tiles"]["count"] == 12
    np.testing.assert_allclose(tiled.image, whole.image, atol=80 * 1e-4)
    assert tiled.iterates.objects[0].shape == whole.iterates.objects[0].shape


def test_peak_masks_and_maps_are_those_of_the_whole_image(measured: np.ndarray) -> None:
    counts = measured.copy()
    counts[:, :48] = np.minimum(counts[:, :48], 30)
    mask = np.zeros(counts.shape, bool)
    mask[10:12, 46:50] = True
    rng = np.random.default_rng(0)
    known = {
        "mask": mask,
        "read_noise": rng.uniform(0, 2, counts.shape),
        "offset": rng.uniform(0, 1, counts.shape),
    }
    options = {"method": "rl", "max_iter": 12, **known}
    whole = reconstruct(counts, PSF, **options)
    tiled = reconstruct(counts, PSF, **options, tile=(32, 48))
    for name in (
        "peak",
        "background",
        "clipped_fraction",
        "bad_pixels",
        "saturated_pixels",
        "iterations",
        "warnings",
    ):
        assert tiled.report[name] == whole.report[name], name
    np.testing.assert_allclose(tiled.image, whole.image, atol=whole.report["peak"] * 1e-4)


@pytest.mark.parametrize("method", ["rl", "rl-accelerated"])
def test_what_a_mask_hides_is_at_the_level_of_the_image_in_every_tile(
    measured: np.ndarray, method: str
) -> None:
    mask = np.zeros(measured.shape, bool)
    mask[:, 8:76] = True
    options = {"method": method, "max_iter": 5, "mask": mask, **LEVELS}
    whole = reconstruct(measured, PSF, **options)
    tiled = reconstruct(measured, PSF, **options, tile=(32, 32))
    assert tiled.report["tiles"]["count"] == 3
    hidden = np.s_[:, 16:68]
    assert np.ptp(whole.image[hidden]) < 1e-3 * whole.image[hidden].mean()
    np.testing.assert_allclose(tiled.image[hidden], whole.image[hidden], rtol=1e-3)
    # What goes on from there has no flat start, and is held there all the same.
    more = reconstruct(measured, PSF, **options, tile=(32, 32), start=tiled.iterates)
    np.testing.assert_allclose(more.image[hidden], whole.image[hidden], rtol=1e-3)


def test_the_report_is_of_the_image_and_says_how_it_was_cut(measured: np.ndarray) -> None:
    series = np.stack([measured, measured[::-1]])
    job, result = run(series, axes="TYX", tile=(32, 48), **TV)
    report = result.report
    assert job.items == 4
    assert len(report["items"]) == report["items_total"] == 2
    assert report["tiles"] == {"count": 2, "read": [32, 80]}
    assert report["config"]["tile"] == result.config.tile == (32, 48)
    assert report["iterations"] == 24
    assert result.iterates.iterations == (12, 12)
    assert report["objective_last"] == result.history["objective"][-1]
    assert (np.diff(result.history["objective"]) <= 0).all()
    json.dumps(report)
    whole = run(series, axes="TYX", **TV)[1].report
    assert whole["tiles"] is None
    # Halos, which other tiles answer for, are not counted again.
    assert (report["objective_estimated"], whole["objective_estimated"]) == (True, False)
    for name in ("objective_first", "objective_last"):
        assert report[name] == pytest.approx(whole[name], rel=0.1)


def test_a_wrong_gain_is_told_in_tiles_as_without_them() -> None:
    clean = make_scene("nuclei", (96, 96), np.random.default_rng(0))
    counts = simulate(clean, PSF, 100, background=5, seed=1)
    for tile in ("none", (32, 32)):
        report = reconstruct(
            counts, PSF, gain=0.4, peak=250, background=12.5, method="rl", max_iter=20, tile=tile
        ).report
        assert any("does not fit what was told" in sentence for sentence in report["warnings"]), tile


def test_a_preview_is_the_image_with_the_tile_in_its_place(measured: np.ndarray) -> None:
    job = Reconstruction(measured, PSF, ReconstructionConfig(tile=(32, 48), **TV))
    with closing(job.steps()) as steps:
        for progress in steps:
            whole = job.preview(progress)
            assert whole.shape == measured.shape
            assert whole[progress.part].any()
            assert whole[:, 48:].any() == (progress.item == 1)
            for part in (progress.part, (slice(None), 50), (7, slice(None)), (slice(None), slice(40, 60))):
                np.testing.assert_array_equal(job.preview(progress, part), whole[part])
    np.testing.assert_array_equal(job.preview(progress), job.result().image)


def test_what_was_stopped_goes_on(measured: np.ndarray) -> None:
    options = {"method": "rl", "max_iter": 6, **LEVELS}
    config = ReconstructionConfig(tile=(32, 48), **options)
    job = Reconstruction(measured, PSF, config)
    with closing(job.steps()) as steps:
        for progress in steps:
            if progress.item == 1:
                break
    result = job.result()
    assert result.stopped_by == "user"
    assert (result.image > 0).all()
    kept = [known.copy() for known in result.iterates.objects]
    on = Reconstruction(measured, PSF, config, start=result.iterates)
    for _ in on.steps():
        pass
    np.testing.assert_array_equal(result.iterates.objects, kept)
    assert on.result().report["started_from"]["iterations"] == 6
    # A start is of the image, however that was cut.
    for tile in ("none", (32, 48), (32, 32)):
        more = Reconstruction(measured, PSF, dataclasses.replace(config, tile=tile), start=on.iterates)
        steps = more.steps()
        next(steps)
        np.testing.assert_array_equal(more.image, on.image)
    twelve = reconstruct(measured, PSF, **options | {"max_iter": 12}, start=None)
    np.testing.assert_allclose(on.image[:, :40], twelve.image[:, :40], atol=0.1)


def test_tiles_that_were_not_reached_begin_at_the_mean(measured: np.ndarray) -> None:
    config = ReconstructionConfig(tile=(32, 48), method="rl", max_iter=6, **LEVELS)
    job = Reconstruction(measured, PSF, config)
    with closing(job.steps()) as steps:
        next(steps)
    assert job.result().stopped_by == job.result().report["items"][0]["stopped_by"] == "user"
    assert not job.image[:, 48:].any()
    known = job.iterates.objects[0]
    assert np.unique(known[:, 60:]).size == 1
    assert known[0, -1] == pytest.approx(float(np.maximum(measured, 0).mean()) - 6, rel=0.01)


def test_memory_is_kept_to(measured: np.ndarray) -> None:
    counts = np.tile(measured, (4, 2))
    whole = predict_bytes(counts.shape, PSF.shape, method="rl")
    job = Reconstruction(
        counts, PSF, ReconstructionConfig(method="rl", max_iter=1, **LEVELS), memory=int(0.8 * whole)
    )
    assert len(job.tiles) > 1
    with pytest.raises(UserError, match="let it run in tiles"):
        Reconstruction(counts, PSF, dataclasses.replace(job.config, tile="none"), memory=int(0.8 * whole))
    with pytest.raises(UserError, match="are allowed"):
        Reconstruction(counts, PSF, ReconstructionConfig(method="rl"), memory=10_000)
    series = np.broadcast_to(counts, (50, *counts.shape))
    with pytest.raises(UserError, match="fewer times"):
        Reconstruction(series, PSF, ReconstructionConfig(axes="TYX", method="rl"), memory=2 * whole)


@pytest.mark.parametrize(
    ("tile", "says"),
    [
        ((48,), "1 numbers"),
        ((8, 8), "smaller than what has to be read"),
        ((0, 48), "at least 1"),
        ((48, -1), "at least 1"),
        ((48, 1.5), "whole number"),
        ("big", "tile is 'big'"),
        ((), "tile is"),
        (48, "tile is 48"),
    ],
)
def test_sizes_that_are_none(measured: np.ndarray, tile: Any, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        reconstruct(measured, PSF, tile=tile)
    assert "\n" not in str(caught.value)


def test_a_cut_image_runs_again_to_the_same_bits(
    measured: np.ndarray, tmp_path: Any, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("in.tif", np.tile(np.rint(measured), (4, 2)).astype(np.uint16))
    whole = predict_bytes((128, 192), PSF.shape, method="rl")
    words = (
        "reconstruct in.tif -o out.tif --psf gaussian:sigma=1.2 --method rl --max-iter 3 --device cpu".split()
    )
    assert main([*words, "--memory", str(int(0.8 * whole))]) == 0
    first = read_sidecar("out.tif")
    assert first["tiles"]["count"] > 1
    assert (
        main(["reconstruct", "in.tif", "-o", "again.tif", "--from", "out.tif.json", "--device", "cpu"]) == 0
    )
    assert "the same result, bit for bit" in capsys.readouterr().out
    assert read_sidecar("again.tif")["tiles"] == first["tiles"]
    assert main([*words, "--tile", "48,60", "--overwrite"]) == 0
    assert read_sidecar("out.tif")["config"]["tile"] == [48, 60]


def test_the_fit_of_an_image_is_that_of_its_parts() -> None:
    parts = [Fit(1.0, 0.1, 100, 80.0, 1000.0), Fit(2.0, 0.2, 50, 80.0, 500.0)]
    both = Fit.together(parts)
    assert both.ratio == pytest.approx(4 / 3)
    assert both.chance == pytest.approx(np.hypot(100, 100) / 1500)
    assert (both.pixels, both.light) == (150, 1500.0)
    assert Fit.together(parts[:1]) is parts[0]
