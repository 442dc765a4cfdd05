"""What a lab's images and PSF must be before anything is learned from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from napari_deqmd.core.electrons import saturation
from napari_deqmd.core.errors import UserError
from napari_deqmd.training.rendering import Image


def numbered(role: str, images: Sequence[Any], names: Sequence[str] = ()) -> list[str]:
    """Return what to call images: by their numbers, and the names they have."""
    return [
        f"{role} {i}" + (f" ({name})" if name else "")
        for i, name in enumerate(names or [""] * len(images), start=1)
    ]


def usable(
    images: Sequence[Any], names: Sequence[str] = (), *, role: str = "image", truth: bool = False
) -> tuple[dict[str, Image], tuple[str, ...]]:
    """Return the images by what to call them, as float32 planes without the black ones, and sentences about these.

    Of images that are taken for the truth saturated ones are told, too: a model learns their flat tops.

    Raises
    ------
    UserError
        Stacks, images of different dimensions, numbers that are no photo-electrons, or nothing but black.
    """
    arrays = [np.asarray(image) for image in images]
    dimensions = sorted({array.ndim for array in arrays})
    if len(dimensions) > 1:
        raise UserError(
            f"The {role}s have {' and '.join(map(str, dimensions))} dimensions: give planes (Y, X) only."
        )
    if dimensions and dimensions != [2]:
        raise UserError(
            f"The {role}s have {dimensions[0]} dimensions: fine-tuning takes single planes (Y, X)."
        )
    planes: dict[str, Image] = {}
    notes = []
    for called, array in zip(numbered(role, images, names), arrays, strict=True):
        if array.dtype.kind not in "uif" or not array.size or not np.isfinite(array).all():
            raise UserError(f"The {called} holds no pixels or NaN: give finite photo-electrons.")
        if array.min() < 0:
            wanted = "add a constant, which changes nothing else" if truth else "give photo-electrons"
            raise UserError(f"The {called} holds negative values: {wanted}.")
        if array.min() == array.max():
            notes.append(f"The {called} is the same all over and was left out.")
            continue
        if truth and (saturated := saturation(array)):
            notes.append(f"The {called}: {saturated}")
        planes[called] = array.astype(np.float32)
    if not planes:
        raise UserError(f"The {role}s are black or there are none: give {role}s that show something.")
    return planes, tuple(notes)


def shows(image: Image, side: int, floor: float = 0.0) -> bool:
    """Return whether anywhere in an image a square of `side` pixels is on average brighter than `floor`."""
    reach = min(side, *image.shape)
    margin = reach // 2
    means = ndimage.uniform_filter(image, reach, mode="nearest")
    inner = means[tuple(slice(margin, n - reach + margin + 1) for n in image.shape)]
    return bool(inner.max() > floor)


def without_dark(
    images: Mapping[str, Image], side: int, floors: Sequence[float]
) -> tuple[list[str], tuple[str, ...]]:
    """Return which images show anything, and sentences about those that do not.

    Raises
    ------
    UserError
        None does.
    """
    lit = [
        called
        for (called, image), floor in zip(images.items(), floors, strict=True)
        if shows(image, side, floor)
    ]
    if not lit:
        raise UserError(
            "The images are dark nearly everywhere: give images that show something to learn from."
        )
    dark = (called for called in images if called not in lit)
    return lit, tuple(f"The {called} is dark nearly everywhere and was left out." for called in dark)


def square(psf: Any) -> Image:
    """Return a PSF padded to a square, so that it can be turned.

    Raises
    ------
    UserError
        Not two-dimensional and odd-sized.
    """
    kernel = np.asarray(psf, dtype=np.float32)
    if kernel.ndim != 2 or not all(n % 2 for n in kernel.shape):
        raise UserError(f"The PSF has the shape {kernel.shape}: give one plane (Y, X) with odd sides.")
    side = max(kernel.shape)
    return np.pad(kernel, [((side - n) // 2,) * 2 for n in kernel.shape])
