"""``deqmd demo``: the bundled sample, reconstructed before your eyes, or written where there is no display."""

from __future__ import annotations

import importlib.util
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.cli.console import say
from napari_deqmd.cli.jobs import run, summary
from napari_deqmd.cli.picture import side_by_side
from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.io.atomic import atomic_file
from napari_deqmd.io.sidecar import read_sidecar, sidecar_path, versions, write_result
from napari_deqmd.io.stack import Stack, write_stack
from napari_deqmd.samples import Sample, load_sample, sample_2d

if TYPE_CHECKING:
    from napari_deqmd.api import Result


RESULT, PICTURE = "result.tif", "before-after.png"
WRITTEN = ("raw.tif", "truth.tif", RESULT, sidecar_path(RESULT).name, PICTURE)


def demo(arguments: Namespace) -> None:
    """Open napari on the 2D sample and run it there; without a display write images and a picture."""
    sample = load_sample("filaments")
    if not arguments.headless and has_display() and importlib.util.find_spec("napari") is not None:
        show(sample, arguments.max_iter)
        return
    folder = Path(arguments.output).expanduser().resolve()
    _make(folder)
    stack = Stack(sample.raw, sample.axes, sample.voxel_size)
    config = ReconstructionConfig(
        axes=sample.axes,
        voxel_size=sample.voxel_size,
        offset=sample.offset,
        gain=sample.gain,
        max_iter=arguments.max_iter,
    )
    result = run(stack, sample.psf, config)
    before = (sample.raw.astype(np.float32) - sample.offset) / sample.gain - result.report["background"]
    decibels = [psnr(image, sample.truth) for image in (before, result.image)]
    print(summary(result))
    print(f"PSNR against the truth: {decibels[0]:.2f} dB before, {decibels[1]:.2f} dB after")
    print(
        f"Images and a before/after picture are in {write(folder, stack, sample, before, result, decibels)}"
    )


def has_display() -> bool:
    """Tell whether a window could be opened."""
    return not sys.platform.startswith("linux") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def psnr(image: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio in decibels, with the truth's maximum as the peak."""
    error = float(np.mean((image.astype(np.float64) - truth) ** 2))
    return float(10 * np.log10(float(truth.max()) ** 2 / max(error, 1e-30)))


def write(
    folder: Path,
    stack: Stack,
    sample: Sample,
    before: NDArray[np.float32],
    result: Result,
    decibels: list[float],
) -> Path:
    """Write raw counts, result and truth as TIFF, and the picture; what an earlier demo wrote is replaced."""
    note = {"sample": sample.name, "psnr_before": decibels[0], "psnr_after": decibels[1]}
    for name, data in (("raw", sample.raw), ("truth", sample.truth)):
        write_stack(folder / f"{name}.tif", Stack(data, stack.axes, stack.voxel_size), overwrite=True)
    content = result.report | note | {"versions": versions() | result.report["versions"]}
    write_result(folder / RESULT, Stack(result.image, stack.axes, stack.voxel_size), content, overwrite=True)
    picture = side_by_side(
        [
            (f"raw, {decibels[0]:.1f} dB", before),
            (f"result, {decibels[1]:.1f} dB", result.image),
            ("truth", sample.truth),
        ],
        white=white_of(result.image),
    )
    with atomic_file(folder / PICTURE, overwrite=True) as handle:
        picture.save(handle, format="PNG")
    return folder


def show(sample: Sample, max_iter: int) -> None:
    """Open napari on raw counts and truth, and press Run beside them; returns when the window is closed."""
    import napari

    say("opening napari; close its window to end the demo.")
    viewer = napari.Viewer(title="napari-deqmd demo")
    _, widget = viewer.window.add_plugin_dock_widget("napari-deqmd", "Reconstruct")
    white = white_of(sample.truth)
    for data, arguments, _ in reversed(sample_2d()):
        if arguments["name"].endswith("PSF"):
            continue  # its width is in the metadata of the counts
        if data.dtype == sample.raw.dtype:
            limits = (sample.offset, sample.offset + sample.gain * (white + sample.background))
        else:
            limits = (0.0, white)
        viewer.add_image(data, **arguments | {"visible": True, "contrast_limits": limits})

    def show_alike(event: Any) -> None:
        layer = event.value
        if layer.metadata.get("input"):
            layer.contrast_limits = (0.0, white)
            viewer.reset_view()

    viewer.layers.selection.active = viewer.layers[0]
    viewer.layers.events.inserted.connect(show_alike)
    viewer.grid.enabled = True
    viewer.reset_view()
    if max_iter != ReconstructionConfig().max_iter:
        widget.method.max_iter_spin.setValue(max_iter)
    widget.run()
    napari.run()


def white_of(image: NDArray[np.float32]) -> float:
    """Return the photo-electrons shown white: the brightest structures, not single spots."""
    return float(np.percentile(image, 99.8))


def _make(folder: Path) -> None:
    """Make the folder; only what an earlier demo wrote may be in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot make the folder {folder}: name another by --output.") from error
    there = next((folder / name for name in WRITTEN if (folder / name).exists()), None)
    if there is not None and not _is_demo(folder / RESULT):
        raise UserError(f"{there} exists already and is of no demo: name another folder by --output.")


def _is_demo(result: Path) -> bool:
    try:
        return "psnr_before" in read_sidecar(result)
    except UserError:
        return False
