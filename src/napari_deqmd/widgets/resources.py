"""Where a run would compute, and whether it fits into memory; asked in another thread whenever the form changes."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

from napari_deqmd.core.caution import quietly
from napari_deqmd.core.errors import UserError
from napari_deqmd.scale.memory import format_bytes
from napari_deqmd.widgets.form import PsfChoice
from napari_deqmd.widgets.layers import LayerImage

SETTINGS = ("device", "method", "solver", "boundary", "orientations")
"""Controls of the form that memory depends on."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a run needs.

    Attributes
    ----------
    device : str
        Where it computes and why, for a reader.
    needed, free : int or None
        Bytes; ``None`` where that cannot be known.
    where : str
        Whose memory it is.
    cut : str
        What the image is cut into for it, if it is.
    advice : str
        What to do where there is not enough.
    """

    device: str
    needed: int | None = None
    free: int | None = None
    where: str = ""
    cut: str = ""
    advice: str = ""

    @property
    def fits(self) -> bool:
        """Whether there is enough, as far as is known."""
        return self.needed is None or self.free is None or self.needed <= self.free

    @property
    def memory(self) -> str:
        """Needed and free memory as a sentence."""
        if self.needed is None:
            return ""
        text = " ".join(("Needs about", format_bytes(self.needed), self.cut)).strip()
        if self.free is None:
            return f"{text}."
        text = f"{text}, {format_bytes(self.free)} {self.where}free"
        return f"{text}." if self.fits else f"{text}: {self.advice}."


def find_resources(image: LayerImage | None, psf: PsfChoice | None, values: dict[str, Any]) -> Resources:
    """Find out what a run would need; reads PSF files and asks drivers, so it belongs into another thread.

    torch is asked if it is loaded, and never loaded for this.

    Parameters
    ----------
    image, psf
        ``None`` where there is none: then only the device is known.
    values : dict
        Those of `SETTINGS`, as the form holds them.
    """
    setting = str(values["device"]).strip()
    device, about = describe_device(setting)
    if image is None or psf is None:
        return Resources(device=about)
    from napari_deqmd.psf.prepare import prepare_psf
    from napari_deqmd.scale.plan import arrange

    options = {**values, "device": device, "orientations": int(values["orientations"])}
    shape = image.spatial_shape
    try:
        with quietly():  # the run says them
            kernel = prepare_psf(
                psf.load(image), ndim=len(shape), image_shape=shape, boundary=values["boundary"]
            )
            items = math.prod(image.part.shape) // math.prod(shape)
            plan = arrange(kernel, shape, items=items, itemsize=image.data.dtype.itemsize, **options)
    except UserError:  # Run says it
        return Resources(device=about)
    return Resources(
        device=about,
        needed=plan.needed,
        free=plan.allowed,
        where="" if device == "cpu" else "on it ",
        cut=plan.cut,
        advice=plan.advice,
    )


def describe_device(setting: str) -> tuple[str, str]:
    """Return the torch device, and what it is and why."""
    why = "chosen automatically" if setting == "auto" else "chosen under Advanced"
    if "torch" not in sys.modules:
        if setting == "auto":
            return "cpu", "Device: a GPU if there is one."
        return ("cpu" if setting == "cpu" else "unknown"), f"Device: {setting}, {why}."
    import torch

    from napari_deqmd.core.device import resolve_device

    try:
        device = resolve_device(setting)
    except UserError as error:
        return "unknown", str(error)
    if device == "cpu":
        return device, "CPU: no CUDA device found." if setting == "auto" else f"CPU: {why}."
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return device, f"GPU {name}: {why}."
