"""Where torch computes."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_deqmd.core.errors import UserError

NARROW = {"mps"}
"""Types of devices without float64: Apple's GPUs."""


def resolve_device(name: str) -> str:
    """Return the torch device of a name; ``"auto"`` takes a CUDA GPU when there is one.

    Raises
    ------
    UserError
        Unknown, or not on this machine.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.device(name).type == "meta":
            raise RuntimeError("it computes nothing")
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UserError(
            f"The device {name!r} is not to be had on this machine: use 'auto' or 'cpu'."
        ) from error
    return name


def widest(device: torch.device) -> torch.dtype:
    """Return the dtype in which a device sums: float64, or float32 where it has no other."""
    return torch.float32 if device.type in NARROW else torch.float64


def wide(values: Tensor) -> Tensor:
    """Return values in the widest dtype of their device."""
    return values.to(widest(values.device))


def has_bfloat16(device: str) -> bool:
    """Return whether a device computes in bfloat16; elsewhere it is emulated, 10 to 30 times slower than float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return kind == "cpu" and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
