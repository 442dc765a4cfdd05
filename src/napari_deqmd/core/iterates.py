"""Where a reconstruction ended, for another to go on from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.core.errors import UserError


@dataclass(frozen=True)
class Iterates:
    """The objects that a reconstruction reached, one for each item of the T and C axes.

    Attributes
    ----------
    objects : tuple of ndarray of float32, or None
        ``(*object_shape)``: with the margin beyond the field of view where the boundary is extended. Photo-electrons,
        so that they hold for another peak too. ``None`` for an item that was not reached.
    iterations : tuple of int
        Iterations of each so far, those of earlier runs included.
    margins : tuple of (int, int), optional
        By how many pixels the objects reach beyond the image, before and after it, along every axis.
    """

    objects: tuple[NDArray[np.float32] | None, ...]
    iterations: tuple[int, ...]
    margins: tuple[tuple[int, int], ...] | None = None

    def moved(self, image: tuple[int, ...], margins: tuple[tuple[int, int], ...]) -> Iterates:
        """Return the same for a run on an image of this shape whose PSF reaches further beyond it, or less far.

        Memory decides how much of a tall PSF is used, so that two runs on the same data may differ in that.
        """
        if self.margins is None or self.margins == margins:
            return self
        own = tuple(n + before + after for n, (before, after) in zip(image, self.margins, strict=True))
        more = [(new[0] - old[0], new[1] - old[1]) for old, new in zip(self.margins, margins, strict=True)]

        def fitted(known: NDArray[np.float32]) -> NDArray[np.float32]:
            kept = tuple(
                slice(max(0, -before), n - max(0, -after))
                for n, (before, after) in zip(own, more, strict=True)
            )
            grown = [(max(0, before), max(0, after)) for before, after in more]
            return np.pad(known[kept], grown, mode="edge")

        objects = (known if known is None or known.shape != own else fitted(known) for known in self.objects)
        return replace(self, objects=tuple(objects), margins=margins)

    def require(self, items: int, shape: tuple[int, ...]) -> None:
        """Check that a run on so many objects of this shape can start here.

        Raises
        ------
        UserError
            Another number of items, another shape, or values that no object has.
        """
        if len(self.objects) != items or len(self.iterations) != items:
            raise UserError(
                f"The start has {len(self.objects)} items and the image {items}: start from a run of the same image."
            )
        for known in self.objects:
            if known is None:
                continue
            if known.shape != shape:
                sizes = [" × ".join(str(size) for size in each) for each in (known.shape, shape)]
                raise UserError(
                    f"The start's object is {sizes[0]} and this run's {sizes[1]}: start from a run of the same image, "
                    "PSF and boundary."
                )
            if not np.isfinite(known).all() or (known < 0).any():
                raise UserError("The start holds negative or invalid numbers: start from the data instead.")
