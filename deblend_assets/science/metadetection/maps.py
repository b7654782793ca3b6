"""Tiles of constant PSF, and maps of noise and lost pixels, around the shear operator."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from deblend_assets.science.metadetection.filling import Holes
from deblend_assets.science.stamps.cutting import ObservedImage

Floats = NDArray[np.float64]

# The PSF is taken at the middle of squares of this side [pixel].
_TILE = 128
# Of the filter's squared values, what may lie on a wide hole: so far these grow.
_SPREAD = 0.01


@dataclass(frozen=True, eq=False)
class Tile:
    """Pixels x0 ≤ x < x1, y0 ≤ y < y1 and the PSF there, (band, y, x)."""

    x0: int
    y0: int
    x1: int
    y1: int
    psf: NDArray[np.floating]


def tiles_of(image: ObservedImage) -> list[Tile]:
    """Tiles of the image, row by row; one alone where the PSF is the same everywhere."""
    height, width = image.pixels.shape[1:]
    rows, columns = (
        np.linspace(0, side, max(round(side / _TILE), 1) + 1).round().astype(int).tolist() for side in (height, width)
    )
    found = []
    for y0, y1 in pairwise(rows):
        for x0, x1 in pairwise(columns):
            found.append(Tile(x0, y0, x1, y1, image.psf((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2)))
    if all(np.array_equal(tile.psf, found[0].psf) for tile in found):
        return [Tile(0, 0, width, height, found[0].psf)]
    return found


def moved(matrix: Floats, shape: tuple[int, ...], x: NDArray, y: NDArray) -> tuple[Floats, Floats]:
    """Positions multiplied by a matrix about an image's middle."""
    centre = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    moved = (np.stack([x, y], axis=-1).astype(np.float64) - centre) @ matrix.T + centre
    return moved[..., 0], moved[..., 1]


def continued(variance: Floats, lost: NDArray[np.bool_]) -> Floats:
    """The variance of a band with that of the nearest known pixel where it is lost; 1 where nothing is known."""
    if lost.all():
        return np.ones_like(variance)
    if not lost.any():
        return variance
    nearest = ndimage.distance_transform_edt(lost, return_distances=False, return_indices=True)
    return np.asarray(variance[tuple(nearest)])


def convolved(values: Floats, kernel: Floats) -> Floats:
    """Values convolved with a kernel of sum 1 on a torus, the image continued by its edge."""
    if np.ptp(values) == 0:
        return values
    reach = len(kernel) // 2
    padded = np.pad(values, reach, mode="edge")
    shape = tuple(fft.next_fast_len(side, real=True) for side in padded.shape)
    torus = np.zeros(shape)
    torus[: len(kernel), : len(kernel)] = np.roll(kernel, (reach, reach), axis=(0, 1))
    spread = fft.irfft2(fft.rfft2(padded, s=shape) * fft.rfft2(torus), s=shape)
    height, width = values.shape
    # The kernel's middle lies `reach` pixels from the torus's first one.
    return np.asarray(spread[2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width])


def grown(holes: Holes, squared: Floats) -> NDArray[np.bool_]:
    """Wide holes, grown by the filter's reach; and what lies as near to the image's end."""
    reach = len(squared) // 2
    y, x = np.ogrid[-reach:reach, -reach:reach]
    radius = np.hypot(x, y)
    profile = np.roll(squared, (reach, reach), axis=(0, 1))
    sums = np.array([profile[radius > r].sum() for r in range(reach)])
    grow = int(np.argmax(sums < _SPREAD))
    padded = np.pad(holes.wide, 1, constant_values=True)
    away = ndimage.distance_transform_edt(~padded)[1:-1, 1:-1]
    return np.asarray(away <= grow)
