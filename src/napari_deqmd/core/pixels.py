"""What is known of the single pixels of a camera: maps of its numbers, and which pixels tell nothing."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_opening, distance_transform_edt

from napari_deqmd.core.electrons import check_camera
from napari_deqmd.core.errors import UserError

CAMERA = ("offset", "gain", "read_noise")
"""What may be one number for all pixels, or a map."""


@dataclass(frozen=True, eq=False)
class PixelMaps:
    """Numbers of every pixel, in place of those of a `ReconstructionConfig`; ``None`` is what all pixels share.

    Attributes
    ----------
    offset, gain, read_noise : ndarray, optional, shape (Y, X)
        Counts, counts per photo-electron, electrons.
    mask : ndarray, optional
        Nonzero where a pixel is bad, dead or hot: a reconstruction does not look at it. Of the shape of the image, or
        of its last axes: ``(Y, X)`` serves all planes, times and channels.
    """

    offset: NDArray[Any] | None = None
    gain: NDArray[Any] | None = None
    read_noise: NDArray[Any] | None = None
    mask: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        # In a camera's own integers differences and squares would wrap around.
        for name, values in self.given.items():
            if name in CAMERA and values.dtype.kind in "bui":
                object.__setattr__(self, name, values.astype(np.float32))

    @classmethod
    def among(cls, mask: Any, **camera: Any) -> PixelMaps:
        """Keep what is an array; numbers belong to the configuration."""
        given = {name: np.asarray(value) for name, value in camera.items() if np.ndim(value)}
        return cls(**given, mask=None if mask is None else np.asarray(mask))

    @property
    def given(self) -> dict[str, NDArray[Any]]:
        """What there is, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def typical(self) -> dict[str, Any]:
        """One number for each map of the camera that there is: the median, of the read noise the root mean square."""
        return {
            name: float(np.sqrt(np.mean(np.square(values))) if name == "read_noise" else np.median(values))
            for name, values in self.given.items()
            if name in CAMERA
        }

    def require(self, shape: tuple[int, ...]) -> None:
        """Check that the maps are those of an image of this shape.

        Raises
        ------
        UserError
            Another shape, numbers that no camera has, or no good pixel.
        """
        for name, values in self.given.items():
            fits = values.shape == shape[-2:] if name in CAMERA else _fits(values.shape, shape)
            if values.dtype.kind not in "buif" or not fits:
                wanted = "the image's Y and X" if name in CAMERA else "the image's shape, or its Y and X"
                raise UserError(
                    f"The {name.replace('_', ' ')} map has {values.dtype} values of shape {values.shape} and the image "
                    f"has the shape {shape}: give numbers of {wanted}."
                )
        check_camera(**{name: value for name, value in self.given.items() if name in CAMERA})
        if self.mask is not None and np.all(self.mask):
            raise UserError("The mask marks every pixel as bad: it should be nonzero only where one is.")

    def levelled(self, counts: NDArray[Any], *, offset: float, gain: float) -> NDArray[Any]:
        """Return the counts that a camera would give all of whose pixels have this offset and this gain."""
        if self.offset is None and self.gain is None:
            return counts
        electrons = counts.astype(np.float32)
        electrons -= np.asarray(offset if self.offset is None else self.offset, np.float32)
        electrons /= np.asarray(gain if self.gain is None else self.gain, np.float32)
        return np.asarray(electrons * np.float32(gain) + np.float32(offset))


def mended(counts: NDArray[Any], bad: NDArray[np.bool_], axes: str = "") -> NDArray[Any]:
    """Return counts with the nearest good pixel's of its plane in place of a bad one's, for looks at the whole image.

    A plane that is all bad is as the nearest one that is not.

    Parameters
    ----------
    counts : ndarray, shape (..., Y, X)
    bad : ndarray of bool
        Of the shape of `counts` or of its last axes, and not all of it.
    axes : str
        Letters of those of `counts`, where they may be channels: another one's plane serves where its own has none.
    """
    planes = np.array(counts).reshape(-1, *bad.shape)
    for index in np.ndindex(bad.shape[:-2]):
        if bad[index].any() and not bad[index].all():
            nearest = distance_transform_edt(bad[index], return_distances=False, return_indices=True)
            planes[:, *index] = planes[:, *index][:, *nearest]
    blind = bad.all(axis=(-2, -1))
    if blind.any() and not blind.all():
        steps = [blind.size if letter == "C" else 1 for letter in axes[-bad.ndim : -2]]
        nearest = distance_transform_edt(
            blind, sampling=steps or None, return_distances=False, return_indices=True
        )
        planes[:, blind] = planes[:, *nearest[:, blind]]
    return planes.reshape(counts.shape)


def areas(full: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the saturated pixels ``(..., Y, X)`` that fill squares of 3 x 3: light does, a hot pixel does not."""
    square = np.ones((1,) * (full.ndim - 2) + (3, 3), bool)
    return np.asarray(binary_opening(full, square), bool)


def _fits(mask: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(mask) >= 2 and mask == shape[-len(mask) :]
