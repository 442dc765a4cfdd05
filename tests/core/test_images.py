"""What bad images get: one sentence, before anything long begins."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.images import check_image, resolve_axes

RAMP = np.arange(42).reshape(6, 7)


def spoiled(value: float) -> np.ndarray:
    image = RAMP.astype(np.float32)
    image[2, 3] = value
    return image


BAD = {
    "nan": (spoiled(np.nan), "NaN"),
    "inf": (spoiled(np.inf), "infinite"),
    "minus inf": (spoiled(-np.inf), "infinite"),
    "all nan": (np.full((5, 5), np.nan), "NaN"),
    "negative": (spoiled(-3), "negative"),
    "negative integers": (RAMP - 5, "negative"),
    "constant": (np.full((6, 7), 9, np.uint16), "constant"),
    "all zero": (np.zeros((6, 7)), "constant"),
    "one pixel": (np.ones((1, 1)), "constant"),
    "bool": (RAMP > 20, "bool"),
    "complex": (RAMP.astype(complex), "complex"),
    "text": (np.full((3, 3), "a"), "<U1"),
    "objects": (np.full((3, 3), None), "object"),
    "dates": (np.full((3, 3), np.datetime64("2025-01-01")), "datetime"),
    "empty": (np.zeros((0, 7)), "empty"),
    "empty z": (np.zeros((0, 6, 7)), "empty"),
    "number": (np.float64(3), "shape"),
    "one line": (np.arange(9.0), "shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_one_sentence(name):
    image, word = BAD[name]
    with pytest.raises(UserError) as caught:
        check_image(image, 0.0)
    assert word in str(caught.value)
    assert str(caught.value).count(".") <= 3
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "i4", "i8", "f2", "f4", ">f4", "f8"])
def test_counts_of_every_type_pass_unchanged(dtype):
    image = RAMP.astype(dtype)
    assert check_image(image, 0.0) is image


def test_a_list_is_an_image_too():
    assert check_image(RAMP.tolist(), 0.0).shape == (6, 7)


def test_negative_counts_need_a_negative_offset():
    image = spoiled(-3)
    assert check_image(image, -5.0) is image
    with pytest.raises(UserError, match="negative"):
        check_image(image, 5.0)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((6, 7), None, "YX"),
        ((5, 6, 7), None, "ZYX"),
        ((5, 6, 7), "TYX", "TYX"),
        ((6, 7, 3), "ZYX", "ZYX"),
        ((2, 5, 6, 7), "CZYX", "CZYX"),
        ((4, 2, 5, 6, 7), "TCZYX", "TCZYX"),
    ],
)
def test_axes_are_resolved(shape, axes, expected):
    assert resolve_axes(shape, axes) == expected


@pytest.mark.parametrize(
    ("shape", "axes", "words"),
    [
        ((6, 7, 3), None, "RGB"),
        ((6, 7, 4), None, "RGB"),
        ((2, 5, 6, 7), None, "4 dimensions"),
        ((6, 7), "ZYX", "axes"),
        ((2, 5, 6, 7), "ZYX", "axes"),
    ],
)
def test_axes_that_cannot_be_are_one_sentence(shape, axes, words):
    with pytest.raises(UserError, match=words):
        resolve_axes(shape, axes)
