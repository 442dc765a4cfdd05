"""What the list of models says of a card: one that is odd keeps no dock from opening."""

from __future__ import annotations

from typing import Any

import pytest

from napari_deqmd.training.models import find_model
from napari_deqmd.widgets.models import about

RESULTS = {"score": "PSNR, dB", "base": 30.0, "fine-tuned": 31}


def test_a_card_is_told() -> None:
    text = about({"name": "a<b", "description": "fine", "limits": "2D", "results": RESULTS})
    assert text == (
        "<p><b>a&lt;b</b></p><p>fine</p><p>PSNR, dB of held-out patches: 30 before, 31 after.</p><p>2D</p>"
    )


def test_what_was_measured_is_told() -> None:
    results = {"what": "gain, dB", "images": 1.27, "a<b": -0.5, "of whom": "us"}
    assert about({"results": results}) == "<p>gain, dB: images 1.27, a&lt;b -0.5.</p>"


@pytest.mark.parametrize("name", ["fluorescence-2d", "bregman-2d"])
def test_bundled_models_say_what_they_reached(name: str) -> None:
    card = find_model(name).card
    numbers = [value for value in card["results"].values() if isinstance(value, float)]
    assert len(numbers) >= 3
    assert all(f"{value:.4g}" in about(card) for value in numbers)


@pytest.mark.parametrize(
    "results",
    [
        None,
        [],
        "good",
        {},
        *(RESULTS | {"base": odd} for odd in (None, "30", [30])),
        RESULTS | {"score": None},
        {"what": "gain", "images": "much"},
    ],
)
def test_odd_results_are_no_text(results: Any) -> None:
    assert about({"name": "a", "results": results}) == "<p><b>a</b></p>"


def test_odd_texts_are_no_text() -> None:
    assert about({"name": 3, "description": None, "limits": ["2D"], "results": RESULTS | {"base": {}}}) == ""
