"""What OME-XML says of the optics and of its channels."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any

from napari_deqmd.io.metadata import IMMERSION, nanometres

SCHEMAS = "http://www.openmicroscopy.org/Schemas/"
NAMESPACE = f"{SCHEMAS}OME/2016-06"


def tag(name: str) -> str:
    """Return an element's name with its namespace."""
    return f"{{{NAMESPACE}}}{name}"


def objective_of(root: ElementTree.Element, image: ElementTree.Element) -> dict[str, float]:
    """Return NA and refractive index, by the names that a theoretical PSF has for them."""
    settings = image.find(tag("ObjectiveSettings"))
    objectives = list(root.iter(tag("Objective")))
    if settings is not None:
        objectives = [one for one in objectives if one.get("ID") == settings.get("ID")]
    objective = objectives[0] if len(objectives) == 1 else None
    found: dict[str, float] = {}
    immersion = "" if objective is None else objective.get("Immersion", "")
    for name, text in (
        ("na", None if objective is None else objective.get("LensNA")),
        ("ni", None if settings is None else settings.get("RefractiveIndex")),
        ("ni", IMMERSION.get(immersion)),
    ):
        with contextlib.suppress(TypeError, ValueError):
            if name not in found and 0 < float(text) < 3:  # type: ignore[arg-type]
                found[name] = float(text)  # type: ignore[arg-type]
    return found


def detector_of(root: ElementTree.Element, image: ElementTree.Element) -> dict[str, str]:
    """Return what is said of the detectors' gain and offset, of several all that is."""
    elements = [*image.iter(tag("DetectorSettings")), *root.iter(tag("Detector"))]
    told = {key: dict.fromkeys(one.get(key, "") for one in elements) for key in ("Gain", "Offset")}
    return {key: text for key, texts in told.items() if (text := ", ".join(filter(None, texts)))}


def color_of(channel: ElementTree.Element) -> str:
    """Return ``RRGGBB``, which OME keeps as a signed number with the opacity last; empty where there is none."""
    try:
        return f"{int(channel.get('Color', '')) % 2**32 >> 8:06X}"
    except ValueError:
        return ""


def add_colors(channels: Sequence[ElementTree.Element], colors: Sequence[str]) -> None:
    """Say the colours of channels, unless the source's OME-XML has said some."""
    if len(colors) != len(channels) or any(color_of(channel) for channel in channels):
        return
    for channel, color in zip(channels, colors, strict=True):
        if color:
            number = int(f"{color}FF", 16)
            channel.set("Color", str(number - 2**32 if number >= 2**31 else number))


def wavelengths_of(channel: ElementTree.Element) -> dict[str, float]:
    """Return emission and excitation in nanometres, by the names that a theoretical PSF has for them."""
    source = channel.find(tag("LightSourceSettings"))
    found = {}
    for name, element, key in (
        ("wavelength", channel, "EmissionWavelength"),
        ("excitation", source, "Wavelength"),
        ("excitation", channel, "ExcitationWavelength"),
    ):
        if element is not None and (length := nanometres(element.get(key), element.get(f"{key}Unit", "nm"))):
            found[name] = length
    return found


def add_optics(
    root: ElementTree.Element,
    image: ElementTree.Element,
    channels: Sequence[ElementTree.Element],
    metadata: dict[str, Any],
) -> None:
    """Say in OME's own words what another format knew of the optics."""
    shared = metadata.get("optics", {})
    own = metadata.get("channel_optics") or [shared] * len(channels)
    if len(own) == len(channels):
        for channel, optics in zip(channels, own, strict=True):
            known = wavelengths_of(channel)
            for name, key in (("wavelength", "EmissionWavelength"), ("excitation", "ExcitationWavelength")):
                if name in optics and name not in known:
                    channel.attrib |= {key: str(optics[name]), f"{key}Unit": "nm"}
    known = objective_of(root, image)
    if not {"na", "ni"} & (shared.keys() - known.keys()) or root.find(tag("Instrument")) is not None:
        return
    instrument = ElementTree.SubElement(root, tag("Instrument"), ID="Instrument:0")
    objective = ElementTree.SubElement(instrument, tag("Objective"), ID="Objective:0")
    ElementTree.SubElement(image, tag("InstrumentRef"), ID="Instrument:0")
    settings = ElementTree.SubElement(image, tag("ObjectiveSettings"), ID="Objective:0")
    for element, key, name in ((objective, "LensNA", "na"), (settings, "RefractiveIndex", "ni")):
        if name in shared:
            element.set(key, str(shared[name]))
