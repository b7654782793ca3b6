"""The noise-weighted sum of some bands of an image, for methods that measure one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MissingDataError
from deblend_assets.science.simulation.galaxies import NANOJANSKY_ZERO_POINT
from deblend_assets.science.stamps.cutting import ObservedImage

# A band with a larger share of lost pixels is left out.
_MOST_LOST = 0.1


@dataclass(frozen=True, eq=False)
class Summed:
    """One image.

    Attributes:
        pixels: mean of the bands, weighted by their inverse variances, (y, x) float64 [nJy]; 0 where lost.
        noise: standard deviation of a pixel [nJy], typical of the image.
        correlation: of its noise, (lag_y, lag_x).
        lost: in any of the bands, (y, x).
        psf: of the first band, pixel included, (y, x).
    """

    pixels: NDArray[np.float64]
    noise: float
    correlation: NDArray[np.float64]
    lost: NDArray[np.bool_]
    psf: NDArray[np.float64]


def usable_bands(image: ObservedImage, wanted: Sequence[str]) -> tuple[str, ...]:
    """Bands of an image with few lost pixels.

    Args:
        image: of a field.
        wanted: names; those that the image has not are left out.

    Raises:
        MissingDataError: none of them is usable.
    """
    shares = (image.inverse_variance <= 0).mean(axis=(1, 2))
    found = tuple(name for name, lost in zip(image.bands, shares, strict=True) if name in wanted and lost <= _MOST_LOST)
    if not found:
        raise MissingDataError(
            f"none of {' '.join(wanted)} has {1 - _MOST_LOST:.0%} of its pixels",
            where="field",
            remedy="leave the field out",
        )
    return found


def with_bands(image: ObservedImage, names: Sequence[str]) -> ObservedImage:
    """The image with some of its bands, in its order."""
    rows = [image.bands.index(name) for name in image.bands if name in names]
    return replace(
        image,
        bands=tuple(image.bands[k] for k in rows),
        pixels=image.pixels[rows],
        inverse_variance=image.inverse_variance[rows],
        mask=image.mask[rows],
        psf=lambda x, y: image.psf(x, y)[rows],
        noise_correlation=image.noise_correlation[rows],
        zero_point=image.zero_point[rows],
    )


def summed(image: ObservedImage) -> Summed:
    """The sum of all bands, which have one PSF all over the image.

    Args:
        image: of a field.
    """
    unit = 10 ** (-0.4 * (image.zero_point - NANOJANSKY_ZERO_POINT))  # nJy of one image unit
    lost = np.asarray((image.inverse_variance <= 0).any(axis=0))
    inside = image.inverse_variance[:, ~lost].astype(np.float64)
    variance = unit**2 / np.median(inside, axis=1)
    weight = 1 / variance / (1 / variance).sum()
    pixels = np.tensordot(weight * unit, np.where(lost, 0.0, image.pixels), axes=1)
    parts = weight**2 * variance
    correlation = np.tensordot(parts, image.noise_correlation, axes=1) / parts.sum()
    height, width = lost.shape
    psf = image.psf((width - 1) / 2, (height - 1) / 2)[0].astype(np.float64)
    return Summed(pixels, float(np.sqrt(parts.sum())), correlation, lost, psf)
