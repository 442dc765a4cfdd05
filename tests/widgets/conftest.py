"""A viewer with one image, the widget docked in it, and helpers to find controls as an outside driver would."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from widgets.driving import adder, finder, track
from widgets.jobs import FakeJob, FakeTrainJob


@pytest.fixture(scope="module", autouse=True)
def _modules_are_no_garbage() -> None:
    """Spare the collector what imports left: napari runs it with every viewer that closes."""
    import napari._qt.qt_main_window  # noqa: F401
    import torch  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _once_is_enough() -> Iterator[None]:
    """Look for plugins once, not with every viewer, and collect garbage when Python finds it time to."""
    import napari._vispy.canvas
    from npe2 import PluginManifest

    found = tuple(PluginManifest.discover())

    def discover(paths: Any = ()) -> Iterator[Any]:
        return (result._replace(manifest=result.manifest.model_copy()) for result in found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PluginManifest, "discover", discover)
        # Of napari 0.9: after every layer that goes, for the sake of drivers on Windows.
        patch.setattr(napari._vispy.canvas, "gc", SimpleNamespace(collect=int), raising=False)
        yield


@pytest.fixture(scope="session")
def settings_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder where settings are kept instead of the developer's own."""
    from napari import settings
    from qtpy.QtCore import QSettings

    folder = tmp_path_factory.mktemp("settings")
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(folder))
    if hasattr(settings, "get_plugin_settings"):
        settings.get_plugin_settings(path_dir=folder)
    return folder


@pytest.fixture(autouse=True)
def _as_at_first_start(settings_folder: Path) -> Iterator[None]:
    """Forget what a test set."""
    yield
    from napari import settings
    from qtpy.QtCore import QSettings

    if hasattr(settings, "get_plugin_settings"):
        settings.get_plugin_settings("napari-deqmd").reset()
    QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-deqmd", "napari-deqmd").clear()


@pytest.fixture
def notices() -> list[str]:
    """Return the sentences that napari showed."""
    from napari.utils.notifications import notification_manager

    seen: list[str] = []

    def keep(notification: Any) -> None:
        seen.append(notification.message)

    notification_manager.notification_ready.connect(keep)
    yield seen
    notification_manager.notification_ready.disconnect(keep)


@pytest.fixture
def bench(make_napari_viewer: Callable[..., Any], qtbot: Any) -> Any:
    """Return a docked widget with a slow fake job: ``viewer``, ``widget``, ``find``, ``run``, ``wait_idle``."""
    from napari_deqmd.widgets.reconstruct import ReconstructWidget

    viewer = make_napari_viewer()
    widget = ReconstructWidget(viewer)
    dock = viewer.window.add_dock_widget(widget, name="Reconstruct")
    widget.job_factory = FakeJob
    find, add = finder(widget), adder(viewer)

    def run(max_iter: int = 100_000) -> None:
        find("max_iter").setValue(max_iter)
        find("run").click()

    def wait_idle() -> None:
        qtbot.waitUntil(lambda: find("run").isEnabled(), timeout=10_000)

    def wait_preview(name: str = "cells deconvolved") -> Any:
        qtbot.waitUntil(lambda: name in viewer.layers, timeout=10_000)
        return viewer.layers[name]

    return SimpleNamespace(
        viewer=viewer,
        widget=widget,
        dock=dock,
        find=find,
        add=add,
        run=run,
        wait_idle=wait_idle,
        wait_preview=wait_preview,
    )


@pytest.fixture
def jobs(bench: Any) -> list[FakeJob]:
    """Return the list of the jobs that `bench` makes."""
    return track(bench.widget)


@pytest.fixture
def reconstruct_beside(monkeypatch: Any) -> Callable[[Any], Any]:
    """Return what docks a Reconstruct widget, behind the others, that napari then gives whoever asks for it."""

    def beside(viewer: Any) -> Any:
        from napari_deqmd.widgets.reconstruct import ReconstructWidget

        widget = ReconstructWidget(viewer)
        dock = viewer.window.add_dock_widget(widget, name="Reconstruct")
        dock.hide()

        def open_widget(self: Any, *which: str, **options: bool) -> Any:
            assert which == ("napari-deqmd", "Reconstruct")
            return dock, widget

        monkeypatch.setattr(type(viewer.window), "add_plugin_dock_widget", open_widget)
        return widget

    return beside


@pytest.fixture
def train(make_napari_viewer: Callable[..., Any], qtbot: Any, tmp_path: Any, monkeypatch: Any) -> Any:
    """Return a docked Train widget with a fake job; as `bench`, and the ``jobs`` it made."""
    from napari_deqmd.widgets.train import TrainWidget

    monkeypatch.setenv("DEQMD_MODELS", str(tmp_path / "models"))
    viewer = make_napari_viewer()
    widget = TrainWidget(viewer)
    dock = viewer.window.add_dock_widget(widget, name="Train")
    jobs = track(widget, FakeTrainJob)
    find, add = finder(widget), adder(viewer, (3, 32, 32))

    def wait_idle() -> None:
        qtbot.waitUntil(lambda: find("train_run").isEnabled(), timeout=60_000)

    return SimpleNamespace(
        viewer=viewer,
        widget=widget,
        dock=dock,
        jobs=jobs,
        find=find,
        add=add,
        run=lambda: find("train_run").click(),
        wait_idle=wait_idle,
    )
