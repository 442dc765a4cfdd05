"""What our dock widgets share: a form that scrolls above a run that stays in sight, and an end with the dock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from napari.utils.theme import get_theme
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import QScrollArea, QSplitter, QVBoxLayout, QWidget

from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets.activity import Activity
from napari_deqmd.widgets.handover import open_reconstruct
from napari_deqmd.widgets.messages import note, tell
from napari_deqmd.widgets.region import camera_of
from napari_deqmd.widgets.runner import Runner
from napari_deqmd.widgets.settings import Memory

# napari's right dock would shrink to 100 pixels.
MINIMUM_WIDTH = 340
PREFERRED_WIDTH = 420


class DockWidget(QWidget):
    """A form, a run, and a viewer to follow.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    parent : QWidget, optional
    """

    runner: Runner
    #: Shows the run: has ``status`` and ``progress``.
    run_section: Any
    #: Which of the manifest's configurations remembers the controls.
    page: str

    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer

    def set_up(self, *sections: QWidget) -> None:
        """Lay out the sections of the form above the run, and begin to follow the viewer."""
        scroll = _Form()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(_framed(*sections))
        # The run stays in sight whatever part of the form is.
        split = QSplitter(Qt.Orientation.Vertical)
        split.setChildrenCollapsible(False)
        split.addWidget(scroll)
        split.addWidget(_framed(self.run_section))
        split.setStretchFactor(0, 3)
        split.setStretchFactor(1, 1)
        outside = QVBoxLayout(self)
        outside.setContentsMargins(0, 0, 0, 0)
        outside.addWidget(split)
        self._memory = Memory(self.page, self)
        self._activity = Activity(f"DEQ-MD {self.page}", self.run_section.progress, self)
        self.runner.launched.connect(self._activity.begin)
        self.runner.ended.connect(self._activity.end)
        for event, callback in self._listening():
            event.connect(callback)
        self._follow_theme()

    def refresh_layers(self) -> None:
        """Read the viewer's layers again."""
        raise NotImplementedError

    def layer_removed(self, layer: Any) -> None:
        """Notice that a layer left the viewer."""

    def view_changed(self) -> None:
        """Notice that the viewer shows something else."""

    def complain(self, error: Exception) -> None:
        """Say what keeps the run from starting."""
        text = note(error)
        self.run_section.status.complain(text)
        tell(text, expected=isinstance(error, UserError))

    def hand_over(self, values: Mapping[str, Any]) -> None:
        """Send settings by the names of Reconstruct's controls there; it is opened if it is not."""
        try:
            open_reconstruct(self._viewer, values)
        except Exception as error:  # napari's doing
            self.complain(error)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Ask for a dock that leaves most of the window to the image."""
        return QSize(PREFERRED_WIDTH, super().sizeHint().height())

    def changeEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        """Notice that napari took the widget out of its dock: that is how a dock closes."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._let_go()

    def closeEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        """End the run with the window."""
        self._let_go()
        super().closeEvent(event)

    def _let_go(self) -> None:
        self.runner.abandon()
        for event, callback in self._listening():
            event.disconnect(callback)

    def _listening(self) -> list[tuple[Any, Callable[..., None]]]:
        layers = self._viewer.layers
        changes = [getattr(layers.events, name) for name in ("inserted", "removed", "reordered", "renamed")]
        dims, camera = self._viewer.dims.events, camera_of(self._viewer).events
        views = (dims.current_step, dims.order, dims.ndisplay, camera.center, camera.zoom)
        return [
            *((event, self._view_changed) for event in views),
            *((event, self._layers_changed) for event in (*changes, layers.selection.events.active)),
            (layers.events.removed, self._layer_removed),
            (self._viewer.events.theme, self._follow_theme),
            *self._memory.listening(),
        ]

    def _layers_changed(self, event: Any = None) -> None:
        if isalive(self):
            self.refresh_layers()

    def _view_changed(self, event: Any = None) -> None:
        if isalive(self):
            self.view_changed()

    def _layer_removed(self, event: Any) -> None:
        if isalive(self):
            self.layer_removed(event.value)

    def _follow_theme(self, event: Any = None) -> None:
        if isalive(self):
            paint(self, self._viewer.theme)


def paint(widget: QWidget, name: str) -> None:
    """Give the plots in a widget the colours of a theme."""
    theme = get_theme(name)
    for child in widget.findChildren(QWidget):
        if hasattr(child, "set_colors"):
            child.set_colors(theme.background.as_hex(), theme.text.as_hex())


class _Form(QScrollArea):
    """Scrolls up and down only: nothing is cut off at the side."""

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Ask for the width of the controls and the scroll bar."""
        hint, form, bar = super().minimumSizeHint(), self.widget(), self.verticalScrollBar()
        if form is None or bar is None:
            return hint
        width = form.minimumSizeHint().width() + bar.sizeHint().width()
        return QSize(max(MINIMUM_WIDTH, width), hint.height())


def _framed(*sections: QWidget) -> QWidget:
    frame = QWidget()
    column = QVBoxLayout(frame)
    column.setContentsMargins(4, 4, 4, 4)
    column.setSpacing(8)
    for section in sections:
        column.addWidget(section)
    if len(sections) > 1:
        column.addStretch()
    return frame
