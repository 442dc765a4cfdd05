"""The two bundled samples: simulated counts with their truth and PSF, for File > Open Sample and the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_deqmd.core.errors import UserError

LayerData = tuple[NDArray[Any], dict[str, Any], str]

_PARTS = ("raw", "truth", "psf")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How a sample was simulated: ``counts = offset + gain * Poisson(peak * A x + background)``.

    Attributes
    ----------
    title : str
        What a list of layers shows.
    axes : str
        One letter per dimension.
    voxel_size : tuple of float
        Micrometres along ``axes``.
    sigma : tuple of float
        Deviation of the Gaussian PSF along ``axes``, pixels.
    peak, background : float
        Photo-electrons per pixel: at the blurred object's maximum, and everywhere.
    offset, gain : float
        The camera's, ADU and ADU per photo-electron.
    """

    title: str
    axes: str
    voxel_size: tuple[float, ...]
    sigma: tuple[float, ...]
    peak: float
    background: float
    offset: float = 100.0
    gain: float = 2.0


SCENARIOS = {
    "filaments": Scenario(
        title="Filaments",
        axes="YX",
        voxel_size=(0.1, 0.1),
        sigma=(1.8, 1.8),
        peak=60.0,
        background=2.5,
    ),
    "nuclei": Scenario(
        title="Nuclei",
        axes="ZYX",
        voxel_size=(0.3, 0.1, 0.1),
        sigma=(1.5, 2.0, 2.0),
        peak=60.0,
        background=2.5,
    ),
}
"""The samples by name; their files are ``<name>_raw.tif``, ``<name>_truth.tif`` and ``<name>_psf.tif``."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample, ready to be reconstructed.

    Attributes
    ----------
    name : str
        Key in ``SCENARIOS``.
    raw : array of uint16
        Camera counts.
    truth : array of float32
        The sharp object in photo-electrons without background (``peak * x``): what a perfect result would be.
    psf : array of float32
        Odd-sized, centred, sum 1.
    voxel_size, axes, offset, gain, peak, background
        As in ``Scenario``.
    """

    name: str
    raw: NDArray[np.uint16]
    truth: NDArray[np.float32]
    psf: NDArray[np.float32]
    voxel_size: tuple[float, ...]
    axes: str
    offset: float
    gain: float
    peak: float
    background: float


def _folder() -> Path:
    """Where the files lie: inside the installed package, or at the top of a checkout (editable installs)."""
    package = Path(__file__).parent
    inside = package / "sample_data"
    return inside if inside.is_dir() else package.parents[1] / "sample_data"


def sample_paths(name: str) -> dict[str, Path]:
    """Return the files of a sample as ``{"raw": ..., "truth": ..., "psf": ...}``.

    Raises
    ------
    UserError
        For an unknown name, or an installation without its files.
    """
    if name not in SCENARIOS:
        raise UserError(f"There is no sample {name!r}: choose one of {', '.join(SCENARIOS)}.")
    paths = {part: _folder() / f"{name}_{part}.tif" for part in _PARTS}
    for path in paths.values():
        if not path.is_file():
            raise UserError(
                f"The sample file {path.name} is missing from {path.parent}: install napari-deqmd again."
            )
    return paths


def load_sample(name: str) -> Sample:
    """Read a sample: ``"filaments"`` (2D) or ``"nuclei"`` (3D).

    Raises
    ------
    UserError
        As ``sample_paths``.
    """
    arrays = {part: tifffile.imread(path) for part, path in sample_paths(name).items()}
    scenario = SCENARIOS[name]
    return Sample(
        name=name,
        **arrays,
        voxel_size=scenario.voxel_size,
        axes=scenario.axes,
        offset=scenario.offset,
        gain=scenario.gain,
        peak=scenario.peak,
        background=scenario.background,
    )


def _layers(name: str) -> list[LayerData]:
    """Layers of a sample: the counts, and hidden the truth and the PSF."""
    sample = load_sample(name)
    title = SCENARIOS[name].title
    common: dict[str, Any] = {
        "scale": sample.voxel_size,
        "units": "um",
        "axis_labels": tuple(sample.axes.lower()),
        "colormap": "gray",
    }
    # What a form needs to know of an image may lie in its layer's metadata: the PSF as ``deqmd --psf`` has it.
    sigma = ",".join(f"{value:g}" for value in SCENARIOS[name].sigma)
    known = {"offset": sample.offset, "gain": sample.gain, "psf": f"gaussian:sigma={sigma}"}
    return [
        (sample.truth, {**common, "name": f"{title} truth", "visible": False}, "image"),
        (sample.psf, {**common, "name": f"{title} PSF", "visible": False}, "image"),
        (sample.raw, {**common, "name": title, "metadata": known}, "image"),
    ]


def sample_2d() -> list[LayerData]:
    """Filaments and cells, 256 x 256: simulated counts; their truth (photo-electrons) and PSF are hidden."""
    return _layers("filaments")


def sample_3d() -> list[LayerData]:
    """Nuclei, 24 x 128 x 128: simulated counts; their truth (photo-electrons) and PSF are hidden."""
    return _layers("nuclei")
