"""How exact an identity must hold, per dtype; a test that deviates says why."""

from __future__ import annotations

import torch

EXACT = {torch.float32: 1e-5, torch.float64: 1e-12}
"""Relative error of an identity between linear maps, formulas and their inverses."""

GRADIENT = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Relative error of a gradient against autograd of the value."""

FINITE_DIFFERENCE = 1e-6
"""Relative error of a derivative against a central difference in float64."""

DTYPES = tuple(EXACT)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return ``||found - expected|| / ||expected||``; of two zeros it is 0."""
    scale = expected.double().norm().clamp_min(1e-300)
    return float((found.double() - expected.double()).norm() / scale)
