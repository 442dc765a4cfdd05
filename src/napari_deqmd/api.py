"""The public functions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.device import resolve_device
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.images import check_image, resolve_axes
from napari_deqmd.core.iterates import Iterates
from napari_deqmd.core.operators import Blur
from napari_deqmd.core.pixels import PixelMaps
from napari_deqmd.job.results import Progress, Result
from napari_deqmd.psf.prepare import prepare_psf
from napari_deqmd.reconstruction import Reconstruction

__all__ = ["Iterates", "Progress", "Reconstruction", "Result", "reconstruct", "resolve_device", "simulate"]


# Photo-electrons in a pixel that NumPy draws; its counts have 64 bits.
_MOST_EXPECTED = 1e18


def reconstruct(
    image: Any,
    psf: Any,
    peak: float | Literal["auto"] = "auto",
    background: float | Literal["auto"] = "auto",
    offset: float | NDArray[Any] = 0.0,
    gain: float | NDArray[Any] = 1.0,
    axes: str | None = None,
    voxel_size: tuple[float, ...] | None = None,
    method: str = "deq-md",
    solver: str = "accelerated",
    model: str = "default",
    strength: float = 1.0,
    boundary: str = "extended",
    max_iter: int = 200,
    tol: float = 1e-4,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    on_step: Callable[[Progress], bool | None] | None = None,
    upper: float = 10.0,
    start: Iterates | None = None,
    read_noise: float | NDArray[Any] = 0.0,
    mask: Any = None,
    mask_saturated: bool = True,
    tile: Literal["auto", "none"] | tuple[int, ...] = "auto",
    scheduler: str | None = None,
    orientations: int = 1,
) -> Result:
    """Deconvolve photon-limited images.

    Parameters
    ----------
    image : ndarray
        Camera counts ``(Y, X)`` or ``(Z, Y, X)``, with T and C axes looped over as `axes` says.
    psf : ndarray
        ``(Y, X)`` or ``(Z, Y, X)``, at the image's voxel size.
    on_step : callable, optional
        Called with every `Progress`; returning False stops and keeps the current iterate.
    offset, gain, read_noise : float or ndarray, shape (Y, X)
        Of the camera: one number, or one for each of its pixels (sCMOS).
    mask : ndarray, optional
        Nonzero where a pixel is bad, dead or hot, and tells nothing: of the image's shape, or of its last axes, such as
        one ``(Y, X)`` for all planes.
    start : Iterates, optional
        ``iterates`` of an earlier result of the same image and PSF: it goes on from there, which saves most iterations
        when only strength, model or limits differ. With a regularizer that is not convex it may end at another
        stationary point than a run from the data.
    scheduler : str, optional
        Address of a Dask scheduler, ``tcp://host:8786``, or the path of its scheduler file: its workers compute the
        images along T and C, and their tiles, each on its own `device`.

    The other parameters are those of `ReconstructionConfig`.

    Returns
    -------
    Result
        ``image`` (float32, the input's shape, photo-electrons), ``history``, ``stopped_by``, ``config``, ``report``,
        ``iterates``.

    Raises
    ------
    UserError
        Anything that cannot work, in one sentence, before any long work.

    Notes
    -----
    ``deq-md`` is the fixed point of mirror descent in Burg geometry on a Poisson likelihood plus a learned regularizer,
    arXiv:2507.11461.
    """
    camera: dict[str, Any] = {"offset": offset, "gain": gain, "read_noise": read_noise}
    maps = PixelMaps.among(mask, **camera)
    config = ReconstructionConfig(
        axes=axes,
        voxel_size=voxel_size,
        **camera | maps.typical,
        peak=peak,
        background=background,
        method=method,
        solver=solver,
        model=str(model),
        strength=strength,
        boundary=boundary,
        upper=upper,
        max_iter=max_iter,
        tol=tol,
        device=device,
        precision=precision,
        orientations=orientations,
        seed=seed,
        mask_saturated=mask_saturated,
        tile=tile,
    )
    job = Reconstruction(image, psf, config, start, maps, scheduler=scheduler)
    with closing(job.steps()) as steps:
        for progress in steps:
            if on_step is None:
                continue
            answer = on_step(progress)
            if isinstance(answer, bool | np.bool_) and not answer:
                break
    return job.result()


def simulate(
    image: Any,
    psf: Any,
    peak: float,
    *,
    background: float = 0.0,
    offset: float = 0.0,
    gain: float = 1.0,
    boundary: str = "extended",
    axes: str | None = None,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Blur a clean image and draw Poisson noise, as a camera would record it.

    Parameters
    ----------
    image : ndarray
        Clean object, >= 0; scaled so that the brightest pixel of the blurred image is 1.
    psf : ndarray
        ``(Y, X)`` or ``(Z, Y, X)``.
    peak : float
        Photo-electrons at the brightest pixel of the blurred image, > 0: what `estimate_photons` finds again.
    background : float
        Photo-electrons added everywhere, >= 0.
    offset, gain : float
        Camera counts are ``gain * photo-electrons + offset``.
    boundary : {"extended", "periodic"}
        ``"extended"`` continues the object beyond its border by reflection, as a field of view is surrounded by more
        of the same; ``"periodic"`` wraps it around.
    axes : str, optional
        As in `reconstruct`; T and C items are blurred one by one, on one scale.
    seed : int
        Seed of the noise.

    Returns
    -------
    ndarray of float32
        Camera counts of the shape of `image`.
    """
    for name, value in (("peak", peak), ("background", background)):
        if isinstance(value, str):
            raise UserError(
                f"{name} is {value!r}: give a number, a simulation has nothing to estimate it from."
            )
    ReconstructionConfig(
        peak=peak, background=background, offset=offset, gain=gain, boundary=boundary, axes=axes, seed=seed
    )
    clean = check_image(image, 0.0)
    names = resolve_axes(clean.shape, axes)
    spatial = [names.index(a) for a in "ZYX" if a in names]
    order = [i for i in range(clean.ndim) if i not in spatial] + spatial
    moved = np.transpose(clean, order)
    shape = moved.shape[-len(spatial) :]
    kernel = prepare_psf(psf, ndim=len(spatial), image_shape=shape, boundary=boundary)
    if boundary == "extended" and any(k // 2 >= n for k, n in zip(kernel.shape, shape, strict=True) if n > 1):
        raise UserError("The PSF is larger than the image: crop it, or simulate a larger image.")
    operator = Blur(torch.from_numpy(kernel), shape, boundary=boundary)
    items = moved.reshape(-1, *shape).astype(np.float32)
    if boundary == "extended":
        items = np.pad(items, [(0, 0), *((k - 1 - k // 2, k // 2) for k in kernel.shape)], mode="symmetric")
    blurred = np.stack([operator.forward(torch.from_numpy(x)[None, None])[0, 0].numpy() for x in items])
    expected = peak * np.clip(blurred, 0, None) / max(float(blurred.max()), 1e-30) + background
    if not float(expected.max()) < _MOST_EXPECTED:
        raise UserError(
            f"{expected.max():g} photo-electrons cannot be simulated: give a peak and a background below "
            f"{_MOST_EXPECTED:g}."
        )
    electrons = np.random.default_rng(seed).poisson(expected.astype(np.float64))
    counts = (gain * electrons + offset).astype(np.float32).reshape(moved.shape)
    return np.ascontiguousarray(np.transpose(counts, np.argsort(order)))
