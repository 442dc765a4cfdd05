"""From a file's stack to napari layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_deqmd.io.names import image_path
from napari_deqmd.widgets.region import SPATIAL

# Channels are shown added up, in colours that stay apart (napari's own order).
_COLORS = ("magenta", "green", "cyan", "yellow", "red", "blue")


def layers_of(stack: Any, path: str) -> list[tuple[Any, dict[str, Any]]]:
    """Return data and `add_image` arguments, one for each channel.

    Parameters
    ----------
    stack : napari_deqmd.io.stack.Stack
    path : str
        Where it came from: names the layers.

    Returns
    -------
    list of (ndarray or lazy array, dict)
    """
    stem = image_path(path).name.split(".")[0]
    axes = stack.axes
    if "C" not in axes:
        return [(stack.data, _arguments(stack, axes, stem, stack.metadata | {"path": str(path)}))]
    layers = []
    for channel in range(stack.data.shape[axes.index("C")]):
        one = stack.part({"C": channel})
        known = one.channel_names[0] if one.channel_names else ""
        own = one.metadata | {"path": str(path), "channel": channel, "channel_name": known}
        arguments = _arguments(one, one.axes, f"{stem} {known or f'C{channel + 1}'}", own)
        arguments |= {"blending": "additive", "colormap": _COLORS[channel % len(_COLORS)]}
        layers.append((one.data, arguments))
    return layers


def _arguments(stack: Any, axes: str, name: str, metadata: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {"name": name, "metadata": metadata}
    return arguments | place_of(axes, stack.voxel_size, stack.metadata)


def place_of(
    axes: str, voxel_size: tuple[float, ...] | None, metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the `add_image` arguments that say where an image with these axes lies, in micrometres if known.

    Parameters
    ----------
    axes : str
    voxel_size : tuple of float or None
        Micrometres along the spatial axes.
    metadata : mapping, optional
        With the ``origin`` of a file, as `napari_deqmd.io.metadata` has it. Along T a layer counts frames.
    """
    place: dict[str, Any] = {"axis_labels": tuple(axes.lower())}
    known = metadata or {}
    steps = {"T": known.get("time_interval")}
    if voxel_size is not None:
        steps |= dict.fromkeys(SPATIAL, 1.0)
        sizes = iter(voxel_size)
        place["scale"] = tuple(next(sizes) if letter in SPATIAL else 1.0 for letter in axes)
        place["units"] = tuple("micrometer" if letter in SPATIAL else "pixel" for letter in axes)
    if origin := {letter: at for letter, at in known.get("origin", {}).items() if steps.get(letter)}:
        place["translate"] = tuple(origin.get(letter, 0.0) / (steps.get(letter) or 1.0) for letter in axes)
    return place
