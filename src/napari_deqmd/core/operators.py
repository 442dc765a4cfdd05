"""Linear image formation: blur by a PSF, on a periodic or an extended object, with optional pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional

from napari_deqmd.core.errors import UserError

Window = tuple[Any, ...]
"""An index of the last axes of an object, by slices."""


class Operator(Protocol):
    """A linear map from objects ``(B, 1, *object_shape)`` to images ``(B, 1, *image_shape)``."""

    image_shape: tuple[int, ...]
    object_shape: tuple[int, ...]
    sensitivity: Tensor
    """``A^T 1``, ``(1, 1, *object_shape)``."""
    in_plane: float
    """Largest share of its light that the PSF has in one plane: what is left of the brightness of a thin object."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``A x``."""
        ...

    def adjoint(self, v: Tensor) -> Tensor:
        """Return ``A^T v``."""
        ...

    def crop(self, x: Tensor) -> Tensor:
        """Return the part of the object that the image shows."""
        ...

    def near(self, reach: int) -> Window:
        """Return where the object is what the image shows, or at most `reach` pixels beyond that."""
        ...


class Blur:
    """Convolution with a PSF by real FFTs, then average pooling by an integer factor.

    Parameters
    ----------
    psf : Tensor
        Kernel ``([Z,] Y, X)``, or one per image ``(B, 1, [Z,] Y, X)``; non-negative, sum 1, centred on index
        ``size // 2``, sampled on the object's grid.
    image_shape : tuple of int
        Spatial shape of the measured image.
    boundary : {"extended", "periodic"}
        ``"periodic"``: the object wraps around. ``"extended"``: the object lives on the field of view grown by the
        PSF on every side, and ``A`` convolves, then crops; ``A 1 = 1`` in the image and ``A^T 1 < 1`` near the rim.
    downsample : int
        Object pixels per image pixel along every axis (super-resolution), >= 1.
    """

    def __init__(
        self, psf: Tensor, image_shape: tuple[int, ...], *, boundary: str = "extended", downsample: int = 1
    ) -> None:
        ndim = len(image_shape)
        if psf.ndim not in (ndim, ndim + 2):
            raise UserError(
                f"The PSF has {psf.ndim} dimensions and the image {ndim}: give a PSF like the image."
            )
        size = psf.shape[-ndim:]
        self.image_shape = tuple(image_shape)
        self.downsample = downsample
        self.dims = tuple(range(-ndim, 0))
        fine = tuple(downsample * n for n in image_shape)
        if boundary == "periodic":
            if any(k > n for k, n in zip(size, fine, strict=True)):
                raise UserError("The PSF is larger than the image: crop it, or use the extended boundary.")
            self._before = (0,) * ndim
            self.object_shape = fine
            self._fft_shape = fine
        else:
            self._before = tuple(before for before, _ in margins(size, boundary))
            self.object_shape = object_shape(fine, size, boundary)
            self._fft_shape = tuple(next_fast_len(n, real=True) for n in self.object_shape)
        self._fine = fine
        self._window = self.near(0)
        kernel = functional.pad(psf, _pad_to(size, self._fft_shape))
        kernel = torch.roll(kernel, tuple(-(k // 2) for k in size), self.dims)
        self._otf = torch.fft.rfftn(kernel, dim=self.dims)
        self._otf_conj = self._otf.conj().resolve_conj()
        self.in_plane = 1.0 if ndim == 2 else float(psf.flatten(-2).sum(-1).amax(-1).min())
        batch = psf.shape[0] if psf.ndim > ndim else 1
        self.sensitivity = self.adjoint(psf.new_ones((batch, 1, *image_shape)))

    def forward(self, x: Tensor) -> Tensor:
        """Blur, crop, pool: ``(B, 1, *object_shape)`` to ``(B, 1, *image_shape)``."""
        spectrum = torch.fft.rfftn(x, s=self._fft_shape, dim=self.dims)
        spectrum.mul_(self._otf)
        z: Tensor = torch.fft.irfftn(spectrum, s=self._fft_shape, dim=self.dims)[self._window]
        return self._pool(z)

    def adjoint(self, v: Tensor) -> Tensor:
        """Exact transpose of `forward`."""
        v = self._unpool(v)
        if self._fft_shape != self._fine:
            full = v.new_zeros((*v.shape[:2], *self._fft_shape))
            full[self._window] = v
            v = full
        spectrum = torch.fft.rfftn(v, dim=self.dims)
        spectrum.mul_(self._otf_conj)
        x: Tensor = torch.fft.irfftn(spectrum, s=self._fft_shape, dim=self.dims)
        for dim, n in zip(self.dims, self.object_shape, strict=True):
            x = x.narrow(dim, 0, n)
        return x.contiguous()

    def crop(self, x: Tensor) -> Tensor:
        """Return the part of the object inside the field of view, on the object's grid."""
        return x[self._window]

    def near(self, reach: int) -> Window:
        """Return where the object is in the field of view, or at most `reach` of its pixels beyond."""
        places = zip(self._before, self._fine, self.object_shape, strict=True)
        return (..., *(slice(max(0, b - reach), min(whole, b + n + reach)) for b, n, whole in places))

    def _pool(self, z: Tensor) -> Tensor:
        s = self.downsample
        if s == 1:
            return z
        pool = functional.avg_pool2d if len(self.dims) == 2 else functional.avg_pool3d
        pooled: Tensor = pool(z, s)
        return pooled

    def _unpool(self, v: Tensor) -> Tensor:
        s = self.downsample
        if s == 1:
            return v
        for dim in self.dims:
            v = v.repeat_interleave(s, dim)
        return v / float(s ** len(self.dims))


class Masked:
    """Image formation by a camera of which some pixels tell nothing: they see no object, and send nothing back.

    Parameters
    ----------
    operator : Operator
        The image formation of all pixels.
    bad : Tensor of bool
        ``(B or 1, 1, *image_shape)``: where a pixel is dead, hot or saturated.
    """

    def __init__(self, operator: Operator, bad: Tensor) -> None:
        self._inner, self._bad = operator, bad
        self.image_shape, self.object_shape = operator.image_shape, operator.object_shape
        self.in_plane = operator.in_plane
        self.sensitivity = self.adjoint(operator.sensitivity.new_ones((len(bad), 1, *self.image_shape)))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``A x`` where pixels are good, 0 elsewhere."""
        return self._inner.forward(x).masked_fill(self._bad, 0)

    def adjoint(self, v: Tensor) -> Tensor:
        """Exact transpose of `forward`."""
        return self._inner.adjoint(v.masked_fill(self._bad, 0))

    def crop(self, x: Tensor) -> Tensor:
        """Return the part of the object inside the field of view."""
        return self._inner.crop(x)

    def near(self, reach: int) -> Window:
        """Return where the object is in the field of view, or at most `reach` of its pixels beyond."""
        return self._inner.near(reach)


def margins(psf_shape: Sequence[int], boundary: str) -> tuple[tuple[int, int], ...]:
    """Return the pixels by which an object reaches beyond the image, before and after it, along every axis.

    A kernel of size k centred on k // 2 reaches k - 1 - k // 2 pixels before and k // 2 after the image.
    """
    if boundary == "periodic":
        return ((0, 0),) * len(psf_shape)
    return tuple((k - 1 - k // 2, k // 2) for k in psf_shape)


def object_shape(image_shape: Sequence[int], psf_shape: Sequence[int], boundary: str) -> tuple[int, ...]:
    """Return the shape of the object: the image's, grown by all that the PSF brings in where it is extended."""
    grown = zip(image_shape, margins(psf_shape, boundary), strict=True)
    return tuple(size + before + after for size, (before, after) in grown)


def _pad_to(shape: tuple[int, ...] | torch.Size, target: tuple[int, ...]) -> list[int]:
    """Return `torch.nn.functional.pad` amounts that grow `shape` to `target` at the end of every axis."""
    pads: list[int] = []
    for size, wanted in zip(reversed(shape), reversed(target), strict=True):
        pads += [0, wanted - size]
    return pads
