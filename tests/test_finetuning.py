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


def test_a_place_of_a_time_series_is_not_both_trained_on_and_held_back(tmp_path, monkeypatch):
    """All frames show one field: the frames that decide would have been trained on."""
    rng = np.random.default_rng(0)
    mean = np.linspace(20, 100, 128) * np.ones((5, 64, 1))
    tifffile.imwrite(
        tmp_path / "series.ome.tif", rng.poisson(mean).astype(np.uint16), metadata={"axes": "TYX"}
    )
    source = read_source("noisy", [tmp_path / "series.ome.tif"], psf=partial(load_psf, "gaussian:sigma=1"))
    held = source.held_out.electrons + source.held_out.again
    assert held.shape == (4, 1, 32, 32)
    darkest = held.flatten(1).mean(1).min()
    for number in range(8):
        batch = source.draw(number, 4)
        assert (batch.electrons + batch.again).flatten(1).mean(1).max() < darkest


def test_images_are_called_by_their_files(read):
    """The third is left out: those after it keep their numbers."""
    images = [counts(seed) for seed in range(6)]
    images[1] = np.zeros_like(images[1])
    dot = np.zeros((64, 64))
    dot[9, 9] = 300
    images[4] = np.random.default_rng(0).poisson(gaussian_filter(dot, 0.7) + 1).astype("f4")
    assert [note for note in read(*images).notes if "left out" in note] == [
        "The image 2 (b.tif) is the same all over and was left out.",
        "The image 5 (e.tif) is dark nearly everywhere and was left out.",
    ]
    images[3][0, 0] = np.nan
    with pytest.raises(UserError, match=r"^d\.tif: The image holds NaN"):
        read(*images)
    with pytest.raises(UserError, match=r"The image 4 \(d\.tif\) holds no pixels or NaN"):
        read(*images, kind="clean")
