"""A first look at a field without a PSF: the stars give it."""

from __future__ import annotations

import galsim
import pytest

from assets_tests.science.images.psfs.star_fields import SCALE, star_field
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.given import observation
from deblend_assets.science.measuring.field_look import look_at
from deblend_assets.science.skies.psf_images import measure_psf_images

TRUE = galsim.Moffat(beta=3, fwhm=0.85).shear(g1=0.04, g2=-0.02)


def test_the_stars_give_the_psf_with_and_without_a_noise_map() -> None:
    pixels = star_field(TRUE, 40, 40, seed=1, side=500).window.pixels
    field = Field(
        {
            "r": observation(pixels, zero_point=30, wcs=SCALE),
            "i": observation(3 * pixels, 1 / 9, zero_point=30, wcs=SCALE, psf=TRUE),
        }
    )
    look = look_at(field)
    image = TRUE.drawImage(nx=41, ny=41, scale=SCALE).array[None]
    assert look.fwhm[0] == pytest.approx(float(measure_psf_images(image).fwhm[0]), rel=0.015)
    sizes = {check.band: check for check in look.report.checks if check.name == "psf_size"}
    assert sizes["r"].verdict == sizes["i"].verdict == "passed"
