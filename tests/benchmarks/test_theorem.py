"""The theorem at work: what is measured along a run is what the theorem speaks of."""

import itertools

import pytest

from core.problems import gaussian, measured, scene, tv
from napari_deqmd.benchmarks.theorem import follow
from napari_deqmd.core.poisson import sum_images
from napari_deqmd.core.solvers import mirror_descent
from napari_deqmd.core.solvers.mirror_descent import ACCEPTANCE


def test_the_conditions_hold_along_a_run():
    problem = measured(scene("cells", 16), gaussian(1.0), regularizer=tv())
    steps = list(mirror_descent(problem, max_iter=60))
    moments = list(follow(problem, steps, steps[-1].iterate))
    assert [moment.iteration for moment in moments] == [step.iteration for step in steps[1:]]
    u, moved = (problem.burg.to_u(step.iterate) for step in steps[:2])
    assert moments[0].divergence == pytest.approx(float(problem.burg.divergence(moved, u)))
    gradient, _ = problem.evaluate(u).complete()
    curve = steps[1].objective - steps[0].objective - float(sum_images(gradient * (moved - u)))
    assert moments[0].smoothness == pytest.approx(curve / moments[0].divergence, rel=1e-6)
    # Each accepted step pays for its Bregman distance, so that their sum is bounded.
    for before, after in itertools.pairwise(moments):
        assert before.objective - after.objective >= ACCEPTANCE / after.step_size * after.divergence * (
            1 - 1e-6
        )
    assert moments[-1].total == pytest.approx(sum(moment.divergence for moment in moments))
    assert moments[-1].distance == 0
    assert min(moment.lowest for moment in moments) >= 0
    assert max(moment.highest for moment in moments) <= problem.upper
    # KL is as smooth as its local bound says, TV adds its own.
    assert moments[0].bound > 0
