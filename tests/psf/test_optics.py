"""PSFs of microscopes against closed forms and against one another."""

import sys

import numpy as np
import pytest
from scipy.special import j0, j1

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.inspect import inspect_psf
from napari_deqmd.psf.theory import KINDS, make_psf, parse_psf

OIL = {"na": 1.4, "wavelength": 0.52, "ni": 1.515}
VOXEL = (0.2, 0.08, 0.08)
MICROSCOPES = {
    name: {"sheet": 2.0} if "sheet" in kind.needs else {}
    for name, kind in KINDS.items()
    if "na" in kind.needs
}
MICROSCOPES["two-photon"] = {"wavelength": 0.92}


def first_zero(profile):
    """Return where a profile, from its maximum on, first vanishes: its root changes its sign there."""
    least = next(i for i in range(1, profile.size - 1) if profile[i - 1] > profile[i] <= profile[i + 1])
    around = np.array([-6, -5, -4, -3, -2, 2, 3, 4, 5, 6])
    roots = np.roots(np.polyfit(around, -np.sign(around) * np.sqrt(profile[least + around].astype(float)), 3))
    return least + float(roots[np.abs(roots).argmin()].real)


@pytest.mark.parametrize(("na", "ni"), [(0.3, 1.0), (0.8, 1.0), (1.4, 1.515)])
def test_airy_radius_in_focus(na, ni):
    radius = 0.61 * 0.52 / na
    psf = make_psf("widefield", na=na, wavelength=0.52, ni=ni, voxel_size=radius / 30, size=(1, 91))
    assert first_zero(psf[0, 45:]) * radius / 30 == pytest.approx(0.6098 * 0.52 / na, rel=0.005)


def test_whole_pattern_in_focus_is_airys():
    psf = make_psf("widefield", **OIL, voxel_size=0.05, size=61)
    v = 2 * np.pi * 1.4 / 0.52 * 0.05 * np.hypot(*np.mgrid[-30:31, -30:31]) + 1e-9
    airy = (2 * j1(v) / v) ** 2
    assert np.abs(psf / psf.max() - airy).max() < 1e-5


@pytest.mark.parametrize("ni", [1.0, 1.33])
def test_axial_zero_of_a_small_aperture(ni):
    zero = 2 * ni * 0.52 / 0.15**2
    psf = make_psf(
        "widefield", ndim=3, na=0.15, wavelength=0.52, ni=ni, voxel_size=(zero / 30, 1, 1), size=(91, 1, 1)
    )
    assert first_zero(psf[45:, 0, 0]) * zero / 30 == pytest.approx(zero, rel=0.01)


def test_planes_lie_where_they_should_however_many():
    """The stack is computed in pieces: a plane does not depend on which others are asked for."""
    whole = make_psf("widefield", ndim=3, **OIL, voxel_size=VOXEL, size=(41, 99, 99))
    few = make_psf("widefield", ndim=3, **OIL, voxel_size=VOXEL, size=(5, 99, 99))
    assert few * whole[18:23].sum() == pytest.approx(whole[18:23], abs=2e-5 * float(whole.max()))


def test_index_mismatch_is_gibson_and_lannis_integral():
    """The same integral by brute force, with the objective's own aperture in the immersion."""
    lens = {"na": 1.2, "wavelength": 0.52, "ni": 1.515, "ns": 1.33, "depth": 3.0}
    psf = make_psf("widefield", ndim=3, **lens, voxel_size=(0.1, 0.06, 0.06), size=(41, 21, 21))
    profile, rows = psf[:, 10, 10] / psf.max(), psf[20, 10, 10:] / psf.max()
    rho = np.linspace(0, 1, 4001)
    s = 1.2 * rho  # n sin(angle), the same in every layer
    k = 2 * np.pi / 0.52

    def field(z, r=0.0):
        immersion = np.sqrt(1.515**2 - s**2)
        path = 3.0 * (np.sqrt(1.33**2 - s**2) - 1.515 / 1.33 * immersion) + z * immersion
        return abs(np.sum(np.exp(1j * k * path) * j0(k * r * s) * rho)) ** 2

    z = np.arange(-4, 4, 0.005)
    axis = np.array([field(place) for place in z])
    focus = z[axis.argmax()]
    expected = np.array([field(focus + 0.1 * (i - 20)) for i in range(41)]) / axis.max()
    assert profile == pytest.approx(expected, abs=0.03)
    assert rows == pytest.approx([field(focus, 0.06 * i) / axis.max() for i in range(11)], abs=0.01)


@pytest.mark.parametrize("kind", MICROSCOPES)
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("vectorial", [0, 1])
def test_every_microscope_gives_a_psf(kind, ndim, vectorial):
    psf = make_psf(kind, ndim=ndim, voxel_size=VOXEL[-ndim:], vectorial=vectorial, **OIL | MICROSCOPES[kind])
    assert psf.dtype == np.float32
    assert psf.ndim == ndim
    assert all(size % 2 for size in psf.shape)
    assert psf.min() >= 0
    assert psf.sum() == pytest.approx(1, abs=1e-5)
    assert np.unravel_index(psf.argmax(), psf.shape) == tuple(size // 2 for size in psf.shape)
    assert psf == pytest.approx(psf[(slice(None, None, -1),) * ndim], abs=1e-4 * float(psf.max()))


def test_a_plane_is_the_stacks_middle():
    plane, stack = (make_psf("widefield", ndim=n, **OIL, voxel_size=VOXEL[-n:], size=41) for n in (2, 3))
    assert plane / plane.max() == pytest.approx(stack[20] / stack.max(), abs=1e-5)


def widths(kind, **more):
    psf = make_psf(kind, ndim=3, voxel_size=VOXEL, **{"na": 0.8, "wavelength": 0.52, "ni": 1.0} | more)
    return np.array(inspect_psf(psf, VOXEL).fwhm_um)


def test_microscopes_compare_as_they_should():
    wide = widths("widefield")
    assert wide[1] == pytest.approx(0.514 * 0.52 / 0.8, rel=0.01)
    open_, one, small = (widths("confocal", pinhole=size) for size in (6, 1, 0.05))
    assert (small < one).all()
    assert (one < wide).all()
    assert open_[1] == pytest.approx(wide[1], rel=0.02)
    # Without a pinhole's size it is the square: narrower by about the root of 2.
    assert small[1] * np.sqrt(2) == pytest.approx(wide[1], rel=0.03)
    assert widths("two-photon", wavelength=1.04)[1] == pytest.approx(2 * small[1], rel=0.01)
    assert (widths("spinning-disc") < wide).all()
    assert widths("confocal", excitation=0.4)[1] < one[1]


def test_a_thin_sheet_sets_the_depth_and_nothing_else():
    wide, thin = widths("widefield"), widths("lightsheet", sheet=0.8)
    assert thin[1:] == pytest.approx(wide[1:], rel=1e-3)
    assert thin[0] == pytest.approx((wide[0] ** -2 + 0.8**-2) ** -0.5, rel=0.03)


def test_depth_in_water_blurs_under_oil():
    near, deep = (
        make_psf("widefield", ndim=3, voxel_size=VOXEL, **OIL, ns=1.33, depth=depth) for depth in (0, 8)
    )
    assert inspect_psf(deep).fwhm[0] > 1.5 * inspect_psf(near).fwhm[0]


def test_text_takes_the_images_voxels_unless_it_has_its_own():
    text = "confocal:na=1.4,wavelength=0.52,ni=1.515,pinhole=0.8"
    psf = parse_psf(text, 3, VOXEL)
    assert np.array_equal(psf, make_psf("confocal", ndim=3, **OIL, pinhole=0.8, voxel_size=VOXEL))
    assert np.array_equal(psf, parse_psf(text + ",voxel_size=0.2,0.08,0.08", 3, (1, 1, 1)))


def test_without_the_library_a_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "psf_generator", None)
    with pytest.raises(UserError, match="pip install psf-generator"):
        make_psf("widefield", **OIL, voxel_size=0.1)
    make_psf("gaussian", sigma=1)
