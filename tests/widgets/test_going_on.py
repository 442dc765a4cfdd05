"""Continue, and runs that start from the last result."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QWidget

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets.form import PsfChoice
from napari_deqmd.widgets.layers import LayerImage
from napari_deqmd.widgets.reconstruct import default_job
from napari_deqmd.widgets.region import whole
from napari_deqmd.widgets.warm import Kept, RunOrder
from widgets.jobs import FakeJob


def go(bench: Any, button: str = "run") -> None:
    assert bench.find(button).isEnabled()
    bench.find(button).click()
    bench.wait_idle()


def test_continue_after_stop(bench: Any, jobs: list[FakeJob]) -> None:
    bench.add()
    resume = bench.find("resume")
    assert resume.text() == "Continue"
    assert not resume.isEnabled()
    bench.run()
    bench.wait_preview()
    assert not resume.isEnabled()
    bench.find("stop").click()
    bench.wait_idle()
    bench.find("max_iter").setValue(7)
    go(bench, "resume")
    assert len(jobs) == 2
    assert jobs[1].start == ("iterates", jobs[0].iteration)
    assert jobs[1].config.max_iter == 7
    assert "started from the last result" in bench.find("status").text()
    assert len(bench.viewer.layers) == 2
    # At its maximum: there is more to go on from, and again from there.
    go(bench, "resume")
    assert jobs[2].start == ("iterates", 7)


def test_continue_only_where_it_makes_sense(bench: Any, jobs: list[FakeJob], monkeypatch: Any) -> None:
    bench.add()
    other = bench.add(name="others")
    bench.widget.image.layer_combo.choose(bench.viewer.layers["cells"])
    bench.run(max_iter=3)
    bench.wait_idle()
    resume = bench.find("resume")
    assert resume.isEnabled()
    for name, text in (("psf_sigma", "2.5"), ("peak", "50"), ("background", "3"), ("axes", "ZYX")):
        before = bench.find(name).text()
        bench.find(name).setText(text)
        assert not resume.isEnabled(), name
        bench.find(name).setText(before)
        assert resume.isEnabled(), name
    bench.find("offset").setValue(3)
    assert not resume.isEnabled()
    bench.find("offset").setValue(0)
    bench.find("boundary").setCurrentText("periodic")
    assert not resume.isEnabled()
    bench.find("boundary").setCurrentText("extended")
    bench.find("strength").setValue(2.0)
    bench.find("tol").setText("1e-6")
    assert resume.isEnabled()
    bench.widget.image.layer_combo.choose(other)
    assert not resume.isEnabled()
    bench.widget.image.layer_combo.choose(bench.viewer.layers["cells"])
    assert resume.isEnabled()
    bench.viewer.layers.remove("cells deconvolved")
    assert not resume.isEnabled()
    # A run that converged has nothing to go on with, and of one that diverged nothing is kept.
    for ending in ("converged", "diverged"):
        monkeypatch.setattr(FakeJob, "ending", ending)
        bench.run(max_iter=4)
        bench.wait_idle()
        assert not resume.isEnabled()
    assert bench.widget.runner.kept is None


def test_run_starts_warm_when_only_the_method_changed(bench: Any, jobs: list[FakeJob]) -> None:
    bench.add()
    bench.run(max_iter=5)
    bench.wait_idle()
    changes = (
        lambda: bench.find("strength").setValue(1.5),
        lambda: bench.find("solver").setCurrentText("plain"),
        lambda: bench.find("method").setCurrentText("md-tv"),
        lambda: bench.find("max_iter").setValue(6),
        lambda: bench.find("tol").setText("1e-3"),
    )
    for change in changes:
        change()
        go(bench)
        assert jobs[-1].start is not None, change
        assert "started from the last result" in bench.find("status").text()
    go(bench)  # nothing changed
    assert jobs[-1].start is None
    assert "last result" not in bench.find("status").text()


def test_run_starts_anew_when_the_data_changed(bench: Any, jobs: list[FakeJob]) -> None:
    source = bench.add()
    bench.run(max_iter=5)
    bench.wait_idle()
    bench.find("strength").setValue(1.5)
    source.data[0, 0] += 1  # in place: nothing tells
    go(bench)
    assert jobs[-1].start is None
    bench.find("psf_sigma").setText("2.5")
    go(bench)
    assert jobs[-1].start is None
    bench.find("warm_start").setChecked(False)
    bench.find("strength").setValue(2.5)
    go(bench)
    assert jobs[-1].start is None
    bench.find("warm_start").setChecked(True)
    bench.find("method").setCurrentText("rl")
    go(bench)
    assert jobs[-1].start is None


def test_the_status_says_so_while_it_runs(bench: Any, jobs: list[FakeJob], qtbot: Any) -> None:
    bench.add()
    bench.run(max_iter=3)
    bench.wait_idle()
    bench.run()
    qtbot.waitUntil(lambda: "Certificate" in bench.find("status").text(), timeout=5000)
    assert bench.find("status").text().startswith("Starting from the last result.")
    bench.find("stop").click()
    bench.wait_idle()


def test_continue_with_other_values_in_the_layer_is_refused(
    bench: Any, jobs: list[FakeJob], notices: list[str]
) -> None:
    source = bench.add()
    bench.run(max_iter=3)
    bench.wait_idle()
    source.data[...] = 7
    go(bench, "resume")
    assert len(jobs) == 1
    assert notices == [
        "The image, its mask or the PSF has changed since the last run: press Run to start anew."
    ]


@pytest.mark.parametrize("which", ["cells", "cells deconvolved"])
def test_iterates_leave_with_their_layers(bench: Any, jobs: list[FakeJob], which: str) -> None:
    bench.add()
    bench.run(max_iter=3)
    bench.wait_idle()
    assert bench.widget.runner.kept is not None
    bench.viewer.layers.remove(which)
    assert bench.widget.runner.kept is None
    assert not bench.find("resume").isEnabled()


def test_iterates_leave_with_the_dock(bench: Any, qtbot: Any) -> None:
    class Heavy:
        pass

    heavy = []

    class Job(FakeJob):
        def result(self) -> Any:
            outcome = super().result()
            outcome.iterates = Heavy()
            heavy.append(weakref.ref(outcome.iterates))
            return outcome

    bench.widget.job_factory = Job
    bench.add()
    bench.run(max_iter=3)
    bench.wait_idle()
    gc.collect()
    assert heavy[0]() is not None
    runner = bench.widget.runner
    bench.viewer.window.remove_dock_widget(bench.dock)
    gc.collect()
    assert runner.kept is None
    assert heavy[0]() is None


def test_a_failed_run_leaves_what_was_kept(bench: Any, notices: list[str]) -> None:
    class OutOfMemoryError(RuntimeError):
        """Named and worded as torch's."""

    class Broken(FakeJob):
        error = OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 3 GiB free.")

    bench.add()
    bench.run(max_iter=3)
    bench.wait_idle()
    bench.widget.job_factory = Broken
    bench.run(max_iter=10)
    bench.wait_idle()
    assert notices == [
        "There is not enough memory for this: crop the image, or close other data and programs."
    ]
    assert bench.find("status").text() == notices[0]
    assert len(bench.viewer.layers) == 2
    bench.widget.job_factory = FakeJob
    go(bench, "resume")
    assert (bench.viewer.layers["cells deconvolved"].data == 10).all()


def test_two_runs_started_quickly_are_one(bench: Any, jobs: list[FakeJob]) -> None:
    bench.add()
    bench.run()
    bench.find("run").click()
    bench.widget.run()
    bench.widget.resume()
    bench.wait_preview()
    bench.find("stop").click()
    bench.wait_idle()
    bench.find("resume").click()
    bench.find("resume").click()
    bench.widget.run()
    bench.wait_preview()
    bench.find("stop").click()
    bench.wait_idle()
    assert len(jobs) == 2
    assert len(bench.viewer.layers) == 2


def test_stop_acts_within_one_iteration(bench: Any, qtbot: Any) -> None:
    class Slow(FakeJob):
        delay = 0.3

    bench.widget.job_factory = Slow
    bench.add()
    bench.run()
    result = bench.wait_preview()
    shown = bench.find("progress").value()
    bench.find("stop").click()
    bench.wait_idle()
    assert result.metadata["report"]["iterations"] <= shown + 1


def test_a_preview_leaves_what_there_is_to_go_on_from(bench: Any, jobs: list[FakeJob]) -> None:
    bench.add()
    bench.run(max_iter=5)
    bench.wait_idle()
    bench.find("max_iter").setValue(3)
    go(bench, "preview")
    assert jobs[1].start is None
    go(bench, "resume")
    assert jobs[2].start == ("iterates", 5)
    assert jobs[2].input.shape == (32, 32)


def test_another_region_is_nothing_to_go_on_from(bench: Any, jobs: list[FakeJob]) -> None:
    bench.add()
    shapes = bench.viewer.add_shapes([[4, 4], [4, 12], [12, 12], [12, 4]], name="box")
    bench.run(max_iter=5)
    bench.wait_idle()
    assert bench.find("resume").isEnabled()
    bench.find("roi").setCurrentText(shapes.name)
    assert not bench.find("resume").isEnabled()
    bench.find("roi").setCurrentText("Whole image")
    assert bench.find("resume").isEnabled()


def order(
    last: Any = None, *, data: Any = None, sigma: float = 1.0, going_on: bool = False, **config: Any
) -> RunOrder:
    image = LayerImage(
        data=np.ones((8, 8)) if data is None else data, name="cells", axes="YX", voxel_size=None
    )
    settings = ReconstructionConfig(axes="YX", **config)
    return RunOrder(
        FakeJob, image, PsfChoice(theory=f"gaussian:sigma={sigma}"), settings, last, going_on=going_on
    )


def kept(of: RunOrder) -> Kept:
    of()
    return Kept(None, None, whole((8, 8)), of.psf, of.config, of.fingerprint, "iterates", True)


def test_an_order_starts_warm_only_on_the_same_data() -> None:
    last = kept(order())
    for same in (order(last, strength=2.0), order(last, method="md-tv"), order(last, max_iter=3)):
        assert same().start == "iterates"
        assert same.warm
    for other in (order(last, sigma=1.1), order(last, peak=3.0), order(last, boundary="periodic")):
        assert other().start is None
        assert not other.warm
    with pytest.raises(UserError, match="press Run"):
        order(last, sigma=1.1, going_on=True)()


def test_the_fingerprint_knows_shape_type_and_every_value() -> None:
    image = np.arange(24.0).reshape(4, 6)
    same = kept(order(data=image)).fingerprint
    assert kept(order(data=np.asfortranarray(image))).fingerprint == same
    changed = image.copy()
    changed[3, 5] += 1e-9
    for other in (changed, image.reshape(6, 4), image.astype(np.float32)):
        assert kept(order(data=other)).fingerprint != same


def test_the_real_job_goes_on(bench: Any, qtbot: Any) -> None:
    bench.widget.job_factory = default_job
    bench.add((48, 48))
    bench.find("method").setCurrentText("md-tv")
    bench.find("tol").setText("1e-12")
    bench.run(max_iter=6)
    bench.wait_idle()
    result = bench.viewer.layers["cells deconvolved"]
    first = result.metadata["report"]
    go(bench, "resume")
    second = result.metadata["report"]
    assert second["started_from"]["iterations"] == first["iterations"]
    assert second["objective_first"] == pytest.approx(first["objective_last"], rel=1e-5)
    assert second["objective_last"] < first["objective_last"]
    bench.find("strength").setValue(1.2)
    go(bench)
    assert result.metadata["report"]["started_from"]["iterations"] == 12
    assert bench.widget.findChild(QWidget, "resume").isEnabled()
