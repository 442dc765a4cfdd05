"""The axes of an image file: what its dimensions are called, and which of them are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_deqmd.core.caution import caution
from napari_deqmd.core.config import AXES
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.images import perhaps_reversed


def axes_of(source: Path, series: Any, axes: str | None) -> tuple[tuple[int, ...], str]:
    """Return shape and axes of one of tifffile's series, whose dimensions of length 1 go unless `axes` names them."""
    shape, letters = tuple(series.shape), str(series.axes)
    if axes is not None:
        axes = axes.upper()
        full = tuple(series.get_shape(squeeze=False))
        for candidate in (shape, full, tuple(size for size in shape if size > 1)):
            if len(candidate) == len(axes):
                return candidate, _checked(source, axes)
        raise _miscounted(source, axes, shape)
    kept = [
        index for index, size in enumerate(shape) if size > 1 or letters[index] in "YX" or len(letters) == 2
    ]
    shape, letters = tuple(shape[i] for i in kept), "".join(letters[i] for i in kept)
    letters = letters.replace("S", "C")
    unknown = [letter for letter in letters if letter not in AXES]
    if len(unknown) == 1 and len(letters) == 3:
        letters = letters.replace(unknown[0], "Z")
        if perhaps_reversed(shape):
            caution(
                f"{source.name} is {' x '.join(map(str, shape))}, its last axis by far the shortest, and does not name "
                "its axes: it was read as ZYX; if that axis is Z, give the axes as XYZ or YXZ.",
                stacklevel=4,
            )
    elif unknown:
        raise _unnamed(source, shape)
    return shape, _checked(source, letters)


def named(source: Path, data: Any, letters: str, axes: str | None) -> tuple[Any, str]:
    """Name the axes of what is lazy, where dimensions of length 1 are dropped unless they are asked for."""
    if axes is not None:
        axes = axes.upper()
        if len(axes) not in (data.ndim, sum(size > 1 for size in data.shape)):
            raise _miscounted(source, axes, data.shape)
        _checked(source, axes)
        return (data if len(axes) == data.ndim else data.squeeze()), axes
    drop = tuple(
        place
        for place, (size, letter) in enumerate(zip(data.shape, letters, strict=True))
        if size == 1 and letter not in "YX"
    )
    data, letters = (
        data.squeeze(axis=drop),
        "".join(letter for place, letter in enumerate(letters) if place not in drop),
    )
    if not set(letters) <= set(AXES):
        raise _unnamed(source, data.shape)
    return data, letters


def in_order(letters: str) -> str:
    """Return the axes as every image is worked on and written: as they are if the last two are YX."""
    return letters if letters.endswith("YX") else "".join(letter for letter in AXES if letter in letters)


def _checked(source: Path, axes: str) -> str:
    if len(set(axes)) != len(axes) or not set("YX") <= set(axes) <= set(AXES):
        raise UserError(
            f"The axes {axes} of {source.name} cannot be used: each of {AXES} may come once, Y and X among them."
        )
    return axes


def _unnamed(source: Path, shape: tuple[int, ...]) -> UserError:
    return UserError(
        f"{source.name} has {len(shape)} dimensions ({' x '.join(map(str, shape))}) whose names are none of {AXES}: "
        "give its axes, for example TZYX."
    )


def _miscounted(source: Path, axes: str, shape: tuple[int, ...]) -> UserError:
    return UserError(
        f"The axes {axes} name {len(axes)} dimensions but {source.name} has {len(shape)} "
        f"({' x '.join(map(str, shape))}): give one letter of {AXES} for each."
    )
