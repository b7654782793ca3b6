"""The noise of a band, measured on pixels without a source: its level and its correlation between pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

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


def measure_noise(sample: NoiseSample, lags: int, has_map: bool, where: str) -> BandNoise:
    """Level and correlation of a band's noise.

    The correlation at a lag is that of all pairs of source-free pixels at this distance, in units of the stated noise:
    the median over blocks, of which few hold wings and artefacts. What is within `_SIGNIFICANT` of its errors is 0.
    A band with a noise map that has no known pixel here, such as one that a field lacks, is taken as white.

    Args:
        sample: a window of the band.
        lags: largest lag along an axis [pixel].
        has_map: whether the weights are a noise map.
        where: name of the band in messages.

    Raises:
        MissingDataError: fewer than `LEAST_PIXELS` source-free pixels.
    """
    free = sample.free
    if has_map and not (sample.weight > 0).any():
        return BandNoise(white(lags))
    if free.sum() < LEAST_PIXELS:
        raise MissingDataError(
            f"{int(free.sum())} pixels without a source: too few to measure the noise",
            where=where,
            remedy="give a larger image, or fewer masked pixels",
        )
    whitened = np.where(free, sample.pixels * np.sqrt(sample.weight), 0.0).astype(np.float32)
    sigma = float("nan") if has_map else float(robust_sigma(whitened[free].astype(np.float64)))
    if not has_map and not sigma > 0:
        raise MissingDataError(
            "its source-free pixels have no noise",
            where=where,
            remedy="give the image before it was cleaned or clipped, with NaN or a weight of 0 where it has no data",
        )
    return BandNoise(_correlation(whitened, free, lags), sigma)


def _correlation(image: NDArray[np.float32], free: NDArray[np.bool_], lags: int) -> Floats:
    found = white(lags)
    products, counts = _pairs(image, lags), np.rint(_pairs(free.astype(np.float32), lags))
    number = counts[:, lags, lags]
    good = number >= _LEAST_GOOD * number.max(initial=1.0)
    products, counts, number = products[good], counts[good], number[good]
    variance = products[:, lags, lags] / number
    if not (variance > 0).any():
        return found
    # Half of the lags; the other half are their mirror images.
    for dy, dx in ((dy, dx) for dy in range(lags + 1) for dx in range(-lags, lags + 1) if dy > 0 or dx > 0):
        count = counts[:, lags + dy, lags + dx]
        enough = (count >= 0.25 * number) & (variance > 0)
        if enough.sum() == 0:
            continue
        ratio = products[enough, lags + dy, lags + dx] / count[enough] / variance[enough]
        if enough.sum() < _FEWEST:
            value, error = float(ratio.mean()), 1.0 / float(count[enough].sum()) ** 0.5
        else:
            value = float(np.median(ratio))
            error = MEDIAN_ERROR * float(robust_sigma(ratio)) / len(ratio) ** 0.5
        if abs(value) > _SIGNIFICANT * error:
            found[lags + dy, lags + dx] = found[lags - dy, lags - dx] = value
    return found


def white(lags: int) -> Floats:
    """The correlation of white noise, (2 lags + 1, 2 lags + 1)."""
    found = np.zeros((2 * lags + 1, 2 * lags + 1))
    found[lags, lags] = 1.0
    return found


def _pairs(values: NDArray[np.float32], lags: int) -> Floats:
    """Sums over blocks of each pixel times the one a lag away, (block, y lag, x lag), lag (0, 0) in the middle.

    An image smaller than a block is one; beyond the image there is nothing.
    """
    block = min(_BLOCK, *values.shape)
    rows, columns = (side // block for side in values.shape)
    size = fft.next_fast_len(block + 2 * lags, real=True)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(values, lags), (block + 2 * lags,) * 2)[::block, ::block]
    found = np.empty((rows, columns, 2 * lags + 1, 2 * lags + 1))
    # A row of blocks at a time, for the sake of memory.
    for row in range(rows):
        wide = around[row, :columns]
        own = wide[:, lags : lags + block, lags : lags + block]
        spectra = fft.rfft2(wide, s=(size, size)) * np.conj(fft.rfft2(own, s=(size, size)))
        found[row] = fft.irfft2(spectra, s=(size, size))[:, : 2 * lags + 1, : 2 * lags + 1]
    return found.reshape(rows * columns, 2 * lags + 1, 2 * lags + 1)
