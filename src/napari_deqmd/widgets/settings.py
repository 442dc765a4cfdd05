"""What the controls were set to, remembered between starts.

The manifest's ``configurations`` say which controls are remembered, by their object names. Where napari keeps settings
for plugins (0.9 and later) they are kept there, and shown in its Preferences; elsewhere in a file of our own.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

import yaml
from napari import settings as napari_settings
from qtpy.QtCore import QSettings
from qtpy.QtWidgets import QWidget

from napari_deqmd.widgets.controls import changes, put, take

_LOGGER = logging.getLogger("napari_deqmd")
_PLUGIN = "napari-deqmd"
# Dynamic properties of a control: the user's own value while the image's is shown, and that it is being put there.
_OWN, _FILLING = "deqmd_own", "deqmd_filling"


class Store(Protocol):
    """Where values are kept."""

    def read(self, name: str) -> Any:
        """Return a value, or ``None``."""

    def write(self, name: str, value: Any) -> None:
        """Keep a value."""


class Memory:
    """Gives the controls of a form what they were last set to, and notes what they are set to.

    Parameters
    ----------
    page : str
        A key of the manifest's ``configurations``.
    form : QWidget
        Holds the controls; those it lacks are left out.
    """

    def __init__(self, page: str, form: QWidget) -> None:
        self._store = open_store(page)
        found = {name: form.findChild(QWidget, name) for name in remembered(page)}
        self.controls = {name: control for name, control in found.items() if control is not None}
        for name, control in self.controls.items():
            value = self._store.read(name)
            if value is not None:
                _give(control, value)
            changes(control).connect(lambda _value, name=name: self._note(name))

    def follow(self, event: Any) -> None:
        """Take over what was changed in napari's Preferences."""
        # Another window's form writes there too, and keeps its own values.
        control = None if _Preferences.writing else self.controls.get(event.type)
        if control is not None and take(control) != event.value and control.property(_OWN) is None:
            _give(control, event.value)

    def listening(self) -> list[tuple[Any, Any]]:
        """Return the event of the Preferences, if napari has them, and what it calls."""
        events = getattr(self._store, "events", None)
        return [] if events is None else [(events, self.follow)]

    def _note(self, name: str) -> None:
        control = self.controls[name]
        if control.property(_FILLING):
            return
        control.setProperty(_OWN, None)
        try:
            self._store.write(name, take(control))
        except (
            OSError,
            ValueError,
        ) as error:  # a full disk, a value the manifest does not know: no matter for a form
            _LOGGER.warning("Cannot remember %s: %s", name, error)


def fill(control: QWidget, value: Any) -> None:
    """Set a control to what the image says, which is not remembered; ``None`` gives back the user's own value."""
    own = control.property(_OWN)
    if value is None:
        if own is not None:
            put(control, own)
            control.setProperty(_OWN, None)
        return
    if own is None:
        control.setProperty(_OWN, take(control))
    control.setProperty(_FILLING, True)
    _give(control, value)
    control.setProperty(_FILLING, False)


def _give(control: QWidget, value: Any) -> None:
    try:
        put(control, value)
    except (TypeError, ValueError):
        _LOGGER.warning("What was remembered of %s makes no sense: %r", control.objectName(), value)


@cache
def remembered(page: str) -> tuple[str, ...]:
    """Return the object names of the controls of a page."""
    manifest = yaml.safe_load((files("napari_deqmd") / "napari.yaml").read_text("utf-8"))
    return tuple(manifest["contributions"]["configurations"][page]["properties"])


def open_store(page: str) -> Store:
    """Return napari's settings of a page, or a file of our own."""
    if hasattr(napari_settings, "get_plugin_settings"):
        try:
            return _Preferences(getattr(napari_settings.get_plugin_settings(_PLUGIN), page))
        except (KeyError, AttributeError):
            _LOGGER.debug("napari does not know this plugin's settings.")
    return _File(page)


class _Preferences:
    """A page of the settings that napari keeps for plugins."""

    #: Whether it is a form that changes them.
    writing = False

    def __init__(self, page: Any) -> None:
        self._page = page
        self.events = page.events

    def read(self, name: str) -> Any:
        return getattr(self._page, name, None)

    def write(self, name: str, value: Any) -> None:
        _Preferences.writing = True
        try:
            setattr(self._page, name, value)
        finally:
            _Preferences.writing = False


class _File:
    """An INI file in the user's configuration folder; Qt writes it as a whole, under a lock."""

    def __init__(self, page: str) -> None:
        self._settings = QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, _PLUGIN, _PLUGIN)
        self._settings.beginGroup(page)
        if self._settings.status() == QSettings.Status.FormatError:
            _LOGGER.warning("The settings in %s cannot be read and are replaced.", self._settings.fileName())
            self._settings.clear()

    def read(self, name: str) -> Any:
        return self._settings.value(name)

    def write(self, name: str, value: Any) -> None:
        self._settings.setValue(name, value)
