"""``deqmd estimate``."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.cli.console import print_json, say
from napari_deqmd.cli.outputs import check_apart
from napari_deqmd.core.calibration import Camera
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.photons import Photons, estimate_photons, photon_histogram
from napari_deqmd.io.atomic import atomic_file, check_target
from napari_deqmd.io.stack import read_stack

# Of the peak: a usual deviation above this is told.
_UNCERTAIN = 0.15


def estimate(arguments: Namespace) -> None:
    """Say what offset, gain, peak and background a stack has, channel by channel."""
    plot = None
    if arguments.plot is not None:
        if not arguments.plot.lower().endswith(".png"):
            raise UserError(f"Cannot draw {arguments.plot}: name the plot .png.")
        plot = check_target(arguments.plot, overwrite=arguments.overwrite)
        check_apart(arguments, plot)
    stack = read_stack(arguments.image, axes=arguments.axes, voxel_size=arguments.voxel_size).load()
    dark, flat = (
        None if path is None else read_stack(path).load().data for path in (arguments.dark, arguments.flat)
    )
    channels, names = [stack.data], [""]
    if "C" in stack.axes:
        channels = list(np.moveaxis(stack.data, stack.axes.index("C"), 0))
        known = stack.channel_names or ()
        names = [known[i] if i < len(known) else f"channel {i}" for i in range(len(channels))]
    found = [
        estimate_photons(
            data,
            offset=arguments.offset,
            gain=arguments.gain,
            axes=stack.axes.replace("C", ""),
            read_noise=arguments.read_noise,
            dark=dark,
            flat=flat,
        )
        for data in channels
    ]
    if plot is not None:
        _draw(plot, names, channels, found, overwrite=arguments.overwrite)
    if arguments.json:
        rows = [_row(photons) for photons in found]
        content = rows[0] | ({"channels": rows} if "C" in stack.axes else {})
        print_json(content | ({} if plot is None else {"plot": str(plot)}))
        return
    for name, photons in zip(names, found, strict=True):
        label = f"{name}: " if name else ""
        numbers = photons.summary
        if assumed := _assumed(photons):
            numbers += ", if " + " and ".join(f"the {kind} is {value:g}" for kind, value in assumed.items())
        print(f"{label}{numbers}")
        if photons.camera is not None and not photons.camera.cannot_tell:
            print(f"{label}{_camera(photons.camera)}")
        for sentence in photons.warnings:
            say(f"note: {label}{sentence}")
        if photons.peak_error is not None and photons.peak_error > _UNCERTAIN * photons.peak:
            say(
                f"note: {label}The peak cannot be told better than to {photons.peak_error / photons.peak:.0%}, "
                "the noise hides how bright the brightest place is: give it where you know it."
            )


def _row(photons: Photons) -> dict[str, Any]:
    """Return one flat object; of the camera what `Photons` does not say itself, and nothing that was assumed."""
    camera = dataclasses.asdict(photons.camera or Camera())
    assumed = _assumed(photons)
    row = camera | {key: value for key, value in vars(photons).items() if key != "camera"}
    return row | dict.fromkeys(assumed) | {"assumed": assumed}


def _assumed(photons: Photons) -> dict[str, float]:
    """Return what peak and background hold for, of what was neither given nor found."""
    camera = photons.camera
    if camera is None or not camera.cannot_tell:
        return {}
    return {name: getattr(photons, name) for name in ("offset", "gain") if getattr(camera, name) is None}


def _camera(camera: Camera) -> str:
    parts = []
    for name, unit in (
        ("gain", "counts per photo-electron"),
        ("offset", "counts"),
        ("read_noise", "electrons"),
    ):
        value, error = getattr(camera, name), getattr(camera, f"{name}_error")
        if value is not None:
            doubt = f" ± {error:.1g}" if error else ""
            parts.append(f"{name.replace('_', ' ')} {value:.4g}{doubt} {unit}")
    return ", ".join(parts)


def _draw(
    path: Path,
    names: Sequence[str],
    channels: Sequence[NDArray[Any]],
    found: Sequence[Photons],
    *,
    overwrite: bool,
) -> None:
    """Draw the photo-electrons with what was found of them, and noise over brightness: its slope is the gain."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    pixels, noise = figure.subplots(1, 2)
    pixels.set(xlabel="photo-electrons", ylabel="pixels", yscale="log")
    noise.set(xlabel="mean, counts", ylabel="variance of the noise, counts²")
    for name, counts, photons in zip(names, channels, found, strict=True):
        edges, heights = photon_histogram(counts, offset=photons.offset, gain=photons.gain)
        bars = pixels.stairs(np.maximum(heights, 0.5), edges, baseline=0.5, fill=True, alpha=0.4)
        for level, word in ((0.0, "background"), (photons.peak, "peak")):
            label = f"{name}: {word}" if name else word
            style = ":" if word == "background" else "--"
            pixels.axvline(photons.background + level, color=bars.get_facecolor()[:3], ls=style, label=label)
        camera = photons.camera
        if camera is None or camera.slope is None or camera.intercept is None:
            continue
        (points,) = noise.plot(camera.levels, camera.variances, "o", label=name or "groups of blocks")
        ends = np.array([min(*camera.levels, photons.offset), max(camera.levels)])
        noise.plot(
            ends, camera.slope * ends + camera.intercept, color=points.get_color(), label=_camera(camera)
        )
        noise.axvline(photons.offset, color=points.get_color(), linestyle=":")
    pixels.legend(fontsize="small")
    if noise.lines:
        noise.axhline(0, color="gray", linewidth=0.8)
        figure.legend(*noise.get_legend_handles_labels(), loc="outside lower right", fontsize="small")
    else:
        noise.text(0.5, 0.5, _reason(found), transform=noise.transAxes, ha="center", va="center", wrap=True)
    with atomic_file(path, overwrite=overwrite) as handle:
        figure.savefig(handle, format="png", dpi=150)


def _reason(found: Sequence[Photons]) -> str:
    """Say why there is no line."""
    for photons in found:
        if photons.camera is not None and photons.camera.cannot_tell:
            return photons.camera.cannot_tell
    return "Offset and gain were both given."
