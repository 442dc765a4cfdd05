"""A PSF that goes on beyond its box is cut to what memory allows, and that is told."""

import warnings

import numpy as np
import pytest

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.theory import make_psf
from napari_deqmd.reconstruction import Reconstruction
from napari_deqmd.scale.memory import predict_bytes
from napari_deqmd.scale.shorter import affordable

SHAPE = (20, 72, 72)
CONE = make_psf(
    "widefield", ndim=3, voxel_size=(0.3, 0.13, 0.13), na=1.4, wavelength=0.52, ni=1.515, image_shape=SHAPE
)


def needed(psf):
    return predict_bytes(SHAPE, psf.shape, method="rl")


def test_what_fits_is_left_alone():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert affordable(CONE, SHAPE, limit=needed(CONE), method="rl") is CONE


def test_a_cone_is_cut_to_the_most_that_fits():
    limit = needed(CONE) // 2
    with pytest.warns(UserWarning, match=r"39 x 73 x 73 voxels .* cut to .* haze"):
        cut = affordable(CONE, SHAPE, limit=limit, method="rl")
    assert needed(cut) <= limit < needed(np.empty(np.add(cut.shape, 4)))
    assert all(size % 2 for size in cut.shape)
    assert cut.shape[0] < 39
    assert cut.shape[1] < 73
    assert cut.sum() == pytest.approx(1, abs=1e-5)
    assert cut.max() == cut[tuple(size // 2 for size in cut.shape)]


def test_what_has_faded_and_what_never_fits_are_left_to_be_refused():
    spot = make_psf(ndim=3, sigma=(3, 2, 2))
    assert affordable(spot, SHAPE, limit=10, method="rl") is spot
    assert affordable(CONE, SHAPE, limit=10, method="rl") is CONE
    assert affordable(CONE, SHAPE, limit=10, method="rl", boundary="periodic") is CONE


def test_a_reconstruction_runs_with_what_it_is_allowed():
    image = np.random.default_rng(0).poisson(20, SHAPE)
    config = ReconstructionConfig(method="rl", max_iter=1, peak=20, background=1, device="cpu")
    with pytest.warns(UserWarning, match="it was cut to"):
        job = Reconstruction(image, CONE, config, memory=needed(CONE) // 2)
    assert needed(job.psf) <= needed(CONE) // 2
    list(job.steps())
    assert job.result().image.shape == SHAPE
    with pytest.raises(UserError, match="are allowed"):
        Reconstruction(image, CONE, config, memory=10**5)
