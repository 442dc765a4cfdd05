"""What files know of an image beside its pixels, in one neutral form; ImageJ's to it and back.

The neutral form is a dictionary that may hold

- ``"lateral"``: micrometres of X where Z is not known; ``"time_interval"``: seconds;
- ``"optics"``: numbers by the names that a theoretical PSF has for them (``na``, ``ni``, and ``wavelength`` and
  ``excitation`` in nanometres), and ``"channel_optics"``: one such dictionary per channel;
- ``"name"``: of the image; ``"origin"``: where the middle of its first pixel is, micrometres by spatial axis and
  seconds for T, 0 where it is not said;
- ``"channel_colors"``: one ``RRGGBB`` per channel, empty where it has none;
- ``"detector"``: the texts that OME has for its ``Gain`` and ``Offset``, which are without a unit;
- ``"provenance"``: how a result came about, as in its sidecar;
- ``"doubts"``: sentences on sizes that a file does not quite say, by axis, until `read_stack` has told them;
- ``"imagej"``, ``"ome"`` and ``"zarr"``: whatever else those formats keep.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tifffile

_MICROMETRES = {
    "m": 1e6, "cm": 1e4, "mm": 1e3, "um": 1.0, "nm": 1e-3, "pm": 1e-6,
    "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nanometer": 1e-3, "nanometre": 1e-3, "millimeter": 1e3, "millimetre": 1e3, "centimeter": 1e4,
    "meter": 1e6, "metre": 1e6, "angstrom": 1e-4, "Å": 1e-4, "inch": 25400.0, "inches": 25400.0, "in": 25400.0,
}  # fmt: skip
_SECONDS = {
    "s": 1.0, "sec": 1.0, "secs": 1.0, "ms": 1e-3, "msec": 1e-3, "µs": 1e-6, "us": 1e-6, "usec": 1e-6,
    "min": 60.0, "mins": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0, "hrs": 3600.0, "hours": 3600.0,
    "seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6,
    "second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6, "minute": 60.0, "hour": 3600.0,
}  # fmt: skip
IMMERSION = {"Air": 1.0, "Water": 1.333, "WaterDipping": 1.333, "Glycerol": 1.47, "Oil": 1.515}
"""Refractive indices of what an objective says it is immersed in."""

# Larger pixels than this, in micrometres, are dots per inch for a printer, or a unit without a thought.
_PRINT = 25.0

# Derived from the array, converted to micrometres, or in counts and no longer true of photo-electrons.
_NOT_KEPT = frozenset(
    "ImageJ SCIFIO images channels slices frames hyperstack unit yunit zunit tunit spacing finterval fps min max "
    "Ranges cf c0 c1 vunit deqmd_axes deqmd_channels deqmd_metadata".split()
)
# How the Info that Bio-Formats and others write into ImageJ's files names the optics, without punctuation.
_INFO = {
    "na": re.compile(r"(lens|objective|numerical)?(na|aperture)$"),
    "ni": re.compile(r"refractiveindex$"),
    "wavelength": re.compile(r"emission(wavelength)?$"),
    "excitation": re.compile(r"excitation(wavelength)?$"),
}
_NUMBER = re.compile(r"([-+.\deE]+)\s*([^\W\d]*)")
# With the type of each; of the items in some of them as well.
_CARRIED: dict[str, type] = {
    "channel_colors": list, "channel_optics": list, "imagej": dict, "lateral": float, "name": str, "ome": dict,
    "optics": dict, "origin": dict, "provenance": dict, "time_interval": float, "zarr": dict,
}  # fmt: skip
_ITEMS: dict[str, type] = {"channel_colors": str, "channel_optics": dict, "origin": float}

Sizes = dict[str, float]


def positive(value: Any) -> float | None:
    """Convert to a number above 0; ``None`` where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


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
    length = positive(value)
    return positive(length * factor) if length and factor else None


def nanometres(value: Any, unit: str | None) -> float | None:
    """Convert a wavelength of light to nanometres; ``None`` where it cannot be one."""
    length = micrometres(value, unit)
    return round(1e3 * length, 6) if length is not None and 0.1 <= length <= 5 else None


def seconds(value: Any, unit: str | None) -> float | None:
    """Convert a time to seconds; ``None`` where it is none."""
    time, factor = positive(value), _SECONDS.get(unit or "")
    return positive(time * factor) if time and factor else None


def plain(value: Any) -> Any:
    """Convert to what JSON has: NumPy scalars and arrays, tuples, paths; NaN and infinities become null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    # A name that is no text, as a file's may be, has stand-ins for its bytes that no encoding knows.
    return str(value).encode("utf-8", "backslashreplace").decode()


def carried(metadata: Mapping[str, Any], *, without: Sequence[str] = ()) -> str | None:
    """Return as ASCII JSON what a format has no words for, so that it comes back from there; see `restored`."""
    kept = {key: value for key, value in metadata.items() if key in _CARRIED and key not in without and value}
    if "imagej" in kept:
        # Colour tables and regions are binary, and drawn by ImageJ alone.
        kept["imagej"] = {
            key: value
            for key, value in kept["imagej"].items()
            if isinstance(value, str | int | float | dict) or key == "Labels"
        }
    kept = {key: value for key, value in kept.items() if value}
    return json.dumps(plain(kept), allow_nan=False) if kept else None


def restored(text: Any) -> dict[str, Any]:
    """Read what `carried` wrote; nothing from what is damaged."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return sound({key: value for key, value in found.items() if key in _CARRIED})


def sound(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata without what the neutral form cannot have: other programs use its names for other things."""
    kept = {key: value for key, value in metadata.items() if isinstance(value, _CARRIED.get(key, object))}
    for key, kind in _ITEMS.items():
        items: Any = kept.get(key, ())
        if not all(isinstance(one, kind) for one in (items.values() if isinstance(items, dict) else items)):
            del kept[key]
    return kept


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
    # ImageJ leaves out a distance of exactly 1; this package one that is not known.
    omitted = "spacing" not in found and "deqmd_axes" not in found and int(found.get("slices", 1)) > 1
    if spacing := micrometres(1 if omitted else found.get("spacing"), str(found.get("zunit", unit))):
        sizes["Z"] = spacing
    kept = read_info(found.get("Info"), int(found.get("channels", 1)))
    kept |= restored(found.get("deqmd_metadata"))
    kept["imagej"] = {key: value for key, value in found.items() if key not in _NOT_KEPT}
    if omitted and "Z" in sizes:
        told = f"{tif.filename} does not say the distance of its planes: {spacing:g} µm is taken, as ImageJ does."
        kept["doubts"] = {"Z": told}
    if interval := seconds(found.get("finterval"), str(found.get("tunit", "")).strip() or "s"):
        kept["time_interval"] = interval
    try:
        names = tuple(str(name) for name in json.loads(found.get("deqmd_channels", "[]")))
    except (TypeError, ValueError):
        names = ()
    names = names or _label_names(found.get("Labels"), int(found.get("channels", 1)))
    order = found.get("deqmd_axes")
    return sizes, kept, names, order if isinstance(order, str) else None


def read_info(text: Any, channels: int) -> dict[str, Any]:
    """Return the optics that ImageJ's Info tells, as Bio-Formats writes it: ``name = value``, a line each."""
    shared: dict[str, float] = {}
    own: list[dict[str, float]] = [{} for _ in range(channels)]
    for line in text.splitlines() if isinstance(text, str) else ():
        label, _, value = line.partition("=" if "=" in line else ":")
        label, _, place = label.partition("#")
        words = re.sub(r"[\W_]", "", re.split(r"[|.]", label.strip())[-1].lower())
        name = next((name for name, pattern in _INFO.items() if pattern.match(words)), None)
        number = _NUMBER.match(value.strip())
        if name is None or number is None:
            continue
        if name in ("na", "ni"):
            try:
                amount = float(number[1])
            except ValueError:
                continue
            if 0 < amount < 3:
                shared.setdefault(name, amount)
        elif length := nanometres(number[1], number[2] or "nm"):
            index = int(place) - 1 if place.strip().isdigit() else 0
            if index < channels and (place.strip() or channels == 1):
                own[index].setdefault(name, length)
    own = [shared | optics for optics in own]
    found: dict[str, Any] = {}
    if any(own):
        found = {"channel_optics": own, "optics": own[0] if channels == 1 else shared}
    return {key: value for key, value in found.items() if value}


def _label_names(labels: Any, channels: int) -> tuple[str, ...]:
    """Return the names of channels where every plane is labelled by its channel."""
    if not isinstance(labels, list) or channels < 2 or len(labels) % channels:
        return ()
    names = tuple(str(label) for label in labels[:channels])
    repeated = list(names) * (len(labels) // channels) == [str(label) for label in labels]
    return names if repeated and len(set(names)) == channels and all(names) else ()


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
    if text := carried(metadata, without=("imagej", "lateral", "time_interval")):
        kept["deqmd_metadata"] = text
    output = metadata.get("provenance", {}).get("output")
    scale = output.get("scale", 1.0) if isinstance(output, Mapping) else 1.0
    if scale != 1.0:
        # ImageJ's calibration of values: a straight line through 0.
        kept |= {"cf": 0, "c0": 0.0, "c1": scale, "vunit": "photo-electrons"}
    return options
