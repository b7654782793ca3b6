"""Every pixel of a field read once: how much of each band is known, and a small picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.images.field import Box, Field
from deblend_assets.science.statistics.metrics import robust_sigma

# Greatest side of the picture, and rows that are read at a time [pixel].
_SIDE, _ROWS = 400, 512


class Overview(NamedTuple):
    """A field at a coarse scale.

    Attributes:
        images: means of the known pixels of squares, (band, y, x) float32 [image unit].
        inverse_variance: of these, 0 where no pixel is known, (band, y, x) float32.
        known: share of the pixels that are known, (band,).
        step: side of a square [pixel].
    """

    images: NDArray[np.float32]
    inverse_variance: NDArray[np.float32]
    known: NDArray[np.float64]
    step: int


def overview(field: Field) -> Overview:
    """Read all pixels, some rows at a time.

    Raises:
        CorruptDataError: pixels of a file cannot be read.
    """
    height, width = field.shape
    step = -(-max(height, width) // _SIDE)
    shape = (len(field.bands), -(-height // step), -(-width // step))
    sums, counts = np.zeros(shape), np.zeros(shape)
    rows = max(_ROWS // step, 1) * step
    for band, observation in enumerate(field.bands.values()):
        for y0 in range(0, height, rows):
            pixels, weight, _ = observation.read(Box(0, y0, width, min(y0 + rows, height)).window)
            strip = slice(y0 // step, y0 // step - (-len(pixels) // step))
            sums[band, strip] = _squares(pixels.astype(np.float64), step)
            counts[band, strip] = _squares((weight > 0).astype(np.float64), step)
    images = sums / np.maximum(counts, 1)
    sigma = np.array([_noise(image[count > 0]) for image, count in zip(images, counts, strict=True)])
    return Overview(
        images.astype(np.float32),
        np.where(counts > 0, sigma[:, None, None] ** -2, 0).astype(np.float32),
        counts.sum(axis=(1, 2)) / (height * width),
        step,
    )


def _squares(values: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """Sums over squares; those at the far edges may be smaller."""
    starts = [np.arange(0, length, step) for length in values.shape]
    return np.asarray(np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1))


def _noise(values: NDArray[np.float64]) -> float:
    """Of the pixels of the picture; 1 where that cannot be said."""
    sigma = float(robust_sigma(values)) if len(values) else 0.0
    return sigma if sigma > 0 else 1.0
