"""The inverse of a stamp's noise against explicit covariances, noise as it is made, and Fourier space."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from numpy.typing import NDArray

from deblend_assets.science.skies.inverse_noise import InverseNoise
from deblend_assets.science.skies.noise import WHITE, NoiseCorrelation, resampled

SIDE = 12


def slanted() -> NoiseCorrelation:
    """Positive, without any symmetry but inversion."""
    kernel = np.zeros((5, 5))
    kernel[1, 1], kernel[2, 2], kernel[2, 3] = 0.3, 1.0, 0.5
    spectrum = np.abs(np.fft.fft2(kernel, s=(16, 16))) ** 2
    values = np.roll(np.fft.ifft2(spectrum).real, (3, 3), axis=(0, 1))[:7, :7]
    return NoiseCorrelation(values / values[3, 3])


def covariance(correlation: NoiseCorrelation, variance: NDArray) -> NDArray[np.float64]:
    """Pixel by pixel."""
    side = len(variance)
    lags = correlation.lags(side)
    found = np.empty((side**2, side**2))
    for i in range(side**2):
        for j in range(side**2):
            dy, dx = i // side - j // side, i % side - j % side
            found[i, j] = lags[side + dy, side + dx]
    root = np.sqrt(variance.ravel())
    return found * np.outer(root, root)


@pytest.mark.parametrize("correlation", [WHITE, slanted()], ids=["white", "correlated"])
@pytest.mark.parametrize("lost", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("side", [SIDE, SIDE - 1], ids=["even", "odd"])
def test_sums_are_those_of_the_inverse_covariance(correlation: NoiseCorrelation, lost: float, side: int) -> None:
    rng = np.random.default_rng(1)
    columns, variance = rng.normal(size=(4, side, side)), rng.uniform(1, 9, (side, side))
    seen = rng.random((side, side)) >= lost
    seen[side // 2, side // 2] = not lost  # of an odd side the pixel that has no partner
    kept = seen.ravel()
    whole = covariance(correlation, variance)[np.ix_(kept, kept)]
    flat = columns.reshape(4, -1)[:, kept]
    expected = flat @ np.linalg.solve(whole, flat.T)
    holes = np.where(seen, variance, np.nan)  # whatever a lost pixel's variance is
    found = InverseNoise(correlation, side, white_part=0.0).gram(columns, holes, seen)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_an_estimate_from_noise_as_it_is_made_scatters_as_its_error_says() -> None:
    rng = np.random.default_rng(2)
    correlation, draws = slanted(), 3000
    variance = rng.uniform(1, 9, (SIDE, SIDE))
    seen = rng.random((SIDE, SIDE)) > 0.1
    profiles = np.stack([np.ones((SIDE, SIDE)), np.tile(np.linspace(-1, 1, SIDE), (SIDE, 1))])
    noise = np.stack([correlation.sample((SIDE, SIDE), rng) for _ in range(draws)]) * np.sqrt(variance)
    gram = InverseNoise(correlation, SIDE).gram(np.concatenate([profiles, noise]), variance, seen)
    error = np.linalg.inv(gram[:2, :2])
    estimates = error @ gram[:2, 2:]
    assert np.cov(estimates) == pytest.approx(error, abs=4 * error.max() / (draws / 2) ** 0.5)
    assert estimates.std(axis=1) / np.sqrt(np.diag(error)) == pytest.approx(1.0, abs=4 / (2 * draws) ** 0.5)


def test_the_flux_of_a_star_is_as_well_known_as_fourier_space_says() -> None:
    correlation, side = resampled("bilinear"), 41
    star = galsim.Moffat(beta=4.0, fwhm=0.7).drawImage(nx=side, ny=side, scale=0.2, dtype=float).array
    power = correlation.power((side, side))
    waves = np.abs(np.fft.rfft2(star)) ** 2 / power
    twice = np.full(waves.shape[1], 2.0)
    twice[0] = 1.0
    information = float((waves * twice).sum()) / side**2
    found = InverseNoise(correlation, side).gram(star[None], np.ones((side, side)), np.ones((side, side), bool))
    assert found[0, 0] == pytest.approx(information, rel=0.01)
