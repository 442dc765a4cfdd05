"""Where a reconstruction ended, for another to go on from."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    objects: tuple[NDArray[np.float32] | None, ...]
    iterations: tuple[int, ...]

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
