"""Images whose truth is known: simulated scenes, held-back crops, stacks and the bars."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
import torch
from torch import Tensor

from napari_deqmd.core.operators import Blur
from napari_deqmd.core.photons import estimate_photons
from napari_deqmd.core.poisson import per_image
from napari_deqmd.psf.prepare import prepare_psf
from napari_deqmd.psf.theory import make_psf
from napari_deqmd.training.blurs import random_psf
from napari_deqmd.training.data import load_fluorescence, load_natural
from napari_deqmd.training.measurements import PSF_SIZE, Measurement, fit_psf
from napari_deqmd.training.scenes import make_scene

SIDE = 128
VOLUME = (16, 80, 80)
VOLUME_SIGMA = (1.5, 1.6, 1.6)
SIGMAS = (1.3, 2.0)
PEAKS = (10.0, 30.0, 100.0, 300.0)
SCENES = ("filaments", "cells", "nuclei", "mixture")
VOLUME_SCENES = ("nuclei", "filaments", "vesicles")
PHOTOGRAPHS = 4
BACKGROUND = {"simulated": 0.04, "stack": 0.04, "fluorescence": 0.05, "natural": 0.01}
"""Background as a share of the peak, by the first word of a label."""
LIT = 0.005
"""Share of the field of view that is not dark."""
CROPS, NATURAL, BARS = "fluorescence/train", "natural/bsds500/val", "fluorescence/bench/bars"
"""Folders of data."""
BARS_GAIN, BARS_UPPER = 1.9, 100.0
"""ADU per photo-electron, as `deqmd estimate` finds it, and the upper bound in peaks."""


@dataclass(frozen=True)
class Condition:
    """One image whose restoration is to be measured.

    Attributes
    ----------
    label : str
        What it shows; images of one label are averaged.
    measurement : Measurement
        A batch of 1.
    image : str
        Which image of the label.
    upper : float
        Upper bound of the object, as for `Problem.from_electrons`.
    known : bool
        Peak and background are the true ones. False: they were estimated, and the truth is known up to a factor.
    white : float, optional
        What PSNR and SSIM are relative to, in units of the true peak; by default the maximum of the truth.
    """

    label: str
    measurement: Measurement
    image: str = ""
    upper: float = 10.0
    known: bool = True
    white: float | None = None

    @property
    def peak(self) -> float:
        """Photo-electrons where the blurred object is 1."""
        return float(self.measurement.peak[0])


def conditions(
    data: Path | None = None,
    *,
    peaks: Sequence[float] = PEAKS,
    side: int = SIDE,
    kinds: Sequence[str] = SCENES,
    seed: int = 901,
) -> list[Condition]:
    """Draw images no model was trained on, blurred without wrapping around, every one at every peak.

    Parameters
    ----------
    data : path, optional
        Folder with ``fluorescence/train`` (only its files named in `napari_deqmd.training.data.HELD_BACK` are used) and
        ``natural/bsds500/val``; what is not there is left out. Without it only simulated scenes are drawn.
    peaks : sequence of float
        Photo-electrons.
    side : int
        Of an image, pixels.
    kinds : sequence of str
        Simulated scenes.
    seed : int
        Of scenes, crops and noise; the training draws from other seeds.
    """
    grown = side + PSF_SIZE[0] - 1
    gaussians = [fit_psf(make_psf("gaussian", sigma=sigma)) for sigma in SIGMAS]
    drawn: list[tuple[str, str, np.ndarray, np.ndarray]] = []
    for kind in kinds:
        for sigma, psf in zip(SIGMAS, gaussians, strict=True):
            name = f"{kind}, PSF {sigma:g}"
            scene = lit_scene(kind, (side, side), PSF_SIZE, named_rng(seed, name))
            drawn.append((f"simulated {kind}", f"PSF {sigma:g}", scene, psf))
    root = data / CROPS if data else None
    if root and root.is_dir():
        held_back = load_fluorescence(root, held_back=True)
        # A file's name is all of it that `HELD_BACK` knows: rows are called so, and crops drawn, in whichever folder.
        images = {name.rpartition("/")[2]: image for name, image in held_back.items()}
        for i, (name, crop) in enumerate(_crops(images, grown, seed).items()):
            drawn.append(("fluorescence", name, crop, gaussians[i % len(gaussians)]))
    root = data / NATURAL if data else None
    if root and root.is_dir():
        photographs = dict(sorted(load_natural(root).items())[:PHOTOGRAPHS])
        wider = [
            fit_psf(np.full((9, 9), 1 / 81, np.float32)),
            fit_psf(random_psf(named_rng(seed, "natural"))),
        ]
        for i, (name, crop) in enumerate(_crops(photographs, grown, seed).items()):
            drawn.append(("natural", name, crop, (gaussians + wider)[i % 4]))
    return [
        measured(label, scene, psf, peak, image=image, seed=seed)
        for label, image, scene, psf in drawn
        for peak in peaks
    ]


def stacks(
    *,
    peaks: Sequence[float] = PEAKS,
    shape: Sequence[int] = VOLUME,
    kinds: Sequence[str] = VOLUME_SCENES,
    seed: int = 902,
) -> list[Condition]:
    """Draw simulated stacks, blurred in 3D without wrapping around, every one at every peak."""
    psf = make_psf("gaussian", ndim=3, sigma=VOLUME_SIGMA)
    scenes = {kind: lit_scene(f"{kind}_3d", shape, psf.shape, named_rng(seed, kind)) for kind in kinds}
    return [
        measured(f"stack {kind}", scene, psf, peak, seed=seed)
        for kind, scene in scenes.items()
        for peak in peaks
    ]


def bars(folder: Path) -> Condition:
    """Read the bars of Hammer Lab's flowdec: ``data.tif``, the truth ``actual.tif`` and the PSF ``kernel.tif``."""
    counts, truth, measured_psf = (
        tifffile.imread(folder / f"{name}.tif").astype(np.float32) for name in ("data", "actual", "kernel")
    )
    photons = estimate_photons(counts, gain=BARS_GAIN)
    psf = prepare_psf(measured_psf, ndim=counts.ndim, image_shape=counts.shape)
    electrons, kernel, sharp = (
        torch.from_numpy(np.ascontiguousarray(array))[None, None]
        for array in (counts / BARS_GAIN, psf, truth / truth.max())
    )
    told = torch.tensor([photons.peak]), torch.tensor([photons.background])
    return Condition("bars", Measurement(electrons, kernel, *told, sharp), upper=BARS_UPPER, known=False)


def lit_scene(kind: str, shape: Sequence[int], psf: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Draw a scene for an image and a PSF of these shapes; a sparse one is drawn again until it is not dark inside."""
    inner = tuple(slice((k - 1) // 2, (k - 1) // 2 + n) for n, k in zip(shape, psf, strict=True))
    while True:
        scene = make_scene(kind, [n + k - 1 for n, k in zip(shape, psf, strict=True)], rng)
        if np.mean(scene[inner] > 0.1) > LIT:
            return scene


def measured(
    label: str, scene: np.ndarray, psf: np.ndarray, peak: float, *, image: str = "", seed: int = 0
) -> Condition:
    """Measure a scene at a brightness of 1 at the 99.8th percentile of its blur.

    The image is as large as the PSF allows; its background is the label's share (`BACKGROUND`) of the peak.
    """
    kernel = torch.from_numpy(psf)[None, None]
    operator = Blur(kernel, tuple(n - k + 1 for n, k in zip(scene.shape, psf.shape, strict=True)))
    clean = torch.from_numpy(np.ascontiguousarray(scene, dtype=np.float32))[None, None]
    blurred = operator.forward(clean).clamp_min(0)
    scale = 1 / float(np.percentile(blurred.numpy(), 99.8))
    background = BACKGROUND[label.split()[0]] * peak
    expected = (peak * scale * blurred + background).double().numpy()
    noise = named_rng(seed, f"{label} {image} {peak:g}")
    electrons = torch.from_numpy(noise.poisson(expected).astype(np.float32))
    truth = operator.crop(clean) * scale
    told = torch.tensor([peak]), torch.tensor([background])
    return Condition(label, Measurement(electrons, kernel, *told, truth), image)


def named_rng(seed: int, name: str) -> np.random.Generator:
    """Return a source of randomness of its own for everything that has a name: what else is drawn changes nothing."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def batch(found: Sequence[Condition]) -> Measurement:
    """Stack conditions of one shape into one batch."""
    parts = [condition.measurement for condition in found]
    return Measurement(
        *(
            torch.cat([getattr(part, name) for part in parts])
            for name in ("electrons", "psf", "peak", "background", "truth")
        )
    )


def estimated(data: Measurement) -> Measurement:
    """Return the batch with peaks and backgrounds as the program finds them, and the truth in their units."""
    found = [estimate_photons(image[0].numpy()) for image in data.electrons]
    peak = torch.tensor([photons.peak for photons in found])
    background = torch.tensor([photons.background for photons in found])
    return retold(replace(data, background=background), peak)


def retold(data: Measurement, peak: Tensor) -> Measurement:
    """Return the batch with other peaks, and the truth in their units."""
    return replace(data, peak=peak, truth=data.truth * per_image(data.peak / peak, data.truth))


def by_colour(data: Measurement) -> Measurement:
    """Return the channels of one colour image as a batch of images of one channel."""
    channels = data.electrons.shape[1]
    return replace(
        data,
        electrons=data.electrons.transpose(0, 1),
        truth=data.truth.transpose(0, 1),
        psf=data.psf.expand(channels, *data.psf.shape[1:]),
        peak=data.peak.expand(channels),
        background=data.background.expand(channels),
    )


def _crops(images: Mapping[str, np.ndarray], side: int, seed: int) -> dict[str, np.ndarray]:
    """Return of every image that is large enough the liveliest of eight random crops."""
    found = {}
    for name, image in sorted(images.items()):
        if min(image.shape) < side:
            continue
        rng = named_rng(seed, name)
        corners = [[int(rng.integers(0, n - side + 1)) for n in image.shape] for _ in range(8)]
        crops = [image[y : y + side, x : x + side] for y, x in corners]
        found[name] = max(crops, key=lambda crop: float(crop.std()))
    return found
