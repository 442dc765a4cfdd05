"""What ImageJ and OME know of an image, in one neutral form and back.

The neutral form is a dictionary that may hold ``"lateral"`` (micrometres of X where Z is not known),
``"time_interval"`` (seconds), ``"imagej"`` and ``"ome"`` (whatever else those formats keep).
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from typing import Any

import tifffile

_MICROMETRES = {
    "m": 1e6, "cm": 1e4, "mm": 1e3, "um": 1.0, "nm": 1e-3, "pm": 1e-6,
    "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nanometer": 1e-3, "nanometre": 1e-3, "millimeter": 1e3, "millimetre": 1e3, "centimeter": 1e4,
    "angstrom": 1e-4, "Å": 1e-4, "inch": 25400.0, "inches": 25400.0, "in": 25400.0,
}  # fmt: skip
_SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "min": 60.0, "h": 3600.0}

# Larger pixels than this, in micrometres, are dots per inch for a printer, or a unit without a thought.
_PRINT = 25.0

# Derived from the array, converted to micrometres, or in counts and no longer true of photo-electrons.
_NOT_KEPT = frozenset(
    "ImageJ SCIFIO images channels slices frames hyperstack unit yunit zunit spacing finterval fps min max "
    "Ranges deqmd_axes deqmd_channels".split()
)
_CHANNEL_KEPT = (
    "Name", "AcquisitionMode", "Color", "ContrastMethod", "EmissionWavelength", "EmissionWavelengthUnit",
    "ExcitationWavelength", "ExcitationWavelengthUnit", "Fluor", "IlluminationType", "NDFilter", "PinholeSize",
    "PinholeSizeUnit", "PockelCellSetting",
)  # fmt: skip

Sizes = dict[str, float]


def micrometres(value: Any, unit: str | None) -> float | None:
    """Convert a length to micrometres; ``None`` where it is none (no unit, pixels, zero)."""
    name = (
        (unit or "")
        .strip()
        .replace("\\u00B5", "u")
        .replace("\\u00b5", "u")
        .replace("µ", "u")
        .replace("μ", "u")
    )
    factor = _MICROMETRES.get(name, _MICROMETRES.get(name.lower()))
    try:
        length = float(value) * (factor or math.nan)
    except (TypeError, ValueError):
        return None
    return length if math.isfinite(length) and length > 0 else None


def read_resolution(page: Any, unit: str | None) -> Sizes:
    """Return micrometres of X and Y from a page's resolution tags, in `unit` or else the tags' own."""
    own = {2: "inch", 3: "cm"}.get(int(page.tags.valueof(296, 2))) if unit is None else unit
    inches = own in ("inch", "inches", "in")
    sizes = {}
    for axis, code in (("X", 282), ("Y", 283)):
        number, per = page.tags.valueof(code, (0, 1))
        size = micrometres(per / number, own) if number else None
        if size and not (size > _PRINT and (unit is None or inches)):
            sizes[axis] = size
    return sizes


def read_imagej(tif: tifffile.TiffFile) -> tuple[Sizes, dict[str, Any], tuple[str, ...], str | None]:
    """Return voxel sizes, neutral metadata, channel names and, where this package wrote it, the axes' order."""
    found: dict[str, Any] = dict(tif.imagej_metadata or {})
    unit = str(found.get("unit", ""))
    sizes = read_resolution(tif.pages.first, unit)
    if spacing := micrometres(found.get("spacing"), str(found.get("zunit", unit))):
        sizes["Z"] = spacing
    kept: dict[str, Any] = {"imagej": {key: value for key, value in found.items() if key not in _NOT_KEPT}}
    if isinstance(found.get("finterval"), int | float) and found["finterval"] > 0:
        kept["time_interval"] = float(found["finterval"])
    try:
        names = tuple(str(name) for name in json.loads(found.get("deqmd_channels", "[]")))
    except (TypeError, ValueError):
        names = ()
    order = found.get("deqmd_axes")
    return sizes, kept, names, order if isinstance(order, str) else None


def write_imagej(
    sizes: Sizes, metadata: dict[str, Any], channel_names: tuple[str, ...], axes: str, images: int
) -> dict[str, Any]:
    """Return keyword arguments of ``tifffile.imwrite`` for an ImageJ hyperstack of `images` planes."""
    kept = {
        key: value
        for key, value in metadata.get("imagej", {}).items()
        # The description is ASCII; the others lie in a tag of their own.
        if key in ("Info", "Labels", "LUTs", "ROI", "Overlays", "Plot", "Properties") or str(value).isascii()
    }
    labels = kept.get("Labels")
    if labels is not None and (isinstance(labels, str) or len(labels) != images):
        del kept["Labels"]
    lateral = sizes if "X" in sizes else {"X": metadata.get("lateral"), "Y": metadata.get("lateral")}
    options: dict[str, Any] = {"imagej": True, "metadata": kept}
    if lateral["X"] and lateral["Y"]:
        kept["unit"] = "micron"
        options |= {"resolution": (1 / lateral["X"], 1 / lateral["Y"]), "resolutionunit": 1}
    if "Z" in sizes:
        kept["spacing"] = sizes["Z"]
    if "time_interval" in metadata:
        kept["finterval"] = metadata["time_interval"]
    if channel_names:
        kept["deqmd_channels"] = json.dumps(channel_names)
    kept["deqmd_axes"] = axes
    return options


def read_ome(text: str) -> tuple[Sizes, dict[str, Any], tuple[str, ...]]:
    """Return voxel sizes, neutral metadata and channel names from the first image of OME-XML."""
    try:
        image = ElementTree.fromstring(text).find("{*}Image")
    except ElementTree.ParseError:
        image = None
    pixels = None if image is None else image.find("{*}Pixels")
    if image is None or pixels is None:
        return {}, {}, ()
    sizes = {}
    for axis in "XYZ":
        if size := micrometres(
            pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "um")
        ):
            sizes[axis] = size
    channels = [
        {key: element.attrib[key] for key in _CHANNEL_KEPT if key in element.attrib}
        for element in pixels.findall("{*}Channel")
    ]
    ome: dict[str, Any] = {"Channel": channels} if any(channels) else {}
    if image.get("Name"):
        ome["Name"] = image.get("Name")
    for tag in ("AcquisitionDate", "Description"):
        if value := image.findtext(f"{{*}}{tag}"):
            ome[tag] = value
    kept: dict[str, Any] = {"ome": ome}
    try:
        interval = float(pixels.get("TimeIncrement", "nan")) * _SECONDS[pixels.get("TimeIncrementUnit", "s")]
        if interval > 0:
            kept["time_interval"] = interval
    except (KeyError, ValueError):
        pass  # not a time: nothing to keep
    names = [channel.get("Name", "") for channel in channels]
    return sizes, kept, tuple(names) if all(names) else ()


def write_ome(
    sizes: Sizes, metadata: dict[str, Any], channel_names: tuple[str, ...], channels: int
) -> dict[str, Any]:
    """Return keyword arguments of ``tifffile.imwrite`` for an OME-TIFF of so many `channels`."""
    kept = dict(metadata.get("ome", {}))
    if len(kept.get("Channel", ())) != channels:
        kept.pop("Channel", None)
    if len(channel_names) == channels:
        known = kept.get("Channel", [{}] * channels)
        kept["Channel"] = [old | {"Name": name} for old, name in zip(known, channel_names, strict=True)]
    lateral = metadata.get("lateral")
    for axis, size in (sizes or ({"X": lateral, "Y": lateral} if lateral else {})).items():
        kept |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    if "time_interval" in metadata:
        kept |= {"TimeIncrement": metadata["time_interval"], "TimeIncrementUnit": "s"}
    return {"ome": True, "metadata": kept}
