"""The noise of a field's bands: level and correlation are those that were put in; masks, weights and lost bands."""

from __future__ import annotations

import numpy as np
import pytest

from assets_tests.science.detection.images import correlated_noise
from assets_tests.science.images.samples import drawn, field_of, flux_of, galaxy, grid, noise
from deblend_assets.errors import MissingDataError
from deblend_assets.science.images.noise import NoiseSample, measure_noise
from deblend_assets.science.measuring.field_look import look_at

SHAPE, LAGS = (200, 200), 6


def sample(pixels: np.ndarray, weight: float | np.ndarray = 1.0) -> NoiseSample:
    return NoiseSample(pixels, np.broadcast_to(weight, pixels.shape), np.ones(pixels.shape, bool))


def test_white_noise_has_its_level_and_no_correlation() -> None:
    """Its error is σ / √(2 N) times 1.65, of a robust estimate."""
    found = measure_noise(sample(noise(SHAPE, 1, 7.3)), LAGS, has_map=False, where="r")
    assert found.sigma == pytest.approx(7.3, abs=4 * 7.3 * 1.65 / np.sqrt(2 * 200**2))
    assert found.correlation.shape == (13, 13)
    assert found.correlation[6, 6] == 1
    # 3σ of 84 lags: rarely one, and a small one.
    assert np.count_nonzero(found.correlation) <= 5
    assert np.abs(np.delete(found.correlation.ravel(), 84)).max() < 0.03


@pytest.mark.parametrize("smoothing", [0.7, 1.0, 1.5])
def test_smoothed_noise_has_its_level_and_correlation(smoothing: float) -> None:
    pixels, truth = correlated_noise(SHAPE, smoothing, np.random.default_rng(3))
    found = measure_noise(sample(4.0 * pixels), LAGS, has_map=False, where="r")
    # Σ ρ² = 2π s²: so many pixels have one number.
    assert found.sigma == pytest.approx(4.0, rel=4 * 1.17 * np.sqrt(np.pi * smoothing**2 / 200**2))
    assert np.abs(found.correlation - truth).max() < 0.1
    np.testing.assert_array_equal(found.correlation, found.correlation[::-1, ::-1])


def test_with_a_noise_map_the_level_is_the_map_s_and_changes_from_place_to_place() -> None:
    pixels, truth = correlated_noise(SHAPE, 1.0, np.random.default_rng(4))
    sigma = np.linspace(1, 9, SHAPE[1])[None]
    found = measure_noise(sample(sigma * pixels, sigma**-2.0), LAGS, has_map=True, where="r")
    assert np.isnan(found.sigma)
    assert np.abs(found.correlation - truth).max() < 0.05


def test_too_few_pixels_and_an_image_without_noise_are_refused() -> None:
    few = sample(noise((19, 21), 5))
    with pytest.raises(MissingDataError, match="399 pixels without a source"):
        measure_noise(few, LAGS, has_map=True, where="r")
    with pytest.raises(MissingDataError, match="no noise"):
        measure_noise(sample(np.zeros((30, 30))), LAGS, has_map=False, where="r")


def test_a_band_without_any_known_pixel_is_white() -> None:
    lost = NoiseSample(np.zeros(SHAPE), np.zeros(SHAPE), np.zeros(SHAPE, bool))
    found = measure_noise(lost, LAGS, has_map=True, where="r")
    assert found.correlation.sum() == 1
    with pytest.raises(MissingDataError, match="0 pixels"):
        measure_noise(lost, LAGS, has_map=False, where="r")


def test_the_look_at_a_field_measures_between_its_galaxies() -> None:
    """36 galaxies of S/N 30 in noise of σ = 5 that is smoothed, without a noise map; a tenth of the pixels is lost."""
    x, y = grid(SHAPE[0], 28)
    profile = galaxy()
    light = drawn(SHAPE, x, y, flux_of(30, profile, 5.0), profile)
    unit, truth = correlated_noise(SHAPE, 0.8, np.random.default_rng(6))
    image = light + 5 * unit
    image[:, 90:110] = np.nan
    look = look_at(field_of({"r": image}, weight=None))
    assert look.noise["r"].sigma == pytest.approx(5.0, rel=0.04)
    assert np.abs(look.noise["r"].correlation - truth).max() < 0.07
    assert look.fwhm[0] == pytest.approx(0.8 / 0.2, rel=0.1)
    assert look.side >= 8 * look.fwhm[0]
    assert abs(look.sky["r"].level) < 0.1
