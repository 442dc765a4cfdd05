"""A device that is not the CPU, on a machine that has no other: tensors that refuse to meet those of the CPU.

They hold ordinary tensors, so that numbers are right, and say that they are on torch's device "meta", which has none of
its own. What a GPU refuses is refused: operations between two devices, `numpy()` of a tensor that was not brought back
and, as by Apple's GPUs, float64.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "meta"
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class Elsewhere(torch.Tensor):
    """A tensor on the other device."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Elsewhere:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME),
        )

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return Device().__torch_dispatch__(func, types, args, kwargs)


class Device(TorchDispatchMode):
    """Carries operations out where their tensors are."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
        if there and func not in COPIES and any(t.ndim and not isinstance(t, Elsewhere) for t in tensors):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
        told = kwargs.get("device")
        if func is torch.ops.aten.copy_.default:
            to_there = isinstance(args[0], Elsewhere)
        else:
            to_there = bool(there) if told is None else torch.device(told).type == NAME
        if told is not None:
            kwargs["device"] = torch.device("cpu")
        plain_args, plain_kwargs = tree_map(_held, (args, kwargs))
        out = func(*plain_args, **plain_kwargs)
        if not to_there:
            return out
        if any(leaf.dtype == torch.float64 for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)):
            raise TypeError(f"{func}: the device has no float64")
        own = {
            id(tensor.held): tensor for tensor in there
        }  # what is changed in place is returned as it was given
        return tree_map(lambda value: own[id(value)] if id(value) in own else _wrapped(value), out)


class Made(TorchFunctionMode):
    """`torch.tensor` asks no dispatcher: it is made here and sent there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == NAME:
            device = kwargs.pop("device")
            return torch.tensor(*args, **kwargs).to(device)
        return func(*args, **kwargs)


@contextmanager
def device() -> Generator[str, None, None]:
    """Provide the device's name."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with Made(), Device():
            yield NAME
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Elsewhere) else value


def _wrapped(value: Any) -> Any:
    return Elsewhere(value) if isinstance(value, torch.Tensor) else value
