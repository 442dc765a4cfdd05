"""From a lab's files, or images in memory, to what a model is fine-tuned on: command line and widget share it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.electrons import to_electrons
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.images import check_negative
from napari_deqmd.core.photons import CLIPPED_WARNING
from napari_deqmd.io.planes import Loaded, read_planes
from napari_deqmd.io.planes import Source as Images
from napari_deqmd.io.stack import Stack
from napari_deqmd.psf.prepare import prepare_psf
from napari_deqmd.training.sources import Peak, Source, clean_source, noisy_source, paired_source

__all__ = ["Loaded", "read_source"]


def read_source(
    kind: str,
    inputs: Sequence[Images],
    targets: Sequence[Images] = (),
    *,
    psf: Callable[[Stack], Any],
    axes: str | None = None,
    voxel_size: tuple[float, ...] | None = None,
    peak: Peak | tuple[float, float] = "auto",
    offset: float = 0.0,
    gain: float = 1.0,
    seed: int = 0,
) -> Source:
    """Read images and PSF and make a source of them; files that were left out are named in its notes.

    Parameters
    ----------
    kind : str
        One of `napari_deqmd.core.config.KINDS`.
    inputs, targets, axes, voxel_size
        As for `read_planes`; targets belong to ``"paired"``.
    psf : callable
        Gives the PSF for the first image, of which it gets one plane.
    peak : float, tuple of float, or "auto"
        Photo-electrons; a range for ``"clean"``.
    offset, gain : float
        The camera's, for images that are counts.
    seed : int
        Of patches, noise and what is held back.

    Raises
    ------
    UserError
        Images, PSF or numbers that cannot work.
    """
    planes = read_planes(inputs, targets, axes=axes, voxel_size=voxel_size)
    plane = dataclasses.replace(planes.first, data=planes.rows[0][0], axes="YX")
    kernel = prepare_psf(psf(plane), ndim=2, image_shape=plane.data.shape)
    images, names = (list(zip(*rows, strict=True)) for rows in (planes.rows, planes.names))
    options: dict[str, Any] = {"peak": peak, "seed": seed, "names": names[0], "scenes": planes.scenes}
    below: list[str] = []
    if kind == "clean":
        source = clean_source(images[0], kernel, **options)
    else:
        electrons, below = _electrons(images, names, offset=offset, gain=gain)
        if kind == "paired":
            source = paired_source(electrons[0], electrons[1], kernel, **options)
        else:
            source = noisy_source(electrons[0], kernel, **options)
    skipped = (f"Left out: {sentence}" for sentence in planes.skipped)
    return dataclasses.replace(source, notes=(*skipped, *below, *source.notes))


def _electrons(
    columns: Sequence[Sequence[Any]], names: Sequence[Sequence[str]], *, offset: float, gain: float
) -> tuple[list[list[NDArray[np.float32]]], list[str]]:
    """Return the images' photo-electrons, and a sentence about the one most of which lies below the offset."""
    electrons: list[list[NDArray[np.float32]]] = []
    below = (0.0, "")
    for images, called in zip(columns, names, strict=True):
        electrons.append([])
        for image, name in zip(images, called, strict=True):
            try:
                found, share = to_electrons(image, offset=offset, gain=gain)
                check_negative(float(image.min()), offset)
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
            electrons[-1].append(found)
            below = max(below, (share, name))
    share, name = below
    told = (
        f"{name}: {share:.1%} of the pixels lie below the offset of {offset:g} and became 0: the offset is probably "
        "too high, or the camera's read noise scatters them, which a fine-tuning knows nothing of."
    )
    return electrons, [told] if share > CLIPPED_WARNING else []
