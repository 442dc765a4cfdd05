"""Where torch computes."""

from __future__ import annotations

import torch

from napari_deqmd.core.errors import UserError


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
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"The device {name!r} is not to be had on this machine: use 'auto' or 'cpu'."
        ) from error
    return name


def has_bfloat16(device: str) -> bool:
    """Return whether a device computes in bfloat16; elsewhere it is emulated, 10 to 30 times slower than float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return kind == "cpu" and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
