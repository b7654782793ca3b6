"""Errors of linear sums over pixels whose noise is correlated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2

Floats = NDArray[np.float64]
AnyFloat = TypeVar("AnyFloat", np.float32, np.float64)


def is_white(correlation: NDArray) -> bool:
    """Whether noise of this correlation (lag_y, lag_x) has none between different pixels."""
    return bool(np.count_nonzero(correlation) == 1)


def on_torus(kernels: NDArray[AnyFloat], shape: Sequence[int]) -> NDArray[AnyFloat]:
    """Kernels (..., lag_y, lag_x) of odd sides, their middle at the first pixel of a torus, (..., y, x).

    Args:
        kernels: no larger than the torus.
        shape: (y, x) of the torus.
    """
    height, width = kernels.shape[-2:]
    torus = np.zeros((*kernels.shape[:-2], *shape), dtype=kernels.dtype)
    torus[..., :height, :width] = kernels
    return np.roll(torus, (-(height // 2), -(width // 2)), axis=(-2, -1))


def correlated(weights: NDArray[np.floating], correlation: NDArray[np.floating]) -> Floats:
    """Images times the correlation matrix of a stamp's noise: Σ over pixels q of w(q) ρ(p - q), at every pixel p.

    Args:
        weights: K images, (..., K, y, x).
        correlation: of the noise, (..., lag_y, lag_x), odd sides, 1 in the middle.

    Returns:
        (..., K, y, x) float64.
    """
    middle = correlation.shape[-1] // 2
    if np.count_nonzero(correlation) == np.count_nonzero(correlation[..., middle, middle]):
        return np.asarray(weights, dtype=np.float64)
    # On a grid on which pixels that its edges join are farther apart than the largest lag.
    height, width = weights.shape[-2:]
    reach = [length // 2 for length in correlation.shape[-2:]]
    least = [max(side, lag + 1) + lag for side, lag in zip((height, width), reach, strict=True)]
    grid = [next_fast_len(length, real=True) for length in least]
    power = rfft2(on_torus(correlation.astype(np.float64), grid)).real
    spectra = rfft2(weights, s=grid) * power[..., None, :, :]
    return np.asarray(irfft2(spectra, s=grid)[..., :height, :width], dtype=np.float64)


def covariance_of_sums(weights: NDArray[np.floating], correlation: NDArray[np.floating]) -> Floats:
    """Covariance of Σ w n over a stamp of unit-variance noise n, (..., K, K).

    Args:
        weights, correlation: see `correlated`.
    """
    spread = correlated(weights, correlation)
    flat = weights.reshape(*weights.shape[:-2], -1)
    return np.asarray(flat @ np.swapaxes(spread.reshape(flat.shape), -1, -2), dtype=np.float64)


def growth(weights: NDArray, correlation: NDArray) -> float:
    """Error of the sum Σ w n with weights (y, x), over that of white noise of the same σ a pixel."""
    if is_white(correlation):
        return 1.0
    weights = weights.astype(np.float64)
    return float(np.sqrt(covariance_of_sums(weights[None], correlation)[0, 0] / (weights**2).sum()))
