"""Numbers as a user types them, in a form or on the command line."""

from __future__ import annotations

import math
import re
from typing import Literal

from napari_deqmd.core.config import TILES
from napari_deqmd.core.errors import UserError

_MICROMETRES = {"": 1.0, "nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "mm": 1e3}

AUTO: Literal["auto"] = "auto"


def number(text: str, name: str) -> float:
    """Read one finite number."""
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{name} is {text!r}: type a number.") from None
    if not math.isfinite(value):
        raise UserError(f"{name} is {text!r}: type a finite number.")
    return value


def number_or_auto(text: str, name: str) -> float | Literal["auto"]:
    """Read a number, or the word "auto" (also an empty field); whether it makes sense is for its user to say."""
    text = text.strip()
    if text.lower() in ("", AUTO):
        return AUTO
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{name} is {text!r}: type a number, or 'auto'.") from None


def number_or_path(text: str, name: str) -> float | str:
    """Read a number; what is none names a file. Whether it makes sense is for its user to say."""
    if not text.strip():
        raise UserError(f"{name} is empty: give a number, or a file with one for every pixel.")
    try:
        return float(text)
    except ValueError:
        return text


def numbers(text: str, name: str) -> tuple[float, ...]:
    """Read numbers separated by commas or spaces."""
    parts = [part for part in re.split(r"[,;\s]+", text.strip()) if part]
    if not parts:
        raise UserError(f"{name} is empty: type a number, for example 1.8.")
    return tuple(number(part, name) for part in parts)


def tile(text: str, name: str) -> tuple[int, ...] | str:
    """Read whole numbers separated by commas or spaces, or the word "auto" (also an empty field) or "none".

    Whether they make sense is for their user to say.
    """
    text = text.strip().lower() or AUTO
    if text in TILES:
        return text
    parts = [part for part in re.split(r"[,;\s]+", text) if part]
    try:
        return tuple(int(part) for part in parts)
    except ValueError:
        raise UserError(f"{name} is {text!r}: type pixels such as 16,256,256, 'auto' or 'none'.") from None


def lengths(text: str, name: str) -> tuple[float, ...]:
    """Read lengths separated by commas or spaces, in micrometres unless they have a unit, and return micrometres.

    Whether they make sense is for their user to say.
    """
    parts = [part for part in re.split(r"[,;\s]+", text.strip()) if part]
    if not parts:
        raise UserError(f"{name} is empty: type micrometres, for example 0.3,0.1,0.1.")
    return tuple(_length(part, name) for part in parts)


def _length(text: str, name: str) -> float:
    found = re.fullmatch(r"(.*?[0-9.])([a-zA-Zµμ]*)", text)
    if found is None or found[2] not in _MICROMETRES:
        raise UserError(f"{name} is {text!r}: type micrometres, or a number with nm, um or mm.")
    return number(found[1], name) * _MICROMETRES[found[2]]


def number_or_range(text: str, name: str) -> float | tuple[float, float] | Literal["auto"]:
    """Read a number, a range "low:high", or the word "auto" (also an empty field)."""
    try:
        if ":" not in text:
            return number_or_auto(text, name)
        low, high = (float(part) for part in text.split(":"))
    except (UserError, ValueError):
        raise UserError(f"{name} is {text!r}: type a number, a range like 20:200, or 'auto'.") from None
    return low, high
