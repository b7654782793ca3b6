"""The PSF from the stars of an image: that which the stars have, among galaxies; too few stars are one line."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from deblend_assets.errors import MissingDataError
from deblend_assets.science.images.psfs.candidates import Window
from deblend_assets.science.images.psfs.stars import psf_from_stars
from deblend_assets.science.skies.psf_images import PSFNumbers, measure_psf_images

SCALE, SIDE = 0.2, 500
TRUE = galsim.Moffat(beta=3, fwhm=0.85).shear(g1=0.04, g2=-0.02)


def drawn(stars: int, galaxies: int, seed: int = 1) -> Window:
    rng = np.random.default_rng(seed)
    image = galsim.ImageD(SIDE, SIDE, scale=SCALE)
    for k in range(stars + galaxies):
        place = galsim.PositionD(*rng.uniform(30, SIDE - 30, 2))
        source = TRUE.withFlux(10 ** rng.uniform(3.3, 4.8))
        if k >= stars:
            galaxy = galsim.Exponential(half_light_radius=rng.uniform(0.2, 0.6), flux=10 ** rng.uniform(2.5, 4))
            source = galsim.Convolve(galaxy.shear(g1=0.2 * rng.normal()), TRUE)
        source.drawImage(image, center=place, add_to_image=True)
    pixels = (image.array + rng.normal(size=image.array.shape)).astype(np.float32)
    return Window(pixels, np.ones_like(pixels))


def numbers(psf: galsim.GSObject) -> PSFNumbers:
    return measure_psf_images(psf.drawImage(nx=41, ny=41, scale=SCALE).array[None].astype(np.float32))


def test_size_shape_and_profile_are_the_stars() -> None:
    found = psf_from_stars([drawn(40, 60)], SCALE, "r")
    assert found.stars["kept"].sum() >= 20
    measured, true = numbers(found.psf.at(SIDE / 2, SIDE / 2)), numbers(TRUE)
    assert measured.fwhm[0] == pytest.approx(true.fwhm[0], rel=0.01)
    assert measured.g1[0] == pytest.approx(true.g1[0], abs=0.005)
    assert measured.g2[0] == pytest.approx(true.g2[0], abs=0.005)
    assert measured.kurtosis[0] == pytest.approx(true.kurtosis[0], abs=0.02)


def test_too_few_stars_are_one_line() -> None:
    with pytest.raises(MissingDataError) as error:
        psf_from_stars([drawn(3, 60)], SCALE, "r = r.fits")
    assert "[r = r.fits]" in str(error.value)
