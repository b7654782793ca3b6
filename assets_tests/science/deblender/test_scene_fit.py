"""The fit of a target to the pixels: exact without noise, right errors with it, symmetric, blind to lost pixels."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pytest

from deblend_assets.errors import MismatchError
from deblend_assets.science.deblender.scene_fit import TargetFit, fit_targets, moved
from deblend_assets.science.deblender.scene_sources import SceneSources
from deblend_assets.science.simulation.sersic import concentration
from deblend_assets.science.stamps.observed import ObservedStamps

SIDE, SCALE, PSF = 45, 0.2, galsim.Moffat(beta=3, fwhm=0.8)
MIDDLE = SIDE // 2
G = np.array([[0.3, 0.0], [0.0, -0.2], [0.1, 0.25]])
HLR = np.array([0.35, 0.5, 0.45])
# Another galaxy beside the target, 1.8 arcsec away.
BESIDE = (9.0, 2.0)


def drawn(noise: float, seed: int = 0, copies: int = 1, flux: float = 900.0) -> tuple[ObservedStamps, SceneSources]:
    """Exponentials in two bands with a neighbour each, and sources that begin away from the truth."""
    rng = np.random.default_rng(seed)
    number = len(G) * copies
    g, hlr = np.tile(G, (copies, 1)), np.tile(HLR, copies)
    shift = rng.uniform(-0.4, 0.4, (number, 2))
    pixels = np.zeros((number, 2, SIDE, SIDE))
    for n in range(number):
        target = galsim.Exponential(half_light_radius=hlr[n], flux=flux).shear(g1=g[n, 0], g2=g[n, 1])
        scene = target.shift(*(SCALE * shift[n])) + galsim.Exponential(half_light_radius=0.3, flux=400).shift(
            *(SCALE * np.array(BESIDE))
        )
        for band, share in enumerate((1.0, 0.6)):
            image = galsim.Convolve(share * scene, PSF).drawImage(nx=SIDE, ny=SIDE, scale=SCALE)
            pixels[n, band] = image.array + rng.normal(0, 1, (SIDE, SIDE)) * noise
    psf = PSF.drawImage(nx=41, ny=41, scale=SCALE).array
    stamps = ObservedStamps(
        bands=("r", "i"),
        pixels=pixels,
        inverse_variance=np.ones(pixels.shape),
        mask=np.zeros(pixels.shape, int),
        psf=np.broadcast_to(psf, (number, 2, 41, 41)),
        noise_correlation=np.ones((number, 2, 1, 1)),
        position=np.full((number, 2), float(MIDDLE)),
        others=np.full((number, 1, 2), MIDDLE) + np.array(BESIDE),
        others_count=np.ones(number),
        corner=np.zeros((number, 2), int),
        pixel_scale=np.full(number, SCALE),
        zero_point=np.full((number, 2), 30.0),
        jacobian=np.tile(SCALE * np.eye(2), (number, 1, 1)),
        sky_position=np.full((number, 2), np.nan),
    )
    c = float(concentration(1.0))
    begun = np.zeros((number, 2, 6))
    begun[:, 0] = [MIDDLE, MIDDLE, 0, 0, np.log(0.6), c + 0.3]
    begun[:, 1] = [MIDDLE + BESIDE[0], MIDDLE + BESIDE[1], 0, 0, np.log(0.3), c]
    return stamps, SceneSources(begun, np.zeros((number, 2, 6, 6)), np.zeros((number, 2), bool))


def everything(number: int) -> np.ndarray:
    return np.ones(number, bool)


@pytest.fixture(scope="module")
def exact() -> tuple[ObservedStamps, SceneSources, TargetFit]:
    stamps, sources = drawn(noise=0.0)
    return stamps, sources, fit_targets(stamps, sources, everything(len(stamps)))


def test_without_noise_the_truth_is_found(exact: tuple[ObservedStamps, SceneSources, TargetFit]) -> None:
    _, _, fit = exact
    np.testing.assert_allclose(fit.values[:, 2:4], G, atol=2e-3)
    np.testing.assert_allclose(fit.values[:, 4], np.log(HLR), atol=4e-3)
    np.testing.assert_allclose(fit.values[:, 5], concentration(1.0), atol=0.02)
    assert (fit.chi2 < 0.05).all()
    assert ((fit.blendedness >= 0) & (fit.blendedness < 0.1)).all()


def test_errors_are_those_that_the_noise_makes() -> None:
    stamps, sources = drawn(noise=1.0, seed=1, copies=40)
    fit = fit_targets(stamps, sources, everything(len(stamps)))
    truth = np.tile(G, (40, 1))
    pulls = (fit.values[:, 2:4] - truth) / np.sqrt(np.diagonal(fit.covariance, axis1=1, axis2=2)[:, 2:4])
    # 240 numbers: the standard error of their RMS is 0.046.
    assert np.sqrt(np.mean(pulls**2)) == pytest.approx(1.0, abs=0.14)
    slope = (fit.values[:, 2:4] * truth).sum() / (truth**2).sum()
    assert slope == pytest.approx(1.0, abs=0.05)
    assert np.median(fit.chi2) == pytest.approx(1.0, abs=0.1)


def test_correlated_noise_widens_the_errors() -> None:
    stamps, sources = drawn(noise=1.0, seed=2)
    lags = np.exp(-0.25 * np.square(np.arange(-3, 4)))
    correlation = np.broadcast_to(np.outer(lags, lags), (len(stamps), 2, 7, 7))
    white, correlated = (
        fit_targets(one, sources, everything(len(stamps)))
        for one in (stamps, replace(stamps, noise_correlation=correlation))
    )
    ratio = (
        np.diagonal(correlated.covariance, axis1=1, axis2=2)[:, 2]
        / np.diagonal(white.covariance, axis1=1, axis2=2)[:, 2]
    )
    assert (ratio > 3).all()


def test_a_turned_stamp_has_a_turned_fit() -> None:
    stamps, sources = drawn(noise=1.0, seed=3)
    turned = replace(
        stamps, pixels=np.rot90(stamps.pixels, axes=(2, 3)).copy(), psf=np.rot90(stamps.psf, axes=(2, 3)).copy()
    )
    # From +y to +x: (x, y) goes to (y, -x) about the middle.
    values = sources.values.copy()
    x, y = values[..., 0] - MIDDLE, values[..., 1] - MIDDLE
    values[..., 0], values[..., 1] = MIDDLE + y, MIDDLE - x
    first = fit_targets(stamps, sources, everything(len(stamps)))
    second = fit_targets(turned, SceneSources(values, sources.covariance, sources.star), everything(len(stamps)))
    np.testing.assert_allclose(second.values[:, 2:4], -first.values[:, 2:4], atol=1e-4)
    np.testing.assert_allclose(second.values[:, 4:], first.values[:, 4:], atol=1e-3)
    np.testing.assert_allclose(second.values[:, 0] - MIDDLE, first.values[:, 1] - MIDDLE, atol=1e-3)


def test_what_a_lost_pixel_holds_changes_nothing() -> None:
    stamps, sources = drawn(noise=1.0, seed=4)
    weight = np.array(stamps.inverse_variance)
    weight[:, :, MIDDLE + 3, :] = 0
    pixels = np.array(stamps.pixels)
    pixels[:, :, MIDDLE + 3, :] = 1e4
    first, second = (
        fit_targets(replace(stamps, pixels=values, inverse_variance=weight), sources, everything(len(stamps)))
        for values in (stamps.pixels, pixels)
    )
    np.testing.assert_array_equal(first.values, second.values)


def test_a_change_of_the_pixels_moves_the_fit_as_it_is_said(
    exact: tuple[ObservedStamps, SceneSources, TargetFit],
) -> None:
    stamps, away, _ = exact
    # From the truth, so that the steps end there.
    values = away.values.copy()
    values[:, 0] = exact[2].values
    sources = SceneSources(values, away.covariance, away.star)
    fit = fit_targets(stamps, sources, everything(len(stamps)))
    rng, step = np.random.default_rng(5), 0.02
    change = rng.normal(size=stamps.pixels.shape)
    ahead, behind = (
        fit_targets(replace(stamps, pixels=stamps.pixels + sign * step * change), sources, everything(len(stamps)))
        for sign in (1, -1)
    )
    measured = (ahead.values - behind.values) / (2 * step)
    said = moved(stamps, sources, fit, change[None])[..., 0]
    errors = np.sqrt(np.diagonal(fit.covariance, axis1=1, axis2=2))
    np.testing.assert_allclose(said / errors, measured / errors, atol=0.02)


def test_stars_and_what_is_not_chosen_have_no_fit() -> None:
    stamps, sources = drawn(noise=1.0)
    star = np.zeros(sources.star.shape, bool)
    star[0, 0] = True
    fit = fit_targets(stamps, SceneSources(sources.values, sources.covariance, star), np.array([True, True, False]))
    assert np.isnan(fit.values).all(axis=1).tolist() == [True, False, True]
    assert np.isnan(moved(stamps, sources, fit, stamps.pixels[None])).all(axis=(1, 2)).tolist() == [True, False, True]


def test_sources_of_other_stamps_are_refused() -> None:
    stamps, sources = drawn(noise=1.0)
    with pytest.raises(MismatchError, match="2 stamps, sources of 3"):
        fit_targets(stamps.rows(slice(2)), sources, everything(2))
