"""Bad, saturated and uneven pixels in a whole job: found or given, left out, and told."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from napari_deqmd.api import Reconstruction, reconstruct, simulate
from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.electrons import saturation_level, to_electrons
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.pixels import PixelMaps, mended
from napari_deqmd.training.scenes import make_scene

SIDE = 64
PEAK, BACKGROUND = 200.0, 10.0
TV = {"method": "md-tv", "device": "cpu", "max_iter": 60}


def psf():
    y, x = np.mgrid[-4:5, -4:5]
    kernel = np.exp(-(y**2 + x**2) / 2.0)
    return kernel / kernel.sum()


def clean(kind="cells", shape=(SIDE, SIDE)):
    return make_scene(kind, shape, np.random.default_rng(0))


def photons(kind="cells", seed=0):
    return simulate(clean(kind), psf(), PEAK, background=BACKGROUND, seed=seed)


def quality(result):
    """PSNR in dB of a photo-electron image."""
    sharp = clean()
    blurred = simulate(sharp, psf(), 1e7, seed=0)  # nearly without noise: its maximum is the peak
    truth = sharp * PEAK * float(blurred.sum() / 1e7 / sharp.sum())
    return float(-10 * np.log10(np.mean(np.square((result.image - truth) / PEAK))))


def some(share=0.01, seed=1, shape=(SIDE, SIDE)):
    return np.random.default_rng(seed).random(shape) < share


class TestMask:
    @pytest.mark.parametrize("value", [0, 3000, np.nan])
    def test_dead_hot_and_missing_pixels_cost_little(self, value):
        image, bad = photons(), some()
        spoiled = np.where(bad, value, image)
        whole = quality(reconstruct(image, psf(), **TV))
        masked = reconstruct(spoiled, psf(), mask=bad, **TV)
        assert quality(masked) > whole - 0.5
        assert masked.report["bad_pixels"] == bad.sum()
        assert masked.report["saturated_pixels"] == 0
        if np.isfinite(value):
            assert quality(masked) > quality(reconstruct(spoiled, psf(), **TV)) + 0.5

    def test_what_it_hides_changes_no_bit(self):
        image, bad = photons(), some()
        one, other = (
            reconstruct(np.where(bad, value, image), psf(), mask=bad.astype(np.uint8) * 255, **TV).image
            for value in (0, 4e4)
        )
        assert np.array_equal(one, other)

    def test_one_plane_serves_times_and_channels(self):
        series = np.stack([photons(seed=seed) for seed in range(4)]).reshape(2, 2, SIDE, SIDE)
        bad = some()
        spoiled = np.where(bad, 0, series)
        options = TV | {"peak": PEAK, "background": BACKGROUND, "max_iter": 10}
        together = reconstruct(spoiled, psf(), axes="TCYX", mask=bad, **options)
        alone = reconstruct(spoiled[1, 0], psf(), mask=bad, **options)
        assert np.array_equal(together.image[1, 0], alone.image)
        assert together.report["bad_pixels"] == 4 * bad.sum()
        assert [item["bad_pixels"] for item in together.report["items"]] == [bad.sum()] * 4

    def test_one_plane_serves_a_stack(self):
        stack = np.stack([photons(seed=seed) for seed in range(3)])
        bad = some()
        result = reconstruct(stack, psf()[None], mask=bad, **TV | {"max_iter": 3})
        assert result.report["bad_pixels"] == 3 * bad.sum()

    def test_the_axes_order_of_the_image_is_the_masks(self):
        stack = np.stack([photons(seed=seed) for seed in range(6)]).reshape(3, 2, SIDE, SIDE)
        bad = np.zeros((3, 2, SIDE, SIDE), bool)
        bad[:, 1, 5, 5:8] = True
        result = reconstruct(stack, psf()[None], axes="ZTYX", mask=bad, **TV | {"max_iter": 2})
        assert [item["bad_pixels"] for item in result.report["items"]] == [0, 9]

    def test_without_bad_pixels_nothing_changes(self):
        image = photons()
        plain, none = (
            reconstruct(image, psf(), mask=mask, **TV).image for mask in (None, np.zeros((SIDE, SIDE)))
        )
        assert np.array_equal(plain, none)

    @pytest.mark.parametrize("value", [20000, np.nan])
    @pytest.mark.parametrize("axes", ["ZYX", "TYX"])
    def test_a_plane_that_is_all_bad_counts_for_nothing(self, axes, value):
        stack = np.stack([photons(seed=seed) for seed in range(3)]).astype(np.float32)
        bad = np.zeros(stack.shape, bool)
        bad[1] = True
        spoiled = np.where(bad, value + np.random.default_rng(0).normal(0, 50, stack.shape), stack)
        spoiled[1, :20] = value  # as if the camera saturated
        kernel = psf()[None] if axes == "ZYX" else psf()
        options = TV | {"axes": axes, "max_iter": 2}
        report = reconstruct(spoiled, kernel, mask=bad, **options).report
        clean = reconstruct(stack, kernel, **options).report
        assert report["peak"] == pytest.approx(clean["peak"], rel=0.05)
        assert report["background"] == pytest.approx(clean["background"], rel=0.05)
        assert report["saturated_pixels"] == 0
        assert report["warnings"] == clean["warnings"]

    @pytest.mark.parametrize(("axes", "wanted"), [("CZYX", [0, 0, 0, 0]), ("TZYX", [0, 0, 6, 7])])
    def test_a_bad_plane_is_as_the_nearest_good_one_of_its_channel(self, axes, wanted):
        planes = np.broadcast_to(np.arange(8.0).reshape(2, 4, 1, 1), (2, 4, 5, 5))
        bad = np.zeros(planes.shape, bool)
        bad[0, 1:] = bad[1, 1] = True
        assert mended(planes, bad, axes)[0, :, 2, 2].tolist() == wanted
        bad[0] = True
        assert mended(planes, bad, axes)[0, 2, 2, 2] == 6  # there is no other

    @pytest.mark.parametrize(
        ("mask", "says"),
        [
            (np.zeros((SIDE, SIDE + 1)), "of the image's shape"),
            (np.zeros(SIDE), "of the image's shape"),
            (np.full((SIDE, SIDE), "x"), "of the image's shape"),
            (np.ones((SIDE, SIDE)), "every pixel as bad"),
        ],
    )
    def test_refused(self, mask, says):
        with pytest.raises(UserError, match=says):
            reconstruct(photons(), psf(), mask=mask, **TV)


class TestSaturation:
    @staticmethod
    def clipped(level=255, gain=2.0):
        return np.minimum(gain * photons(), level).astype(np.uint16)

    @pytest.mark.parametrize(("level", "gain"), [(255, 2.0), (4095, 30.0)])
    def test_it_is_found_left_out_and_told_once(self, level, gain):
        counts = self.clipped(level, gain)
        full = int((counts == level).sum())
        assert full > 10
        result = reconstruct(counts, psf(), gain=gain, **TV)
        assert result.report["saturated_pixels"] == full
        (sentence,) = (text for text in result.report["warnings"] if "satur" in text)
        assert sentence.startswith(f"{full} saturated pixels were left out, at {level} counts")

    def test_without_the_mask_it_is_told_as_ever(self):
        result = reconstruct(self.clipped(), psf(), gain=2.0, mask_saturated=False, **TV)
        assert result.report["saturated_pixels"] == 0
        assert any("where the camera saturates" in text for text in result.report["warnings"])

    def test_what_is_cut_off_comes_back_in_part(self):
        image = photons()
        counts = np.minimum(np.rint(image * 4095 / np.percentile(image, 97)), 4095).astype(np.uint16)
        options = TV | {"gain": 4095 / np.percentile(image, 97)}
        bounded = reconstruct(counts, psf(), **options)
        ignored = reconstruct(counts, psf(), mask_saturated=False, **options)
        left_out = reconstruct(counts, psf(), mask=counts == 4095, **options)
        assert quality(bounded) > quality(left_out) + 0.2
        assert quality(bounded) > quality(ignored) - 0.5

    def test_hot_pixels_at_the_top_are_found_by_themselves(self):
        image, bad = photons(), some()
        spoiled = np.where(bad, 65535, image).astype(np.uint16)
        masked = reconstruct(spoiled, psf(), **TV)
        assert masked.report["saturated_pixels"] == bad.sum()
        assert quality(masked) > quality(reconstruct(image, psf(), **TV)) - 0.5

    def test_a_pixel_that_is_known_to_be_bad_is_not_counted_twice(self):
        counts = self.clipped()
        bad = np.zeros(counts.shape, bool)
        bad[counts == 255] = np.arange((counts == 255).sum()) < 3
        report = reconstruct(counts, psf(), gain=2.0, mask=bad, **TV).report
        assert report["bad_pixels"] == 3
        assert report["saturated_pixels"] <= (counts == 255).sum()

    @pytest.mark.parametrize(
        ("counts", "level"),
        [
            (np.array([[0, 255, 255], [3, 2, 9]], np.uint8), 255),
            (np.array([[0, 255, 13], [3, 2, 9]], np.uint8), None),  # a stretched image
            (np.array([[0, 255, 255], [254, 254, 9]], np.uint8), None),  # the top of a distribution
            (np.array([[0, 300, 300], [3, 2, 9]], np.uint16), None),
            (np.array([[0, 255, 255], [3, 2, 9]], np.float32), None),
            (np.array([[0, 1023, 1023], [3, 2, 9]], np.int32), 1023),
            (np.minimum(np.arange(4000), 3517).astype(np.uint16), 3517),  # a full well
            (np.minimum(np.arange(4000) - 100.5, 3000).astype(np.float32), 3000),  # its offset is subtracted
            (np.repeat(np.arange(8), 20), None),  # few photo-electrons
            (np.ones((4, 4), complex), None),  # a layer may hold anything
            (np.full(40, np.nan), None),
            (np.repeat(np.arange(1, 1000), 20), None),  # no more at the largest value than just below it
        ],
    )
    def test_level(self, counts, level):
        assert saturation_level(counts) == level

    def test_a_frame_that_is_all_saturated_ends(self):
        series = np.stack([photons(), photons(seed=1)])
        series[1] = 255
        counts = np.minimum(series, 255).astype(np.uint8)
        for method in ("md-tv", "rl"):
            result = reconstruct(counts, psf(), axes="TYX", **TV | {"method": method, "max_iter": 5})
            assert np.isfinite(result.image).all()


def scmos(seed=0):
    """Offset, gain and read noise of every pixel, with a tail of noisy ones."""
    rng = np.random.default_rng(seed)
    offset = rng.normal(300, 3, (SIDE, SIDE))
    gain = rng.normal(2, 0.2, (SIDE, SIDE)).clip(1)
    read_noise = rng.gamma(2, 1, (SIDE, SIDE)) + np.where(rng.random((SIDE, SIDE)) < 0.03, 25, 0)
    return offset, gain, read_noise


class TestMaps:
    def test_they_make_it_better(self):
        offset, gain, read_noise = scmos()
        rng = np.random.default_rng(1)
        counts = np.rint(offset + gain * (photons() + read_noise * rng.standard_normal((SIDE, SIDE))))
        mapped = reconstruct(counts, psf(), offset=offset, gain=gain, read_noise=read_noise, **TV)
        numbers = {name: mapped.report[name] for name in ("offset", "gain", "read_noise")}
        assert numbers["offset"] == pytest.approx(np.median(offset))
        assert numbers["read_noise"] == pytest.approx(np.sqrt(np.mean(read_noise**2)))
        assert quality(mapped) > quality(reconstruct(counts, psf(), **numbers, **TV)) + 0.5
        assert mapped.report["peak"] == pytest.approx(
            reconstruct(photons(), psf(), **TV).report["peak"], 0.15
        )

    def test_maps_of_one_value_are_the_number(self):
        counts = 3 * photons() + 100
        numbers = {"offset": 100.0, "gain": 3.0, "read_noise": 2.0}
        maps = {name: np.full((SIDE, SIDE), value) for name, value in numbers.items()}
        one, other = (reconstruct(counts, psf(), **camera, **TV) for camera in (numbers, maps))
        np.testing.assert_allclose(other.image, one.image, rtol=1e-3, atol=1e-2)
        assert other.config == one.config

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_whole_numbers_of_a_camera_do_not_wrap_around(self, dtype):
        """Dark pixels lie below the offset: in the camera's own type the difference would be huge."""
        maps = {
            name: np.full((SIDE, SIDE), value, dtype) for name, value in (("offset", 100), ("read_noise", 20))
        }
        counts = np.clip(photons() + 95 + np.random.default_rng(0).normal(0, 5, (SIDE, SIDE)), 0, 255).astype(
            dtype
        )
        one, other = (
            reconstruct(counts, psf(), **camera, **TV)
            for camera in (maps, {name: values.astype(float) for name, values in maps.items()})
        )
        assert one.report["read_noise"] == 20
        assert one.report["peak"] == pytest.approx(other.report["peak"], rel=1e-5)
        np.testing.assert_allclose(one.image, other.image, rtol=1e-3, atol=1e-2)

    def test_they_are_recorded_by_their_values(self):
        offset, _, read_noise = scmos()
        maps = PixelMaps(offset=offset, read_noise=read_noise, mask=some())
        config = ReconstructionConfig(**TV | {"max_iter": 1})
        reports = []
        for known in (maps, dataclasses.replace(maps, offset=offset + 1)):
            job = Reconstruction(photons() + 100, psf(), config, maps=known)
            list(job.steps())
            reports.append(job.result().report)
        assert reports[0]["maps"].keys() == {"offset", "read_noise", "mask"}
        assert reports[0]["maps"]["offset"]["shape"] == [SIDE, SIDE]
        assert reports[0]["maps"]["offset"] != reports[1]["maps"]["offset"]
        assert reports[0]["maps"]["mask"] == reports[1]["maps"]["mask"]
        json.dumps(reports[0])

    def test_electrons_are_those_of_each_pixel(self):
        counts = np.array([[[110.0, 121.0]], [[112.0, 141.0]]])
        electrons, clipped = to_electrons(
            counts,
            offset=np.array([[100.0, 101.0]]),
            gain=np.array([[2.0, 4.0]]),
            read_noise=np.array([[0, 3.0]]),
        )
        np.testing.assert_allclose(electrons, [[[5, 14]], [[6, 19]]])
        assert clipped == 0

    @pytest.mark.parametrize(
        ("maps", "says"),
        [
            ({"offset": np.zeros((SIDE, SIDE - 1))}, "offset map .* the image's Y and X"),
            ({"gain": np.zeros((SIDE, SIDE))}, "gain is 0"),
            ({"gain": np.full((SIDE, SIDE), np.nan)}, "gain is nan"),
            ({"read_noise": np.full((SIDE, SIDE), -1.0)}, "read_noise is -1"),
            ({"read_noise": np.full((1, SIDE, SIDE), 1.0)}, "read noise map"),
        ],
    )
    def test_refused(self, maps, says):
        with pytest.raises(UserError, match=says):
            reconstruct(photons(), psf(), **maps, **TV)
