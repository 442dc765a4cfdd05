"""To Reconstruct, from another of our widgets or from a layer's menu."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_deqmd.widgets.controls import write_controls


def open_reconstruct(viewer: Any, values: Mapping[str, Any]) -> None:
    """Open Reconstruct, or raise it where it is open, and set its controls.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    values : mapping
        By the object names of the controls; what a control cannot have is left out.
    """
    # Beside ours in a tab: two forms on top of each other would both be too low.
    dock, widget = viewer.window.add_plugin_dock_widget("napari-deqmd", "Reconstruct", tabify=True)
    write_controls(widget, values)
    dock.show()
    dock.raise_()
