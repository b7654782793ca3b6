"""The detection image: every band filtered with its own seeing, weighted by its noise, and added.

With w the inverse variance, a the electrons a band receives for a common flux, and K a Gaussian kernel,

    F = Σ_bands K ⋆ (w a I) / V,    V = Σ_bands K² ⋆ (w a²)

is the least-squares amplitude of a source of profile K and a flat spectrum at each pixel, from the pixels that have a
weight. A lost pixel adds nothing to either sum; a gap smaller than the kernel is bridged by the pixels around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA

# Kernels end at this many σ.
_REACH = 4.0


@dataclass(frozen=True)
class FilteredImage:
    """The detection image and its noise.

    Attributes:
        amplitude: F, (y, x) float32; 0 where nothing is known.
        sigma: standard deviation of its noise, (y, x) float32; 1 where nothing is known.
        known: (y, x) bool, where enough weight lies under the kernel.
    """

    amplitude: NDArray[np.float32]
    sigma: NDArray[np.float32]
    known: NDArray[np.bool_]


def gaussian_taps(fwhm: float) -> NDArray[np.float64]:
    """One axis of a Gaussian kernel, (2n + 1,) float64, of unit sum; both axes' outer product is the kernel.

    Args:
        fwhm: [pixel].
    """
    sigma = fwhm / FWHM_OVER_SIGMA
    reach = int(np.ceil(_REACH * sigma))
    taps = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
    return np.asarray(taps / taps.sum())


def separable(image: NDArray[np.float64], taps: NDArray[np.float64]) -> NDArray[np.float64]:
    """The image (y, x) filtered with the outer product of `taps` with themselves; 0 beyond the edges."""
    rows = correlate1d(image, taps, axis=0, mode="constant")
    return np.asarray(correlate1d(rows, taps, axis=1, mode="constant"))


def variance_factor(correlation: NDArray[np.float64], taps: NDArray[np.float64]) -> float:
    """Variance of a filtered image of correlated noise over that of white noise of the same variance a pixel.

    Args:
        correlation: of the noise between pixels (y lag, x lag), odd sides, 1 in the middle.
        taps: of the separable kernel.

    Returns:
        Σ ρ(lag) A(lag) / A(0), A the kernel's autocorrelation.
    """
    own = np.correlate(taps, taps, mode="full")
    middle = len(own) // 2
    weights = []
    for lags in correlation.shape:
        lag = np.abs(np.arange(lags) - lags // 2)
        weights.append(np.where(lag <= middle, own[np.minimum(middle + lag, len(own) - 1)], 0.0) / own[middle])
    return float(weights[0] @ correlation @ weights[1])


def filter_bands(
    images: NDArray[np.float32],
    inverse_variance: NDArray[np.float32],
    fwhm: Sequence[float],
    response: NDArray[np.float64],
    correlations: Sequence[NDArray[np.float64] | None],
    least_weight: float,
) -> FilteredImage:
    """The detection image.

    Args:
        images, inverse_variance: (band, y, x), images 0 where the inverse variance is.
        fwhm: of each band's kernel [pixel].
        response: (band,), pixel units that a band receives for a common flux.
        correlations: of each band's noise, as `variance_factor` takes them; None: white.
        least_weight: share of a kernel's weight that has to be known, in one band at least.
    """
    shape = images.shape[1:]
    amplitude, weight, variance = (np.zeros(shape) for _ in range(3))
    known = np.zeros(shape, dtype=bool)
    for image, ivar, width, a, correlation in zip(images, inverse_variance, fwhm, response, correlations, strict=True):
        taps = gaussian_taps(width)
        squares = np.square(taps)
        w = ivar.astype(np.float64)
        amplitude += a * separable(w * image, taps)
        share = a**2 * separable(w, squares)
        weight += share
        variance += share * (1.0 if correlation is None else variance_factor(correlation, taps))
        known |= separable((w > 0).astype(np.float64), squares) > least_weight * squares.sum() ** 2
    safe = np.where(known, weight, 1.0)
    return FilteredImage(
        amplitude=np.where(known, amplitude / safe, 0.0).astype(np.float32),
        sigma=np.where(known, np.sqrt(variance) / safe, 1.0).astype(np.float32),
        known=known,
    )
