"""A picture of images side by side, and of such rows below each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_WIDTH = 512
_GAP = 12
_CAPTION = 44
_GROUND = 24


def side_by_side(
    panels: Sequence[tuple[str, NDArray[Any]]], *, white: float, width: int = _WIDTH, text: int = 24
) -> Image.Image:
    """Draw 2D images of one shape side by side with captions.

    Parameters
    ----------
    panels : sequence of (str, ndarray)
        Caption and image ``(Y, X)`` or ``(Y, X, 3)`` of each.
    white : float
        Value shown white in all of them; 0 is black.
    width : int
        Pixels of a panel, at most.
    text : int
        Height of the captions, pixels.

    Returns
    -------
    PIL.Image.Image
        Gray picture, or one in colour where an image ``(Y, X, 3)`` is; small images are magnified by whole factors,
        so that pixels stay visible.
    """
    rows, columns = panels[0][1].shape[:2]
    mode = "RGB" if any(image.ndim == 3 for _, image in panels) else "L"
    factor = max(1, width // columns)
    canvas = Image.new(
        mode,
        (len(panels) * (factor * columns + _GAP) + _GAP, factor * rows + _CAPTION + _GAP),
        color=_ground(mode),
    )
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=text)
    for index, (caption, image) in enumerate(panels):
        left = _GAP + index * (factor * columns + _GAP)
        gray = np.clip(np.asarray(image, dtype=np.float64) / max(white, 1e-30), 0, 1)
        tile = Image.fromarray(np.round(255 * gray).astype(np.uint8))
        canvas.paste(
            tile.resize((factor * columns, factor * rows), Image.Resampling.NEAREST), (left, _CAPTION)
        )
        draw.text((left, _CAPTION // 2), caption, fill="white", font=font, anchor="lm")
    return canvas


def below(pictures: Sequence[Image.Image]) -> Image.Image:
    """Put pictures below each other."""
    mode = pictures[0].mode
    canvas = Image.new(
        mode, (max(one.width for one in pictures), sum(one.height for one in pictures)), color=_ground(mode)
    )
    top = 0
    for one in pictures:
        canvas.paste(one, (0, top))
        top += one.height
    return canvas


def _ground(mode: str) -> int | tuple[int, int, int]:
    return _GROUND if mode == "L" else (_GROUND,) * 3
