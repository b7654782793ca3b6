"""Galaxies of one kind alone on their stamps, through the shipped model: lost columns, and a band without light.

N is such that a fault shows by many standard errors; docs/trust.md has the figures of more.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from assets_tests.science.images.samples import PSF, SCALE, drawn, flux_of, galaxy, noise
from deblend_assets.science.measuring.filled_stamps import fill_holes, has_holes
from deblend_assets.science.measuring.sky_catalog import measure_catalog
from deblend_assets.science.measuring.sky_scene import measure_scenes
from deblend_assets.science.simulation.galaxies import nanojansky
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.steps.measuring.model import load_sky_model

SIDE, MIDDLE = 49, 24


@pytest.fixture(scope="module")
def model() -> SkyModel:
    return load_sky_model(None)


def alone(pixels: NDArray, bands: str, position: NDArray) -> ObservedStamps:
    """Stamps of images (N, band, y, x) with white noise of σ = 1, behind `PSF`."""
    n, b = pixels.shape[:2]
    psf = PSF.drawImage(nx=41, ny=41, scale=SCALE).array
    return ObservedStamps(
        bands=tuple(bands),
        pixels=pixels,
        inverse_variance=np.ones(pixels.shape, np.float32),
        mask=np.zeros(pixels.shape, np.uint16),
        psf=np.broadcast_to(psf / psf.sum(), (n, b, 41, 41)),
        noise_correlation=np.ones((n, b, 1, 1)),
        position=position,
        others=np.full((n, 1, 2), np.nan),
        others_count=np.zeros(n, np.int32),
        corner=np.zeros((n, 2), np.int32),
        pixel_scale=np.full(n, SCALE),
        zero_point=np.full((n, b), 30.0),
        jacobian=np.broadcast_to(SCALE * np.eye(2), (n, 2, 2)),
        sky_position=np.full((n, 2), np.nan),
    )


@pytest.fixture(scope="module")
def round_ones() -> ObservedStamps:
    """48 round galaxies of S/N 50 in r."""
    position = MIDDLE + np.random.default_rng(8).uniform(-0.5, 0.5, (48, 2))
    profile, flux = galaxy(), flux_of(50, galaxy())
    light = np.stack([drawn((SIDE, SIDE), [x], [y], flux, profile) for x, y in position])
    return alone((light + noise(light.shape, 8))[:, None], "r", position)


@pytest.fixture(scope="module")
def holed(round_ones: ObservedStamps) -> ObservedStamps:
    """The same with weight 0 in columns x0 + 4 to x0 + 6."""
    weight = round_ones.inverse_variance.copy()
    weight[..., MIDDLE + 4 : MIDDLE + 7] = 0
    return replace(round_ones, inverse_variance=weight)


def test_lost_columns_beside_galaxies_do_not_turn_them(
    round_ones: ObservedStamps, holed: ObservedStamps, model: SkyModel
) -> None:
    """from_the_field #8: means within 2e-3, which 2,000 stamps show; the noise is the same with and without.

    Means of 48 differences that scatter by 0.03 have errors of 0.004; without the filling g1 is off by -0.043.
    """
    whole, found = (measure_catalog(model, stamps, responses=0.0) for stamps in (round_ones, holed))
    for name in ("g1", "g2", "g1_likelihood", "g2_likelihood"):
        change = (found[name] - whole[name]).to_numpy()
        assert abs(change.mean()) < 2e-3 + 3 * change.std() / np.sqrt(len(change)) < 0.02, name
    assert found["flux_r"].mean() == pytest.approx(whole["flux_r"].mean(), rel=0.02)
    assert (found["g_cov_11"] > whole["g_cov_11"]).mean() > 0.9, "a hole costs information"


def test_filled_pixels_have_light_and_noise_and_the_others_stay(
    round_ones: ObservedStamps, holed: ObservedStamps, model: SkyModel
) -> None:
    some = holed.rows(slice(8))
    scene = measure_scenes(model, some)
    lost = some.inverse_variance == 0
    np.testing.assert_array_equal(scene.seen.pixels[~lost], some.pixels[~lost])
    # Opposite of the outermost rows there may be no pixel.
    assert (scene.seen.inverse_variance[:, :, 2:-2] == 1).all()
    far = np.broadcast_to(np.isin(np.arange(SIDE), np.r_[2:12, 37:47])[:, None], (SIDE, SIDE)) & lost
    assert np.std(scene.seen.pixels[far]) == pytest.approx(1, abs=0.1)
    near = (slice(None), 0, slice(MIDDLE - 4, MIDDLE + 5), slice(MIDDLE + 4, MIDDLE + 7))
    # Of 216 pixels, each with two independent errors of 1, and light of 2.
    assert scene.seen.pixels[near].mean() == pytest.approx(round_ones.pixels[:8][near].mean(), abs=3 * (2 / 216) ** 0.5)
    assert round_ones.pixels[:8][near].mean() > 1


def test_bands_that_are_absent_or_mostly_lost_are_not_filled(holed: ObservedStamps, model: SkyModel) -> None:
    two = alone(np.repeat(holed.pixels[:3], 2, axis=1), "ri", holed.position[:3])
    weight = two.inverse_variance.copy()
    weight[0, 1], weight[1, 1, :, : MIDDLE + 3], weight[2, 0, MIDDLE, MIDDLE] = 0, 0, 0
    two = replace(two, inverse_variance=weight)
    assert has_holes(two).tolist() == [[False, False], [False, False], [True, False]]
    scene = measure_scenes(model, two)
    filled = fill_holes(two, has_holes(two), scene.sources, scene.fit)
    np.testing.assert_array_equal(filled.inverse_variance[:2], weight[:2])
    assert filled.inverse_variance[2].all()


@pytest.fixture(scope="module")
def without_g(model: SkyModel) -> pd.DataFrame:
    """100 galaxies of S/N 20 in each of r, i and z, and nothing in g."""
    light = drawn((SIDE, SIDE), [MIDDLE], [MIDDLE], flux_of(20, galaxy()), galaxy())
    pixels = noise((100, 4, SIDE, SIDE), 17)
    pixels[:, 1:] += light
    return measure_catalog(model, alone(pixels, "griz", np.full((100, 2), MIDDLE)), responses=0.0)


def test_no_light_in_a_band_is_a_flux_of_either_sign(without_g: pd.DataFrame) -> None:
    """from_the_field #17: mean within three of its standard errors of 0, as many negative ones, no row lost."""
    number = len(without_g)
    pull = (without_g["flux_g"] / without_g["flux_g_err"]).to_numpy()
    assert np.isfinite(pull).sum() == number == 100
    assert abs(pull.mean()) < 3 / np.sqrt(number)
    assert abs(np.sqrt(np.mean(pull**2)) - 1) < 3 / np.sqrt(2 * number)
    assert abs((pull < 0).mean() - 0.5) < 3 * 0.5 / np.sqrt(number)
    assert (without_g["mag_g"].isna() == (pull <= 0)).all()
    # u and g may be dark: the row is as good as one with light there.
    assert (without_g["flags"] == 0).mean() > 0.9


def flux_pull(model: SkyModel, correlated: bool, known: bool) -> float:
    """RMS of the flux's error over what is quoted, of 60 galaxies of S/N 25 in white noise.

    Args:
        model: that measures.
        correlated: whether noise of the same variance is smoothed by a Gaussian of σ = 1 pixel.
        known: whether its correlation is given with the stamps.
    """
    flux = flux_of(25, galaxy())
    light = drawn((SIDE, SIDE), [MIDDLE], [MIDDLE], flux, galaxy())
    wide = noise((60, SIDE + 16, SIDE + 16), 18)
    if correlated:
        wide = gaussian_filter(wide, (0, 1, 1)) * (4 * np.pi) ** 0.5
    stamps = alone((light + wide[:, 8:-8, 8:-8])[:, None].astype(np.float32), "r", np.full((60, 2), float(MIDDLE)))
    if known:
        lags = np.exp(-(np.arange(-6, 7.0) ** 2) / 4)
        stamps = replace(stamps, noise_correlation=np.broadcast_to(np.outer(lags, lags), (60, 1, 13, 13)))
    found = measure_catalog(model, stamps, responses=0.0)
    pull = (found["flux_r"] - flux * nanojansky(30.0)) / found["flux_r_err"]
    return float(np.sqrt(np.mean(pull**2)))


@pytest.mark.slow
def test_errors_hold_in_correlated_noise_as_in_white_noise(model: SkyModel) -> None:
    """from_the_field #18 for a whole row; its controls are white noise, and the same stamps taken as white.

    Galaxies of one kind scatter less than a posterior for all kinds says; of noise alone see `test_scene`.
    """
    white = flux_pull(model, correlated=False, known=False)
    assert 0.5 < white < 1.1
    # RMS values of 60 have errors of a share of 1 / √120.
    assert flux_pull(model, correlated=True, known=True) / white == pytest.approx(1, abs=3 * (2 / 120) ** 0.5)
    assert flux_pull(model, correlated=True, known=False) > 1.5 * white
