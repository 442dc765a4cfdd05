"""Photon-limited deconvolution by deep equilibrium mirror descent (arXiv:2507.11461)."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_deqmd.api import Reconstruction, reconstruct, simulate
    from napari_deqmd.core.config import ReconstructionConfig
    from napari_deqmd.core.errors import UserError
    from napari_deqmd.core.photons import estimate_photons
    from napari_deqmd.psf.theory import make_psf
    from napari_deqmd.training.models import load_model

__version__ = "0.1.0"

# OpenMP reads it when torch is loaded. Threads that spin while they wait for one another hold each other up as soon as
# anything else runs: on two busy cores an evaluation took eight times longer.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOME = {
    "Reconstruction": "api",
    "ReconstructionConfig": "core.config",
    "UserError": "core.errors",
    "estimate_photons": "core.photons",
    "load_model": "training.models",
    "make_psf": "psf.theory",
    "reconstruct": "api",
    "simulate": "api",
}

__all__ = [
    "Reconstruction",
    "ReconstructionConfig",
    "UserError",
    "__version__",
    "estimate_photons",
    "load_model",
    "make_psf",
    "reconstruct",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
