"""Items on a cluster of Dask: the same bits, in any order, and one sentence where there is no cluster."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_deqmd import Reconstruction, ReconstructionConfig, UserError, make_psf, reconstruct
from napari_deqmd.scale import cluster
from napari_deqmd.scale.cluster import gather

distributed = pytest.importorskip("distributed")

PSF = make_psf("gaussian", sigma=1.0)
SERIES = np.random.default_rng(0).poisson(20, (2, 32, 80))
OPTIONS: dict[str, Any] = {"axes": "TYX", "method": "md-tv", "max_iter": 5, "tile": (32, 40)}


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    """Two workers in this process: processes of their own take half a minute to load torch on a busy machine."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp"
    ) as started:
        yield started


def twice(shared: int, item: int) -> int:
    return shared * item


def broken(shared: int, item: int) -> int:
    raise ModuleNotFoundError("No module named 'napari_deqmd'")


def test_the_result_is_the_same_to_the_bit(workers: Any) -> None:
    here = reconstruct(SERIES, PSF, **OPTIONS)
    seen = []
    there = reconstruct(
        SERIES,
        PSF,
        **OPTIONS,
        scheduler=workers.scheduler_address,
        on_step=lambda step: seen.append(step.item),
    )
    assert sorted(seen) == [0, 1, 2, 3]
    np.testing.assert_array_equal(there.image, here.image)
    for one, other in zip(there.iterates.objects, here.iterates.objects, strict=True):
        np.testing.assert_array_equal(one, other)
    for name in set(here.report) - {"seconds", "items", "peak_memory_bytes"}:
        assert there.report[name] == here.report[name], name
    assert there.report["seconds"] > 0
    assert (np.diff(there.history["seconds"]) >= 0).all()


def test_models_go_along(workers: Any) -> None:
    options = {"max_iter": 2, "device": "cpu", "peak": 20.0, "background": 1.0}
    here = reconstruct(SERIES[0], PSF, **options)
    there = reconstruct(SERIES[0], PSF, **options, scheduler=workers.scheduler_address)
    np.testing.assert_array_equal(there.image, here.image)


def test_the_device_is_looked_for_on_the_workers(workers: Any) -> None:
    config = ReconstructionConfig(**OPTIONS, device="meta")
    with pytest.raises(UserError, match="device 'meta' is not to be had"):
        Reconstruction(SERIES, PSF, config)
    job = Reconstruction(SERIES, PSF, config, scheduler=workers.scheduler_address)
    with pytest.raises(UserError, match="A worker of the cluster says: The device 'meta' is not to be had"):
        list(job.steps())


def test_a_run_that_is_stopped_cancels_what_waits(workers: Any) -> None:
    job = Reconstruction(SERIES, PSF, ReconstructionConfig(**OPTIONS), scheduler=workers.scheduler_address)
    with closing(job.steps()) as steps:
        progress = next(steps)
    assert progress.step.stopped_by == "max_iter"
    assert job.preview(progress)[progress.part].any()
    assert job.result().stopped_by == "user"
    assert not workers.scheduler.tasks


def test_items_are_taken_as_workers_have_time_and_survive_the_loss_of_one(workers: Any) -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(12):
            taken.append(item)
            yield item

    with closing(gather(workers.scheduler_address, twice, 3, items())) as outcomes:
        first = next(outcomes)
        assert len(taken) < 12
        workers.scale(1)
        found = dict([first, *outcomes])
    workers.scale(2)
    assert found == {item: 3 * item for item in range(12)}


def test_a_scheduler_file_names_it_too(workers: Any, tmp_path: Any) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": workers.scheduler_address}))
    assert list(gather(str(file), twice, 2, [4])) == [(0, 8)]
    assert list(gather(workers.scheduler_address.removeprefix("tcp://"), twice, 2, [])) == []


def test_workers_without_the_program(workers: Any) -> None:
    with pytest.raises(UserError, match="install the same napari-deqmd there"):
        list(gather(workers.scheduler_address, broken, 1, [1]))


@pytest.mark.parametrize(
    ("scheduler", "says"),
    [
        ("tcp://localhost:1", "No Dask scheduler answers at tcp://localhost:1"),
        ("localhost:1", "No Dask scheduler answers at tcp://localhost:1"),
        ("tcp://", "No Dask scheduler answers"),
        ("pigeon://loft:1", "No Dask scheduler answers"),
        ("nowhere.json", "no scheduler file nowhere.json"),
        ("damaged.json", "no file of a Dask scheduler"),
        (Path("damaged.json"), "no file of a Dask scheduler"),
        (5, "5 is no file of a Dask scheduler"),
    ],
)
def test_no_scheduler(scheduler: Any, says: str, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.json").write_text("[]")
    with pytest.raises(UserError, match=says) as caught:
        list(gather(scheduler, twice, 1, [1]))
    assert "\n" not in str(caught.value)


def test_no_workers(monkeypatch: Any) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE", 0.5)
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=":0", protocol="tcp"
        ) as empty,
        pytest.raises(UserError, match="has no workers"),
    ):
        list(gather(empty.scheduler_address, twice, 1, [1]))


def test_without_distributed(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"pip install napari-deqmd\[dask\]"):
        list(gather("tcp://localhost:1", twice, 1, [1]))
