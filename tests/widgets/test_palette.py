"""The colours of curves."""

from __future__ import annotations

import pytest
from napari.utils.theme import get_theme
from qtpy.QtGui import QColor

from napari_deqmd.widgets import palette


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    linear = [
        x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in QColor(color).getRgbF()[:3]
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_they_are_seen_on_the_themes_ground(theme: str) -> None:
    ground = luminance(get_theme(theme).background.as_hex())
    colors = {name: color for name, color in vars(palette).items() if name.isupper()}
    assert len(set(colors.values())) == 10
    for name, color in colors.items():
        darker, lighter = sorted((luminance(color), ground))
        assert (lighter + 0.05) / (darker + 0.05) >= 3, name
