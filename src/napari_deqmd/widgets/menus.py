"""An entry in the menu of a layer.

napari (0.9.2) lets manifests contribute to the menu Layers, not to this one, but its application is app-model's, which
anyone may ask for. So the entry is there as soon as the plugin is used for the first time, by whatever other way.
"""

from __future__ import annotations

from typing import Any

_ID = "napari-deqmd.reconstruct_layer"
_MENU = "napari/layers/context"
_ON_IMAGES = "active_layer_type == 'image'"


def activate(context: Any = None) -> None:
    """Add the entry; npe2 calls this before it runs the first of our commands."""
    try:
        from app_model import Application
    except ImportError:  # npe2 without napari
        return
    app = Application.get_app("napari")
    if app is not None and _ID not in app.commands:
        register(app)


def register(app: Any) -> None:
    """Add the entry to an application."""
    from app_model.expressions import parse_expression
    from app_model.types import Action, MenuRule

    app.register_action(
        Action(
            id=_ID,
            title="Deconvolve (DEQ-MD)…",
            callback=reconstruct_layer,
            menus=[MenuRule(id=_MENU, group="1_conversion", when=parse_expression(_ON_IMAGES))],
        )
    )


def reconstruct_layer() -> None:
    """Open Reconstruct on the active layer."""
    import napari

    from napari_deqmd.widgets.handover import open_reconstruct

    viewer = napari.current_viewer()
    if viewer is None:
        return
    open_reconstruct(viewer, {"image_layer": viewer.layers.selection.active})
