"""A picture of images side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_WIDTH = 512
_GAP = 12
_CAPTION = 44


def side_by_side(panels: Sequence[tuple[str, NDArray[Any]]], *, white: float) -> Image.Image:
    """Draw 2D images of one shape side by side with captions.

    Parameters
    ----------
    panels : sequence of (str, ndarray)
        Caption and image ``(Y, X)`` of each.
    white : float
        Value shown white in all of them; 0 is black.

    Returns
    -------
    PIL.Image.Image
        Gray picture; small images are magnified by whole factors, so that pixels stay visible.
    """
    height, width = panels[0][1].shape
    factor = max(1, _WIDTH // width)
    canvas = Image.new(
        "L", (len(panels) * (factor * width + _GAP) + _GAP, factor * height + _CAPTION + _GAP), color=24
    )
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=24)
    for index, (caption, image) in enumerate(panels):
        left = _GAP + index * (factor * width + _GAP)
        gray = np.clip(np.asarray(image, dtype=np.float64) / max(white, 1e-30), 0, 1)
        tile = Image.fromarray(np.round(255 * gray).astype(np.uint8))
        canvas.paste(
            tile.resize((factor * width, factor * height), Image.Resampling.NEAREST), (left, _CAPTION)
        )
        draw.text((left, _CAPTION // 2), caption, fill=255, font=font, anchor="lm")
    return canvas
