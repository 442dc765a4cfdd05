"""How far an image is from what its reconstruction expects: whether PSF, gain and background are those of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from napari_deqmd.core.poisson import sum_images
from napari_deqmd.core.problem import Problem

# Right numbers end below it: what total variation takes off bright points came to 1.33 at most.
_FITS = 1.5
# Standard deviations of what chance may add.
_CHANCE = 5.0
# Iterations before which nothing can be said.
_FEWEST = 10


@dataclass(frozen=True)
class Fit:
    """How well counts agree with their expectation.

    Attributes
    ----------
    ratio : float
        Squared differences of counts and expectation over their variance, ``sum (n - mu)^2 / sum mu``: about 1 for the
        counts of the model, less where noise was fitted, more where it does not explain them. Sums are divided, and not
        pixels: one count where almost none was expected would outweigh an image.
    chance : float
        Standard deviation that Poisson counts of this expectation give it.
    pixels : int
        How many told.
    peak : float
        Photo-electrons, the unit of an objective.
    light : float
        Photo-electrons expected in all of them.
    """

    ratio: float
    chance: float
    pixels: int
    peak: float
    light: float = 1.0

    @classmethod
    def of(cls, problem: Problem, x: Tensor, left_out: Tensor | None = None) -> Fit:
        """Compare a reconstruction with its image: one ``A``.

        Parameters
        ----------
        problem : Problem
            Of one image.
        x : Tensor
            ``(1, 1, *object_shape)``: the object, in units of the peak.
        left_out : Tensor of bool, optional
            ``(1, 1, *image_shape)``: pixels that tell nothing, or only a bound.
        """
        like, peak = problem.likelihood, float(problem.peak)
        z = like.expect(x)
        mu, error = peak * z, peak * (like.y - z)
        if left_out is not None:
            mu, error = mu.masked_fill(left_out, 0), error.masked_fill(left_out, 0)
        pixels = like.y.numel() - (0 if left_out is None else int(left_out.sum()))
        total = max(float(sum_images(mu)), 1e-12)
        chance = math.sqrt(float(sum_images(mu + 2 * mu**2))) / total
        return cls(float(sum_images(error**2)) / total, chance, pixels, peak, total)

    @classmethod
    def together(cls, fits: Sequence[Fit]) -> Fit:
        """Return the fit of an image from those of its parts."""
        if len(fits) == 1:
            return fits[0]
        light = sum(fit.light for fit in fits)
        ratio = sum(fit.ratio * fit.light for fit in fits) / light
        chance = math.hypot(*(fit.chance * fit.light for fit in fits)) / light
        return cls(ratio, chance, sum(fit.pixels for fit in fits), fits[0].peak, light)

    def warnings(self, objectives: Sequence[float]) -> tuple[str, ...]:
        """Say if the image is further from its expectation than the model, chance and too few iterations explain.

        `objectives` are those of all iterations: what their second half gained a mean pixel may be gained twice again.
        """
        if len(objectives) < _FEWEST:
            return ()
        gained = 2 * self.peak * (objectives[len(objectives) // 2 - 1] - objectives[-1]) / max(self.pixels, 1)
        if not self.ratio - 2 * max(gained, 0.0) > _FITS + _CHANCE * self.chance:
            return ()
        return (
            f"The image does not fit what was told, it is {self.ratio:.3g} times as far from what is expected as noise "
            "explains: check the PSF, the gain and the background.",
        )
