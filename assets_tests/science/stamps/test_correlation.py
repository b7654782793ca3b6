"""Errors of sums over correlated noise, against the whole covariance matrix."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deblend_assets.science.stamps.correlation import covariance_of_sums, growth, on_torus

SIDE = 9


def smooth(width: float, reach: int) -> NDArray[np.float64]:
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    return np.outer(line, line)


def matrix(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of every pixel with every other, (y, x, y, x)."""
    reach = len(correlation) // 2
    found = np.zeros((SIDE, SIDE, SIDE, SIDE))
    for y, x, v, u in np.ndindex(found.shape):
        if abs(y - v) <= reach and abs(x - u) <= reach:
            found[y, x, v, u] = correlation[reach + v - y, reach + u - x]
    return found


@pytest.mark.parametrize("reach", [1, 4, 12])
def test_errors_of_sums_are_those_of_correlated_noise(reach: int) -> None:
    """Each of a batch with its own correlation; lags may reach beyond the stamp."""
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(2, 3, SIDE, SIDE))
    lags = np.stack([smooth(width, reach) for width in (0.7, 2.0)])
    found = covariance_of_sums(weights, lags)
    for one, correlation, expected in zip(weights, lags, found, strict=True):
        assert np.allclose(np.einsum("kyx,yxvu,lvu->kl", one, matrix(correlation), one, optimize=True), expected)


def test_white_noise_has_the_sums_of_squares() -> None:
    weights = np.random.default_rng(3).normal(size=(2, SIDE, SIDE))
    white = np.zeros((3, 3))
    white[1, 1] = 1
    assert np.allclose(covariance_of_sums(weights, white), np.einsum("kyx,lyx->kl", weights, weights))
    assert growth(weights[0], white) == 1


def test_growth_of_a_wide_sum_is_the_area_of_the_correlation() -> None:
    """Far from its edges a sum has the variance of Σ ρ white pixels."""
    correlation = smooth(0.8, 4)
    assert growth(np.ones((400, 400)), correlation) == pytest.approx(np.sqrt(correlation.sum()), rel=0.01)


def test_a_kernel_on_a_torus_begins_at_its_middle() -> None:
    kernel = np.arange(15.0, dtype=np.float32).reshape(1, 3, 5)
    found = on_torus(kernel, (6, 7))
    assert found.dtype == np.float32
    assert found.shape == (1, 6, 7)
    for dy in (-1, 0, 1):
        for dx in (-2, -1, 0, 1, 2):
            assert found[0, dy, dx] == kernel[0, 1 + dy, 2 + dx]
    assert found.sum() == kernel.sum()
