"""Kernels of the paper's experiment."""

import sys

import numpy as np
import pytest

from napari_deqmd.benchmarks.kernels import KERNELS, LEVIN, kernel, levin
from napari_deqmd.core.errors import UserError


@pytest.fixture
def data(tmp_path):
    """Two motions, as MATLAB 7.3 writes a row of cells: references to transposed arrays."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / LEVIN
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        cells = file.create_dataset("kernels", (2, 1), dtype=h5py.ref_dtype)
        for i in range(2):
            motion = np.zeros((5, 5))
            motion[i, 2:4] = 2.0
            cells[i, 0] = file.create_dataset(f"#refs#/{i}", data=motion.T).ref
    return tmp_path


def test_motions_are_read_upright(data):
    first, second = levin(data / LEVIN)
    assert first.dtype == np.float32
    assert first[0].tolist() == [0, 0, 0.5, 0.5, 0]
    assert second[1].tolist() == [0, 0, 0.5, 0.5, 0]
    assert np.array_equal(kernel("levin:1", data), second)


def test_the_papers_others_have_its_sizes(tmp_path):
    gaussian, uniform = (kernel(text, tmp_path) for text in KERNELS[:2])
    assert gaussian.shape == (11, 11)
    yy = np.arange(11) - 5
    assert (gaussian.sum(1) * yy**2).sum() == pytest.approx(1.2**2, rel=0.01)
    assert np.allclose(uniform, np.full((9, 9), 1 / 81))


def test_what_is_missing_is_told(data, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="levin:0 to levin:1"):
        kernel("levin:2", data)
    with pytest.raises(UserError, match="no file of motion kernels"):
        kernel("levin:7", tmp_path / "nowhere")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"need h5py: pip install 'napari-deqmd\[benchmarks\]'"):
        levin(data / LEVIN)
