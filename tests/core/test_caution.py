"""Warnings of ours: heard every time, as those of the caller's module, and from any depth of calls."""

from __future__ import annotations

import warnings

import pytest

from napari_deqmd.core.caution import caution, listening, quietly


def test_every_time_and_not_when_quiet() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("default")
        for _ in range(2):
            caution("hear me")
        with quietly():
            caution("hear me")
    assert [str(one.message) for one in heard] == ["hear me"] * 2
    assert heard[0].filename == __file__


def test_a_thread_that_listens_hears_alone() -> None:
    heard: list[str] = []
    with listening(heard.append):
        caution("hear me")
        with quietly():
            caution("never said")
    assert heard == ["hear me"]
    with pytest.warns(UserWarning, match="hear me"):
        caution("hear me")


def test_a_filter_by_module_holds() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=f"{__name__}$")
        caution("hear me")


def test_a_level_above_the_first_caller_is_his() -> None:
    with pytest.warns(UserWarning, match="hear me"):
        caution("hear me", stacklevel=10_000)
