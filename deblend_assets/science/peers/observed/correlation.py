"""Errors of linear sums over pixels whose noise is correlated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

Floats = NDArray[np.float64]


def is_white(correlation: NDArray) -> bool:
    """Whether noise of this correlation (lag_y, lag_x) has none between different pixels."""
    return bool(np.count_nonzero(correlation) == 1)


def covariance_of_sums(weights: Floats, correlation: NDArray) -> Floats:
    """Covariance of Σ w n over a stamp of unit-variance noise n.

    Args:
        weights: of K sums, (K, y, x).
        correlation: of the noise, (lag_y, lag_x), odd sides, 1 in the middle.

    Returns:
        (K, K).
    """
    flat = weights.reshape(len(weights), -1)
    if is_white(correlation):
        return np.asarray(flat @ flat.T)
    spread = fftconvolve(weights, correlation[None].astype(np.float64), mode="same", axes=(1, 2))
    return np.asarray(flat @ spread.reshape(flat.shape).T)


def growth(weights: NDArray, correlation: NDArray) -> float:
    """Error of the sum Σ w n with weights (y, x), over that of white noise of the same σ a pixel."""
    if is_white(correlation):
        return 1.0
    weights = weights.astype(np.float64)
    return float(np.sqrt(covariance_of_sums(weights[None], correlation)[0, 0] / (weights**2).sum()))
