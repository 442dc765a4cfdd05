"""Regularizers by name: a new one is a new module and a line in `FAMILIES`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.regularizers.base import Regularizer, evaluate
from napari_deqmd.core.regularizers.learned import DnCNN, Red, Scalar, ThreeScale
from napari_deqmd.core.regularizers.tv import NoRegularizer, TotalVariation

__all__ = [
    "FAMILIES",
    "DnCNN",
    "NoRegularizer",
    "Red",
    "Regularizer",
    "Scalar",
    "ThreeScale",
    "TotalVariation",
    "build",
    "evaluate",
]

FAMILIES: dict[str, Callable[..., Regularizer]] = {
    "red": lambda domain="linear", **options: Red(DnCNN(**options), domain=domain),
    "red-three-scale": lambda domain="linear", **options: Red(ThreeScale(**options), domain=domain),
    "scalar": lambda **options: Scalar(**options),
    "tv": lambda **options: TotalVariation(**options),
    "none": lambda **options: NoRegularizer(),
}


def build(family: str, options: dict[str, Any]) -> Regularizer:
    """Build a regularizer of a named family with its architecture's options."""
    if family not in FAMILIES:
        raise UserError(f"Unknown regularizer family {family!r}: this version knows {', '.join(FAMILIES)}.")
    return FAMILIES[family](**options)
