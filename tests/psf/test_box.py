"""How large the box of a microscope's PSF is for a stack."""

import numpy as np
import pytest

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.stack import Stack
from napari_deqmd.psf.inspect import inspect_psf
from napari_deqmd.psf.prepare import prepare_psf
from napari_deqmd.psf.theory import make_psf, parse_psf
from napari_deqmd.psf_files import load_psf

OIL = {"na": 1.4, "wavelength": 0.52, "ni": 1.515}
VOXEL = (0.3, 0.13, 0.13)


def make(kind, image_shape=None, **more):
    return make_psf(kind, ndim=3, voxel_size=VOXEL, image_shape=image_shape, **OIL | more)


def test_a_wide_field_psf_is_as_tall_as_the_stack_can_see_and_no_wider_than_the_image():
    assert make("widefield").shape[0] < 31
    psf = make("widefield", (20, 90, 71))
    assert psf.shape == (39, 91, 71)
    assert prepare_psf(psf, ndim=3, image_shape=(20, 90, 71)).shape == psf.shape
    assert psf.sum() == pytest.approx(1, abs=1e-5)
    assert np.unravel_index(psf.argmax(), psf.shape) == (19, 45, 35)


def test_in_a_wide_image_it_is_as_wide_as_its_cone():
    low, high = (make("widefield", (planes, 4000, 4000)).shape for planes in (12, 24))
    assert low[0] == 23
    assert high[0] == 47
    default = make("widefield").shape[1]
    assert default < low[1] == low[2] < high[1] < 150


def test_a_thin_stack_sees_no_more_than_its_planes():
    assert make("widefield", (4, 128, 128)).shape == (7, *make("widefield").shape[1:])


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("confocal", {}),
        ("spinning-disc", {}),
        ("two-photon", {"wavelength": 0.9}),
        ("lightsheet", {"sheet": 1.0}),
        ("widefield", {"size": (9, 33, 33)}),
    ],
)
def test_light_that_fades_and_a_given_size_get_the_same_box(kind, more):
    assert np.array_equal(make(kind, (60, 256, 256), **more), make(kind, **more))


def test_what_fades_late_ends_there():
    """A sheet of 8 um has faded to a tenth at 7.3 um, 24 planes, from its middle."""
    psf = make("lightsheet", (60, 64, 64), sheet=8.0)
    light = psf.sum(axis=(1, 2))
    assert make("lightsheet", sheet=8.0).shape[0] < psf.shape[0] < 51
    assert light[0] >= 0.1 * light.max()
    wide = make("confocal", (60, 128, 128), pinhole=20)
    assert make("confocal", pinhole=20).shape[0] < wide.shape[0] < 119


def test_a_plane_a_gaussian_and_a_text():
    plane = {"voxel_size": 0.1, **OIL}
    assert np.array_equal(
        make_psf("widefield", **plane), make_psf("widefield", image_shape=(512, 512), **plane)
    )
    assert np.array_equal(make_psf(ndim=3, sigma=2), make_psf(ndim=3, sigma=2, image_shape=(60, 99, 99)))
    text = "widefield:na=1.4,wavelength=0.52,ni=1.515"
    assert np.array_equal(parse_psf(text, 3, VOXEL, (9, 64, 64)), make("widefield", (9, 64, 64)))
    with pytest.raises(UserError, match="2 numbers for 3 axes"):
        make("widefield", (64, 64))


@pytest.mark.parametrize("vectorial", [0, 1])
def test_nothing_is_said_of_a_box_that_is_right(vectorial):
    """A cone cut by the image's sides is no PSF in too small a box."""
    image = np.random.default_rng(0).poisson(20, (40, 100, 90))
    psf = make("widefield", image.shape, vectorial=vectorial)
    assert not [one for one in inspect_psf(psf, VOXEL, image=image).warnings if "box" in one or "haze" in one]
    short = inspect_psf(make("widefield", vectorial=vectorial), VOXEL, image=image).warnings
    assert [one for one in short if "stays as haze" in one]


def test_the_command_line_makes_it_for_its_image():
    stack = Stack(np.zeros((12, 2, 80, 70)), "ZCYX", VOXEL)
    text = "widefield:na=1.4,wavelength=0.52,ni=1.515"
    assert np.array_equal(load_psf(text, stack), make("widefield", (12, 80, 70)))
