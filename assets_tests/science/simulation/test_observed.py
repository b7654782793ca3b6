"""The observed distortion and its band."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from deblend_assets.errors import MismatchError
from deblend_assets.science.simulation.observed import adaptive_moments, reference_band


def test_the_reference_band_is_the_present_one_nearest_to_r() -> None:
    bands = ("u", "g", "r", "i", "z", "Y")
    present = np.array(
        [[1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1], [1, 1, 0, 0, 1, 1], [1, 0, 0, 0, 1, 1], [1, 0, 0, 0, 0, 1]]
    )
    found = reference_band(bands, present.astype(bool))
    assert [bands[k] for k in found] == ["r", "i", "g", "z", "u"]
    assert reference_band(("Y",), np.array([[True]])).tolist() == [0]
    with pytest.raises(MismatchError, match="without any band"):
        reference_band(bands, np.zeros((2, 6), bool))
    with pytest.raises(MismatchError, match="unknown bands H"):
        reference_band(("r", "H"), np.ones((2, 2), bool))


def test_a_gaussian_behind_a_gaussian_has_the_sum_of_their_covariances() -> None:
    galaxy, psf = galsim.Gaussian(sigma=0.5).shear(g1=0.3, g2=0.1), galsim.Gaussian(sigma=0.3)
    image = galsim.Convolve(galaxy, psf).drawImage(nx=64, ny=64, scale=0.1, method="no_pixel", offset=(0.5, -0.25))
    found = adaptive_moments(image.array[None], np.array([32.0]), np.array([31.0]), 5.0)
    shear = galsim.Shear(g1=0.3, g2=0.1).getMatrix()
    covariance = 0.25 * shear @ shear.T + 0.09 * np.eye(2)
    trace = np.trace(covariance)
    assert found.e1[0] == pytest.approx((covariance[0, 0] - covariance[1, 1]) / trace, abs=1e-5)
    assert found.e2[0] == pytest.approx(2 * covariance[0, 1] / trace, abs=1e-5)
    assert found.sigma[0] == pytest.approx(10 * np.linalg.det(covariance) ** 0.25, rel=1e-4)
    assert found.x[0] == pytest.approx(31.5 + 0.5, abs=1e-4), "the middle of 64 pixels, moved by half a pixel"
    assert found.y[0] == pytest.approx(31.5 - 0.25, abs=1e-4)


def test_what_has_no_light_has_no_moments() -> None:
    found = adaptive_moments(np.zeros((2, 32, 32)), np.full(2, 16.0), np.full(2, 16.0), 2.0)
    assert all(np.isnan(values).all() for values in found)
