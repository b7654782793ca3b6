"""Maps of a whole field, read strip by strip: its images on fewer pixels, and sky and noise of its source-free ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.images.field import BandNoise, Box, Field
from deblend_assets.science.statistics.metrics import robust_sigma

MOST_PIXELS = 1200
"""Greatest side of the images [pixel]."""
# Of the blocks for sky and noise: about so many a side, of at least so many pixels, and the fewest source-free ones.
_BLOCKS, _LEAST_SIDE, _LEAST_FREE = 32, 64, 50
# Pixels of a block that its numbers are from, at most: the error of the level is 0.02 of a pixel's noise.
_ENOUGH = 4000
# Of a strip of a window that is read at a time.
_ROWS = 256

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FieldMaps:
    """Of a field.

    Attributes:
        factor: pixels of the image along a side of one pixel of `images`.
        images: means of the known pixels, (band, y, x) float32 [image unit]; 0 where none is known.
        known: share of the pixels that are known, (band, y, x) float32.
        block: side of the blocks of `level` and `scatter` [pixel].
        level: median of the source-free pixels, (band, Y, X) [σ of a pixel]; NaN where there are few.
        scatter: robust σ of these over the stated one, (band, Y, X).
        free: number of them, (band, Y, X).
    """

    factor: int
    images: NDArray[np.float32]
    known: NDArray[np.float32]
    block: int
    level: Floats
    scatter: Floats
    free: NDArray[np.int64]


def map_field(
    field: Field, noise: Mapping[str, BandNoise], x: Floats, y: Floats, radius: Floats, most: int = MOST_PIXELS
) -> FieldMaps:
    """Read all bands once.

    Args:
        field: as it was given, its sky not subtracted.
        noise: by band.
        x, y: of all sources, (N,) [pixel].
        radius: of the circles that hold their light, (N,) [pixel].
        most: greatest side of the images [pixel].
    """
    height, width = field.shape
    factor = -(-max(height, width) // most)
    block = factor * max(1, round(max(max(height, width) / _BLOCKS, _LEAST_SIDE) / factor))
    small, blocks = (tuple(-(-side // step) for side in (height, width)) for step in (factor, block))
    bands = len(field.names)
    images, known = (np.zeros((bands, *small), np.float32) for _ in range(2))
    level, scatter = (np.full((bands, *blocks), np.nan) for _ in range(2))
    free = np.zeros((bands, *blocks), np.int64)
    for row, strip in enumerate(_strips(Box(0, 0, width, height), block)):
        dark = ~within_circles(strip, x, y, radius)
        low, high = strip.y0 // factor, -(-strip.y1 // factor)
        for k, band in enumerate(field.names):
            pixels, weight, _ = field.bands[band].read(strip.window)
            there = weight > 0
            images[k, low:high], known[k, low:high] = _means(pixels, there, factor)
            sigma = noise[band].sigma
            root = np.sqrt(weight if np.isnan(sigma) else weight / sigma**2)
            for column in range(blocks[1]):
                part = slice(column * block, (column + 1) * block)
                chosen = there[:, part] & dark[:, part]
                free[k, row, column] = number = int(chosen.sum())
                if number >= _LEAST_FREE:
                    values, per_sigma = (
                        plane[:, part][chosen][:: -(-number // _ENOUGH)].astype(np.float64) for plane in (pixels, root)
                    )
                    # Where the photons of each pixel are in its weight, (sky + noise) over σ scatters by less than 1.
                    sky = np.median(values)
                    level[k, row, column] = sky * np.median(per_sigma)
                    scatter[k, row, column] = robust_sigma((values - sky) * per_sigma)
    return FieldMaps(factor, images, known, block, level, scatter, free)


def shrunk_window(
    field: Field, box: Box, bands: Sequence[str], most: int = MOST_PIXELS
) -> tuple[int, NDArray[np.float32], NDArray[np.float32]]:
    """A window of some bands on at most so many pixels a side: `factor`, `images` and `known` of `FieldMaps`."""
    height, width = box.y1 - box.y0, box.x1 - box.x0
    factor = -(-max(height, width) // most)
    images, known = (np.zeros((len(bands), -(-height // factor), -(-width // factor)), np.float32) for _ in range(2))
    for strip in _strips(box, factor * max(1, _ROWS // factor)):
        rows = slice((strip.y0 - box.y0) // factor, -(-(strip.y1 - box.y0) // factor))
        for k, band in enumerate(bands):
            pixels, weight, _ = field.bands[band].read(strip.window)
            images[k, rows], known[k, rows] = _means(pixels, weight > 0, factor)
    return factor, images, known


def within_circles(box: Box, x: Floats, y: Floats, radius: Floats) -> NDArray[np.bool_]:
    """Pixels of a window whose centres lie in any of some circles, (y, x).

    Args:
        box: the window.
        x, y, radius: of the circles, (N,) [pixel of the image]; those that are not finite are left out.
    """
    found = np.zeros((box.y1 - box.y0, box.x1 - box.x0), bool)
    near = (x + radius > box.x0) & (x - radius < box.x1) & (y + radius > box.y0) & (y - radius < box.y1)
    for cx, cy, r in zip((x - box.x0)[near].tolist(), (y - box.y0)[near].tolist(), radius[near].tolist(), strict=True):
        rows, columns = (slice(max(int(c - r), 0), max(int(c + r) + 2, 0)) for c in (cy, cx))
        part = found[rows, columns]
        j, i = np.ogrid[rows.start : rows.start + part.shape[0], columns.start : columns.start + part.shape[1]]
        part |= (i - cx) ** 2 + (j - cy) ** 2 <= r**2
    return found


def _strips(box: Box, rows: int) -> Iterator[Box]:
    for y0 in range(box.y0, box.y1, rows):
        yield Box(box.x0, y0, box.x1, min(y0 + rows, box.y1))


def _means(
    pixels: NDArray[np.float32], known: NDArray[np.bool_], factor: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Means of the known pixels, which are 0 elsewhere, and their share, over squares of pixels."""
    rows, columns = (np.minimum(factor, side - np.arange(0, side, factor)) for side in known.shape)
    there = np.outer(rows, columns).astype(np.float32)
    number = there if known.all() else _sums(known, factor)
    return _sums(pixels, factor) / np.maximum(number, 1), number / there


def _sums(values: NDArray, factor: int) -> NDArray[np.float32]:
    """Sums over squares of pixels; those at the end are of what is left."""
    if factor == 1:
        return values.astype(np.float32)
    for axis in (0, 1):
        left = -values.shape[axis] % factor
        values = np.pad(values, [(0, left if axis == k else 0) for k in (0, 1)]) if left else values
        parts = [values[k::factor] if axis == 0 else values[:, k::factor] for k in range(factor)]
        values = sum(parts[1:], parts[0].astype(np.float32))
    return values
