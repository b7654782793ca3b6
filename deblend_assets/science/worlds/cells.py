"""Groups of sources on a grid, far from each other: fields of the worlds `report`, `pairs` and `singles`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CELLS = 8
"""Cells along a side of the image, one group of sources each."""


def cell_side(stamp_side: int, reach: float, pixel_scale: float) -> int:
    """Side of a cell [pixel]: no stamp around a source has the centre of a source of another cell on it.

    Args:
        stamp_side: [pixel].
        reach: greatest distance of a source from its cell's centre [arcsec].
        pixel_scale: [arcsec / pixel].
    """
    return stamp_side + 2 * int(np.ceil(reach / pixel_scale))


def cell_centres(shape: tuple[int, int], rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres x, y of the `CELLS`² cells of an image, moved at random by half a pixel at most, row by row [pixel]."""
    row, column = np.indices((CELLS, CELLS)).reshape(2, -1)
    x, y = ((k + 0.5) * side / CELLS - 0.5 for k, side in ((column, shape[1]), (row, shape[0])))
    return x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, y.size)
