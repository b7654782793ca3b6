"""Network and fit together: a measurement that updates a posterior, as Kalman has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deblend_assets.science.deblender.scene_fit import TargetFit
from deblend_assets.science.measuring.fitted_shapes import COLUMNS, WIDER, with_fit
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.model import SkyMeasurement
from deblend_assets.science.sky_shapes.quantities import BLOCKS, QUANTITIES

N, K = 3, len(QUANTITIES)
G1 = QUANTITIES.index("g1")


def network(correlation: float = 0.0) -> SkyMeasurement:
    covariance = 0.04 * np.eye(K)
    covariance[G1, QUANTITIES.index("e1")] = covariance[QUANTITIES.index("e1"), G1] = 0.04 * correlation
    posterior = GaussianPosterior(
        torch.full((N, K), 0.1, dtype=torch.float64),
        covariance=torch.from_numpy(np.tile(covariance, (N, 1, 1))),
        standardized=False,
        blocks=BLOCKS,
    )
    nothing = np.zeros(N)
    return SkyMeasurement(posterior, posterior, nothing, nothing, np.zeros(N, int))


def fit(variance: float, chi2: float = 1.0, blendedness: float = 0.0) -> TargetFit:
    """Of the first two; the last has none."""
    values = np.full((N, 6), 0.2)
    values[:, :2] += 20.0
    values[2] = np.nan
    return TargetFit(values, np.tile(variance * np.eye(6), (N, 1, 1)), np.full(N, chi2), np.full(N, blendedness))


def joined(found: SkyMeasurement, of: TargetFit) -> tuple[np.ndarray, np.ndarray]:
    result = with_fit(found, of, np.full((N, 2), 20.0))
    posterior = result.measurement.posterior
    return posterior.mean.numpy(), posterior.covariance.numpy()


def test_both_are_weighted_by_their_inverse_variances() -> None:
    mean, covariance = joined(network(), fit(0.04 / WIDER))
    np.testing.assert_allclose(mean[:2, COLUMNS], 0.15)
    np.testing.assert_allclose(np.diagonal(covariance, axis1=1, axis2=2)[:2, COLUMNS], 0.02)
    others = np.setdiff1d(np.arange(K), COLUMNS)
    np.testing.assert_allclose(mean[:2, others], 0.1)


def test_without_a_fit_the_network_stays() -> None:
    mean, covariance = joined(network(), fit(1e-6))
    np.testing.assert_array_equal(mean[2], 0.1)
    np.testing.assert_array_equal(covariance[2], 0.04 * np.eye(K))


@pytest.mark.parametrize(
    ("changed", "wide"), [({"chi2": 4.0}, True), ({"blendedness": 0.8}, True), ({"chi2": 0.5}, False)]
)
def test_a_bad_fit_and_a_blend_count_for_less(changed: dict[str, float], wide: bool) -> None:
    plain, _ = joined(network(), fit(0.01))
    less, _ = joined(network(), fit(0.01, **changed))
    assert (less[0, G1] < plain[0, G1] - 1e-3) == wide


def test_what_correlates_with_g_follows_and_covariances_stay_positive() -> None:
    mean, covariance = joined(network(correlation=0.9), fit(1e-9))
    np.testing.assert_allclose(mean[0, QUANTITIES.index("e1")], 0.1 + 0.9 * 0.1, atol=1e-6)
    assert (np.linalg.eigvalsh(covariance) > -1e-12).all()
