"""Several methods on one image, one after the other, as one job; and what a reference says of their results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.pixels import PixelMaps
from napari_deqmd.core.watching import Interrupted
from napari_deqmd.widgets.messages import note
from napari_deqmd.widgets.reports import Job

if TYPE_CHECKING:
    from napari_deqmd.core.resolution import RingCorrelation

JobFactory = Callable[..., Job]

# The brightness that contrast limits are set by.
_BRIGHT = 99.8
# Side of the windows of the structural similarity, and the least it is defined for.
_WINDOW, _LEAST_WINDOW = 7, 3


@dataclass(frozen=True)
class Contender:
    """A method with its settings, and the name under which it is compared."""

    label: str
    config: ReconstructionConfig


@dataclass(frozen=True)
class Outcome:
    """How a contender ended.

    Attributes
    ----------
    place : int
        Its number among the contenders.
    image : ndarray or None
        ``([Z,] Y, X)``, photo-electrons; ``None`` where it failed.
    failure : str
        One sentence why there is no image, or no `halves`; else empty.
    halves : RingCorrelation or None
        Agreement of the reconstructions of two halves of the photons.
    """

    place: int
    contender: Contender
    image: np.ndarray | None = None
    iterations: int = 0
    seconds: float = 0.0
    stopped_by: str = ""
    report: dict[str, Any] = dataclasses.field(default_factory=dict)
    bright: float = 0.0
    failure: str = ""
    halves: RingCorrelation | None = None


@dataclass(frozen=True)
class Progress:
    """One step: of which contender, of which of its `parts` (the image, then the halves of its photons).

    Where a contender or its halves came to an end, `ended` says how.
    """

    place: int
    contender: Contender
    part: int
    parts: int
    iteration: int = 0
    ended: Outcome | None = None


class Comparison:
    """Runs the contenders one after the other; one that fails does not keep the others from running.

    Parameters
    ----------
    image : ndarray
        ``([Z,] Y, X)``, camera counts.
    psf : ndarray
    contenders : sequence of Contender
        All with the same camera.
    factory : callable
        ``(image, psf, config, start, maps) -> Job``.
    voxel_size : tuple of float or None
        Micrometres; unknown, frequencies are in cycles per pixel.
    halves : bool
        Reconstruct two halves of the photons, too.
    maps : PixelMaps, optional
        Which pixels are bad.

    Raises
    ------
    UserError
        An image that is none.
    """

    def __init__(
        self,
        image: np.ndarray,
        psf: np.ndarray,
        contenders: Sequence[Contender],
        factory: JobFactory,
        *,
        voxel_size: tuple[float, ...] | None = None,
        halves: bool = False,
        maps: PixelMaps | None = None,
    ) -> None:
        from napari_deqmd.core.electrons import to_electrons
        from napari_deqmd.core.resolution import split_photons

        camera = contenders[0].config
        #: The image in photo-electrons.
        self.electrons, _ = to_electrons(image, offset=camera.offset, gain=camera.gain)
        self._image, self._psf, self._factory, self._maps = image, psf, factory, maps
        self._contenders = contenders
        self._voxel_size = voxel_size or 1.0
        # With the read noise's variance added electrons are as good as Poisson, and their halves independent.
        dealt, _ = to_electrons(image, offset=camera.offset, gain=camera.gain, read_noise=camera.read_noise)
        self._halves = split_photons(dealt, np.random.default_rng(camera.seed)) if halves else ()
        self._outcomes: dict[int, Outcome] = {}

    def steps(self) -> Generator[Progress, None, None]:
        """Run; closing the generator keeps what is done, and the current iterate."""
        parts = 1 + len(self._halves)
        for place, contender in enumerate(self._contenders):
            begin = Progress(place, contender, 0, parts)
            try:
                result = yield from self._run(begin, self._image, contender.config)
            except Exception as error:  # the others go on
                yield self._end(begin, Outcome(place, contender, failure=note(error)))
                continue
            outcome = _outcome(begin, result)
            yield self._end(begin, outcome)
            if self._halves:
                try:
                    pair = []
                    for part, half in enumerate(self._halves, start=1):
                        step = dataclasses.replace(begin, part=part)
                        result = yield from self._run(step, half, _at_half(contender.config, outcome.report))
                        pair.append(result.image)
                    outcome = dataclasses.replace(outcome, halves=self._correlate(*pair))
                except Exception as error:  # the result stands without it
                    outcome = dataclasses.replace(outcome, failure=note(error))
                yield self._end(dataclasses.replace(begin, part=parts - 1), outcome)

    def result(self) -> tuple[Outcome, ...]:
        """Return what came to an end, in order."""
        return tuple(self._outcomes[place] for place in sorted(self._outcomes))

    def _run(
        self, begin: Progress, image: np.ndarray, config: ReconstructionConfig
    ) -> Generator[Progress, None, Any]:
        job = self._factory(image, self._psf, config, None, self._maps)
        last = None
        try:
            with closing(job.steps()) as steps:
                for last in steps:
                    yield dataclasses.replace(begin, iteration=last.step.iteration)
        except (GeneratorExit, Interrupted):
            if begin.part == 0 and last is not None:
                self._outcomes[begin.place] = _outcome(begin, job.result())
            raise
        return job.result()

    def _end(self, progress: Progress, outcome: Outcome) -> Progress:
        self._outcomes[outcome.place] = outcome
        return dataclasses.replace(progress, iteration=outcome.iterations, ended=outcome)

    def _correlate(self, first: np.ndarray, second: np.ndarray) -> RingCorrelation:
        from napari_deqmd.core.resolution import fourier_ring_correlation

        return fourier_ring_correlation(first, second, self._voxel_size)


@dataclass(frozen=True)
class Scores:
    """What a reference says of an image.

    Attributes
    ----------
    psnr : float
        dB, the peak being the reference's maximum.
    ssim : float or None
        ``None`` for images too small for it.
    nrmse : float
        Root of the mean squared error, over that of the reference.
    factor : float
        What the reference was multiplied by.
    rings : RingCorrelation
    """

    psnr: float
    ssim: float | None
    nrmse: float
    factor: float
    rings: RingCorrelation


def score(image: np.ndarray, reference: np.ndarray, voxel_size: tuple[float, ...] | None = None) -> Scores:
    """Measure an image by a reference, brought to the image's photo-electrons by the least-squares factor.

    Raises
    ------
    UserError
        Another shape, or a reference without anything in common with the image.
    """
    from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

    from napari_deqmd.core.resolution import THRESHOLD_TO_TRUTH, fourier_ring_correlation

    check_reference(reference, image.shape)
    truth = np.asarray(reference, dtype=np.float64)
    if not np.isfinite(truth).all():
        raise UserError("The reference holds NaN or infinite values: choose another layer.")
    power = float((truth**2).sum())
    factor = float((image * truth).sum()) / power if power else 0.0
    if not factor > 0:
        raise UserError("The reference has nothing in common with the image: choose another layer.")
    truth = factor * truth
    top = float(truth.max())
    window = min(_WINDOW, *(size - 1 + size % 2 for size in image.shape))
    with np.errstate(divide="ignore"):  # of equal images it is infinite
        psnr = float(peak_signal_noise_ratio(truth, image, data_range=top))
    return Scores(
        psnr=psnr,
        ssim=float(structural_similarity(truth, image.astype(np.float64), data_range=top, win_size=window))
        if window >= _LEAST_WINDOW
        else None,
        nrmse=float(normalized_root_mse(truth, image)),
        factor=factor,
        rings=fourier_ring_correlation(image, truth, voxel_size or 1.0, threshold=THRESHOLD_TO_TRUTH),
    )


def check_reference(reference: Any, shape: tuple[int, ...]) -> None:
    """Refuse a reference of another shape than the image."""
    if tuple(reference.shape) != tuple(shape):
        sizes = [" × ".join(map(str, size)) for size in (reference.shape, shape)]
        raise UserError(f"The reference is {sizes[0]} but the image is {sizes[1]}: choose another layer.")


def bright(image: np.ndarray) -> float:
    """Return how bright an image is where it is bright."""
    return float(np.percentile(image, _BRIGHT))


def _outcome(progress: Progress, result: Any) -> Outcome:
    return Outcome(
        progress.place,
        progress.contender,
        image=result.image,
        iterations=result.report["iterations"],
        seconds=result.report["seconds"],
        stopped_by=result.stopped_by,
        report=result.report,
        bright=bright(result.image),
    )


def _at_half(config: ReconstructionConfig, report: dict[str, Any]) -> ReconstructionConfig:
    """Return the settings for half the photo-electrons: half the peak and half the background that were used."""
    halves = {name: report[name] / 2 for name in ("peak", "background") if name in report}
    if "background" in halves:
        halves["background"] += config.read_noise**2 / 2
    return dataclasses.replace(config, offset=0.0, gain=1.0, read_noise=0.0, **halves)
