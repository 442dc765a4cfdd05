"""What the Estimate button finds: channel by channel where there are several, as a run does by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_deqmd.core.errors import UserError
from napari_deqmd.core.photons import Photons, estimate_photons, photon_histogram
from napari_deqmd.widgets.form import default
from napari_deqmd.widgets.layers import LayerImage


@dataclass(frozen=True)
class Estimate:
    """Photo-electrons of an image.

    Attributes
    ----------
    photons : Photons
        Of all of it; of several channels only what it says of the camera is of use.
    histogram : tuple of ndarray
        Edges and counts, as `photon_histogram` returns them.
    channels : dict of int to Photons
        Of each channel, where several are meant.
    """

    photons: Photons
    histogram: tuple[np.ndarray, np.ndarray]
    channels: dict[int, Photons]

    @property
    def summary(self) -> str:
        """Peak and background in words."""
        each = [f"channel {place}: {photons.summary}" for place, photons in self.channels.items()]
        return "; ".join(each) or self.photons.summary

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the user."""
        if not self.channels:
            return self.photons.warnings
        camera = self.photons.camera
        shared = () if camera is None else tuple(filter(None, (camera.cannot_tell, *camera.warnings)))
        own = (
            f"Channel {place}: {sentence}"
            for place, photons in self.channels.items()
            for sentence in photons.warnings
        )
        return (*shared, *own)


def find_photons(image: LayerImage, camera: Mapping[str, float], read_noise: float | None) -> Estimate:
    """Estimate peak and background, and offset and gain where both were left alone; belongs into the other thread.

    Raises
    ------
    UserError
        There is nothing in the image, or in one of its channels.
    """
    counts = image.basis()
    untouched = all(value == default(name) for name, value in camera.items())
    asked: dict[str, Any] = dict.fromkeys(camera, "auto") if untouched else dict(camera)
    photons = estimate_photons(counts, **asked, axes=image.axes, read_noise=read_noise)
    offset, gain = photons.offset, photons.gain
    places = image.channels if len(image.channels) > 1 else ()
    each = {}
    for place in places:
        try:
            each[place] = estimate_photons(
                image.channel(place).basis(), offset=offset, gain=gain, read_noise=read_noise
            )
        except UserError as error:
            raise UserError(f"Channel {place}: {error}") from error
    return Estimate(photons, photon_histogram(counts, offset=offset, gain=gain), each)
