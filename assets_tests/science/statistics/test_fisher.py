"""Covariances from a Fisher matrix."""

from __future__ import annotations

import numpy as np
import pytest

from deblend_assets.science.statistics.fisher import marginal_covariance


def test_marginal_covariance_is_a_block_of_the_inverse_in_any_units() -> None:
    rng = np.random.default_rng(3)
    root = rng.normal(size=(9, 6))
    information = root.T @ root
    expected = np.linalg.inv(information)[:4, :4]
    assert marginal_covariance(information, 4) == pytest.approx(expected)
    units = 10.0 ** np.array([-8, 6, 0, 3, 7, -5])
    scaled = marginal_covariance(information * np.outer(units, units), 4)
    assert scaled * np.outer(units[:4], units[:4]) == pytest.approx(expected)
    assert np.isnan(marginal_covariance(np.ones((2, 2)), 1)).all(), "two parameters that cannot be told apart"
