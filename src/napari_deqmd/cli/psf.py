"""``deqmd psf make|distill|inspect``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.cli.console import print_fields, print_json, say
from napari_deqmd.cli.outputs import check_apart
from napari_deqmd.core.errors import UserError
from napari_deqmd.io.atomic import atomic_file, check_target
from napari_deqmd.io.names import SUFFIXES
from napari_deqmd.io.sidecar import check_result, versions, write_result
from napari_deqmd.io.stack import Stack, read_stack
from napari_deqmd.psf.inspect import PsfReport, inspect_psf, middle_planes
from napari_deqmd.psf.parameters import voxels_of
from napari_deqmd.psf_files import known_voxels

# Pixels of a picture's panel.
_PANEL = 320
# What is printed, in words; programs get the names.
_WORDS = {
    "shape": "size, voxels",
    "voxel_size": "voxel size, µm",
    "fwhm": "width at half maximum, voxels",
    "fwhm_um": "width at half maximum, µm",
    "theory_fwhm": "width of the theory, voxels",
    "cutoff": "OTF ends at, of Nyquist's frequency",
    "outside": "light outside the box",
    "offset": "spot off the middle, voxels",
    "odd": "lop-sided part",
    "pedestal": "background, in the PSF's values",
    "pedestal_share": "background, of the sum",
    "negative": "negative values",
    "beads": "beads used",
    "rejected": "beads left out",
    "residual": "a bead off their mean, typically",
}
_SHARES = ("cutoff", "outside", "odd", "pedestal_share", "negative", "residual")
# Widths of beads and theory differ by this much before it is told.
_AS_THEORY = 0.2


def make(arguments: Namespace) -> None:
    """Compute a theoretical PSF and write it."""
    target = check_result(arguments.output, overwrite=arguments.overwrite)
    psf, voxel_size = _theory(arguments)
    report = inspect_psf(psf, voxel_size)
    _write(arguments, target, psf, voxel_size, {"psf": {"source": arguments.psf}}, report.to_dict())


def distill(arguments: Namespace) -> None:
    """Make a PSF out of an image of beads and write it."""
    from napari_deqmd.psf.beads import distil_psf

    target = check_result(arguments.output, overwrite=arguments.overwrite)
    check_apart(arguments, target)
    stack = read_stack(arguments.image, axes=arguments.axes, voxel_size=arguments.voxel_size).load()
    if stack.axes != stack.spatial_axes:
        raise UserError(f"{arguments.image} has the axes {stack.axes}: give one channel and time, YX or ZYX.")
    diameter = arguments.bead_diameter
    if diameter is not None and len(diameter) != 1:
        raise UserError(f"The bead diameter has {len(diameter)} numbers: give one.")
    size = None if arguments.size is None else [round(number) for number in arguments.size]
    found = distil_psf(stack.data, stack.voxel_size, bead_diameter=diameter and diameter[0], size=size)
    source = {"input": {"path": str(Path(arguments.image).expanduser().resolve()), "bead_diameter": diameter}}
    content = found.to_dict()
    if arguments.theory is not None:
        content |= _compared(content, found.psf.ndim, arguments.theory)
    _write(arguments, target, found.psf, found.voxel_size, source, content)
    for bead in found.rejected:
        where = ", ".join(f"{place:.1f}" for place in bead.place)
        say(f"note: the bead at {where} was left out: {bead.reason}.")


def _compared(content: dict[str, Any], ndim: int, text: str) -> dict[str, Any]:
    """Return the widths of a theory beside those of the beads, and a warning where they differ much."""
    from napari_deqmd.psf.theory import parse_psf

    theory = inspect_psf(parse_psf(text, ndim, content["voxel_size"])).fwhm
    ratios = [real / ideal for real, ideal in zip(content["fwhm"], theory, strict=True)]
    found = list(content["warnings"])
    if max(ratios) > 1 + _AS_THEORY or min(ratios) < 1 - _AS_THEORY:
        told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        found.insert(
            0,
            f"The beads' PSF is {told} times as wide as {text} ({'ZYX'[-ndim:]}): check voxel size, bead diameter and "
            "the optics' numbers.",
        )
    return {"theory": text, "theory_fwhm": theory, "warnings": tuple(found)}


def inspect(arguments: Namespace) -> None:
    """Measure a PSF and say what is wrong with it."""
    picture = None
    if arguments.picture is not None:
        if not arguments.picture.lower().endswith(".png"):
            raise UserError(f"Cannot draw {arguments.picture}: name the picture .png.")
        picture = check_target(arguments.picture, overwrite=arguments.overwrite)
        check_apart(arguments, picture)
    looked_at, image_voxel_size = None, arguments.image_voxel_size
    if arguments.image is not None:
        looked_at = read_stack(arguments.image, voxel_size=image_voxel_size).load()
    if arguments.psf.lower().endswith(SUFFIXES) or Path(arguments.psf).is_file():
        stack = read_stack(arguments.psf, voxel_size=arguments.voxel_size)
        if stack.axes != stack.spatial_axes:
            raise UserError(f"The PSF {arguments.psf} has the axes {stack.axes}: give one PSF, YX or ZYX.")
        psf: NDArray[Any] = stack.data
        voxel_size: tuple[float, ...] | None = known_voxels(stack, stack.axes)
    else:
        psf, voxel_size = _theory(arguments, looked_at)
    voxels_of(image_voxel_size, psf.ndim, name="image's voxel size")
    image = None
    if looked_at is not None:
        image, image_voxel_size = looked_at.data, known_voxels(looked_at, "ZYX"[-psf.ndim :])
    report = inspect_psf(psf, voxel_size, image_voxel_size=image_voxel_size, image=image)
    if picture is not None:
        _draw(picture, psf, report, overwrite=arguments.overwrite)
    content = report.to_dict() | ({} if picture is None else {"picture": str(picture)})
    _print(arguments, content)


def _theory(
    arguments: Namespace, image: Stack | None = None
) -> tuple[NDArray[np.float32], tuple[float, ...] | None]:
    """Compute a PSF; what its own options leave open is as the image, where there is one."""
    from napari_deqmd.psf.theory import parse_psf

    ndim, voxel_size, shape = arguments.ndim, arguments.voxel_size, None
    if image is not None:
        ndim = ndim or len(image.spatial_axes)
        voxel_size = voxel_size or image.voxel_size
        shape = image.spatial_shape if len(image.spatial_axes) == ndim else None
    return parse_psf(arguments.psf, ndim or 3, voxel_size, shape), voxel_size


def _write(
    arguments: Namespace,
    target: Path,
    psf: NDArray[Any],
    voxel_size: tuple[float, ...] | None,
    source: dict[str, Any],
    content: dict[str, Any],
) -> None:
    stack = Stack(psf, "ZYX"[-psf.ndim :], voxel_size)
    write_result(
        target, stack, source | {"report": content, "versions": versions()}, overwrite=arguments.overwrite
    )
    _print(arguments, content | {"output": str(target)})


def _print(arguments: Namespace, content: dict[str, Any]) -> None:
    if arguments.json:
        print_json(content)
        return
    told = dict(content)
    for sentence in told.pop("warnings"):
        say(f"note: {sentence}")
    for name in ("beads", "rejected"):
        if name in told:
            told[name] = len(told[name])
    print_fields(
        {
            _WORDS.get(name, name): _rounded(value, ".1%" if name in _SHARES else ".4g")
            for name, value in told.items()
            if value is not None
        }
    )


def _rounded(value: Any, how: str) -> Any:
    if isinstance(value, float):
        return "unknown" if np.isnan(value) else f"{value:{how}}"
    if isinstance(value, tuple):
        return ", ".join(str(_rounded(one, how)) for one in value)
    return value


def _draw(path: Path, psf: NDArray[Any], report: PsfReport, *, overwrite: bool) -> None:
    """Draw the middle planes, their brightness as its root, and the OTF in decades."""
    from PIL import Image

    from napari_deqmd.cli.picture import side_by_side

    panels = []
    for name, plane, high in middle_planes(psf, report):
        extent = (plane.shape[1], plane.shape[0] * high)
        pixels = [max(1, round(_PANEL * one / max(extent))) for one in extent]
        grown = Image.fromarray(plane).resize((pixels[0], pixels[1]), Image.Resampling.NEAREST)
        panels.append((name, _framed(np.asarray(grown))))
    panels.append(("OTF, 1 to 0.001, 0 to Nyquist", _plot(report)))
    with atomic_file(path, overwrite=overwrite) as handle:
        side_by_side(panels, white=1.0, width=_PANEL, text=18).save(handle, format="PNG")


def _framed(image: NDArray[Any]) -> NDArray[Any]:
    canvas = np.zeros((_PANEL, _PANEL))
    top, left = ((_PANEL - n) // 2 for n in image.shape)
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _plot(report: PsfReport) -> NDArray[Any]:
    """Return curves as an image: along x bright, along z (where there is one) darker."""
    canvas = np.zeros((_PANEL, _PANEL))
    for decade in (1, 2):
        canvas[decade * _PANEL // 3] = 0.2
    across = np.linspace(0, 1, _PANEL)
    curves = [(report.otf[-1], 1.0), *((curve, 0.55) for curve in report.otf[:-2])]
    for curve, gray in reversed(curves):
        level = np.interp(across, np.linspace(0, 1, curve.size), np.log10(curve.clip(1e-4)))
        rows = np.round(-level / 3 * (_PANEL - 1)).astype(int)
        for column in range(1, _PANEL):
            low, high = sorted(rows[column - 1 : column + 1])
            if low < _PANEL:
                canvas[low : high + 2, column] = gray
    return canvas
