"""A lab's images as sources: what they become, and one sentence for what cannot be learned from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from core.problems import gaussian, random_psf
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.operators import Blur
from napari_deqmd.core.regularizers import NoRegularizer
from napari_deqmd.training.inputs import square, usable
from napari_deqmd.training.measurements import Measurement, Recount
from napari_deqmd.training.sources import MOST, MOST_COUNTED, clean_source, noisy_source, paired_source

PSF = gaussian(1.0).float().numpy()
SIDES = {"sides": (16,)}


def blobs(side: int = 56) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.clip(gaussian_filter(rng.standard_normal((side, side)), 2) * 8, 0, None) for _ in range(4)]


def counts(peak: float, seed: int = 0, side: int = 56) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.poisson(peak * (image / image.max() + 0.1)).astype(np.uint16) for image in blobs(side)]


def test_clean_images_are_measured_with_their_psf_and_peak():
    psf = random_psf((5, 7)).float().numpy()
    source = clean_source(blobs(), psf, peak=(20.0, 40.0), **SIDES)
    data = source.draw(0, 6)
    assert isinstance(data, Measurement)
    assert data.electrons.shape == (6, 1, 16, 16)
    assert (data.electrons == data.electrons.round()).all()
    assert all(torch.equal(kernel, torch.from_numpy(square(psf))) for kernel in data.psf[:, 0])
    assert ((data.peak > 10) & (data.peak < 80)).all()
    assert data.problem(NoRegularizer()).likelihood.operator.object_shape == (22, 22)


def test_a_single_peak_is_a_range_of_one():
    data = clean_source(blobs(), PSF, peak=50, **SIDES).draw(0, 400)
    bare = data.truth.flatten(1).amin(1) == 0
    assert 0.3 < bare.float().mean() < 0.7  # the others have a floor
    told = data.peak[bare].log()
    assert told.mean().exp().item() == pytest.approx(50, rel=0.05)
    assert told.std().item() == pytest.approx(0.12, rel=0.3)  # estimates are not exact


@pytest.mark.parametrize("peak", [0, -3, (0, 5), (40.0, 20.0), float("nan"), float("inf")])
def test_impossible_peaks(peak):
    with pytest.raises(UserError, match="is not possible: give photo-electrons above 0"):
        clean_source(blobs(), PSF, peak=peak, **SIDES)


def test_held_out_patches_show_what_no_patch_of_the_training_does():
    """Images of one brightness each tell themselves apart."""
    rng = np.random.default_rng(0)
    images = [rng.poisson(np.where(np.eye(56) > 0, 400, 100 * (i + 1))) for i in range(5)]
    source = noisy_source(images, np.ones((1, 1)), peak=50, **SIDES)

    def levels(data: Recount) -> set[int]:
        whole = (data.electrons + data.again).flatten(1)
        return {round(level / 100) for level in whole.median(1).values.tolist()}

    trained = set.union(*(levels(source.draw(step, 8)) for step in range(6)))
    assert len(trained) == 3
    assert len(levels(source.held_out)) == 2
    assert not trained & levels(source.held_out)
    assert len(source.held_out.peak) == 2 * 9


@pytest.mark.parametrize(("make", "most"), [(clean_source, MOST), (noisy_source, MOST_COUNTED)])
def test_of_many_held_out_patches_some_decide(make, most):
    images = np.random.default_rng(0).poisson(40, (6, 96, 96))
    assert len(make([*images], np.ones((1, 1)), sides=(16,), peak=50).held_out.peak) == most


@pytest.mark.parametrize(("sides", "side", "count"), [((32, 16), 16, 8), ((32,), 32, 2), ((16,), 16, 8)])
@pytest.mark.parametrize("kind", ["clean", "noisy"])
def test_every_held_out_patch_shows_a_place_of_its_own(kind, sides, side, count):
    """Of 32 x 320 pixels 32 x 64 are held back; where too few patches fit there, smaller ones are taken."""
    image = np.random.default_rng(0).poisson(np.linspace(20, 100, 320), (32, 320))
    make = clean_source if kind == "clean" else noisy_source
    held = make([image], np.ones((1, 1)), sides=sides, peak=50).held_out
    assert held.electrons.shape == (count, 1, side, side)
    if kind == "noisy":
        whole = held.electrons + held.again
        assert len({tuple(sorted(patch.flatten().tolist())) for patch in whole}) == count


def test_one_place_alone_cannot_judge():
    with pytest.raises(UserError, match="shows a single place of 32 x 32 pixels, too little to judge by"):
        noisy_source([counts(30)[0][:32].repeat(2, 1)[:, :70]], PSF, sides=(32,))


def test_pairs_know_their_shift_and_exposure():
    low, high = counts(30), counts(600, seed=1)
    high[1] = np.roll(high[1], (3, 0), (0, 1))
    source = paired_source(low, high, PSF, **SIDES)
    assert isinstance(source.held_out, Recount)
    assert source.facts["exposures"] == pytest.approx([20] * 4, rel=0.1)
    assert source.facts["shifts"][1] == pytest.approx((-3, 0), abs=0.3)
    assert source.facts["shifts"][0] == (0.0, 0.0)
    assert [note for note in source.notes if "moved" in note] == [
        note for note in source.notes if "pair 2 was moved by -3" in note
    ]
    data = source.draw(0, 4)
    assert data.peak.min() > 10  # estimated
    assert (data.again.sum((1, 2, 3)) / data.electrons.sum((1, 2, 3))).tolist() == pytest.approx(
        [20] * 4, rel=0.2
    )


def test_noisy_images_need_nothing_else():
    source = noisy_source(counts(30), PSF, peak=33, **SIDES)
    assert source.facts["peaks"] == [33] * 4
    assert source.facts["backgrounds"] == pytest.approx([3] * 4, abs=2.5)
    assert source.notes == ()


def test_gain_divided_floats_are_rounded_and_said_to_be():
    images = [image / 1.5 for image in counts(60)]
    source = noisy_source(images, PSF, **SIDES)
    whole = source.draw(0, 2).electrons + source.draw(0, 2).again
    assert torch.equal(whole, whole.round())
    assert any("rounded to whole ones" in note for note in source.notes)


def test_a_squared_psf_blurs_the_same():
    """The PSF is padded to a square about its middle: the blur is the same."""
    psf = torch.from_numpy(random_psf((3, 7)).float().numpy())
    x = torch.rand(1, 1, 18, 18, generator=torch.Generator().manual_seed(0))
    narrow = Blur(psf, (18, 18), boundary="periodic").forward(x)
    wide = Blur(torch.from_numpy(square(psf)), (18, 18), boundary="periodic").forward(x)
    assert torch.allclose(narrow, wide, atol=1e-6)


# --- what cannot be learned from ---

NOISY = counts(30)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ([], "black or there are none"),
        ([np.zeros((56, 56))] * 4, "black or there are none"),
        ([*NOISY, np.ones((3, 56, 56))], "have 2 and 3 dimensions: give planes"),
        ([np.ones((3, 56, 56))] * 3, "have 3 dimensions: fine-tuning takes single planes"),
        ([*NOISY, np.full((56, 56), np.nan)], "image 5 holds no pixels or NaN"),
        ([*NOISY, np.zeros((0, 5))], "image 5 holds no pixels or NaN"),
        ([*NOISY, np.eye(56) - 0.5], "image 5 holds negative values: (give photo-electrons|add a constant)"),
        ([NOISY[0][:20, :20]], "too few or too small"),
        ([image[:12] for image in NOISY], "too few or too small"),
    ],
)
@pytest.mark.parametrize("kind", ["clean", "noisy"])
def test_images_that_cannot_be_used(kind, images, says):
    with pytest.raises(UserError, match=says) as caught:
        (clean_source if kind == "clean" else noisy_source)(images, PSF, **SIDES)
    assert str(caught.value).count(". ") == 0  # one sentence


def test_black_images_are_left_out_and_named():
    planes, notes = usable([NOISY[0], np.zeros((9, 9)), NOISY[1]])
    assert len(planes) == 2
    assert notes == ("The image 2 is the same all over and was left out.",)


def corner(make: object) -> np.ndarray:
    """An image in which next to nothing is lit; among photons what is sharper than a PSF is a hot pixel."""
    image = np.zeros((56, 56))
    if make is clean_source:
        image[:2, :2] = 40
        return image
    image[9, 9] = 300
    return np.random.default_rng(0).poisson(gaussian_filter(image, 0.7) + 1).astype(float)


@pytest.mark.parametrize("make", [clean_source, noisy_source])
def test_dark_images_are_left_out_and_named(make):
    with pytest.raises(UserError, match="dark nearly everywhere"):
        make([corner(make)] * 4, PSF, **SIDES)
    assert (
        "The image 2 is dark nearly everywhere and was left out."
        in make([NOISY[0], corner(make), *NOISY[1:]], PSF, **SIDES).notes
    )


def test_saturated_truths_are_told():
    sharp = [np.minimum(image, np.percentile(image, 90)) for image in blobs()]
    bytes_ = [np.round(255 * image / image.max()).astype(np.uint8) for image in sharp]
    notes = clean_source(bytes_, PSF, **SIDES).notes
    assert any(note.startswith("The image 1: ") and "at 255" in note for note in notes)
    assert not any("saturates" in note for note in clean_source(blobs(), PSF, **SIDES).notes)


def test_images_of_fractions_cannot_be_thinned():
    with pytest.raises(UserError, match="hold fractions and no counts"):
        noisy_source([image / image.max() for image in NOISY], PSF, **SIDES)


@pytest.mark.parametrize("gain", [0.4, 2, 3])
def test_counts_of_another_gain_cannot_be_thinned(gain):
    """Of four images, all at the limit of what one of them is warned of: the source is judged as a whole."""
    low, high = (
        [np.rint(gain * image) for image in images]
        for images in (counts(60 / gain, side=192), counts(1200 / gain, seed=1, side=192))
    )
    says = "times the variance of photon noise: give the camera's gain and offset"
    with pytest.raises(UserError, match=says):
        noisy_source(low, PSF, **SIDES)
    assert sum(says in note for note in paired_source(low, high, PSF, **SIDES).notes) == 1


def test_structures_as_fine_as_pixels_are_no_reason_to_refuse():
    """Their own variance is several times that of the photons, and no estimate tells it from a gain."""
    rng = np.random.default_rng(0)
    dots = [gaussian_filter((rng.random((56, 56)) < 0.04) * 1.0, 1) for _ in range(4)]
    source = noisy_source([rng.poisson(1000 * (image / image.max() + 0.03)) for image in dots], PSF, **SIDES)
    assert sum("unless they show structures as fine as pixels" in note for note in source.notes) == 1


def test_pairs_must_be_pairs():
    low, high = counts(30), counts(600, seed=1)
    for targets, says in (
        (high[:3], "4 images and 3 targets"),
        ([high[0][:50], *high[1:]], "pair 1 have the shapes"),
        ([*high[:3], np.zeros((56, 56))], "target 4 is the same all over: take that pair out"),
        ([high[0][None], *high[1:]], "2 and 3 dimensions"),
    ):
        with pytest.raises(UserError, match=says):
            paired_source(low, targets, PSF, **SIDES)


def test_a_range_of_peaks_is_for_clean_images():
    with pytest.raises(UserError, match="range of peaks is for clean images"):
        noisy_source(NOISY, PSF, peak=(10.0, 20.0), **SIDES)


@pytest.mark.parametrize("psf", [np.ones((3, 3, 3)), np.ones((4, 5)), np.ones(3)])
def test_a_psf_is_an_odd_sized_plane(psf):
    with pytest.raises(UserError, match="give one plane"):
        noisy_source(NOISY, psf, **SIDES)
