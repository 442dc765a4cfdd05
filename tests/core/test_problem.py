"""The certificate, and what a problem gives its solvers."""

from __future__ import annotations

import pytest
import torch
from core.problems import gaussian, measured, scene

from napari_deqmd.core.regularizers import NoRegularizer, TotalVariation


@pytest.fixture
def problem():
    return measured(scene("cells", 24), gaussian(1.0), regularizer=TotalVariation())


def stationary(problem):
    """A point with zero gradient inside, and gradients out of the box at its walls."""
    u = problem.burg.to_u(problem.start())
    g = torch.zeros_like(u)
    lower, upper = problem.burg.bounds(u)
    u[:, :, 0], g[:, :, 0] = lower[:, :, 0], 0.7
    u[:, :, 1], g[:, :, 1] = upper[:, :, 0], -2.0
    return u, g


def test_certificate_is_zero_at_stationary_points(problem):
    u, g = stationary(problem)
    assert torch.equal(problem.certificate(u, g), torch.zeros(1, dtype=torch.float64))
    assert problem.burg.free(u, g)[:, :, 2:].all()
    assert not problem.burg.free(u, g)[:, :, :2].any()


@pytest.mark.parametrize(("row", "slope"), [(0, -0.1), (1, 0.1), (5, 0.1)])
def test_certificate_sees_one_pixel_that_can_improve(problem, row, slope):
    u, g = stationary(problem)
    u[0, 0, 5] = 1.0
    g[0, 0, row, 3] = slope
    assert problem.certificate(u, g) > 0
    assert problem.burg.free(u, g)[0, 0, row, 3]


def test_metric_is_the_fisher_information_of_the_data(problem):
    free = measured(scene("cells", 24), gaussian(1.0), regularizer=NoRegularizer())
    z = free.likelihood.expect(free.start())
    expected = free.likelihood.operator.adjoint(1 / z) + 1e-3
    assert torch.allclose(free.metric, expected, rtol=1e-12)
    assert torch.allclose(problem.metric - free.metric, problem.curvature().to(expected), rtol=1e-9)


def test_moving_by_a_difference_is_evaluating_anew(problem):
    u = problem.burg.to_u(problem.start())
    here = problem.evaluate(u)
    there = problem.burg.project(u * 1.1)
    near, anew = problem.evaluate(there, near=here), problem.evaluate(there)
    assert torch.allclose(near.z, anew.z, rtol=1e-12)
    change = problem.value(anew) - problem.value(here)
    assert torch.allclose(problem.difference(near, here), change, rtol=1e-9)
