"""S/N of detections: a matched filter over all bands, at each detection's best size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA

# Gaussian σ of the profiles before the PSF, in units of the seeing's.
SIZES = (0.0, 0.5, 1.0, 1.7, 3.0, 5.0)
# Profiles end at this many σ.
_REACH = 3.5


@dataclass(frozen=True)
class Signal:
    """Matched-filter signal of N detections.

    Attributes:
        snr: over all bands, (N,).
        bands: of each band, signed, (N, band); NaN without a pixel of weight.
        sigma: Gaussian σ of the best profile before the PSF [pixel], (N,).
        masked: share of that profile's light that falls on pixels without weight, mean over the bands that have any
            weight under it, (N,); 1 without a band.
    """

    snr: NDArray[np.float64]
    bands: NDArray[np.float64]
    sigma: NDArray[np.float64]
    masked: NDArray[np.float64]


def measure_signal(
    images: NDArray[np.float32],
    inverse_variance: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    segments: NDArray[np.int32],
    fwhm: Sequence[float],
    seeing: float,
    correlations: Sequence[NDArray[np.float64] | None],
) -> Signal:
    """Matched-filter S/N at given positions.

    The profile is a round Gaussian behind each band's seeing (taken as Gaussian). Each band has a free amplitude A of
    error σ_A; χ² = Σ (A/σ_A)², at the size (of `SIZES`) with the greatest χ². S/N = √(χ² − number of bands): noise
    alone has χ² equal to the number of bands in the mean. Pixels that belong to other detections are left out. For
    galaxies it is within a few per cent of that of a filter of the true profile (docs/detection.md).

    Args:
        images, inverse_variance: (band, y, x), images 0 where the inverse variance is.
        x, y: (N,) [pixel].
        segments: (y, x), n + 1 on the pixels of detection n, 0 on the sky.
        fwhm: of each band's PSF [pixel].
        seeing: FWHM whose σ is the unit of `SIZES` [pixel].
        correlations: of each band's noise (see `variance_factor`); None: white.
    """
    count, bands = len(x), len(images)
    psf = np.asarray(fwhm, dtype=np.float64) / FWHM_OVER_SIGMA
    sizes = np.asarray(SIZES) * seeing / FWHM_OVER_SIGMA
    sigmas = np.sqrt(np.square(psf)[:, None] + np.square(sizes))
    factors = np.stack([_gaussian_factor(c, s) for c, s in zip(correlations, sigmas, strict=True)])
    reaches = np.ceil(_REACH * sigmas.max(axis=0)).astype(int)
    best = np.full(count, -np.inf)
    found = Signal(np.zeros(count), np.full((count, bands), np.nan), np.zeros(count), np.ones(count))
    for n in range(count):
        for k, reach in enumerate(reaches):
            window = _window(x[n], y[n], reach, images.shape[1:])
            own = (segments[window] == 0) | (segments[window] == n + 1)
            weight = inverse_variance[(slice(None), *window)] * own
            profile_y, profile_x = _profiles(x[n], y[n], window, sigmas[:, k])
            light = np.einsum("by,byx,bx->b", profile_y, weight * images[(slice(None), *window)], profile_x)
            norm = np.einsum("by,byx,bx->b", profile_y**2, weight, profile_x**2)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = light / np.sqrt(norm * factors[:, k])
            seen = norm > 0
            square = float(np.square(ratio[seen]).sum()) - float(seen.sum())
            if square > best[n]:
                best[n] = square
                found.bands[n] = np.where(seen, ratio, np.nan)
                found.sigma[n] = sizes[k]
                known = np.einsum("by,byx,bx->b", profile_y, inverse_variance[(slice(None), *window)] > 0, profile_x)
                total = 2 * np.pi * sigmas[:, k] ** 2
                found.masked[n] = 1 - np.minimum(known[seen] / total[seen], 1).mean() if seen.any() else 1.0
    found.snr[:] = np.sqrt(np.maximum(best, 0.0))
    return found


def _window(x: float, y: float, reach: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    column, row = round(x), round(y)
    return (
        slice(max(row - reach, 0), max(min(row + reach + 1, shape[0]), 0)),
        slice(max(column - reach, 0), max(min(column + reach + 1, shape[1]), 0)),
    )


def _profiles(
    x: float, y: float, window: tuple[slice, slice], sigma: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both axes of the Gaussians, (band, y) and (band, x), 1 in the middle."""
    along_y = np.arange(window[0].start, window[0].stop) - y
    along_x = np.arange(window[1].start, window[1].stop) - x
    exponent = -0.5 / np.square(sigma)[:, None]
    return np.exp(exponent * np.square(along_y)), np.exp(exponent * np.square(along_x))


def _gaussian_factor(correlation: NDArray[np.float64] | None, sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """`variance_factor` of Gaussian profiles of each σ [pixel]: their autocorrelation has √2 times their σ."""
    if correlation is None:
        return np.ones(len(sigma))
    lag_y, lag_x = (np.arange(n) - n // 2 for n in correlation.shape)
    squares = lag_y[:, None] ** 2 + lag_x**2
    return np.asarray([(correlation * np.exp(-squares / (4 * s**2))).sum() for s in sigma])
