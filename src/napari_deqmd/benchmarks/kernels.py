"""Kernels of the paper's experiment: Gaussian, uniform, and the motions of Levin et al."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.errors import UserError
from napari_deqmd.psf.theory import parse_psf

LEVIN = "kernels/Levin09.mat"
"""File below the folder of data."""
KERNELS = ("gaussian:sigma=1.2", "uniform:size=9", "levin:7")


def kernel(text: str, data: Path) -> NDArray[np.float32]:
    """Return a kernel ``(Y, X)`` of odd sides and sum 1: ``levin:INDEX``, or what ``--psf`` takes for a plane.

    Raises
    ------
    UserError
        A text that describes none, or motions that cannot be read.
    """
    kind, _, index = text.partition(":")
    if kind != "levin":
        return parse_psf(text, 2)
    motions = levin(data / LEVIN)
    if not index.isdigit() or int(index) >= len(motions):
        raise UserError(f"The kernel is {text!r}: give levin:0 to levin:{len(motions) - 1}.")
    return motions[int(index)]


def levin(path: Path) -> list[NDArray[np.float32]]:
    """Read the motion kernels of ``Levin09.mat``, a MATLAB 7.3 file: HDF5, with axes reversed.

    Raises
    ------
    UserError
        No h5py, no file, or another one.
    """
    try:
        import h5py
    except ImportError:
        raise UserError(
            "Motion kernels in a MATLAB 7.3 file need h5py: pip install 'napari-deqmd[benchmarks]'."
        ) from None
    try:
        with h5py.File(path) as file:
            found = [np.asarray(file[reference]).T for reference in np.ravel(file["kernels"])]
    except (OSError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no file of motion kernels: give the folder that holds {LEVIN}."
        ) from error
    return [np.ascontiguousarray(one / one.sum(), dtype=np.float32) for one in found]
