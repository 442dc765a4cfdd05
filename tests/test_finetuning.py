"""A lab's files become a source: what is wrong with one is said with its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from napari_deqmd.core.errors import UserError
from napari_deqmd.finetuning import read_source
from napari_deqmd.psf_files import load_psf
from napari_deqmd.training.sources import Source

Read = Callable[..., Source]


def counts(seed: int, shape: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Photo-electrons at a peak of 60."""
    rng = np.random.default_rng(seed)
    scene = gaussian_filter((rng.random(shape) > 0.97) * 40.0, 2)
    return rng.poisson(60 * (scene / scene.max() + 0.1)).astype(np.float32)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write images as a folder of ``a.tif``, ``b.tif`` and so on, and read it."""

    def reading(*images: np.ndarray, kind: str = "noisy", **options: Any) -> Source:
        for name, image in zip("abcdefgh", images, strict=False):
            tifffile.imwrite(tmp_path / f"{name}.tif", image)
        return read_source(kind, [tmp_path], psf=partial(load_psf, "gaussian:sigma=1"), **options)

    return reading


def test_negative_counts_are_refused_by_the_name_of_their_file(read):
    images = [counts(seed) for seed in range(4)]
    images[2] -= 40
    with pytest.raises(
        UserError, match=r"^c\.tif: The image holds negative counts \(down to -39\): give raw"
    ):
        read(*images)
    with pytest.raises(UserError, match="holds negative values: add a constant"):
        read(*images, kind="clean")
    assert not read(*(counts(seed) - 40 for seed in range(4)), offset=-40).notes


@pytest.mark.parametrize(("offset", "told"), [(100, False), (109, True)])
def test_an_offset_that_is_too_high_is_told(read, offset, told):
    found = read(*(2 * counts(seed) + 100 for seed in range(4)), offset=offset, gain=2)
    assert told == any("% of the pixels lie below the offset of 109" in note for note in found.notes)
