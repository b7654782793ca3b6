"""The sky of an image: whether some of it is left in, and taking it off in two passes."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import sep
from numpy.typing import NDArray

from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.science.statistics.metrics import MEDIAN_ERROR

# Mesh of SEP's background [pixel].
_MESH = 64
# Level of the sky [sky σ] and its significance from which on a user is told.
LEAST_LEVEL, SIGNIFICANT = 0.02, 3.0


class SkyLevel(NamedTuple):
    """What is left of the sky in a band.

    Attributes:
        level: median of the source-free pixels [σ of one pixel]; light of what is not detected is in it.
        error: of it, correlation of the noise included.
    """

    level: float
    error: float

    @property
    def seen(self) -> bool:
        """Whether it is more than 0, beyond its error."""
        return abs(self.level) > max(LEAST_LEVEL, SIGNIFICANT * self.error)


def sky_level(image: ObservedImage, band: int, free: NDArray[np.bool_]) -> SkyLevel:
    """The sky of one band.

    Args:
        image: of a window.
        band: its number.
        free: known pixels without a source, (y, x).
    """
    values = (image.pixels[band] * np.sqrt(image.inverse_variance[band]))[free]
    if not len(values):
        return SkyLevel(float("nan"), float("nan"))
    # The variance of a mean of correlated noise is larger by the sum of the correlations.
    wider = max(float(image.noise_correlation[band].sum()), 1e-2)
    return SkyLevel(float(np.median(values)), MEDIAN_ERROR * float(np.sqrt(wider / len(values))))


def without_background(image: ObservedImage, free: NDArray[np.bool_]) -> ObservedImage:
    """The image less SEP's background of its source-free pixels.

    Args:
        image: of a window.
        free: known pixels without a source, of each band, (band, y, x).
    """
    planes = []
    for pixels, weight, good in zip(image.pixels, image.inverse_variance, free, strict=True):
        if not good.any():
            planes.append(pixels)
            continue
        plain = np.ascontiguousarray(np.where(good, pixels, 0), np.float32)
        sky = sep.Background(plain, mask=~good, bw=_MESH, bh=_MESH).back()
        planes.append(np.where(weight > 0, pixels - sky, 0))
    return replace(image, pixels=np.stack(planes).astype(np.float32))
