"""What of an image is run: its part, where the result lies, and what of lazy data is touched."""

from __future__ import annotations

import itertools
from typing import Any

import dask.array
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets.layers import level_0, read_layer, saturation_of
from napari_deqmd.widgets.region import (
    Region,
    camera_of,
    chosen_part,
    focus,
    in_units_of,
    in_view,
    marked,
    middle_of,
    preview_of,
    whole,
)
from napari_deqmd.widgets.view import shown_of

PLACED = {
    "scale": (0.3, 0.1, 0.2),
    "translate": (1.0, 2.0, 3.0),
    "rotate": 20.0,
    "shear": (0.0, 0.0, 0.3),
    "affine": np.array([[1, 0, 0, 5], [0, 0.9, 0.2, -1], [0, -0.2, 0.9, 2], [0, 0, 0, 1.0]]),
}


def part(*bounds: tuple[int, int], of: tuple[int, ...]) -> Region:
    return Region(tuple(slice(*pair) for pair in bounds), of)


def bounds(region: Region) -> list[tuple[int, int]]:
    return [(piece.start, piece.stop) for piece in region.slices]


def test_a_region_lies_where_it_was_cut_from() -> None:
    source = Image(np.zeros((6, 40, 50)), **PLACED)
    region = part((2, 5), (10, 30), (7, 49), of=(6, 40, 50))
    assert region.shape == (3, 20, 42)
    cut = Image(source.data[region.slices], **{**PLACED, "translate": region.translate(source)})
    for corner in itertools.product((0, 2), (0, 19), (0, 41)):
        there = np.add(corner, (2, 10, 7))
        np.testing.assert_allclose(cut.data_to_world(corner), source.data_to_world(there))
    np.testing.assert_array_equal(whole((6, 40, 50)).translate(source), source.translate)


def test_the_record_names_axes_and_counts_as_the_sliders_do() -> None:
    assert part((3, 4), (0, 8), (2, 8), of=(5, 8, 8)).record("TYX") == {
        "name": "Whole image",
        "T": [3, 3],
        "Y": [0, 7],
        "X": [2, 7],
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("all", (0, 9)),
        ("", (0, 9)),
        ("current", (4, 5)),
        ("Current ", (4, 5)),
        ("3-7", (3, 8)),
        ("3 – 7", (3, 8)),
        ("8", (8, 9)),
    ],
)
def test_positions_along_an_axis(text: str, found: tuple[int, int]) -> None:
    piece = chosen_part(text, 9, 4.2, what="Time")
    assert (piece.start, piece.stop) == found


@pytest.mark.parametrize("text", ["9", "3-9", "7-3", "soon", "-1", "1-2-3"])
def test_no_such_positions(text: str) -> None:
    with pytest.raises(UserError, match=r"^Time is '"):
        chosen_part(text, 9, 0, what="Time")


def test_a_slider_beyond_the_image_is_its_end() -> None:
    assert chosen_part("current", 9, 40.0, what="Time") == slice(8, 9)


def shown(corners: Any, shape: tuple[int, ...] = (4, 100, 120), **options: Any) -> tuple[ViewerModel, Any]:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros(shape), name="cells", **options)
    layer.corner_pixels = np.array(corners)
    return viewer, layer


def test_the_view_is_all_planes_of_what_the_canvas_shows() -> None:
    viewer, layer = shown([[0, 10, 20], [0, 59, 119]])
    region = in_view(viewer, layer, "ZYX", (4, 100, 120))
    assert bounds(region) == [(0, 4), (10, 60), (20, 120)]
    assert region.name == "Current view"
    assert not region.is_whole


def test_the_view_of_a_layer_with_fewer_dimensions_and_of_rolled_ones() -> None:
    viewer, layer = shown([[10, 20], [59, 119]], (100, 120))
    viewer.add_image(np.zeros((3, 4, 8, 8)))
    assert bounds(in_view(viewer, layer, "YX", (100, 120))) == [(10, 60), (20, 120)]
    viewer, layer = shown([[1, 0, 20], [2, 0, 59]])
    viewer.dims.order = (1, 0, 2)
    assert bounds(in_view(viewer, layer, "ZYX", (4, 100, 120))) == [(1, 3), (0, 100), (20, 60)]
    assert bounds(in_view(viewer, layer, "TYX", (4, 100, 120))) == [(0, 4), (0, 100), (20, 60)]


def test_a_volume_is_seen_as_a_whole() -> None:
    viewer, layer = shown([[0, 10, 20], [0, 59, 119]])
    viewer.dims.ndisplay = 3
    assert in_view(viewer, layer, "ZYX", (4, 100, 120)).is_whole


def test_an_image_beside_the_view_is_refused() -> None:
    viewer, layer = shown([[0, 99, 20], [0, 99, 119]])
    with pytest.raises(UserError, match="Nothing of 'cells' is in the view"):
        in_view(viewer, layer, "ZYX", (4, 100, 120))


def test_the_view_of_a_multiscale_layer_is_in_pixels_of_the_finest_level() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image([np.zeros((64, 80)), np.zeros((32, 40))], multiscale=True)
    layer.data_level = 1
    layer.corner_pixels = np.array([[4, 10], [11, 39]])
    assert bounds(in_view(viewer, layer, "YX", level_0(layer).shape)) == [(8, 24), (20, 80)]


RECTANGLE = np.array([[10, 20], [10, 41], [31, 41], [31, 20]])


def drawn(
    vertices: Any = RECTANGLE, shape: tuple[int, ...] = (4, 100, 120), **options: Any
) -> tuple[Any, ...]:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros(shape), name="cells", **options)
    shapes = viewer.add_shapes(vertices - 0.5 if vertices is not None else None, ndim=2, name="box")
    return viewer, layer, "ZYX", shape, shapes


def test_a_rectangle_is_all_planes_of_what_it_holds() -> None:
    region = marked(*drawn())
    assert bounds(region) == [(0, 4), (10, 31), (20, 41)]
    assert region.name == "box"


def test_a_rectangle_is_clipped() -> None:
    assert bounds(marked(*drawn(RECTANGLE - 15))) == [(0, 4), (0, 16), (5, 26)]


def test_a_rectangle_in_other_coordinates_than_the_image() -> None:
    placed = {"scale": (2, 0.5, 0.5), "translate": (0, 10, -5), "rotate": 90}
    viewer, layer, axes, shape, shapes = drawn(**placed)
    inside = [(10, 20), (10, 41), (31, 41), (31, 20)]
    world = [layer.data_to_world((0, y - 0.5, x - 0.5))[1:] for y, x in inside]
    shapes.scale, shapes.translate = (0.25, 0.25), (3, 4)
    shapes.data = [np.array([shapes.world_to_data(point) for point in world])]
    assert bounds(marked(viewer, layer, axes, shape, shapes)) == [(0, 4), (10, 31), (20, 41)]


def test_the_selected_shapes_or_else_the_last() -> None:
    viewer, layer, axes, shape, shapes = drawn()
    shapes.add_rectangles(RECTANGLE + 40 - 0.5)
    shapes.selected_data = set()
    assert bounds(marked(viewer, layer, axes, shape, shapes))[1:] == [(50, 71), (60, 81)]
    shapes.selected_data = {0}
    assert bounds(marked(viewer, layer, axes, shape, shapes))[1:] == [(10, 31), (20, 41)]
    shapes.selected_data = {0, 1}
    assert bounds(marked(viewer, layer, axes, shape, shapes))[1:] == [(10, 71), (20, 81)]


@pytest.mark.parametrize("kind", ["ellipse", "polygon"])
def test_the_box_around_any_shape(kind: str) -> None:
    viewer, layer, axes, shape, shapes = drawn()
    shapes.add(RECTANGLE + 0.2, shape_type=kind)
    shapes.selected_data = {1}
    assert bounds(marked(viewer, layer, axes, shape, shapes))[1:] == [(10, 32), (20, 42)]


def test_a_shape_drawn_in_a_section_along_z() -> None:
    viewer, layer, axes, shape, _ = drawn(shape=(20, 100, 120))
    shapes = viewer.add_shapes(
        [np.array([[2, 50, 20], [2, 50, 40], [12, 50, 40], [12, 50, 20]]) - [0.5, 0, 0.5]]
    )
    assert bounds(marked(viewer, layer, axes, shape, shapes)) == [(2, 12), (0, 100), (20, 40)]


@pytest.mark.parametrize(
    ("vertices", "words"),
    [
        (None, "'box' holds no shape"),
        (RECTANGLE + 200, "is outside of 'cells'"),
        (RECTANGLE * (0, 1), "has no area"),
    ],
)
def test_a_shape_that_marks_nothing_is_refused(vertices: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        marked(*drawn(vertices))


def test_a_preview_is_small_and_about_the_middle() -> None:
    region = whole((9, 3, 40, 1000, 200))
    found = preview_of(region, "TCZYX", np.array([4.2, 0, 20, 500, 3]))
    assert found.shape == (1, 1, 12, 48, 48)
    assert bounds(found) == [(4, 5), (0, 1), (14, 26), (476, 524), (0, 48)]
    at_the_end = preview_of(region, "TCZYX", np.array([99, 99, 39, 999, 3]))
    assert bounds(at_the_end) == [(8, 9), (2, 3), (28, 40), (952, 1000), (0, 48)]
    inner = part((0, 40), (600, 900), (10, 20), of=(40, 1000, 200))
    assert bounds(preview_of(inner, "ZYX", middle_of(inner))) == [(14, 26), (726, 774), (10, 20)]


def test_the_middle_of_the_view_is_the_cameras() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((9, 100, 100)), scale=(2, 0.5, 0.5), translate=(0, 10, 0))
    viewer.dims.set_point(0, 6)
    camera_of(viewer).center = (0, 25, 40)
    np.testing.assert_allclose(focus(viewer, layer), (3, 30, 80))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            np.where(np.arange(64 * 64).reshape(64, 64) % 10, 20, 255).astype(np.uint8),
            "10.0% of the pixels are at 255",
        ),
        (np.full((4, 64, 64), 65535, np.uint16), "100.0% of the pixels are at 65535"),
        (np.full((64, 64), 254, np.uint8), ""),
        (np.full((64, 64), 255.0), ""),
        (dask.array.full((64, 64), 255, dtype=np.uint8), ""),
    ],
)
def test_saturated_pixels(data: Any, words: str) -> None:
    assert saturation_of(Image(data, contrast_limits=(0, 1))).startswith(words)
    assert bool(saturation_of(Image(data, contrast_limits=(0, 1)))) == bool(words)


def test_saturation_is_looked_for_in_some_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        "napari_deqmd.widgets.layers.saturation", lambda counts: seen.append(counts.size) or ""
    )
    saturation_of(Image(np.zeros((40, 512, 512), np.uint8)))
    assert 100_000 < seen[0] <= 2**19


def test_peak_and_background_are_read_from_all_of_a_channel() -> None:
    layer = Image(np.zeros((2, 3, 8, 40, 40), np.float32), contrast_limits=(0, 1))
    region = part((1, 2), (0, 1), (2, 4), (0, 9), (0, 9), of=layer.data.shape)
    image = read_layer(layer, "TCZYX", region=region)
    assert image.load().shape == (1, 1, 2, 9, 9)
    assert image.basis().shape == (2, 1, 8, 40, 40)
    lazy = Image(dask.array.from_array(layer.data), contrast_limits=(0, 1))
    assert read_layer(lazy, "TCZYX", region=region).basis().shape == (1, 1, 2, 9, 9)


def test_layers_in_different_units_lie_where_they_are_seen(make_napari_viewer: Any) -> None:
    """Napari 0.9 shows micrometres in nanometres where another layer has these."""
    viewer = make_napari_viewer()
    if not hasattr(viewer.dims, "units"):
        pytest.skip("this napari takes units for names")
    data = np.zeros((20, 64, 64))
    layer = viewer.add_image(data, scale=(0.3, 0.1, 0.1), units=("um",) * 3)
    viewer.add_image(data, scale=(300, 100, 100), units=("nm",) * 3)
    viewer.dims.set_point(0, 3000.0)
    viewer.reset_view()
    np.testing.assert_allclose(focus(viewer, layer), (10, 31.5, 31.5), atol=0.6)
    assert shown_of(viewer, layer, "ZYX").where[0] == 10
    square = np.array([[1000, 1000], [1000, 3000], [3000, 3000], [3000, 1000]])
    shapes = viewer.add_shapes([square], units=("nm", "nm"))
    assert bounds(marked(viewer, layer, "ZYX", data.shape, shapes))[1:] == [(10, 31), (10, 31)]


def test_a_layer_that_left_may_have_more_axes_than_the_viewer() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((8, 8)))
    assert in_units_of(viewer, Image(np.zeros((4, 8, 8))), viewer.dims.point).shape == (2,)
