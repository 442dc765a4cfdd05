"""Several processes under ``torchrun``: each draws batches of its own, and their gradients are averaged."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed


@contextmanager
def processes(device: str) -> Iterator[str]:
    """Join the other processes that ``torchrun`` has started, and leave them at the end.

    Parameters
    ----------
    device : str
        ``"cpu"`` or ``"cuda"``.

    Yields
    ------
    str
        The device of this process: with several GPUs, its own.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield device
        return
    # An optimiser imports it, and its functions hold the group of that moment as a default: one that its end
    # does not end keeps threads, which now and then abort the process as it exits.
    import torch.distributed.nn.functional  # noqa: F401

    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" else device
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Return the number of this process, 0 where there is one only."""
    return int(distributed.get_rank()) if distributed.is_initialized() else 0


def world() -> int:
    """Return the number of processes."""
    return int(distributed.get_world_size()) if distributed.is_initialized() else 1


def own(number: int) -> int:
    """Return the number of the batch that this process draws where a single one would draw `number`."""
    return number * world() + rank()


def agreed(number: float, like: Tensor) -> float:
    """Return the first process's number in all of them; it travels on the device of `like`."""
    if world() == 1:
        return number
    told = torch.tensor(number, dtype=torch.float64, device=like.device)
    distributed.broadcast(told, src=0)
    return told.item()


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradients by their means over the processes: all of them then take the same step."""
    if world() == 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            distributed.all_reduce(parameter.grad)
            parameter.grad /= world()
