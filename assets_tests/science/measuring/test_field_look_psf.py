"""A first look at a field without a PSF: the stars give it."""

from __future__ import annotations

import pytest

from assets_tests.science.images.psfs.test_stars import SCALE, TRUE, drawn, numbers
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.given import observation
from deblend_assets.science.measuring.field_look import look_at


def test_the_stars_give_the_psf_with_and_without_a_noise_map() -> None:
    pixels = drawn(40, 60).pixels
    field = Field(
        {
            "r": observation(pixels, zero_point=30, wcs=SCALE),
            "i": observation(3 * pixels, 1 / 9, zero_point=30, wcs=SCALE, psf=TRUE),
        }
    )
    look = look_at(field)
    assert look.fwhm[0] == pytest.approx(float(numbers(TRUE).fwhm[0]), rel=0.015)
    sizes = {check.band: check for check in look.report.checks if check.name == "psf_size"}
    assert sizes["r"].verdict == sizes["i"].verdict == "passed"
