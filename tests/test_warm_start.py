"""Runs that go on from where an earlier one ended."""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch

from napari_deqmd import Reconstruction, ReconstructionConfig, UserError, make_psf, reconstruct, simulate
from napari_deqmd.core.iterates import Iterates
from napari_deqmd.core.regularizers import build
from napari_deqmd.training.models import save_model
from napari_deqmd.training.scenes import make_scene

PSF = make_psf("gaussian", sigma=1.2)
SIDE = 40
TRIED = {
    "accelerated": {"method": "md-tv"},
    "plain": {"method": "md-tv", "solver": "plain"},
    "learned": {"method": "deq-md", "model": "tiny"},
    "rl": {"method": "rl"},
    "rl-accelerated": {"method": "rl-accelerated"},
}


@pytest.fixture(scope="module")
def measured() -> np.ndarray:
    clean = make_scene("nuclei", (SIDE, SIDE), np.random.default_rng(1))
    return simulate(clean, PSF, 80, background=6, seed=3)


@pytest.fixture(autouse=True)
def tiny_model(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained model: not convex."""
    torch.manual_seed(0)
    options = {"channels": 4, "depth": 2}
    monkeypatch.setenv("DEQMD_MODELS", str(tmp_path))
    card = {"family": "red", "options": options, "ndim": 2}
    save_model(build("red", options), tmp_path / "tiny.safetensors", card)


def stopped_after(counts: np.ndarray, iterations: int, **options: Any) -> Any:
    return reconstruct(counts, PSF, **options, on_step=lambda progress: progress.step.iteration < iterations)


@pytest.mark.parametrize("name", TRIED)
@pytest.mark.parametrize("boundary", ["extended", "periodic"])
def test_going_on_never_raises_the_objective(measured: np.ndarray, name: str, boundary: str) -> None:
    options = {**TRIED[name], "boundary": boundary, "tol": 1e-9}
    first = stopped_after(measured, 12, **options)
    more = reconstruct(measured, PSF, **options, max_iter=12, start=first.iterates)
    objective = more.history["objective"]
    assert objective[0] <= first.history["objective"][-1] * (1 + 1e-6)
    assert objective[-1] < objective[0]
    cold = reconstruct(measured, PSF, **options, max_iter=1)
    assert objective[0] < cold.history["objective"][0]


@pytest.mark.parametrize("name", ["accelerated", "plain", "learned"])
def test_it_arrives_where_the_uninterrupted_run_does(measured: np.ndarray, name: str) -> None:
    options = {**TRIED[name], "tol": 1e-4, "max_iter": 2000}
    whole = reconstruct(measured, PSF, **options)
    first = stopped_after(measured, 8, **options)
    more = reconstruct(measured, PSF, **options, start=first.iterates)
    assert whole.stopped_by == more.stopped_by == "converged"
    error = np.linalg.norm(more.image - whole.image) / np.linalg.norm(whole.image)
    assert error < 0.02
    assert more.report["objective_last"] == pytest.approx(whole.report["objective_last"], rel=1e-4)


def test_richardson_lucy_in_two_parts_is_richardson_lucy(measured: np.ndarray) -> None:
    whole = reconstruct(measured, PSF, method="rl", max_iter=20)
    first = reconstruct(measured, PSF, method="rl", max_iter=8)
    more = reconstruct(measured, PSF, method="rl", max_iter=12, start=first.iterates)
    np.testing.assert_allclose(more.image, whole.image, rtol=1e-4, atol=1e-3)


def test_a_changed_strength_takes_fewer_iterations(measured: np.ndarray) -> None:
    options = {"method": "md-tv", "max_iter": 500, "tol": 1e-3}
    first = reconstruct(measured, PSF, **options)
    cold = reconstruct(measured, PSF, **options, strength=1.05)
    warm = reconstruct(measured, PSF, **options, strength=1.05, start=first.iterates)
    assert warm.stopped_by == cold.stopped_by == "converged"
    assert warm.report["iterations"] < cold.report["iterations"]
    assert warm.report["objective_last"] == pytest.approx(cold.report["objective_last"], rel=1e-3)


def test_the_report_says_where_it_started(measured: np.ndarray) -> None:
    first = reconstruct(measured, PSF, method="rl", max_iter=5)
    second = reconstruct(measured, PSF, method="rl", max_iter=4, start=first.iterates)
    third = reconstruct(measured, PSF, method="rl", max_iter=3, start=second.iterates)
    assert first.report["started_from"] is None
    assert third.report["started_from"] == {"what": "an earlier result", "iterations": 9}
    assert third.report["items"][0]["iterations_before"] == 9
    assert third.report["iterations"] == 3
    assert third.iterates.iterations == (12,)
    json.dumps(third.report)


def test_a_start_holds_for_another_peak(measured: np.ndarray) -> None:
    options = {"method": "rl", "background": 6.0}
    first = reconstruct(measured, PSF, **options, peak=80, max_iter=15)
    more = reconstruct(measured, PSF, **options, peak=160, max_iter=1, start=first.iterates)
    one_more = reconstruct(measured, PSF, **options, peak=80, max_iter=1, start=first.iterates)
    np.testing.assert_allclose(more.image, one_more.image, rtol=1e-3, atol=1e-3)


def test_items_that_were_not_reached_start_from_the_data(measured: np.ndarray) -> None:
    series = np.stack([measured, measured[::-1], measured[:, ::-1]])
    config = ReconstructionConfig(axes="TYX", method="rl", max_iter=6)
    job = Reconstruction(series, PSF, config)
    with closing(job.steps()) as steps:
        for progress in steps:
            if progress.item == 1:
                break
    assert [known is None for known in job.iterates.objects] == [False, False, True]
    assert job.iterates.iterations == (6, 1, 0)
    went_on = Reconstruction(series, PSF, config, start=job.iterates)
    steps = went_on.steps()
    next(steps)
    # What the first run reached is there from the first step on, and stays when it stops at once.
    np.testing.assert_array_equal(went_on.image[1], job.image[1])
    steps.close()
    assert went_on.iterates.iterations == (7, 1, 0)
    np.testing.assert_array_equal(went_on.iterates.objects[1], job.iterates.objects[1])
    last = Reconstruction(series, PSF, config, start=went_on.iterates)
    for _ in last.steps():
        pass
    assert last.iterates.iterations == (13, 7, 6)
    alone = reconstruct(series[2], PSF, method="rl", max_iter=6)
    assert np.corrcoef(last.image[2].ravel(), alone.image.ravel())[0, 1] > 0.999


def test_the_start_is_not_written_on(measured: np.ndarray) -> None:
    first = reconstruct(measured, PSF, method="rl", max_iter=3)
    before = first.iterates.objects[0].copy()
    reconstruct(measured, PSF, method="rl", max_iter=3, start=first.iterates)
    np.testing.assert_array_equal(first.iterates.objects[0], before)
    assert before.dtype == np.float32


@pytest.mark.parametrize("part", [lambda result: result, lambda result: result.image])
def test_a_start_that_is_no_iterates_is_one_sentence(measured: np.ndarray, part: Any) -> None:
    known = reconstruct(measured, PSF, method="rl", max_iter=1)
    with pytest.raises(UserError, match=r"give the iterates of an earlier result, result\.iterates\.$"):
        reconstruct(measured, PSF, method="rl", max_iter=1, start=part(known))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda known: known[1:], "this run's"),
        (lambda known: np.full_like(known, np.nan), "negative or invalid"),
        (lambda known: known - 1e6, "negative or invalid"),
        (None, "items"),
    ],
)
def test_a_start_that_does_not_fit_is_one_sentence(measured: np.ndarray, spoil: Any, words: str) -> None:
    good = reconstruct(measured, PSF, method="rl", max_iter=2).iterates
    bad = (
        Iterates(good.objects * 2, good.iterations * 2)
        if spoil is None
        else dataclasses.replace(good, objects=(spoil(good.objects[0]),))
    )
    with pytest.raises(UserError, match=words) as caught:
        Reconstruction(measured, PSF, ReconstructionConfig(method="rl"), start=bad)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="PSF and boundary"):
        Reconstruction(measured[2:], PSF, ReconstructionConfig(method="rl"), start=good)


@pytest.mark.parametrize("by", [-2, 3])
def test_a_start_serves_a_psf_that_reaches_less_far_or_further(measured: np.ndarray, by: int) -> None:
    """Memory cuts a PSF, and another method leaves more or less of it."""
    first = reconstruct(measured, PSF, method="rl", max_iter=15)
    other = np.pad(PSF, by) if by > 0 else PSF[-by:by, -by:by]
    more = reconstruct(measured, other, method="rl", max_iter=1, start=first.iterates)
    assert more.report["items"][0]["iterations_before"] == 15
    change = np.linalg.norm(more.image - first.image) / np.linalg.norm(first.image)
    assert change < 0.1  # it began where the first run ended
    back = more.iterates.moved((SIDE, SIDE), first.iterates.margins)
    assert back.objects[0].shape == first.iterates.objects[0].shape
    inside = tuple(slice(before, before + SIDE) for before, _ in back.margins)
    np.testing.assert_array_equal(back.objects[0][inside], more.image)


@pytest.mark.parametrize("shown", [(3, slice(None), slice(None)), (slice(None), slice(None), 5), None])
def test_a_preview_of_what_is_shown_is_that_part(shown: Any) -> None:
    stack = np.random.default_rng(0).poisson(20, (6, 20, 18))
    job = Reconstruction(stack, make_psf("gaussian", ndim=3, sigma=1.0), ReconstructionConfig(method="rl"))
    with closing(job.steps()) as steps:
        progress = next(steps)
        whole, part = job.preview(progress), job.preview(progress, shown)
        expected = whole[shown].copy() if shown is not None else whole.copy()
        part[...] = -1  # a copy
        np.testing.assert_array_equal(job.preview(progress, shown), expected)
