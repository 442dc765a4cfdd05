"""What is held back is never trained on, and patches with second counts are what the measurement's physics says."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from core.problems import random_psf
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.operators import Blur
from napari_deqmd.training.fields import KEPT, Field, Patches, Split, hold_back, orient
from napari_deqmd.training.measurements import Recount

PSF = random_psf((5, 5)).float().numpy()


def marked(split: Split, shapes: list[tuple[int, int]]) -> list[np.ndarray]:
    """How often each pixel is trained on (1s) and held back (10s)."""
    images = [np.zeros(shape, int) for shape in shapes]
    for parts, mark in ((split.train, 1), (split.held, 10)):
        for i, place in parts:
            images[i][place] += mark
    return images


@pytest.mark.parametrize(
    ("shapes", "whole"),
    [([(40, 40)] * 3, True), ([(40, 50)] * 10, True), ([(40, 90)], False), ([(90, 40), (40, 200)], False)],
)
def test_every_pixel_is_trained_on_or_held_back(shapes, whole):
    split = hold_back(shapes, (32,), seed=0)
    images = marked(split, shapes)
    assert {value for image in images for value in np.unique(image)} == {1, 10}
    assert all(len(np.unique(image)) == (1 if whole else 2) for image in images)
    held = sum((image == 10).sum() for image in images) / sum(image.size for image in images)
    assert 0.15 < held < 0.4
    for i, place in (*split.train, *split.held):
        assert min(images[i][place].shape) >= 32


def test_which_images_are_held_back_depends_on_the_seed_only():
    shapes = [(40, 40)] * 10
    assert hold_back(shapes, (32,), seed=1) == hold_back(shapes, (32,), seed=1)
    assert len({str(hold_back(shapes, (32,), seed=seed).held) for seed in range(8)}) > 3


def test_the_largest_patch_that_fits_is_taken():
    assert hold_back([(70, 70)] * 3, (64, 48, 32), seed=0).side == 64
    assert hold_back([(50, 60)] * 3, (64, 48, 32), seed=0).side == 48
    assert hold_back([(64, 70)], (64, 48, 32), seed=0).side == 32


def test_small_images_are_passed_over():
    split = hold_back([(10, 90), (70, 70), (70, 70), (70, 70)], (32,), seed=0)
    assert {i for i, _ in (*split.train, *split.held)} == {1, 2, 3}


@pytest.mark.parametrize("shapes", [[], [(31, 500)], [(40, 40)], [(60, 60)], [(20, 20)] * 9])
def test_too_few_or_too_small_images(shapes):
    with pytest.raises(UserError, match="too few or too small to learn from: give three of at least 32 x 32"):
        hold_back(shapes, (64, 32), seed=0)


def test_the_eight_orientations_keep_the_blur():
    """Turning object and PSF turns the image: else a patch would be measured by another PSF than it is told."""
    rng = torch.Generator().manual_seed(0)
    x, psf = torch.rand(1, 1, 16, 16, generator=rng), torch.from_numpy(PSF)
    image = Blur(psf, (12, 12)).forward(x)[0, 0].numpy()
    seen = set()
    for turns in range(8):
        turned = [torch.from_numpy(orient(a, turns).copy()) for a in (x[0, 0].numpy(), PSF)]
        again = Blur(turned[1], (12, 12)).forward(turned[0][None, None])[0, 0].numpy()
        np.testing.assert_allclose(again, orient(image, turns), atol=1e-5)
        seen.add(again.tobytes())
    assert len(seen) == 8


def flat(level: float = 20.0, side: int = 60, again: bool = False) -> Field:
    counts = np.random.default_rng(0).poisson(level, (side, side)).astype(np.float32)
    return Field(counts, 10.0, 4.0, again=3 * counts if again else None, exposure=3.0 if again else 0.0)


def test_thinned_counts_are_two_independent_poisson_counts():
    found = Patches([flat()], PSF, 32, 0).draw(0, 64)
    first, second = found.electrons.double(), found.again.double()
    assert (first >= 0).all()
    assert (second >= 0).all()
    whole = first + second
    assert (whole == whole.round()).all()
    for counts, mean in ((first, 20 * KEPT), (second, 20 * (1 - KEPT))):
        assert counts.mean().item() == pytest.approx(mean, rel=0.03)
        assert counts.var().item() == pytest.approx(mean, rel=0.06)
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 0.05
    assert found.peak.tolist() == pytest.approx([10 * KEPT] * 64)
    assert found.background.tolist() == pytest.approx([4 * KEPT] * 64)
    assert found.exposure.tolist() == pytest.approx([(1 - KEPT) / KEPT] * 64)


def test_pairs_are_cut_at_the_same_place_and_turned_together():
    found = Patches([flat(again=True)], PSF, 32, 0).draw(0, 8)
    assert torch.equal(found.again, 3 * found.electrons)
    assert found.peak.tolist() == [10] * 8
    assert found.exposure.tolist() == [3] * 8
    assert len({psf.numpy().tobytes() for psf in found.psf}) > 1


def test_a_batch_depends_on_its_number_and_the_seed_only():
    fields_ = [flat(), flat(side=40)]
    first = Patches(fields_, PSF, 32, 0).draw(3, 4)
    again = Patches(fields_, PSF, 32, 0).draw(3, 4)
    names = [f.name for f in fields(Recount) if f.type == "Tensor"]
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in names)
    for other in (Patches(fields_, PSF, 32, 0).draw(4, 4), Patches(fields_, PSF, 32, 1).draw(3, 4)):
        assert not torch.equal(first.electrons, other.electrons)


def test_dark_places_are_seen_less_often():
    counts = np.zeros((32, 320), np.float32)
    counts[:, :32] = 50
    rng = Patches([Field(counts, 50.0, 0.0)], PSF, 32, 0)
    lit = (rng.draw(0, 200).electrons.flatten(1).mean(1) > 0).double().mean().item()
    assert 0.3 < lit < 0.75  # a fifth of all places would be


@pytest.mark.parametrize(("scenes", "strips"), [([7] * 4, True), ([0, 0, 1, 1], True), ([0, 0, 1, 2], False)])
def test_no_place_of_a_scene_is_both_trained_on_and_held_back(scenes, strips):
    """Frames of one series show the same: two scenes give strips, three a whole one."""
    shapes = [(40, 90)] * 4
    split = hold_back(shapes, (32,), seed=0, scenes=scenes)
    images = marked(split, shapes)
    for scene in set(scenes):
        frames = [image for image, number in zip(images, scenes, strict=True) if number == scene]
        assert all((frame == frames[0]).all() for frame in frames)
        assert len(np.unique(frames[0])) == 1 + strips


def test_frames_of_slightly_different_shapes_are_cut_at_the_same_place():
    """Pairs that were registered: which side is the longer one may differ."""
    split = hold_back([(80, 78), (78, 80)], (32,), seed=0, scenes=[0, 0])
    assert split.train[0][1] == split.train[1][1]
    assert split.held[0][1] == split.held[1][1]


def test_a_place_that_many_frames_show_is_held_out_once():
    frames = [replace(flat(side=64), scene=0) for _ in range(5)]
    assert len(Patches(frames, PSF, 32, 0).apart(12).peak) == 4
    others = [replace(frame, scene=number) for number, frame in enumerate(frames)]
    assert len(Patches(others, PSF, 32, 0).apart(12).peak) == 12
