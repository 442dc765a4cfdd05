"""Regularizers by name: a new one is a new module and a line in `FAMILIES`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.regularizers.base import (
    XY,
    Regularizer,
    View,
    curvature,
    energies,
    evaluate,
    placed,
    views,
)
from napari_deqmd.core.regularizers.learned import SHARED, Bregman, Learned, Red, Scalar
from napari_deqmd.core.regularizers.networks import DnCNN, ThreeScale
from napari_deqmd.core.regularizers.ridge import Ridge
from napari_deqmd.core.regularizers.tv import NoRegularizer, TotalVariation

__all__ = [
    "FAMILIES",
    "XY",
    "Bregman",
    "DnCNN",
    "Learned",
    "NoRegularizer",
    "Red",
    "Regularizer",
    "Ridge",
    "Scalar",
    "ThreeScale",
    "TotalVariation",
    "View",
    "build",
    "curvature",
    "energies",
    "evaluate",
    "placed",
    "views",
]


def _red(network: Callable[..., nn.Module], kind: type[Red] = Red, **options: Any) -> Red:
    shared = {name: options.pop(name) for name in (SHARED | {"peaks"}) & options.keys()}
    both = {name: shared[name] for name in {"ndim"} & shared.keys()}
    return kind(network(**options, **both), **shared)


FAMILIES: dict[str, Callable[..., Regularizer]] = {
    "bregman": lambda **options: _red(DnCNN, Bregman, **options),
    "bregman-three-scale": lambda **options: _red(ThreeScale, Bregman, **options),
    "red": lambda **options: _red(DnCNN, **options),
    "red-three-scale": lambda **options: _red(ThreeScale, **options),
    "ridge": lambda **options: Ridge(**options),
    "scalar": lambda **options: Scalar(**options),
    "tv": lambda **options: TotalVariation(**options),
    "none": lambda **options: NoRegularizer(),
}


def build(family: str, options: dict[str, Any]) -> Regularizer:
    """Build a regularizer of a named family with its architecture's options."""
    if family not in FAMILIES:
        raise UserError(f"Unknown regularizer family {family!r}: this version knows {', '.join(FAMILIES)}.")
    return FAMILIES[family](**options)
