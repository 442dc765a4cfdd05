"""How far an image is from what its reconstruction expects."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from core.problems import scene
from napari_deqmd import make_psf, reconstruct, simulate
from napari_deqmd.core.fit import Fit
from napari_deqmd.core.operators import Blur
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import NoRegularizer
from napari_deqmd.training.scenes import make_scene

TOLD = "does not fit what was told"


def posed(electrons: torch.Tensor, peak: float = 1.0, background: float = 0.5) -> Problem:
    operator = Blur(torch.ones(1, 1, dtype=torch.float64), tuple(electrons.shape[2:]))
    numbers = (torch.tensor([value], dtype=torch.float64) for value in (peak, background))
    return Problem.from_electrons(
        electrons, operator, NoRegularizer(), **dict(zip(("peak", "background"), numbers, strict=True))
    )


@pytest.mark.parametrize("level", [0.02, 1.0, 50.0])
@pytest.mark.parametrize("peak", [1.0, 40.0])
def test_counts_of_the_model_have_a_fit_of_1_within_chance(level, peak):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        n = torch.from_numpy(rng.poisson(level, (1, 1, 16, 16)).astype(float))
        fit = Fit.of(posed(n, peak, level / 2), torch.full_like(n, level / 2 / peak))
        found.append(fit.ratio)
    assert np.mean(found) == pytest.approx(1, abs=4 * fit.chance / 200**0.5)
    assert np.std(found) == pytest.approx(fit.chance, rel=0.25)


def test_it_is_the_squared_difference_over_the_variance_of_pixels_that_tell():
    n = torch.tensor([[4.0, 1.0], [900.0, 0.0]], dtype=torch.float64)[None, None]
    left_out = torch.tensor([[False, False], [True, False]])[None, None]
    fit = Fit.of(posed(n, background=1.0), torch.full_like(n, 1.0), left_out)
    assert fit.ratio == pytest.approx((4 + 1 + 4) / 6)
    assert fit.pixels == 3
    assert fit.chance == pytest.approx((3 * (2 + 8)) ** 0.5 / 6)


def test_pixels_without_expectation_are_no_error():
    n = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    nothing = Fit.of(posed(n), n, torch.ones(1, 1, 2, 2, dtype=torch.bool))
    assert nothing.ratio == 0
    assert nothing.warnings([2.0, 1.0]) == ()


def test_it_is_said_where_neither_chance_nor_more_iterations_explain_it():
    far = Fit(ratio=3.0, chance=0.01, pixels=100, peak=10.0)
    still = [5.0] * 10
    assert len(far.warnings(still)) == 1
    assert far.warnings(still[:9]) == ()
    # The second half gained 2 * 10 * 4 / 100 a pixel, and twice that is too much to be sure.
    assert far.warnings([200.0] * 4 + [9.0] + [5.0] * 5) == ()
    assert len(far.warnings([200.0] * 4 + [5.0] * 6)) == 1
    assert dataclasses.replace(far, chance=0.5).warnings(still) == ()
    assert dataclasses.replace(far, ratio=1.5).warnings(still) == ()


@pytest.mark.parametrize("method", ["rl", "md-tv"])
def test_a_wrong_psf_and_a_wrong_gain_are_told_and_right_ones_are_not(method):
    right, wide = make_psf("gaussian", sigma=1.6), make_psf("gaussian", sigma=2.4)
    clean = make_scene("filaments", (56, 56), np.random.default_rng(0))
    for peak in (10, 1000):
        counts = simulate(clean, right, peak, background=0.05 * peak, seed=1)
        for psf, gain, wrong in ((right, 1.0, False), (right, 0.25, True), (wide, 1.0, peak > 100)):
            report = reconstruct(counts, psf, gain=gain, method=method, max_iter=40).report
            assert any(TOLD in sentence for sentence in report["warnings"]) == wrong, (peak, gain)
            assert report["fit"] == report["items"][0]["fit"]


def test_b_pnp_that_runs_away_advises_a_larger_strength_and_blames_no_psf(monkeypatch):
    monkeypatch.setattr("napari_deqmd.core.solvers.bregman.LEAST", 1e-12)
    psf = make_psf("gaussian", sigma=1.5)
    counts = simulate(scene("nuclei", 40)[0, 0].numpy(), psf, 3000, background=150, seed=1)
    told = {"peak": 3000, "background": 150, "method": "b-pnp", "max_iter": 25}
    for strength, rose in ((0.25, True), (64.0, False)):
        report = reconstruct(counts, psf, strength=strength, **told).report
        sentences = " ".join(report["warnings"])
        assert report["objective_rose"] == rose
        assert ("larger strength steadies it" in sentences) == rose
        assert not (rose and TOLD in sentences)


@pytest.mark.parametrize("peak", [300, 3000])
def test_b_pnp_does_not_run_away_where_photons_are_many(peak):
    psf, truth = make_psf("gaussian", sigma=1.5), scene("nuclei", 40)[0, 0].numpy()
    counts = simulate(truth, psf, peak, background=peak / 20, seed=1)
    told = {"peak": peak, "background": peak / 20, "method": "b-pnp", "max_iter": 25}
    assert not reconstruct(counts, psf, **told).report["objective_rose"]


def test_too_few_iterations_are_no_wrong_psf():
    psf = make_psf("gaussian", sigma=1.6)
    counts = simulate(scene("filaments", 56)[0, 0].numpy(), psf, 1000, background=50, seed=1)
    for iterations in (1, 3, 6, 12):
        report = reconstruct(counts, psf, method="rl", max_iter=iterations).report
        assert not any(TOLD in sentence for sentence in report["warnings"])
    assert report["fit"] > 1.2


def test_saturated_and_bad_pixels_do_not_count():
    psf = make_psf("gaussian", sigma=1.6)
    counts = simulate(scene("cells", 40)[0, 0].numpy(), psf, 300, background=15, seed=1)
    bad = np.zeros(counts.shape, bool)
    bad[10:13, 10:13] = True
    broken = np.where(bad, 5000, counts)
    told = {"peak": 300, "background": 15, "method": "rl", "max_iter": 30, "mask_saturated": False}
    assert reconstruct(broken, psf, **told).report["fit"] > 5
    assert reconstruct(broken, psf, mask=bad, **told).report["fit"] < 1.1
