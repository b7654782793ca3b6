"""Numbers of galaxies against published ones."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pytest

from assets_tests.science.images.field_checks.star_fields import PSF, SCALE, SIDE, psf_image, star_field
from deblend_assets.science.images.field_checks.counts import (
    check_counts,
    magnitude_in_i,
    published_count,
    star_flux_error,
)
from deblend_assets.science.images.field_checks.report import Check
from deblend_assets.science.images.field_checks.sources import LEAST_SNR, BandSources
from deblend_assets.science.simulation.counts import MAGNITUDES, PER_MAGNITUDE
from deblend_assets.science.skies.measured_psf import flux_error
from deblend_assets.science.skies.noise import resampled


def galaxies(number: int, flux: float) -> BandSources:
    """Twenty stars and so many galaxies twice as large, all of one flux."""
    every = np.ones(20 + number)
    return BandSources(
        row=np.arange(20 + number),
        snr=100 * every,
        flux=flux * every,
        ln_size=np.repeat([0.0, np.log(2)], [20, number]),
        shape=0j * every,
        ln_concentration=0 * every,
        isolated=every > 0,
    )


def check(number: int, zero_point: float, flux: float = 1e6) -> Check:
    image, _ = star_field(1.0)
    return check_counts(replace(image, zero_point=np.array([zero_point])), 0, galaxies(number, flux), 17)


def test_published_counts_are_the_table() -> None:
    # Whole bins of half a magnitude, in which the logarithm is a line: within 1 % of the middle's value.
    bins = 10.0**PER_MAGNITUDE / 3600 * 0.5
    found = np.diff([published_count(m) for m in np.append(MAGNITUDES - 0.25, MAGNITUDES[-1] + 0.25)])
    np.testing.assert_allclose(found, bins, rtol=0.02)


def expected(zero_point: float) -> float:
    """The number that a field of 30 galaxies is compared with."""
    return 30.5 * float(np.exp(-check(30, zero_point).value)) - 0.5


def test_as_many_galaxies_as_published_pass_and_stars_do_not_count() -> None:
    number = round(expected(31.0))
    right = check(number, 31.0)
    assert right.verdict == "passed"
    assert abs(right.value) <= 0.5 / number  # of the rounding
    assert right.reason.startswith(f"{number} galaxies to r = ")
    assert check(1000, 31.0, flux=1.0).reason == check(0, 31.0).reason, "galaxies below the limit do not count"


def test_a_unit_wrong_by_ten_shifts_the_magnitudes_by_two_and_a_half() -> None:
    flux = 2 * LEAST_SNR * star_flux_error(psf_image(PSF).astype(float), np.ones((1, 1)))
    area = ((SIDE - 2 * 17) * SCALE / 60) ** 2
    for zero_point in (31.0, 28.5):
        magnitude = magnitude_in_i(zero_point - 2.5 * np.log10(flux), "r")
        assert expected(zero_point) == pytest.approx(area * published_count(magnitude), rel=1e-3)
    # What makes pixels and weights ten times as large leaves sources and their S/N as they are.
    assert check(round(expected(31.0)), 28.5).verdict == "failed"


@pytest.mark.parametrize("kernel", [None, "bilinear"])
def test_the_limit_is_that_of_a_star(kernel: str | None) -> None:
    correlation = None if kernel is None else resampled(kernel)
    psf = galsim.Moffat(beta=3.0, fwhm=0.8)
    image = psf.drawImage(nx=49, ny=49, scale=SCALE).array.astype(float)
    known = flux_error(psf, SCALE) if correlation is None else flux_error(psf, SCALE, correlation)
    values = np.ones((1, 1)) if correlation is None else correlation.values
    assert star_flux_error(image, values) == pytest.approx(known, rel=1e-5)


def test_few_galaxies_where_few_are_expected_say_nothing() -> None:
    assert expected(28.5) < 14
    assert check(14, 28.5).verdict == "not testable"
    assert check(30, 28.5).verdict == "failed", "many say that something is wrong"


@pytest.mark.parametrize(("zero_point", "beyond"), [(0.0, -1), (99.0, 1)])
def test_a_limit_that_no_image_has_is_a_wrong_zero_point(zero_point: float, beyond: int) -> None:
    # No galaxy but stars: as many are found as expected.
    found = check(0, zero_point)
    assert found.verdict == "failed"
    assert np.sign(found.value) == beyond
    assert found.reason.endswith("a limit of no image")


def test_colours_are_of_the_magnitude() -> None:
    assert magnitude_in_i(24.0, "i") == 24.0
    # Of i = 22.8 in the middle of the table, and beyond its ends.
    assert magnitude_in_i(22.8 + 1.10, "u") == pytest.approx(22.8)
    assert magnitude_in_i(15.0, "g") == pytest.approx(15.0 - 1.11)
    assert magnitude_in_i(30.0, "y") == pytest.approx(30.35)


def test_an_image_without_weight_is_not_testable() -> None:
    image, _ = star_field(1.0)
    dark = replace(image, inverse_variance=np.zeros_like(image.inverse_variance))
    assert check_counts(dark, 0, galaxies(3, 1.0), 17).verdict == "not testable"
    assert psf_image(PSF).sum() == pytest.approx(1.0, abs=1e-3)
