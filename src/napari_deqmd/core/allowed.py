"""What a setting may be: said once, in its type, by which values are checked and what is allowed is told."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, is_dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from napari_deqmd.core.errors import UserError


@dataclass(frozen=True)
class Limit:
    """Which values of a type are allowed.

    Attributes
    ----------
    words : str
        How it is told, ``{}`` being the type's own words.
    holds : callable
        Whether a value of the type is.
    """

    words: str
    holds: Callable[[Any], bool]


def one_of(names: Collection[str]) -> Limit:
    """Return the limit to some words."""
    return Limit(" or ".join(names), names.__contains__)


ASCENDING = Limit("{}, the lower first", lambda values: list(values) == sorted(values))
Count = Annotated[int, Limit("{} of at least 1", lambda n: n >= 1)]
Natural = Annotated[int, Limit("{} of at least 0", lambda n: n >= 0)]
Positive = Annotated[float, Limit("{} above 0", lambda x: x > 0)]
NotNegative = Annotated[float, Limit("{} of at least 0", lambda x: x >= 0)]
Share = Annotated[float, Limit("{} from 0 to 1", lambda x: 0 <= x <= 1)]
Span = Annotated[tuple[Positive, Positive], ASCENDING]

_WORDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}
_NUMBERS: dict[Any, Any] = {int: Integral, float: Real}


def check(settings: Any) -> None:
    """Refuse the first field of a dataclass that is not as its annotation says.

    Raises
    ------
    UserError
        With its name and what is allowed.
    """
    hints = get_type_hints(type(settings), include_extras=True)
    for item in fields(settings):
        expect(item.name, getattr(settings, item.name), hints[item.name])


def expect(name: str, value: Any, hint: Any) -> None:
    """Refuse a value that is not as a type says.

    Raises
    ------
    UserError
        With its name and what is allowed.
    """
    if not fits(value, hint):
        raise UserError(f"{name} is {json.dumps(value, default=str)}: give {words(hint)}.")


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value is what a type says: numbers are finite, and of NumPy too; no number is true or false."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fits(value, parts[0]) and all(limit.holds(value) for limit in parts[1:])
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is tuple:
        kinds = parts[:1] * len(value) if isinstance(value, tuple) and parts[-1] is ... else parts
        return (
            isinstance(value, tuple)
            and len(value) == len(kinds)
            and all(fits(one, kind) for one, kind in zip(value, kinds, strict=True))
        )
    if origin is Mapping:
        return isinstance(value, Mapping) and all(fits(one, parts[1]) for one in value.values())
    if hint in _NUMBERS:
        return isinstance(value, _NUMBERS[hint]) and not isinstance(value, bool) and math.isfinite(value)
    return hint is Any or isinstance(value, hint)


def words(hint: Any) -> str:
    """Return what a type allows, as a sentence says it."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        said = words(parts[0])
        for limit in parts[1:]:
            said = limit.words.format(said)
        return said
    if origin in (Union, UnionType):
        return " or ".join(words(part) for part in parts if part is not NoneType)
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin is tuple:
        count = "" if parts[-1] is ... else f" of {len(parts)}"
        return f"a list{count}, each {words(parts[0])}"
    if origin is Mapping:
        return "a table" if parts[1] is Any else f"a table, each {words(parts[1])}"
    return "a table" if is_dataclass(hint) else _WORDS[hint]
