"""What all tests share: quiet threads, no traces of the developer's own models, and marks for GPU and GUI."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

# Two torch threads on busy cores can be 20 times slower than one; read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Every viewer of a test resets napari's settings: let it neither touch the developer's own nor write any.
os.environ["NAPARI_CONFIG"] = ""

if find_spec("napari") is None:
    collect_ignore = ["widgets"]

GUI_FIXTURES = {"make_napari_viewer", "make_napari_viewer_proxy", "qapp", "qtbot"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if GUI_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.gui)
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_items:
        import torch

        if not torch.cuda.is_available():
            for item in gpu_items:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True, scope="session")
def _own_model_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("user-data")
    os.environ["XDG_DATA_HOME"] = str(folder)
    os.environ["DEQMD_MODELS"] = str(folder / "models")
