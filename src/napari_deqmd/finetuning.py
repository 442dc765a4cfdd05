"""From a lab's files, or images in memory, to what a model is fine-tuned on: command line and widget share it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from napari_deqmd.core.electrons import to_electrons
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
    options: dict[str, Any] = {"peak": peak, "seed": seed}
    columns: list[Sequence[Any]] = [*zip(*planes.rows, strict=True)]
    if kind == "clean":
        source = clean_source(columns[0], kernel, **options)
    else:
        electrons = [
            [to_electrons(image, offset=offset, gain=gain)[0] for image in column] for column in columns
        ]
        if kind == "paired":
            source = paired_source(electrons[0], electrons[1], kernel, **options)
        else:
            source = noisy_source(electrons[0], kernel, **options)
    skipped = (f"Left out: {sentence}" for sentence in planes.skipped)
    return dataclasses.replace(source, notes=(*skipped, *source.notes))
