"""Pixels without a number, filled from their neighbours for networks that have no mask as their input."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MISSING = -9999.0
"""The number that the field writes where there is none."""
# Largest share of a band's pixels, and of the light of a Gaussian galaxy in the middle, that is filled.
MOST_LOST = 0.2
# Standard deviation of that galaxy, in sides of the stamp: FWHM 2.1 arcsec where the side is 9.
_GALAXY = 0.1


class Filled(NamedTuple):
    """Stamps without lost pixels.

    Attributes:
        pixels: (N, band, y, x) float32; 0 in a band that is not usable.
        usable: (N, band), whether a band is present and has lost at most `MOST_LOST`.
        filled: (N,), whether a usable band has filled pixels.
    """

    pixels: NDArray[np.float32]
    usable: NDArray[np.bool_]
    filled: NDArray[np.bool_]


def is_lost(pixels: np.ndarray) -> NDArray[np.bool_]:
    """Which pixels have no number: not finite, or `MISSING`."""
    return np.asarray(~np.isfinite(pixels) | (pixels == MISSING))


def fill_lost(pixels: np.ndarray, present: np.ndarray | None = None) -> Filled:
    """Fill the lost pixels of stamps with the mean of their neighbours, from the edge of a gap inwards.

    Images are well sampled, so that single pixels and narrow columns come out right to within their noise. What is
    lost in the middle or over a large part is not known: such a band is not usable.

    Args:
        pixels: (N, band, y, x); lost where `is_lost`.
        present: (N, band), whether a band has an image; None: unless all of its pixels are lost.
    """
    lost = is_lost(pixels)
    usable = ~lost.all(axis=(-2, -1)) if present is None else present.copy()
    usable &= _lost_share(lost) <= MOST_LOST
    filled = lost.any(axis=(-2, -1)) & usable
    found = np.where(usable[:, :, None, None], pixels, 0).astype(np.float32)
    for n, band in np.argwhere(filled):
        found[n, band] = _fill(found[n, band], lost[n, band])
    return Filled(found, usable, np.asarray(filled.any(axis=1)))


def _lost_share(lost: np.ndarray) -> NDArray[np.float64]:
    """The larger of the lost shares of the pixels and of the galaxy's light, (N, band)."""
    height, width = lost.shape[-2:]
    along_y, along_x = (
        np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (_GALAXY * side)) ** 2) for side in (height, width)
    )
    light = np.outer(along_y, along_x)
    return np.maximum(lost.mean(axis=(-2, -1)), np.einsum("nbyx,yx->nb", lost, light / light.sum()))


def _fill(image: NDArray[np.float32], lost: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(y, x)."""
    values, known = np.where(lost, 0.0, image).astype(np.float64), ~lost
    while not known.all():
        light, count = _neighbourhood(values), _neighbourhood(known.astype(np.float64))
        new = ~known & (count > 0)
        values[new] = light[new] / count[new]
        known |= new
    return values.astype(np.float32)


def _neighbourhood(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over 3 × 3 pixels, nothing beyond the edge."""
    padded = np.pad(image, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:])
