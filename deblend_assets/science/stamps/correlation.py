"""Errors of linear sums over pixels whose noise is correlated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len, rfft2

Floats = NDArray[np.float64]


def is_white(correlation: NDArray) -> bool:
    """Whether noise of this correlation (lag_y, lag_x) has none between different pixels."""
    return bool(np.count_nonzero(correlation) == 1)


def covariance_of_sums(weights: NDArray[np.floating], correlation: NDArray[np.floating]) -> Floats:
    """Covariance of Σ w n over a stamp of unit-variance noise n.

    Args:
        weights: of K sums, (..., K, y, x).
        correlation: of the noise, (..., lag_y, lag_x), odd sides, 1 in the middle.

    Returns:
        (..., K, K).
    """
    flat = weights.reshape(*weights.shape[:-2], -1)
    middle = correlation.shape[-1] // 2
    if np.count_nonzero(correlation) == np.count_nonzero(correlation[..., middle, middle]):
        return np.asarray(flat @ np.swapaxes(flat, -1, -2), dtype=np.float64)
    # By Parseval's theorem, on a grid on which pixels that its edges join are farther apart than the largest lag.
    reach = [length // 2 for length in correlation.shape[-2:]]
    least = [max(side, lag + 1) + lag for side, lag in zip(weights.shape[-2:], reach, strict=True)]
    grid = [next_fast_len(length, real=True) for length in least]
    torus = np.zeros((*correlation.shape[:-2], *grid))
    torus[..., : correlation.shape[-2], : correlation.shape[-1]] = correlation
    power = rfft2(np.roll(torus, (-reach[0], -reach[1]), axis=(-2, -1))).real
    # Half of the plane stands for the whole.
    power[..., 1 : (grid[1] + 1) // 2] *= 2
    spectra = rfft2(weights, s=grid)
    along = (spectra * power[..., None, :, :]).reshape(*flat.shape[:-1], -1)
    whole = along @ np.swapaxes(spectra.reshape(along.shape).conj(), -1, -2)
    return np.asarray(whole.real / (grid[0] * grid[1]), dtype=np.float64)


def growth(weights: NDArray, correlation: NDArray) -> float:
    """Error of the sum Σ w n with weights (y, x), over that of white noise of the same σ a pixel."""
    if is_white(correlation):
        return 1.0
    weights = weights.astype(np.float64)
    return float(np.sqrt(covariance_of_sums(weights[None], correlation)[0, 0] / (weights**2).sum()))
