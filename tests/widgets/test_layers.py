"""What is read from a layer, and which layers are refused in one sentence."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import pytest
from napari.layers import Image

from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets.layers import describe, guess_axes, order_of, read_layer, voxel_size


@pytest.mark.parametrize(
    ("shape", "labels", "axes"),
    [
        ((8, 8), None, "YX"),
        ((3, 8, 8), None, "ZYX"),
        ((3, 8, 8), ("time", "y", "x"), "TYX"),
        ((3, 8, 8), ("Z", "Y", "X"), "ZYX"),
        ((3, 8, 8), ("a", "b", "c"), "ZYX"),
        ((3, 8, 8), ("y", "x", "z"), "YXZ"),
        ((8, 8), ("t", "x"), "TX"),
        ((2, 3, 8, 8), None, "TZYX"),
        ((2, 3, 8, 8), ("c", "z", "y", "x"), "CZYX"),
        ((2, 2, 3, 8, 8), None, "TCZYX"),
    ],
)
def test_axes_come_from_the_labels_or_the_dimensions(shape, labels, axes) -> None:
    assert guess_axes(Image(np.zeros(shape), axis_labels=labels)) == axes


def test_voxel_size_is_in_micrometres() -> None:
    data = np.zeros((3, 8, 8))
    assert voxel_size(Image(data, scale=(0.3, 0.1, 0.1)), "ZYX") is None
    layer = Image(data, scale=(300, 0.1, 0.1), units=("nm", "um", "um"))
    assert voxel_size(layer, "ZYX") == pytest.approx((0.3, 0.1, 0.1))
    series = Image(data, scale=(2, 0.1, 0.1), units=("s", "um", "um"))
    assert voxel_size(series, "TYX") == pytest.approx((0.1, 0.1))
    assert "0.1 × 0.1 µm" in describe(series, "TYX")
    assert "voxel size unknown" in describe(series, "YX")


def test_reads_a_plain_layer() -> None:
    image = read_layer(Image(np.ones((8, 8), dtype=np.uint16), name="cells"))
    assert (image.name, image.axes, image.data.dtype) == ("cells", "YX", np.uint16)


@pytest.mark.parametrize(
    ("layer", "axes", "words"),
    [
        (None, None, "There is no image layer"),
        (
            Image(np.zeros((8, 8, 3), dtype=np.uint8), rgb=True, name="photo"),
            None,
            "'photo' is a colour picture",
        ),
        (Image(np.zeros((3, 8, 8)), name="cells"), "YX", "has 3 dimensions but the axes are 'YX'"),
        (Image(np.zeros((8, 8)), name="kymograph", axis_labels=("t", "x")), None, "are 'TX': correct them"),
        (
            Image(dask.array.zeros((300, 1000, 1000, 1), chunks=100, dtype=np.float64), name="big"),
            None,
            "holds 2.4 GB",
        ),
    ],
)
def test_refuses_in_one_sentence(layer: Image | None, axes: str | None, words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_layer(layer, axes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_small_lazy_layers_are_taken_without_computing() -> None:
    image = read_layer(Image(dask.array.ones((4, 8, 8), chunks=4)))
    assert not isinstance(image.data, np.ndarray)
    assert np.asarray(image.data).shape == (4, 8, 8)


@pytest.mark.parametrize(
    ("shape", "labels", "noticed"),
    [
        ((64, 60, 8), None, True),
        ((8, 64, 60), None, False),
        ((64, 60, 8), ("z", "y", "x"), False),
        ((64, 60, 20), None, False),
        ((64, 60), None, False),
    ],
)
def test_a_last_axis_that_is_probably_z(shape: Any, labels: Any, noticed: bool) -> None:
    layer = Image(np.zeros(shape), axis_labels=labels, rgb=False)
    assert ("numpy.moveaxis" in order_of(layer, guess_axes(layer))) is noticed
