"""The noise of a band, measured on pixels without a source: its level and its correlation between pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MissingDataError
from deblend_assets.science.images.field import BandNoise
from deblend_assets.science.statistics.metrics import MEDIAN_ERROR, robust_sigma

LEAST_PIXELS = 400
"""Fewest source-free pixels of a band on which its noise is measured."""
# Side of the blocks over which medians are taken [pixel], the least share of good pixels of one, and the fewest blocks.
_BLOCK, _LEAST_GOOD, _FEWEST = 32, 0.2, 8
# A correlation below so many of its errors is taken as 0.
_SIGNIFICANT = 3.0

Floats = NDArray[np.float64]


class NoiseSample(NamedTuple):
    """A window of one band.

    Attributes:
        pixels: without the sky, (y, x) [image unit].
        weight: as given, (y, x); of a band without a noise map 1 where the pixel is known.
        free: known pixels without a source, (y, x).
    """

    pixels: NDArray[np.floating]
    weight: NDArray[np.floating]
    free: NDArray[np.bool_]


def measure_noise(samples: list[NoiseSample], lags: int, has_map: bool, where: str) -> BandNoise:
    """Level and correlation of a band's noise.

    The correlation at a lag is that of all pairs of source-free pixels at this distance, in units of the stated noise:
    the median over blocks, of which few hold wings and artefacts. What is within `_SIGNIFICANT` of its errors is 0.
    A band with a noise map that has no known pixel here, such as one that a field lacks, is taken as white.

    Args:
        samples: windows of the band.
        lags: largest lag along an axis [pixel].
        has_map: whether the weights are a noise map.
        where: name of the band in messages.

    Raises:
        MissingDataError: fewer than `LEAST_PIXELS` source-free pixels.
    """
    free = sum(int(sample.free.sum()) for sample in samples)
    if has_map and not any((sample.weight > 0).any() for sample in samples):
        return BandNoise(_white(lags))
    if free < LEAST_PIXELS:
        raise MissingDataError(
            f"{free} pixels without a source: too few to measure the noise",
            where=where,
            remedy="give a larger image, or fewer masked pixels",
        )
    whitened = [np.where(s.free, s.pixels * np.sqrt(s.weight), 0.0).astype(np.float32) for s in samples]
    values = np.concatenate([image[s.free] for image, s in zip(whitened, samples, strict=True)])
    sigma = float("nan") if has_map else float(robust_sigma(values.astype(np.float64)))
    if not has_map and not sigma > 0:
        raise MissingDataError(
            "its source-free pixels have no noise",
            where=where,
            remedy="give the image before it was cleaned or clipped",
        )
    return BandNoise(_correlation(whitened, [s.free for s in samples], lags), sigma)


def _correlation(images: list[NDArray[np.float32]], free: list[NDArray[np.bool_]], lags: int) -> Floats:
    found = _white(lags)
    variance = np.concatenate([_blocks(image**2) for image in images])
    number = np.concatenate([_blocks(good) for good in free])
    good = number >= _LEAST_GOOD * number.max(initial=1.0)
    variance = variance[good] / number[good]
    if not (variance > 0).any():
        return found
    # Half of the lags; the other half are their mirror images.
    for dy, dx in ((dy, dx) for dy in range(lags + 1) for dx in range(-lags, lags + 1) if dy > 0 or dx > 0):
        pairs = [_pairs(np.float32, image, dy, dx) for image in images], [_pairs(np.float32, f, dy, dx) for f in free]
        product, count = (np.concatenate([_blocks(part) for part in parts])[good] for parts in pairs)
        enough = (count >= 0.25 * number[good]) & (variance > 0)
        if enough.sum() == 0:
            continue
        ratio = product[enough] / count[enough] / variance[enough]
        if enough.sum() < _FEWEST:
            value, error = float(ratio.mean()), 1.0 / float(count[enough].sum()) ** 0.5
        else:
            value = float(np.median(ratio))
            error = MEDIAN_ERROR * float(robust_sigma(ratio)) / len(ratio) ** 0.5
        if abs(value) > _SIGNIFICANT * error:
            found[lags + dy, lags + dx] = found[lags - dy, lags - dx] = value
    return found


def _white(lags: int) -> Floats:
    """The correlation of white noise."""
    found = np.zeros((2 * lags + 1, 2 * lags + 1))
    found[lags, lags] = 1.0
    return found


def _pairs(dtype: type, values: NDArray, dy: int, dx: int) -> NDArray:
    """Each pixel times the one (dy, dx) away, 0 where there is none; dy ≥ 0."""
    height, width = values.shape
    product: NDArray = np.zeros(values.shape, dtype)
    if dy >= height or abs(dx) >= width:
        return product
    left, right = max(-dx, 0), width - max(dx, 0)
    here = (slice(0, height - dy), slice(left, right))
    there = (slice(dy, height), slice(left + dx, right + dx))
    product[here] = values[here].astype(dtype, copy=False) * values[there].astype(dtype, copy=False)
    return product


def _blocks(values: NDArray) -> Floats:
    """Sums over blocks, one number a block; an image smaller than one is one block."""
    block = min(_BLOCK, *values.shape)
    height, width = (side // block for side in values.shape)
    whole = values[: height * block, : width * block].reshape(height, block, width, block)
    return np.asarray(whole.sum(axis=(1, 3), dtype=np.float64).ravel())
