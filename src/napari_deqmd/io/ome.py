"""OME-XML: what it says of an image, and the same again around new pixels."""

from __future__ import annotations

import contextlib
import copy
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tifffile

from napari_deqmd.core.caution import caution
from napari_deqmd.io.metadata import Sizes, carried, micrometres, positive, restored, seconds
from napari_deqmd.io.ome_channels import (
    NAMESPACE,
    SCHEMAS,
    add_colors,
    add_optics,
    color_of,
    detector_of,
    objective_of,
    tag,
    wavelengths_of,
)

_OURS = "napari-deqmd"

# The schema wants children in this order; those of Pixels and Image are named apart.
_ROOT = (
    "Rights Project Dataset Folder Experiment Plate Screen Experimenter ExperimenterGroup Instrument Image "
    "StructuredAnnotations ROI"
).split()
_IMAGE = (
    "AcquisitionDate ExperimenterRef Description ExperimentRef ExperimenterGroupRef InstrumentRef "
    "ObjectiveSettings ImagingEnvironment StageLabel Pixels ROIRef MicrobeamManipulationRef AnnotationRef"
).split()
# These speak of other images too, of which only the first is kept.
_OF_SEVERAL = ("Dataset", "Folder", "Plate", "Project", "ROI", "Screen")
# Where OME and NumPy have other words.
_TYPES = {
    "bit": "bool", "float": "float32", "double": "float64", "complex": "complex64", "double-complex": "complex128",
}  # fmt: skip
_PIXELS_KEPT = ("SizeT", "SizeC", "SizeZ", "SizeY", "SizeX")


def read_ome(text: str, file: str, dtype: Any = None) -> tuple[Sizes, dict[str, Any], tuple[str, ...]]:
    """Return voxel sizes, neutral metadata and channel names from the first image of OME-XML.

    Parameters
    ----------
    text : str
        The OME-XML.
    file : str
        The name of its file, for what is said of it.
    dtype : NumPy type, optional
        Of the pixels, where they are known.

    Warns
    -----
    UserWarning
        It is damaged, gives pixels a size that none can have, or another type than theirs.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        caution(
            f"{file} has OME-XML that is damaged or cut off: nothing of it was read, so give the voxel size.",
            stacklevel=2,
        )
        return {}, {}, ()
    _modernise(root)
    image = root.find(tag("Image"))
    pixels = None if image is None else image.find(tag("Pixels"))
    if image is None or pixels is None:
        return {}, {}, ()
    _doubt(pixels, file, dtype)
    sizes = {}
    for axis in "XYZ":
        if size := micrometres(
            pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "um")
        ):
            sizes[axis] = size
    kept = _take_ours(root, image)
    if interval := seconds(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s")):
        kept["time_interval"] = interval
    channels = pixels.findall(tag("Channel"))
    if name := image.get("Name"):
        kept["name"] = name
    colors = [color_of(channel) for channel in channels]
    if any(colors):
        kept["channel_colors"] = colors
    if detector := detector_of(root, image):
        kept["detector"] = detector
    shared = objective_of(root, image)
    own = [shared | wavelengths_of(channel) for channel in channels]
    if any(own):
        kept["channel_optics"] = own
        kept["optics"] = own[0] if len(own) == 1 else shared
    elif shared:
        kept["optics"] = shared
    names = tuple(channel.get("Name", "") for channel in channels)
    kept["ome"] = {
        "Channel": [
            {key: value for key, value in channel.attrib.items() if key not in ("ID", "SamplesPerPixel")}
            for channel in channels
        ],
        "xml": _pruned(root, image, pixels),
    }
    return sizes, kept, names if names and all(names) else ()


def _doubt(pixels: ElementTree.Element, file: str, dtype: Any) -> None:
    """Warn of what cannot be true of the pixels."""
    for axis in "XYZ":
        told = pixels.get(f"PhysicalSize{axis}")
        if told is not None and positive(told) is None:
            caution(
                f"{file} says that its pixels are {told!r} wide along {axis}, which cannot be: give the voxel size.",
                stacklevel=3,
            )
    told = pixels.get("Type")
    if None not in (told, dtype) and _TYPES.get(str(told), told) != np.dtype(dtype).name:
        caution(
            f"{file} has pixels of type {np.dtype(dtype).name}, and OME-XML that says {told}: check that it was "
            "exported well.",
            stacklevel=3,
        )


def write_ome(
    sizes: Sizes,
    metadata: dict[str, Any],
    channel_names: Sequence[str],
    axes: str,
    shape: tuple[int, ...],
    dtype: Any,
) -> bytes:
    """Return the OME-XML of an image, UTF-8: of its pixels what is true now, and all else that its source said."""
    document = tifffile.OmeXml(Creator=_OURS)
    planes = int(np.prod(shape[:-2]))
    document.addimage(
        dtype, shape, (planes, 1, 1, shape[-2], shape[-1], 1), axes=axes, **_sizes(sizes, metadata)
    )
    root = ElementTree.fromstring(document.tostring())
    image = _child(root, "Image")
    pixels = _child(image, "Pixels")
    with contextlib.suppress(ElementTree.ParseError):
        _take_over(root, image, pixels, ElementTree.fromstring(metadata.get("ome", {}).get("xml", "")))
    channels = pixels.findall(tag("Channel"))
    if len(channel_names) == len(channels):
        for channel, name in zip(channels, channel_names, strict=True):
            channel.set("Name", name)
    if "name" in metadata:
        image.set("Name", metadata["name"])
    add_colors(channels, metadata.get("channel_colors", ()))
    add_optics(root, image, channels, metadata)
    _add_ours(root, image, metadata)
    for element, order in ((root, _ROOT), (image, _IMAGE)):
        element[:] = sorted(element, key=lambda child: _rank(child, order))
    ElementTree.register_namespace("", NAMESPACE)
    return bytes(ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True))


def described(metadata: Mapping[str, Any]) -> dict[str, int]:
    """Return the lengths of axes that the OME-XML in neutral metadata tells."""
    text = metadata.get("ome", {}).get("xml", "")
    pixels = ElementTree.fromstring(text).find(f".//{tag('Pixels')}") if text else None
    told = {} if pixels is None else pixels.attrib
    return {key[-1]: int(told[key]) for key in _PIXELS_KEPT if told.get(key, "").isdecimal()}


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element:
    """Return a child, made where there is none."""
    found = element.find(tag(name))
    return ElementTree.SubElement(element, tag(name)) if found is None else found


def _rank(element: ElementTree.Element, order: Sequence[str]) -> int:
    name = element.tag.rpartition("}")[2]
    return order.index(name) if name in order else len(order)


def _modernise(root: ElementTree.Element) -> None:
    """Bring elements of all of OME's schemas into one namespace."""
    for element in root.iter():
        if isinstance(element.tag, str) and element.tag.startswith(f"{{{SCHEMAS}"):
            element.tag = tag(element.tag.rpartition("}")[2])


def _take_ours(root: ElementTree.Element, image: ElementTree.Element) -> dict[str, Any]:
    """Remove what this package added, and return it."""
    kept: dict[str, Any] = {}
    annotations = root.find(tag("StructuredAnnotations"))
    for annotation in list(annotations) if annotations is not None else []:
        if annotations is None or annotation.get("Namespace") != _OURS:
            continue
        kept |= restored(annotation.findtext(tag("Value")))
        annotations.remove(annotation)
        for reference in image.findall(tag("AnnotationRef")):
            if reference.get("ID") == annotation.get("ID"):
                image.remove(reference)
    if annotations is not None and not len(annotations):
        root.remove(annotations)
    return kept


def _pruned(root: ElementTree.Element, image: ElementTree.Element, pixels: ElementTree.Element) -> str:
    """Return the document without what belongs to the pixels in their file, and without further images."""
    several = len(root.findall(tag("Image"))) > 1
    for child in list(root):
        further = child.tag == tag("Image") and child is not image
        if further or (several and child.tag in map(tag, _OF_SEVERAL)):
            root.remove(child)
    if several:
        for reference in image.findall(tag("ROIRef")):
            image.remove(reference)
    for child in list(pixels):
        if child.tag in map(tag, ("BinData", "TiffData", "MetadataOnly")):
            pixels.remove(child)
    for key in list(pixels.attrib):
        if key not in _PIXELS_KEPT:
            del pixels.attrib[key]
    root.attrib.clear()
    ElementTree.register_namespace("", NAMESPACE)
    return ElementTree.tostring(root, encoding="unicode")


def _take_over(
    root: ElementTree.Element,
    image: ElementTree.Element,
    pixels: ElementTree.Element,
    source: ElementTree.Element,
) -> None:
    """Move what the source said into a new document that describes the pixels."""
    old = _child(source, "Image")
    told = _child(old, "Pixels")
    image.attrib |= old.attrib
    image.extend(child for child in old if child is not told)
    root.extend(child for child in source if child is not old)
    channels = told.findall(tag("Channel"))
    if len(channels) == len(pixels.findall(tag("Channel"))):
        for place, channel in enumerate(channels):
            pixels[place] = copy.deepcopy(channel)
    if all(told.get(key) == pixels.get(key) for key in _PIXELS_KEPT):
        pixels.extend(told.findall(tag("Plane")))


def _sizes(sizes: Sizes, metadata: dict[str, Any]) -> dict[str, Any]:
    lateral = metadata.get("lateral")
    found: dict[str, Any] = {}
    for axis, size in (sizes or ({"X": lateral, "Y": lateral} if lateral else {})).items():
        found |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    if "time_interval" in metadata:
        found |= {"TimeIncrement": metadata["time_interval"], "TimeIncrementUnit": "s"}
    return found


def _add_ours(root: ElementTree.Element, image: ElementTree.Element, metadata: dict[str, Any]) -> None:
    text = carried(metadata, without=("ome", "lateral", "name", "channel_colors", "time_interval"))
    if text is None:
        return
    annotations = _child(root, "StructuredAnnotations")
    name = f"Annotation:{_OURS}"
    annotation = ElementTree.SubElement(annotations, tag("CommentAnnotation"), ID=name, Namespace=_OURS)
    ElementTree.SubElement(annotation, tag("Value")).text = text
    ElementTree.SubElement(image, tag("AnnotationRef"), ID=name)
