"""Sharp images to train on: fluorescence, natural images, and the sampler that mixes them with scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tifffile
import torch
from skimage import io as skio

from napari_deqmd.core.caution import caution
from napari_deqmd.core.errors import UserError
from napari_deqmd.training.blurs import random_psf
from napari_deqmd.training.rendering import Floats, Image
from napari_deqmd.training.scenes import random_scene

HELD_BACK = frozenset(
    {
        "0287e7ee5b007c91",
        "04acab7636c4cf61",
        "0b0d577159f0d6c2",
        "1023509cf8d4c155",
        "538b7673d507014d",
        "AICS_12_134_C1",
        "BPAE_actin",
        "xy_16bit__rat_hippocampal_neuron",
        "xyc_16bit__cell_dna_mts_actin",
    }
)
"""File stems of the fluorescence set no model is trained on: validation. The hexadecimal ones are of DSB 2018."""

_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as the image-restoration literature makes gray


def _files(folder: Path | str) -> dict[str, Path]:
    """Return the images in a folder and its sub-folders, by their paths in it without suffix."""
    root = Path(folder)
    found: dict[str, Path] = {}
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES):
        first = found.setdefault(path.relative_to(root).with_suffix("").as_posix(), path)
        if first is not path:
            caution(f"{path} was left out: {first.name} beside it has its name.", stacklevel=2)
    if not found:
        raise UserError(
            f"no TIFF, PNG or JPEG images in {root}: give the folder that holds the training images"
        )
    return found


def bin_down(image: np.ndarray, factor: int) -> Image:
    """Mean over blocks of ``factor`` pixels along both axes; what does not fill a block is cut off."""
    height, width = (n // factor for n in image.shape)
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def normalise(image: np.ndarray) -> Image:
    """Background (1st percentile) to 0, the 99.9th percentile to 1; negative values clipped."""
    low, high = np.percentile(image, (1, 99.9))
    return np.asarray(np.clip((image - low) / max(float(high - low), 1e-12), 0, 2), dtype=np.float32)


def noise_level(image: Image) -> float:
    """Deviation of pixel noise by the median absolute diagonal difference (Haar's finest band)."""
    fine = (image[:-1, :-1] - image[1:, :-1] - image[:-1, 1:] + image[1:, 1:]) / 2
    return float(np.median(np.abs(fine)) / 0.6745)


def _read(
    files: Mapping[str, Path], made: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and what is made of images that can be read, float32; what cannot is told, and passed over."""
    broken, whole = 0, 0
    for name, path in files.items():
        try:
            with path.open("rb") as file:
                array = tifffile.imread(file) if path.suffix.lower().startswith(".tif") else skio.imread(file)
            if np.ndim(array) < 2 or not np.size(array):
                raise ValueError("it holds no image")
            found = np.asarray(made(array), dtype=np.float32)
        except Exception as error:  # of a broken file the readers raise whatever they stumble over
            caution(f"{path} was left out, it cannot be read: {error or type(error).__name__}.", stacklevel=2)
            broken += 1
            continue
        whole += 1
        yield name, found
    if broken and not whole:
        raise UserError("None of the training images could be read: give others.")


def _colours(array: np.ndarray) -> np.ndarray:
    """Red, green and blue ``(Y, X, 3)``, float32, of gray or colour, with or without alpha."""
    planes = np.asarray(array if array.ndim == 3 else array[..., None], dtype=np.float32)
    if planes.ndim != 3 or planes.shape[-1] > 4:
        raise ValueError("it is a stack, no photograph")
    seen = planes[..., :3] if planes.shape[-1] > 2 else planes[..., :1]
    return np.broadcast_to(seen, (*planes.shape[:2], 3))


def _photograph(array: np.ndarray) -> np.ndarray:
    """Colours from 0 to 1: integers are a share of the largest of their type."""
    return _colours(array) / (np.iinfo(array.dtype).max if np.issubdtype(array.dtype, np.integer) else 1)


def _planes(name: str, array: np.ndarray, *, tiff: bool) -> dict[str, np.ndarray]:
    """Every 2D plane of a file: channels (first or last axis) and z-slices as ``name#index``."""
    if array.ndim == 3 and not tiff:
        array = _colours(array) @ _LUMA.astype(np.float32)
    elif array.ndim == 3 and array.shape[-1] in (3, 4):
        array = np.moveaxis(array[..., :3], -1, 0)
    if array.ndim == 2:
        return {name: array}
    stack = array.reshape(-1, *array.shape[-2:])
    return {f"{name}#{i}": plane for i, plane in enumerate(stack)}


def load_fluorescence(
    folder: Path | str,
    *,
    held_back: bool | None = False,
    binning: int = 2,
    noise: float = 0.02,
    smallest: int = 48,
    planes: int = 12,
) -> dict[str, Image]:
    """Read fluorescence images as sharp scenes.

    Parameters
    ----------
    folder : path
        Searched with its sub-folders for TIFF, PNG and JPEG.
    held_back : bool, optional
        False: without the validation images ``HELD_BACK``; True: these only; None: all.
    binning : int
        Images are binned down by this factor: they are optically blurred at their own pixel size.
    noise : float
        Images noisier than this (of their range) are binned once more.
    smallest : int
        Images whose shorter side ends below this many pixels are left out.
    planes : int
        At most so many planes of one file, evenly spread.

    Returns
    -------
    dict of array (Y, X)
        Dark background at 0, bright structures about 1, by name: the path in `folder` without suffix, and ``#plane``
        where there are several. Images on a bright ground (bright field, histology) and the empty planes of stacks are
        left out.

    Raises
    ------
    UserError
        When the folder holds no images.

    Warns
    -----
    UserWarning
        Of files that cannot be read.
    """
    images: dict[str, Image] = {}
    files = _files(folder)
    wanted = {
        name: path
        for name, path in files.items()
        if held_back is None or (path.stem in HELD_BACK) is held_back
    }
    for file, array in _read(wanted, np.asarray):
        found = _planes(file, array, tiff=files[file].suffix.lower().startswith(".tif"))
        if len(found) > 4:  # z-slices: the dark ones beyond the sample; channels differ in brightness
            brightest = max(float(plane.max()) for plane in found.values())
            found = {k: v for k, v in found.items() if np.ptp(np.percentile(v, (1, 99.9))) > 0.2 * brightest}
        names = list(found)
        for i in np.unique(np.linspace(0, len(names) - 1, planes).astype(int)) if names else ():
            image = normalise(bin_down(found[names[i]], binning))
            if noise_level(image) > noise:
                image = normalise(bin_down(image, 2))
            if min(image.shape) >= smallest and np.median(image) < 0.5:
                images[names[i]] = image
    return images


def load_natural(folder: Path | str, *, colours: int = 1) -> dict[str, Image]:
    """Read photographs, values in [0, 1]: gray (luma), or ``(3, Y, X)`` for 3 `colours`.

    Names are as in `load_fluorescence`, and so are errors. Values are shares of the largest of a file's type.
    """
    images: dict[str, Image] = {}
    for name, rgb in _read(_files(folder), _photograph):
        found = np.moveaxis(rgb, -1, 0) if colours == 3 else rgb @ _LUMA.astype(np.float32)
        images[name] = np.ascontiguousarray(found, dtype=np.float32)
    return images


class Sampler:
    """Batches of clean patches from simulated scenes, fluorescence and natural images.

    A batch depends on the seed and its step only, so that a training resumes exactly where it stopped.

    Parameters
    ----------
    mix : mapping of str to float
        Share of ``"simulated"``, ``"fluorescence"`` and ``"natural"``; need not sum to 1.
    fluorescence, natural : mapping of str to array, optional
        Images from ``load_fluorescence`` and ``load_natural``; needed where their share is not 0.
    patch : int or sequence of int
        Side of a square patch in pixels, or (Z, Y, X) of a stack, Y = X.
    colours : int
        Channels of the images, before the patch's axes where there are several.
    seed : int
        Source of all randomness.
    pool : int
        Number of simulated scenes kept.
    side : int
        Side of a simulated scene in pixels, at least the patch's; scenes are as deep as patches.
    refresh : int
        Steps after which a scene of the pool is drawn anew, one after the other.

    Raises
    ------
    UserError
        When a source with a share has no image of at least the patch's size.
    """

    def __init__(
        self,
        mix: Mapping[str, float],
        *,
        fluorescence: Mapping[str, Image] | None = None,
        natural: Mapping[str, Image] | None = None,
        patch: int | Sequence[int] = 64,
        colours: int = 1,
        seed: int = 0,
        pool: int = 600,
        side: int = 160,
        refresh: int = 2000,
    ) -> None:
        unknown = set(mix) - {"simulated", "fluorescence", "natural"}
        if unknown or sum(mix.values()) <= 0:
            raise UserError("the mix needs positive shares of simulated, fluorescence or natural: correct it")
        self.patch = (patch, patch) if isinstance(patch, int) else tuple(patch)
        self._window = self.patch if colours == 1 else (colours, *self.patch)
        self.seed, self.refresh = seed, refresh
        self._scene_shape = (*self.patch[:-2], *(max(side, n) for n in self.patch[-2:]))
        self._names = [name for name, share in mix.items() if share > 0]
        if colours != 1 and self._names != ["natural"]:
            raise UserError(
                "only natural images have colours: leave simulated and fluorescence ones out of the mix"
            )
        shares = np.array([mix[name] for name in self._names])
        self._shares = shares / shares.sum()
        self._scenes: list[tuple[int, Image] | None] = [None] * pool
        self._images: dict[str, list[Image]] = {}
        self._areas: dict[str, Floats] = {}  # by area: many small images of one kind outweigh nothing
        for name, images in (("fluorescence", fluorescence), ("natural", natural)):
            large = [image for image in (images or {}).values() if self._holds_a_patch(image)]
            if name in self._names and not images:
                raise UserError(
                    f"the mix has {name} images, of which there are none: say where, or leave them out"
                )
            if name in self._names and not large:
                size = " x ".join(map(str, self.patch))
                raise UserError(f"no {name} image of at least {size} pixels: lower the patch size")
            self._images[name] = large
            areas = np.array([image.size for image in large], dtype=float)
            self._areas[name] = areas / max(areas.sum(), 1.0)

    def _holds_a_patch(self, image: Image) -> bool:
        return image.ndim == len(self._window) and all(
            n >= side for n, side in zip(image.shape, self._window, strict=True)
        )

    def _scene(self, slot: int, step: int) -> Image:
        """Scene of a slot at a step: drawn when it is first asked for, again when its turn has passed."""
        pool = len(self._scenes)
        version = (step + slot * self.refresh // pool) // self.refresh
        known = self._scenes[slot]
        if known is None or known[0] != version:
            rng = np.random.default_rng([self.seed, 1, slot, version])
            known = (version, random_scene(self._scene_shape, rng))
            self._scenes[slot] = known
        return known[1]

    def _crop(self, image: Image, rng: np.random.Generator) -> Image:
        """Random crop; dark ones are given up to three more chances."""
        crop = image
        for _ in range(4):
            corner = [
                int(rng.integers(0, n - side + 1)) for n, side in zip(image.shape, self._window, strict=True)
            ]
            crop = image[tuple(slice(a, a + side) for a, side in zip(corner, self._window, strict=True))]
            if crop.mean() > 0.03:
                break
        return crop

    def draw(self, step: int, rng: np.random.Generator) -> Image:
        """One augmented patch: flipped, turned in the plane, with its contrast and brightness varied."""
        source = str(rng.choice(self._names, p=self._shares))
        if source == "simulated":
            image = self._scene(int(rng.integers(len(self._scenes))), step)
        else:
            image = self._images[source][int(rng.choice(len(self._areas[source]), p=self._areas[source]))]
        crop = np.rot90(self._crop(image, rng), int(rng.integers(4)), axes=(-2, -1))
        if rng.random() < 0.5:
            crop = crop[..., ::-1]
        if source == "fluorescence":
            crop = crop ** rng.uniform(0.8, 1.5)
        dim = float(np.exp(rng.uniform(np.log(0.5), 0.0))) if source != "natural" else 1.0
        return np.asarray(crop * dim, dtype=np.float32)

    def batch(self, step: int, size: int) -> torch.Tensor:
        """Clean patches (``size``, colours, *patch), float32, of one training step; no noise is added."""
        rng = np.random.default_rng([self.seed, 0, step])
        drawn = np.stack([self.draw(step, rng) for _ in range(size)])
        return torch.from_numpy(drawn.reshape(size, -1, *self.patch))


__all__ = [
    "HELD_BACK",
    "Sampler",
    "bin_down",
    "load_fluorescence",
    "load_natural",
    "noise_level",
    "normalise",
    "random_psf",
]
