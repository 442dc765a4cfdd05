"""Training images are read, selected and sampled as the training expects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage import io as skio

from napari_deqmd.core.errors import UserError
from napari_deqmd.training import blurs
from napari_deqmd.training.data import (
    Sampler,
    bin_down,
    load_fluorescence,
    load_natural,
    noise_level,
    normalise,
    random_psf,
)
from napari_deqmd.training.scenes import make_scene


def smooth_scene(seed: int, side: int = 128) -> np.ndarray:
    scene = make_scene("nuclei", (side, side), np.random.default_rng(seed))
    return np.kron(scene, np.ones((2, 2), np.float32))[:side, :side]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "plain.tif", (3000 * smooth_scene(0) + 200).astype(np.uint16))
    channels = np.stack([200 * smooth_scene(1), 9000 * smooth_scene(2)]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "channels_first.tif", channels)
    tifffile.imwrite(
        tmp_path / "channels_last.tif", np.stack([*channels, channels[0]], -1), photometric="rgb"
    )
    stack = np.stack([smooth_scene(3 + z) * (2 < z < 6) for z in range(8)])
    tifffile.imwrite(tmp_path / "stack.tif", stack.astype(np.float32), photometric="minisblack")
    tifffile.imwrite(tmp_path / "BPAE_actin.tif", smooth_scene(9))
    rgba = np.dstack([np.clip(100 * smooth_scene(4), 0, 255)] * 3 + [np.full((128, 128), 255)]).astype(
        np.uint8
    )
    skio.imsave(tmp_path / "fluorescent.png", rgba, check_contrast=False)
    skio.imsave(tmp_path / "bright_field.png", 255 - rgba[..., :3], check_contrast=False)
    return tmp_path


def test_fluorescence_is_split_binned_and_scaled(folder: Path) -> None:
    images = load_fluorescence(folder)
    assert sorted(images) == [
        *(f"channels_first#{i}" for i in range(2)),
        *(f"channels_last#{i}" for i in range(3)),
        "fluorescent",
        "plain",
        *(f"stack#{z}" for z in (3, 4, 5)),
    ]
    for image in images.values():
        assert image.shape == (64, 64)
        assert image.dtype == np.float32
        assert image.min() == 0
        assert np.percentile(image, 99.9) == pytest.approx(1, abs=1e-3)


def test_held_back_images_are_selected_or_excluded(folder: Path) -> None:
    assert list(load_fluorescence(folder, held_back=True)) == ["BPAE_actin"]
    assert "BPAE_actin" not in load_fluorescence(folder)
    assert "BPAE_actin" in load_fluorescence(folder, held_back=None)


def test_few_planes_of_a_stack_and_no_small_images(folder: Path) -> None:
    assert [k for k in load_fluorescence(folder, planes=2) if k.startswith("stack")] == ["stack#3", "stack#5"]
    assert load_fluorescence(folder, smallest=65) == {}


def test_noisy_images_are_binned_once_more(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "noisy.tif", smooth_scene(0, 256) + rng.normal(0, 0.2, (256, 256)))
    assert load_fluorescence(tmp_path)["noisy"].shape == (64, 64)


def test_an_empty_folder_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no TIFF, PNG or JPEG"):
        load_fluorescence(tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of imageio, on its way to giving up
@pytest.mark.parametrize("name", ["broken.tif", "broken.png", "broken.jpg"])
def test_files_that_cannot_be_read_are_named_and_passed_over(folder: Path, name: str) -> None:
    whole = load_fluorescence(folder)
    (folder / name).write_bytes(b"no image at all")
    with pytest.warns(UserWarning, match=f"{name} was left out, it cannot be read"):
        found = load_fluorescence(folder)
    assert list(found) == list(whole)


def test_a_folder_of_broken_files_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="broken"), pytest.raises(UserError, match="None of the training"):
        load_natural(tmp_path)


def test_natural_images_are_gray_in_the_unit_interval(tmp_path: Path) -> None:
    skio.imsave(tmp_path / "red.png", np.tile(np.uint8([[[255, 0, 0]]]), (8, 8, 1)), check_contrast=False)
    skio.imsave(tmp_path / "gray.png", np.full((8, 8), 51, np.uint8), check_contrast=False)
    images = load_natural(tmp_path)
    assert images["red"] == pytest.approx(0.299, rel=1e-5)
    assert images["gray"] == pytest.approx(0.2)


def test_images_of_one_name_in_several_folders_are_all_read(tmp_path: Path) -> None:
    for folder in ("a", "b", "a/c"):
        (tmp_path / folder).mkdir()
        image = (200 * smooth_scene(len(folder))).clip(0, 255).astype(np.uint8)
        skio.imsave(tmp_path / folder / "0.png", image, check_contrast=False)
    for read in (load_natural, load_fluorescence):
        assert sorted(read(tmp_path)) == ["a/0", "a/c/0", "b/0"]


def test_held_back_images_are_known_in_any_folder(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "BPAE_actin.tif").rename(folder / "deep" / "BPAE_actin.tif")
    assert list(load_fluorescence(folder, held_back=True)) == ["deep/BPAE_actin"]
    assert "deep/BPAE_actin" not in load_fluorescence(folder)


def test_of_two_files_with_one_name_one_is_told(tmp_path: Path) -> None:
    for name in ("0.png", "0.jpg"):
        skio.imsave(tmp_path / name, np.full((8, 8), 51, np.uint8), check_contrast=False)
    with pytest.warns(UserWarning, match=r"0\.png was left out: 0\.jpg beside it has its name"):
        assert list(load_natural(tmp_path)) == ["0"]


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize(
    ("name", "value", "channels"),
    [
        *(("a.png", np.uint8(51), channels) for channels in ((), (2,), (3,), (4,))),
        ("a.png", np.uint16(13107), ()),
        *(("a.tif", np.uint16(13107), channels) for channels in ((), (2,), (3,))),
        ("a.tif", np.float32(0.2), ()),
    ],
)
def test_photographs_of_every_type_are_in_the_unit_interval(tmp_path: Path, name, value, channels, colours):
    image = np.full((8, 9, *channels), value)
    if channels in ((2,), (4,)):
        image[..., -1] = 1  # alpha
    if name.endswith(".tif"):
        tifffile.imwrite(tmp_path / name, image, photometric="minisblack", planarconfig="contig")
    else:
        skio.imsave(tmp_path / name, image, check_contrast=False)
    found = load_natural(tmp_path, colours=colours)["a"]
    assert found.shape == ((8, 9) if colours == 1 else (3, 8, 9))
    assert found == pytest.approx(0.2, rel=1e-5)


def test_gray_with_alpha_is_one_plane_of_fluorescence(tmp_path: Path) -> None:
    image = (200 * smooth_scene(0)).clip(0, 255).astype(np.uint8)
    skio.imsave(tmp_path / "0.png", np.stack([image, np.full_like(image, 255)], -1), check_contrast=False)
    assert [found.shape for found in load_fluorescence(tmp_path).values()] == [(64, 64)]


def test_a_stack_is_no_photograph(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, 8, 9), np.uint8), photometric="minisblack")
    skio.imsave(tmp_path / "0.png", np.full((8, 8), 51, np.uint8), check_contrast=False)
    with pytest.warns(UserWarning, match=r"stack\.tif was left out, it cannot be read: it is a stack"):
        assert list(load_natural(tmp_path)) == ["0"]


def test_binning_averages_and_noise_is_measured() -> None:
    assert bin_down(np.arange(20.0).reshape(4, 5), 2).tolist() == [[3.0, 5.0], [13.0, 15.0]]
    noisy = np.random.default_rng(0).normal(0, 0.05, (200, 200)).astype(np.float32)
    assert noise_level(noisy) == pytest.approx(0.05, rel=0.05)
    assert np.array_equal(normalise(np.zeros((8, 8))), np.zeros((8, 8)))


def sampler(**options: object) -> Sampler:
    images = {"a": smooth_scene(0), "b": smooth_scene(1)}
    mix = {"simulated": 2.0, "fluorescence": 1.0, "natural": 1.0}
    return Sampler(
        mix,
        fluorescence=images,
        natural=images,
        **{"patch": 24, "pool": 4, "side": 40, "refresh": 8, **options},
    )


def test_batches_are_clean_patches() -> None:
    batch = sampler().batch(0, 12)
    assert batch.shape == (12, 1, 24, 24)
    assert str(batch.dtype) == "torch.float32"
    assert float(batch.min()) >= 0
    assert 0.2 < float(batch.amax()) < 3


def test_a_batch_depends_on_seed_and_step_only() -> None:
    resumed, running = sampler(), sampler()
    for step in range(6):
        running.batch(step, 4)
    assert resumed.batch(6, 4).equal(running.batch(6, 4))
    assert not sampler().batch(7, 4).equal(running.batch(6, 4))
    assert not sampler(seed=1).batch(6, 4).equal(running.batch(6, 4))


def test_the_pool_is_refreshed_one_scene_after_the_other() -> None:
    source = sampler()
    first = [source._scene(slot, 0) for slot in range(4)]
    later = [source._scene(slot, 4) for slot in range(4)]
    assert [a is b for a, b in zip(first, later, strict=True)] == [True, True, False, False]


def test_a_sampler_without_its_images_is_a_users_error() -> None:
    with pytest.raises(UserError, match="no natural image of at least 64 x 64"):
        Sampler({"natural": 1.0}, natural={"small": np.zeros((32, 32), np.float32)})
    with pytest.raises(UserError, match="the mix needs"):
        Sampler({"cats": 1.0})
    with pytest.raises(UserError, match="only natural images have colours"):
        Sampler(
            {"natural": 0.5, "simulated": 0.5}, natural={"one": np.zeros((3, 64, 64), np.float32)}, colours=3
        )


@pytest.mark.parametrize(
    "kind",
    [
        blurs.gaussian,
        blurs.skirted,
        blurs.pupil,
        blurs.motion,
        blurs.uniform,
        blurs.wide_gaussian,
        random_psf,
    ],
)
def test_random_psfs_are_odd_centred_and_of_sum_one(
    kind: Callable[[np.random.Generator], np.ndarray],
) -> None:
    for seed in range(20):
        psf = kind(np.random.default_rng(seed))
        assert psf.dtype == np.float32
        assert psf.shape[0] == psf.shape[1] <= blurs.LARGEST
        assert psf.shape[0] % 2 == 1
        assert psf.min() >= 0
        assert psf.sum() == pytest.approx(1, rel=1e-5)
        middle = [float((psf * axis).sum()) for axis in np.indices(psf.shape)]
        assert middle == pytest.approx([psf.shape[0] // 2] * 2, abs=1)
