"""Tiles: every pixel is answered for once, all read alike and begin on the networks' grid, and memory decides."""

import math

import numpy as np
import pytest

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.theory import make_psf
from napari_deqmd.scale import memory
from napari_deqmd.scale.memory import predict_bytes, predict_run_bytes
from napari_deqmd.scale.plan import arrange
from napari_deqmd.scale.tiles import GRID, halo_of, largest, require_tile, split

CUTS = [
    ((192, 192), (96, 96), (16, 24)),
    ((191, 333), (50, 61), (16, 16)),
    ((100, 37), (48, 48), (12, 12)),
    ((12, 64, 70), (12, 20, 33), (8, 12, 12)),
    ((77, 65, 66), (16, 24, 48), (12, 12, 12)),
]


@pytest.mark.parametrize(("shape", "core", "halo"), CUTS)
def test_every_pixel_is_in_one_core_and_its_surroundings_are_read(shape, core, halo):
    tiles = split(shape, core, halo)
    counted = np.zeros(shape, int)
    for tile in tiles:
        counted[tile.core] += 1
        for size, around, inner, outer in zip(shape, halo, tile.core, tile.read, strict=True):
            assert max(0, inner.start - around) >= outer.start >= 0
            assert min(size, inner.stop + around) <= outer.stop <= size
        whole = np.arange(math.prod(shape)).reshape(shape)
        np.testing.assert_array_equal(whole[tile.read][tile.inner], whole[tile.core])
    assert (counted == 1).all()
    assert len({tile.shape for tile in tiles}) == 1


@pytest.mark.parametrize(("shape", "core", "halo"), CUTS)
def test_what_is_read_begins_on_the_grid(shape, core, halo):
    for tile in split(shape, core, halo):
        assert all(read.start % GRID == 0 for read in tile.read)


def test_an_axis_that_is_read_as_a_whole_is_not_cut():
    (tile,) = split((60, 60), (32, 64), (16, 16))
    assert tile.core == tile.read == (slice(0, 60), slice(0, 60))


@pytest.mark.parametrize(("shape", "core", "halo"), CUTS)
def test_objects_are_cut_as_images_are(shape, core, halo):
    margins = ((3, 4), (2, 2), (1, 0))[-len(shape) :]
    grown = tuple(size + sum(margin) for size, margin in zip(shape, margins, strict=True))
    counted = np.zeros(grown, int)
    for tile in split(shape, core, halo):
        place = tile.on_object(shape, margins)
        counted[place.core] += 1
        assert counted[place.read].shape == tuple(
            size + sum(margin) for size, margin in zip(tile.shape, margins, strict=True)
        )
    assert (counted == 1).all()


@pytest.mark.parametrize(
    "shown",
    [
        (slice(None),) * 3,
        (5, slice(None), slice(None)),
        (slice(None), 30, slice(None)),
        (slice(2, 9), slice(10, 50), slice(61, 66)),
    ],
)
def test_a_core_in_what_is_shown(shown):
    shape = (12, 64, 66)
    values = np.random.default_rng(0).random(shape)
    pasted = np.zeros(shape)[shown]
    for tile in split(shape, (6, 20, 33), (4, 8, 8)):
        if (found := tile.overlap(shown)) is not None:
            there, here = found
            pasted[there] += values[tile.core][here]
    np.testing.assert_array_equal(pasted, values[shown])


def test_the_halo_grows_with_the_psf_and_networks_see_further():
    small, large = halo_of((9, 9), "rl"), halo_of((21, 9), "rl")
    assert large[0] > small[0]
    assert large[1] == small[1]
    assert halo_of((9, 9), "deq-md")[0] > small[0]


def test_the_fewest_tiles_are_chosen_that_fit():
    shape, psf, halo = (16, 500, 400), (5, 9, 9), (8, 12, 12)

    def chosen(pixels):
        core = largest(shape, psf, halo, lambda read: math.prod(read) <= pixels)
        return None if core is None else split(shape, core, halo)

    counts = []
    for share in (0.8, 0.5, 0.3, 0.15):
        tiles = chosen(share * math.prod(shape))
        assert math.prod(tiles[0].shape) <= share * math.prod(shape)
        assert tiles[0].shape[0] == 16
        counts.append(len(tiles))
    assert counts[0] == 2
    assert counts == sorted(counts)
    assert chosen(1000) is None
    # Planes only where nothing else helps.
    assert largest((64, 40, 40), psf, halo, lambda read: math.prod(read) <= 32 * 40 * 40)[0] < 64


@pytest.mark.parametrize(
    ("tile", "boundary", "says"),
    [
        ((64,), "extended", "1 numbers for the axes Y,X: give 2"),
        ((4, 64, 64), "extended", "3 numbers for the axes Y,X: give 2"),
        ((8, 64), "extended", "A tile of 8 × 64 is smaller .* give at least 16 × 16"),
        ((64, 64), "periodic", "cannot be cut"),
    ],
)
def test_tiles_that_make_no_sense(tile, boundary, says):
    with pytest.raises(UserError, match=says) as caught:
        require_tile(tile, (200, 200), (16, 16), boundary)
    assert "\n" not in str(caught.value)


class TestPlan:
    PSF = make_psf(ndim=2, sigma=1.2)
    SHAPE = (400, 400)
    RL = {"method": "rl"}  # noqa: RUF012

    @property
    def needed(self):
        return predict_bytes(self.SHAPE, self.PSF.shape, **self.RL)

    def test_whole_if_it_fits(self):
        plan = arrange(self.PSF, self.SHAPE, limit=self.needed, **self.RL)
        assert (len(plan.tiles), plan.tile, plan.needed, plan.cut) == (1, "none", self.needed, "")

    def test_tiles_if_not(self):
        plan = arrange(self.PSF, self.SHAPE, limit=self.needed - 1, **self.RL)
        assert len(plan.tiles) == 2
        assert plan.fits
        read = plan.tiles[0].shape
        assert plan.needed == predict_run_bytes(self.SHAPE, self.PSF.shape, read, **self.RL)
        assert plan.cut == f"in 2 tiles of {read[0]} × {read[1]}"

    def test_what_is_held_of_all_items_counts_whole_and_in_tiles(self):
        held = (2 + 4) * 400**2 + 4 * np.prod(
            np.add(self.SHAPE, self.PSF.shape) - 1
        )  # counts, result, object
        for items in (2, 5):
            plan = arrange(self.PSF, self.SHAPE, items=items, itemsize=2, **self.RL)
            assert plan.needed == self.needed + (items - 1) * held
            cut = arrange(self.PSF, self.SHAPE, limit=plan.needed - 1, items=items, itemsize=2, **self.RL)
            assert len(cut.tiles) > 1
            assert cut.fits
        many = arrange(self.PSF, self.SHAPE, limit=plan.needed, items=500, itemsize=2, **self.RL)
        with pytest.raises(UserError, match="fewer times or channels"):
            many.require()
        one, all_of_them = (
            predict_run_bytes(self.SHAPE, self.PSF.shape, self.SHAPE, items=items, device="cuda", **self.RL)
            for items in (1, 500)
        )
        assert one == all_of_them  # a GPU holds no more than what it computes

    def test_what_it_chose_is_chosen_again_by_its_size(self):
        plan = arrange(self.PSF, self.SHAPE, limit=self.needed - 1, **self.RL)
        assert arrange(self.PSF, self.SHAPE, plan.tile, **self.RL).tiles == plan.tiles

    @pytest.mark.parametrize(
        ("tile", "boundary", "limit", "says"),
        [
            ("auto", "extended", 10**6, "are allowed: crop the image"),
            ("none", "extended", None, "let it run in tiles"),
            ("auto", "periodic", None, "choose the extended boundary"),
            ((200, 200), "extended", 10**6, "choose smaller tiles"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, tile, boundary, limit, says):
        limit = limit or self.needed // 2
        plan = arrange(self.PSF, self.SHAPE, tile, limit=limit, boundary=boundary, **self.RL)
        assert not plan.fits
        with pytest.raises(UserError, match=says):
            plan.require()

    def test_where_nothing_is_known_nothing_is_cut(self, monkeypatch):
        monkeypatch.setattr(memory, "available_bytes", lambda device: None)
        plan = arrange(self.PSF, self.SHAPE, **self.RL)
        assert plan.tile == "none"
        plan.require()
