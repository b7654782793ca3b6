"""Size, shape and wings of PSFs from their images, pixel included: many at once, in a fraction of a millisecond each.

The pixel is taken out first: an image is the PSF convolved with a square pixel, sampled finely enough (FWHM above two
pixels) that its Fourier series gives the PSF itself anywhere. What is measured is then what `psf_shape.measure_psf`
measures on a profile.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.stamps.conventions import shear_from_distortion

Floats = NDArray[np.float64]

# Grid on which the half-maximum contour is found: half width and step [pixel].
_REACH, _STEP = 6.0, 0.25
# Steps of the adaptive moments; each leaves less than half of the last one's error.
_STEPS = 10
# Limits of the moments, for what has none: [pixel²], and as a share of the image's side.
_LEAST, _MOST = 0.05, 0.3
_AT_ONCE = 256


class PSFNumbers(NamedTuple):
    """Of PSFs, arrays of one shape; NaN for an image without light.

    Attributes:
        fwhm: diameter of the circle of the area within the half-maximum contour, before the pixel [pixel].
        g1, g2: shear-type ellipticity of the adaptive moments, before the pixel, pixel frame.
        wings: minus the logarithm of twice the share of the image's light under the Gaussian weight of these moments: 0
            for a Gaussian, 0.2 to 0.4 for Moffat profiles of beta 3.5 to 2.5.
    """

    fwhm: Floats
    g1: Floats
    g2: Floats
    wings: Floats


def measure_psf_images(images: NDArray[np.floating]) -> PSFNumbers:
    """Measure PSFs; an image that occurs several times is measured once.

    Args:
        images: (..., y, x), squares of an odd side [pixel], centred within two pixels of the middle one.
    """
    shape, side = images.shape[:-2], images.shape[-1]
    flat = np.ascontiguousarray(images).reshape(-1, side, side)
    known: dict[bytes, int] = {}
    place = np.array([known.setdefault(image.tobytes(), len(known)) for image in flat], dtype=np.int64)
    first = np.unique(place, return_index=True)[1]
    found = np.full((4, len(first)), np.nan)
    for start in range(0, len(first), _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, len(first)))
        chosen = flat[first[rows]].astype(np.float64)
        lit = np.isfinite(chosen).all(axis=(1, 2)) & (chosen.sum(axis=(1, 2)) > 0)
        found[:, rows[lit]] = _measured(chosen[lit])
    return PSFNumbers(*found[:, place].reshape(4, *shape))


def _measured(images: Floats) -> Floats:
    """FWHM, g1, g2 and wings of (N, side, side), (4, N)."""
    side = images.shape[-1]
    fwhm, x, y = _contour(_without_pixel(images, _fine(side)), _fine(side))
    grid = np.arange(side) - (side - 1) / 2
    light = _without_pixel(images, grid)
    total = light.sum(axis=(1, 2))
    moments = np.stack([fwhm**2, np.zeros_like(fwhm), fwhm**2], axis=1) / (8 * np.log(2))
    for _ in range(_STEPS):
        share, x, y, moments = _step(light, grid, x, y, moments)
    xx, xy, yy = moments.T
    g1, g2 = shear_from_distortion((xx - yy) / (xx + yy), 2 * xy / (xx + yy))
    with np.errstate(all="ignore"):
        return np.stack([fwhm, g1, g2, -np.log(2 * share / total)])


def _step(light: Floats, grid: Floats, x: Floats, y: Floats, moments: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Weighted sum, and centre (x, y) and matched covariance (xx, xy, yy) one step on.

    Under a Gaussian weight of its own covariance a Gaussian has half of it, and half of the offset from the weight's
    centre: the step is twice the residual, which for a Gaussian is Newton's.
    """
    xx, xy, yy = (part[:, None, None] for part in moments.T)
    dx, dy = grid[None, None, :] - x[:, None, None], grid[None, :, None] - y[:, None, None]
    square = (yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / (xx * yy - xy**2)
    weighted = light * np.exp(-0.5 * square)
    share = weighted.sum(axis=(1, 2))
    along_x, along_y = weighted.sum(axis=1), weighted.sum(axis=2)
    dx, dy = dx[:, 0], dy[:, :, 0]
    safe = np.where(share > 0, share, 1.0)
    mean_x, mean_y = (along_x * dx).sum(axis=1) / safe, (along_y * dy).sum(axis=1) / safe
    second = np.stack(
        [
            (along_x * dx**2).sum(axis=1) / safe - mean_x**2,
            ((weighted @ dx[:, :, None])[:, :, 0] * dy).sum(axis=1) / safe - mean_x * mean_y,
            (along_y * dy**2).sum(axis=1) / safe - mean_y**2,
        ],
        axis=1,
    )
    updated = 4 * second - moments
    side = len(grid)
    updated[:, ::2] = np.clip(updated[:, ::2], _LEAST, (_MOST * side) ** 2)
    most = 0.9 * np.sqrt(updated[:, 0] * updated[:, 2])
    updated[:, 1] = np.clip(updated[:, 1], -most, most)
    most_off = side / 4
    x, y = (np.clip(at + 2 * mean, -most_off, most_off) for at, mean in ((x, mean_x), (y, mean_y)))
    return share, x, y, updated


def _contour(fine: Floats, grid: Floats) -> tuple[Floats, Floats, Floats]:
    """Diameter of the circle of the half-maximum contour's area, and x, y of the peak [pixel], (N,) each.

    Args:
        fine: PSFs on a grid of a fraction of a pixel, (N, M, M).
        grid: of both axes, (M,) [pixel].
    """
    number, most, step = np.arange(len(fine)), len(grid) - 2, grid[1] - grid[0]
    row, column = np.unravel_index(fine.reshape(len(fine), -1).argmax(axis=1), fine.shape[1:])
    row, column = np.clip(row, 1, most), np.clip(column, 1, most)
    peak = fine[number, row, column]
    height = peak.copy()
    for before, after in (
        (fine[number, row - 1, column], fine[number, row + 1, column]),
        (fine[number, row, column - 1], fine[number, row, column + 1]),
    ):
        curvature = before - 2 * peak + after
        curved = curvature < 0
        height -= np.where(curved, (after - before) ** 2 / (8 * np.where(curved, curvature, 1.0)), 0.0)
    height = height[:, None, None]
    slope = np.hypot(*np.gradient(fine, axis=(1, 2)))
    # A pixel counts by the share of it that lies inside the contour, a straight line at its scale.
    inside = np.clip((fine - 0.5 * height) / np.maximum(slope, 1e-3 * np.abs(height) + 1e-30) + 0.5, 0.0, 1.0)
    return 2 * step * np.sqrt(inside.sum(axis=(1, 2)) / np.pi), grid[column], grid[row]


def _fine(side: int) -> Floats:
    """The contour's grid, at most as wide as the image [pixel]."""
    half = int(min(_REACH, (side - 1) / 2) / _STEP)
    return _STEP * np.arange(-half, half + 1)


def _without_pixel(images: Floats, grid: Floats) -> Floats:
    """PSFs before the pixel on a grid, (N, M, M), from their images (N, side, side); positions from the middle pixel."""
    operator = _operator(images.shape[-1], tuple(grid.tolist()))
    return np.asarray(operator @ images @ operator.T)


@functools.lru_cache(maxsize=8)
def _operator(side: int, grid: tuple[float, ...]) -> Floats:
    """Values on a grid, by the Fourier series of the samples of an axis over the transform of a pixel, (M, side)."""
    frequency = np.arange(1, (side + 1) // 2) / side
    apart = np.asarray(grid)[:, None] - (np.arange(side) - (side - 1) / 2)
    waves = np.cos(2 * np.pi * apart[:, :, None] * frequency) / np.sinc(frequency)
    return np.asarray((1 + 2 * waves.sum(axis=2)) / side)
