"""Noise of twins: in each image what a survey has, and the same in all of them once the shear is undone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from assets_tests.science.metadetection.images import observed
from deblend_assets.science.field_shear.twin_noise import TwinNoise, twin_noise
from deblend_assets.science.metadetection.kernels import gaussian_images
from deblend_assets.science.metadetection.operator import ShearOperator
from deblend_assets.science.skies.noise import WHITE, NoiseCorrelation, measured_correlation, resampled
from deblend_assets.science.stamps.resampling import shear_matrix, sheared_images

SIDE, SHEAR, DRAWS = 96, 0.1 - 0.05j, 8
PSF = gaussian_images([1.6**2 * np.eye(2)], 33)
LAGS = 2


def drawn(correlation: NoiseCorrelation, seed: int, shear: complex = SHEAR, turns: int = 0) -> TwinNoise:
    return twin_noise([correlation], PSF, (SIDE, SIDE), [seed], shear, turns)


@pytest.mark.parametrize("correlation", [WHITE, resampled("lanczos3")], ids=["white", "correlated"])
def test_each_image_has_the_noise_of_its_survey(correlation: NoiseCorrelation) -> None:
    pairs = [drawn(correlation, seed) for seed in range(DRAWS)]
    for part, wanted in ((0, correlation), (1, WHITE)):
        images = np.stack([pair[part][0] for pair in pairs]).astype(np.float64)
        found = np.mean([measured_correlation(image, LAGS) for image in images], axis=0)

        assert images.var() == pytest.approx(1.0, abs=0.025)
        assert found == pytest.approx(wanted.lags(LAGS), abs=0.02)
    both = np.stack([(pair.own * pair.added)[0] for pair in pairs])
    assert abs(both.mean()) < 0.02


def without_shear(noise: NDArray[np.float32], shear: complex) -> NDArray[np.float64]:
    """Smoothed, on the unsheared sky, without its edge."""
    smooth = ndimage.gaussian_filter(noise[0].astype(np.float64), 2.0)
    moved = sheared_images(torch.from_numpy(smooth), shear_matrix(shear.real, shear.imag, np.eye(2))).numpy()
    return moved[20:-20, 20:-20]


def correlation_of(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_noise_moves_with_shear_and_turn() -> None:
    shear = 0.02 - 0.01j
    first = without_shear(drawn(WHITE, 3, shear).own, shear)
    for sign, turns in ((-1, 0), (1, 1), (-1, 1)):
        twin = without_shear(drawn(WHITE, 3, sign * shear, turns).own, sign * shear)

        assert correlation_of(first, np.rot90(twin, turns)) > 0.95
    assert correlation_of(first, without_shear(drawn(WHITE, 4, shear).own, shear)) < 0.5


def behind_metadetection(noise: TwinNoise, shear: float) -> NDArray[np.float64]:
    """Pure noise under an artificial shear, (y, x), without its edge."""
    operator = ShearOperator(observed(noise.own, PSF[0]), noise=noise.added, sigma=np.array([2.0]))
    return operator.sheared(shear, 0.0).image.pixels[0, 20:-20, 20:-20].astype(np.float64)


def test_a_real_shear_changes_the_noise_as_an_artificial_one_does() -> None:
    shear = 0.01
    still, moved = (drawn(WHITE, 3, g + 0j) for g in (1e-9, shear))
    artificial, real, other = (
        behind_metadetection(noise, g)
        for noise, g in ((still, shear), (moved, 0.0), (moved._replace(added=still.added), 0.0))
    )

    assert (artificial - real).std() < 0.02 * real.std() < (artificial - other).std()
