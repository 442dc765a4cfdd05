"""Simulated measurements of clean patches: random PSFs, peaks and backgrounds, non-periodic blur, Poisson noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from napari_deqmd.core.allowed import ASCENDING, Limit, NotNegative, Positive, Share, Span, check
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.operators import Blur
from napari_deqmd.core.poisson import per_image, poisson_deviance
from napari_deqmd.core.problem import Problem
from napari_deqmd.core.regularizers import Regularizer
from napari_deqmd.training.blurs import random_psf, random_stack_psf, wide_gaussian
from napari_deqmd.training.data import Sampler

PSF_SIZE = (21, 21)
STACK_PSF_SIZE = (13, 17, 17)
Ends = Annotated[
    tuple[Positive, ...],
    Limit("{}, none or two, the lower first", lambda ends: len(ends) in (0, 2) and ASCENDING.holds(ends)),
]


@dataclass(frozen=True)
class Ranges:
    """What measurements are drawn from.

    Attributes
    ----------
    peak : tuple of float
        Photo-electrons; log-uniform, two thirds of the draws from the middle half of the logarithmic range.
    background : tuple of float
        Share of the peak, log-uniform.
    no_background : float
        Probability of next to no background.
    brightness : tuple of float
        Maximum of a blurred patch, in units of the peak, log-uniform; none: patches are as bright as they are.
    peak_error, background_error : float
        Relative deviation (log-normal) of what the solver is told from what was used: estimates are not exact.
    read_noise : tuple of float
        Deviation of the camera's own noise, electrons, uniform; told exactly, as `to_electrons` takes it.
    psf_error : float
        Relative deviation (log-normal) of the width of the PSF that the solver is told from that of the one used.
    floor : float
        In every other draw the object is nowhere darker than a share of the peak, uniform up to this one: where a
        crowded image shows no background alone, what is found of it leaves the rest to the object.
    """

    peak: Span = (5.0, 1000.0)
    background: Span = (0.005, 0.25)
    no_background: Share = 0.2
    brightness: Ends = (0.4, 1.3)
    peak_error: NotNegative = 0.12
    background_error: NotNegative = 0.05
    read_noise: Annotated[tuple[NotNegative, NotNegative], ASCENDING] = (0.0, 0.0)
    psf_error: NotNegative = 0.0
    floor: NotNegative = 0.0

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Observation:
    """A batch of measured patches.

    Attributes
    ----------
    electrons : Tensor
        ``(B, 1, [Z,] Y, X)``, photo-electrons; of colour images ``(B, C, Y, X)``.
    psf : Tensor
        Of as many dimensions, one channel.
    peak, background : Tensor
        ``(B,)``, as told to the solver, photo-electrons.
    boundary : {"extended", "periodic"}
        What the object is beyond the image.
    upper : float
        Upper bound of the object, as for `Problem.from_electrons`.
    shifted : bool
        Whether the mirror map is shifted by the background, as in `Problem`.
    downsample : int
        Object pixels per image pixel along every axis.
    figure, sign
        What `score` measures, and 1 where more of it is better, -1 where less is.
    coarse : bool
        Whether an object can get better by what `score` does not see.
    teaches : frozenset of str
        What may be trained by the loss: ``"weights"``, and ``"numbers"``, single ones such as a strength.
    """

    figure: ClassVar[str]
    sign: ClassVar[int]
    coarse: ClassVar[bool] = False
    teaches: ClassVar[frozenset[str]] = frozenset({"weights", "numbers"})

    electrons: Tensor
    psf: Tensor
    peak: Tensor
    background: Tensor
    boundary: str = field(default="extended", kw_only=True)
    upper: float = field(default=10.0, kw_only=True)
    shifted: bool = field(default=True, kw_only=True)
    downsample: int = field(default=1, kw_only=True)

    def problem(self, regularizer: Regularizer, **options: Any) -> Problem:
        """Build the reconstruction problem of the batch."""
        shape = tuple(self.electrons.shape[2:])
        operator = Blur(self.psf, shape, boundary=self.boundary, downsample=self.downsample)
        problem = Problem.from_electrons(
            self.electrons,
            operator,
            regularizer,
            peak=self.peak,
            background=self.background,
            **{"upper": self.upper} | options,
        )
        return replace(problem, shifted=self.shifted)

    def __getitem__(self, images: slice) -> Self:
        return self._changed(lambda value: value[images])

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device."""
        return self._changed(lambda value: value.to(device))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Self:
        values: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        tensors = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return type(self)(**values | tensors)

    def loss(self, problem: Problem, x: Tensor) -> Tensor:
        """Return what an object ``x`` costs, ``(B,)``, differentiable: less is better."""
        raise NotImplementedError

    def score(self, problem: Problem, x: Tensor) -> Tensor:
        """Return how good an object ``x`` is, ``(B,)``, in the figure named by `Observation.figure`."""
        raise NotImplementedError


def _mean_square(error: Tensor) -> Tensor:
    return error.square().flatten(1).mean(1)


def _logarithm(error: Tensor) -> Tensor:
    return torch.log(_mean_square(error) + 1e-6)


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "log-mse": _logarithm,
    "mse": _mean_square,
    "l1": lambda error: error.abs().flatten(1).mean(1),
}
"""What an image's error costs. The mean of the first is what the mean PSNR measures; the second is the paper's."""


@dataclass(frozen=True)
class Measurement(Observation):
    """A batch of measured patches whose objects are known.

    Attributes
    ----------
    truth : Tensor
        As `electrons`: the object in the field of view, in units of `peak`.
    criterion : str
        One of `LOSSES`.
    """

    figure = "PSNR, dB"
    sign = 1

    truth: Tensor
    criterion: str = field(default="log-mse", kw_only=True)

    def loss(self, problem: Problem, x: Tensor) -> Tensor:
        """Return what every image's error costs."""
        return LOSSES[self.criterion](self._error(problem, x))

    def score(self, problem: Problem, x: Tensor) -> Tensor:
        """Return every image's PSNR in dB, at the peak that was told and 60 at most: an empty patch has one too."""
        return -10 / math.log(10) * _logarithm(self._error(problem, x))

    def _error(self, problem: Problem, x: Tensor) -> Tensor:
        return problem.likelihood.operator.crop(x) - self.truth


@dataclass(frozen=True)
class Taught(Measurement):
    """A batch of measured patches for whose objects a model's reconstructions stand: not to learn a strength from."""

    teaches = frozenset({"weights"})


@dataclass(frozen=True)
class Recount(Observation):
    """A batch of measured patches and independent counts of the same fields: what an object predicts can be checked.

    Only its blur is: to weights the counts say nothing about what the blur hides.

    Attributes
    ----------
    again : Tensor
        As `electrons`: the other counts.
    exposure : Tensor
        ``(B,)``: mean of `again` over the mean of `electrons`.
    thinned : bool
        `electrons` and `again` are parts of the same counts; else of two exposures, the second the better one.
    """

    figure = "Poisson deviance per pixel"
    sign = -1
    coarse = True
    teaches = frozenset({"numbers"})

    again: Tensor
    exposure: Tensor
    thinned: bool = field(default=False, kw_only=True)

    def whole(self) -> Observation:
        """Return the best counts there are."""
        share = self.exposure + 1 if self.thinned else self.exposure
        counts = self.electrons + self.again if self.thinned else self.again
        return Observation(
            counts, self.psf, share * self.peak, share * self.background, boundary=self.boundary
        )

    def loss(self, problem: Problem, x: Tensor) -> Tensor:
        """Return the mean deviance of the other counts under what ``A x`` and the background predict for them."""
        expected = problem.likelihood.expect(x)
        return poisson_deviance(self.again, per_image(self.exposure * self.peak, expected) * expected)

    def score(self, problem: Problem, x: Tensor) -> Tensor:
        """Return the loss."""
        return self.loss(problem, x)


def field_of_view(patch: Sequence[int], psf: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of the image that a clean patch yields: the object reaches a PSF's half-width beyond it."""
    seen = tuple(n - k + 1 for n, k in zip(patch, psf, strict=True))
    if min(seen) < 1:
        sides, through = (" x ".join(map(str, shape)) for shape in (patch, psf))
        raise UserError(
            f"A patch of {sides} pixels is smaller than the PSF of {through}: choose a larger one."
        )
    return seen


def any_psf(rng: np.random.Generator, wide: float = 0.0) -> np.ndarray:
    """Draw a kernel of the common size; a share of them are wide Gaussians."""
    return fit_psf(wide_gaussian(rng) if wide and rng.random() < wide else random_psf(rng))


def any_stack_psf(rng: np.random.Generator) -> np.ndarray:
    """Draw a 3D kernel of the common size."""
    return fit_psf(random_stack_psf(rng), STACK_PSF_SIZE)


def measure(
    sampler: Sampler,
    step: int,
    batch: int,
    ranges: Ranges | None = None,
    *,
    draw_psf: Callable[[np.random.Generator], np.ndarray] = any_psf,
    boundary: str = "extended",
    **protocol: Any,
) -> Measurement:
    """Draw and measure a batch of clean patches; depends on the sampler's seed and `step` only.

    `draw_psf` returns kernels of one odd size, of sum 1, of as many dimensions as the patches have. With a periodic
    boundary the image shows the whole patch, not its middle only: of a stack that is several times as much to learn
    from. `protocol` holds other options of `Observation`.
    """
    ranges = ranges or Ranges()
    rng = np.random.default_rng([sampler.seed, 2, step])
    clean = sampler.batch(step, batch)
    psf = torch.from_numpy(np.stack([draw_psf(rng) for _ in range(batch)])[:, None])
    shape = field_of_view(sampler.patch, psf.shape[2:]) if boundary == "extended" else sampler.patch
    operator = Blur(psf, shape, boundary=boundary)
    blurred = operator.forward(clean).clamp_min(0)
    low, high = _logs(ranges.peak)
    wide, middle = (
        rng.uniform(low, high, batch),
        rng.uniform(low + (high - low) / 4, high - (high - low) / 4, batch),
    )
    peak = np.exp(np.where(rng.random(batch) < 1 / 3, wide, middle))
    share = np.exp(rng.uniform(*_logs(ranges.background), batch))
    background = np.where(rng.random(batch) < ranges.no_background, 1e-3, share) * peak
    scale = torch.ones(batch)
    if ranges.brightness:
        bright = np.exp(rng.uniform(*_logs(ranges.brightness), batch))
        scale = torch.from_numpy(bright).float() / blurred.flatten(1).amax(1).clamp_min(0.05)
    expected = per_image(scale * torch.from_numpy(peak).float(), blurred) * blurred
    floor = np.zeros(batch)
    if ranges.floor:
        floor = peak * rng.uniform(-ranges.floor, ranges.floor, batch).clip(0)
    expected = expected + per_image(torch.from_numpy(background + floor), blurred)
    counted = rng.poisson(expected.double().numpy())
    told = (peak + floor) * np.exp(ranges.peak_error * rng.standard_normal(batch))
    told_background = background * np.exp(ranges.background_error * rng.standard_normal(batch))
    if ranges.read_noise[1]:
        read_noise = rng.uniform(*ranges.read_noise, (batch,) + (1,) * (counted.ndim - 1))
        counted = np.maximum(counted + read_noise * rng.standard_normal(counted.shape) + read_noise**2, 0)
        told_background = told_background + read_noise.ravel() ** 2
    if ranges.psf_error:
        factors = np.exp(ranges.psf_error * rng.standard_normal(batch))
        wrong = [stretched(kernel[0], factor) for kernel, factor in zip(psf.numpy(), factors, strict=True)]
        psf = torch.from_numpy(np.stack(wrong)[:, None])
    electrons = torch.from_numpy(counted.astype(np.float32))
    truth = operator.crop(clean) * per_image(scale * torch.from_numpy(peak / told).float(), clean)
    truth = truth + per_image(torch.from_numpy(floor / told).float(), truth)
    return Measurement(
        electrons,
        psf,
        torch.from_numpy(told).float(),
        torch.from_numpy(told_background).float(),
        truth,
        boundary=boundary,
        **protocol,
    )


def stretched(kernel: np.ndarray, factor: float) -> np.ndarray:
    """Return a kernel that is `factor` times as wide about the middle of its box, which stays; its sum is 1."""
    middle = (np.array(kernel.shape) - 1) / 2
    wider = ndimage.affine_transform(kernel, np.full(kernel.ndim, 1 / factor), middle - middle / factor)
    return fit_psf(wider.clip(0), kernel.shape)


def _logs(ends: Sequence[float]) -> tuple[float, float]:
    low, high = ends
    return math.log(low), math.log(high)


def fit_psf(psf: np.ndarray, size: Sequence[int] = PSF_SIZE) -> np.ndarray:
    """Cut or pad a kernel of odd sides about its middle to a size of odd sides; its sum is 1."""
    cut = [max(0, (n - k) // 2) for n, k in zip(psf.shape, size, strict=True)]
    psf = psf[tuple(slice(c, n - c) for c, n in zip(cut, psf.shape, strict=True))]
    padded = np.pad(psf / psf.sum(), [((k - n) // 2,) * 2 for n, k in zip(psf.shape, size, strict=True)])
    return np.asarray(padded, dtype=np.float32)
