"""The given PSF against stars whose PSF is known."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pytest

from assets_tests.science.images.field_checks.star_fields import PSF, star_field, turned
from deblend_assets.science.images.field_checks.psf import check_psf
from deblend_assets.science.images.field_checks.report import Check
from deblend_assets.science.images.field_checks.sources import BandSources, measure_sources
from deblend_assets.science.images.field_checks.stars import choose_stars, clipped_mean, size_error, stellar_locus
from deblend_assets.science.skies.psf_shape import measure_psf


def checks(given: galsim.GSObject, sigma: float = 1.0) -> dict[str, Check]:
    image, found = star_field(sigma, given)
    return {check.name: check for check in check_psf(measure_sources(image, image.pixels[0], 0, found), "r")}


def test_the_right_psf_passes_within_the_errors() -> None:
    for check in checks(PSF).values():
        assert check.verdict == "passed"
        assert abs(check.value) < 4 * check.error
        assert check.reason == "36 stars"


@pytest.mark.parametrize("factor", [1.05, 1 / 1.05, 1.1])
def test_a_psf_of_wrong_size_fails_by_what_it_is_wrong(factor: float) -> None:
    check = checks(PSF.dilate(factor))["psf_size"]
    assert check.verdict == "failed"
    # The square pixel, of variance 1/12, is not dilated.
    pixel, variance = 1 / 12, (measure_psf(PSF).sigma / 0.2) ** 2
    expected = 0.5 * np.log((variance + pixel) / (variance * factor**2 + pixel))
    assert abs(check.value - expected) < 4 * check.error + 5e-4


def test_a_psf_of_wrong_shape_fails_by_what_it_is_wrong() -> None:
    check = checks(PSF.shear(g2=0.02))["psf_shape"]
    assert check.verdict == "failed"
    shape = measure_psf(PSF.shear(g2=0.02)).g - measure_psf(PSF).g
    # The pixel makes the image rounder, by its share of the variance.
    share = 1 / (1 + (0.2 / measure_psf(PSF).sigma) ** 2 / 12)
    assert abs(check.value - abs(shape) * share) < 4 * check.error + 5e-4


def test_a_profile_with_wings_has_less_light_in_the_middle() -> None:
    size = PSF.drawImage(nx=51, ny=51, scale=0.2).FindAdaptiveMom().moments_sigma
    moffat = galsim.Moffat(beta=3.0, fwhm=0.8).shear(g1=0.03, g2=-0.02)
    for _ in range(3):  # of the same adaptive size: only the profile is wrong
        moffat = moffat.dilate(size / moffat.drawImage(nx=51, ny=51, scale=0.2).FindAdaptiveMom().moments_sigma)
    found = checks(moffat)
    assert found["psf_profile"].verdict == "failed"
    assert found["psf_profile"].value > 0.03
    assert abs(found["psf_size"].value) < 0.01


def test_few_stars_are_not_testable() -> None:
    image, found = star_field(40.0)
    assert {c.verdict for c in check_psf(measure_sources(image, image.pixels[0], 0, found), "r")} == {"not testable"}


def test_a_quarter_turn_changes_the_sign_of_the_shape_alone() -> None:
    image, found = star_field(2.0, galsim.Gaussian(fwhm=0.8))
    straight = measure_sources(image, image.pixels[0], 0, found)
    image, found = turned(image, found)
    after = measure_sources(image, image.pixels[0], 0, found)
    assert len(straight) == 36
    np.testing.assert_allclose(after.shape, -straight.shape, atol=1e-5)
    np.testing.assert_allclose(after.ln_size, straight.ln_size, atol=1e-5)
    np.testing.assert_allclose(after.ln_concentration, straight.ln_concentration, atol=1e-5)
    np.testing.assert_allclose(after.flux, straight.flux, rtol=1e-5)


def test_flux_is_that_of_the_star() -> None:
    image, found = star_field(1.0)
    flux = measure_sources(image, image.pixels[0], 0, found).flux
    # Noise of the aperture of 7 pixels radius and of its sky: 1.4 % a star.
    assert abs(flux.mean() / 1000 - 1) < 4 * 0.014 / 6


def test_a_lost_core_and_a_neighbour_are_not_isolated() -> None:
    image, found = star_field(1.0)
    table = found.table
    image.inverse_variance[0, round(table["y"][3]), round(table["x"][3]) + 1] = 0
    table.loc[7, ["x", "y"]] = table["x"][8] + 5, table["y"][8]
    isolated = measure_sources(image, image.pixels[0], 0, found).isolated
    assert np.flatnonzero(~isolated).tolist() == [3, 7, 8]


def sources(ln_size: np.ndarray, snr: np.ndarray) -> BandSources:
    number = len(snr)
    return BandSources(
        row=np.arange(number),
        snr=snr,
        flux=snr,
        ln_size=ln_size,
        shape=np.zeros(number, complex),
        ln_concentration=np.zeros(number),
        isolated=np.ones(number, bool),
    )


def test_the_locus_is_that_of_the_stars_whatever_the_psf_is() -> None:
    rng = np.random.default_rng(3)
    snr = 50 * rng.uniform(0.02, 1, 150) ** -0.7
    for offset in (-0.3, 0.0, 0.1):
        stars = offset + rng.normal(size=30) * size_error(snr[:30])
        galaxies = offset + rng.uniform(0.0, 1.2, 120)
        both = sources(np.concatenate([stars, galaxies]), snr)
        # The mean of 30 stars of error 0.022 at most.
        assert abs(stellar_locus(both) - offset) < 4 * 0.022 / np.sqrt(30)
        chosen = choose_stars(both)
        assert (chosen < 30).sum() > 25
        assert (chosen >= 30).sum() < 12
    assert np.isnan(stellar_locus(sources(np.zeros(0), np.zeros(0))))


@pytest.mark.parametrize(("smaller", "number"), [(10, 40), (30, 0)])
def test_a_peak_with_much_that_is_smaller_is_none_of_stars(smaller: int, number: int) -> None:
    rng = np.random.default_rng(6)
    snr = np.full(40 + smaller, 100.0)
    peak = 0.3 + 0.5 * rng.normal(size=40) * size_error(snr[:40])
    assert len(choose_stars(sources(np.concatenate([peak, np.linspace(-0.3, 0.2, smaller)]), snr))) == number


@pytest.mark.parametrize(("scatter", "number"), [(0.01, 40), (0.1, 0)])
def test_small_galaxies_of_one_size_are_no_stars(scatter: float, number: int) -> None:
    """Stars have one shape, up to noise and the PSF's change; shapes of galaxies scatter by 0.1 behind a PSF."""
    rng = np.random.default_rng(4)
    snr = rng.uniform(50, 300, 40)
    both = sources(0.2 + 0.5 * rng.normal(size=40) * size_error(snr), snr)
    shape = 0.05 + scatter * (rng.normal(size=40) + 1j * rng.normal(size=40))
    assert len(choose_stars(replace(both, shape=shape))) == number


def test_the_mean_has_the_error_of_the_scatter_and_leaves_outliers_out() -> None:
    rng = np.random.default_rng(5)
    errors = rng.uniform(0.5, 2.0, 400)
    values = 3 + errors * rng.normal(size=400)
    plain = clipped_mean(values, errors)
    assert plain.error == pytest.approx((1 / errors**2).sum() ** -0.5, rel=0.15)  # 4 σ of 400 squares
    assert abs(plain.value - 3) < 4 * plain.error
    values[:20] = 100.0
    assert abs(clipped_mean(values, errors).value - 3) < 4 * plain.error
