"""How typed numbers are read, and what is said of others."""

from __future__ import annotations

import pytest

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.typed import lengths, number_or_auto, number_or_range, numbers


@pytest.mark.parametrize(
    ("text", "value"), [("auto", "auto"), (" AUTO ", "auto"), ("", "auto"), ("60", 60.0), ("1e2", 100.0)]
)
def test_number_or_auto(text: str, value: float | str) -> None:
    assert number_or_auto(text, "Peak") == value


@pytest.mark.parametrize("text", ["abc", "1,5", "au"])
def test_number_or_auto_says_what_is_wrong(text: str) -> None:
    with pytest.raises(UserError, match=r"Peak is .* type a number, or 'auto'"):
        number_or_auto(text, "Peak")


@pytest.mark.parametrize(
    ("text", "values"), [("1.8", (1.8,)), ("3, 1.4, 1.4", (3, 1.4, 1.4)), ("3 1.4;1.4", (3, 1.4, 1.4))]
)
def test_numbers(text: str, values: tuple[float, ...]) -> None:
    assert numbers(text, "σ") == values


@pytest.mark.parametrize("text", ["", "wide", "1.8 px"])
def test_numbers_says_what_is_wrong(text: str) -> None:
    with pytest.raises(UserError, match="σ is"):
        numbers(text, "σ")


@pytest.mark.parametrize(
    ("text", "value"),
    [("auto", "auto"), ("", "auto"), ("60", 60.0), ("20:200", (20.0, 200.0)), (" 5 : 1e2", (5.0, 100.0))],
)
def test_number_or_range(text: str, value: object) -> None:
    assert number_or_range(text, "Peak") == value


@pytest.mark.parametrize("text", ["abc", "1:2:3", "1:", ":2"])
def test_number_or_range_says_what_is_wrong(text: str) -> None:
    with pytest.raises(UserError, match=r"Peak is .* type a number, a range like 20:200, or 'auto'"):
        number_or_range(text, "Peak")


def test_lengths_are_micrometres_whatever_their_unit() -> None:
    assert lengths("300nm, 0.1 100nm;2e-4mm", "Size") == pytest.approx((0.3, 0.1, 0.1, 0.2))
    assert lengths("1e-1µm", "Size") == pytest.approx((0.1,))


@pytest.mark.parametrize("text", ["", "wide", "3 in", "nan", "nm", "1..2"])
def test_lengths_say_what_is_wrong(text: str) -> None:
    with pytest.raises(UserError, match="Size is"):
        lengths(text, "Size")
