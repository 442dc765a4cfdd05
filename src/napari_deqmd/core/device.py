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
