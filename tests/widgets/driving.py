"""How tests reach into a widget: controls by name, images by shape, and the jobs that it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from widgets.jobs import FakeJob


def finder(widget: Any) -> Callable[[str], Any]:
    """Return what finds a control by its name."""
    from qtpy.QtWidgets import QWidget

    def find(name: str) -> Any:
        found = widget.findChild(QWidget, name)
        assert found is not None, name
        return found

    return find


def adder(viewer: Any, usual: tuple[int, ...] = (32, 32)) -> Callable[..., Any]:
    """Return what adds an image layer of counts."""

    def add(shape: tuple[int, ...] = usual, **options: Any) -> Any:
        data = np.random.default_rng(0).poisson(20, shape).astype(np.uint16)
        return viewer.add_image(data, **{"name": "cells", **options})

    return add


def track(widget: Any, kind: Callable[..., Any] = FakeJob) -> list[Any]:
    """Have a widget make jobs of a kind; return the list that they are kept in."""
    jobs: list[Any] = []

    def factory(*arguments: Any) -> Any:
        jobs.append(kind(*arguments))
        return jobs[-1]

    widget.job_factory = factory
    return jobs


def painted_as(view: Any, theme: str) -> bool:
    """Whether a view has the colours of a theme."""
    from napari.utils.theme import get_theme
    from qtpy.QtGui import QColor

    expected = get_theme(theme)
    axis = view._plot.getAxis("bottom")
    found = view.backgroundBrush().color(), axis.textPen().color()
    return found == (QColor(expected.background.as_hex()), QColor(expected.text.as_hex()))
