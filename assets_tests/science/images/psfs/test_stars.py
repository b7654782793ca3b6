"""The PSF from the stars of an image: that which the stars have, among galaxies; without stars one line."""

from __future__ import annotations

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits

from assets_tests.science.images.psfs.star_fields import SCALE, errors_of, star_field
from assets_tests.science.skies.real_data import real_file
from deblend_assets.errors import MissingDataError
from deblend_assets.science.images.psfs import stars as module
from deblend_assets.science.images.psfs.candidates import Window
from deblend_assets.science.images.psfs.stars import psf_from_stars
from deblend_assets.science.skies.psf_files import read_psf
from deblend_assets.science.skies.psf_shape import measure_psf

PSFS = {
    "Moffat": galsim.Moffat(beta=2.5, fwhm=0.8).shear(g1=0.04, g2=-0.02),
    "Kolmogorov": galsim.Kolmogorov(fwhm=1.0).shear(g1=-0.02, g2=0.03),
    # 2.5 pixels a FWHM: its images are sampled too coarsely for a share of their light.
    "narrow": galsim.Moffat(beta=3.5, fwhm=0.5).shear(g1=0.02, g2=0.02),
    "optics": galsim.Convolve(
        galsim.Kolmogorov(fwhm=0.65),
        galsim.OpticalPSF(lam=650, diam=4.0, obscuration=0.4, defocus=0.3, coma1=0.15, astig1=0.1),
    ),
}


@pytest.mark.parametrize("name", PSFS)
def test_twenty_stars_among_galaxies_give_the_psf(name: str) -> None:
    psf = PSFS[name]
    field = star_field(psf, 32, 80, seed=3)
    found = psf_from_stars([field.window], SCALE, "r")
    kept = found.stars[found.stars["kept"]]
    assert len(kept) >= 20
    assert field.are_stars(kept).all()
    error = errors_of(found.psf.at(100.0, 100.0), psf)
    assert abs(error.fwhm) < 0.01
    assert abs(error.g1) < 0.005
    assert abs(error.g2) < 0.005
    assert abs(error.flux) < 0.025
    assert found.degree == 0
    shape = measure_psf(found.psf.at(0.0, 0.0))
    assert np.hypot(shape.x, shape.y) < 0.01 * SCALE


@pytest.mark.parametrize("name", PSFS)
def test_bright_stars_leave_no_bias(name: str) -> None:
    """Of stars without noise to speak of: what is left is of the method."""
    psf = PSFS[name]
    found = psf_from_stars([star_field(psf, 32, 0, seed=4, snr=(2_000, 5_000)).window], SCALE, "r")
    error = errors_of(found.psf.at(0.0, 0.0), psf)
    assert abs(error.fwhm) < 0.004
    assert abs(error.g1) < 0.001
    assert abs(error.g2) < 0.001
    assert abs(error.flux) < 0.005


def test_a_few_stars_stand_out_from_many_galaxies() -> None:
    psf = PSFS["Moffat"]
    field = star_field(psf, 25, 400, seed=2, side=800)
    found = psf_from_stars([field.window], SCALE, "r")
    kept = found.stars[found.stars["kept"]]
    assert field.are_stars(kept).all()
    assert abs(errors_of(found.psf.at(0.0, 0.0), psf).fwhm) < 0.015
    rest = found.stars[found.stars["isolated"] & ~found.stars["kept"]]
    assert rest["fwhm"].median() > 1.2 * kept["fwhm"].median()
    assert kept["fwhm"].median() == pytest.approx(measure_psf(psf).fwhm, rel=0.015)


@pytest.mark.parametrize(("stars", "galaxies"), [(0, 0), (0, 150), (0, 500), (5, 150)])
def test_without_stars_there_is_one_line(stars: int, galaxies: int) -> None:
    window = star_field(PSFS["Moffat"], stars, galaxies, seed=5).window
    with pytest.raises(MissingDataError, match=r"\[r = r.fits\]: give psf = ") as error:
        psf_from_stars([window], SCALE, "r = r.fits")
    assert "\n" not in str(error.value)


def test_no_window_is_one_line() -> None:
    empty = np.zeros((80, 80), np.float32)
    for windows in ([], [Window(empty, empty)], [Window(empty, np.ones_like(empty))]):
        with pytest.raises(MissingDataError, match="0 isolated stars"):
            psf_from_stars(windows, SCALE, "r")


def test_lost_pixels_cosmic_rays_and_a_sky_change_little() -> None:
    psf = PSFS["Moffat"]
    field = star_field(psf, 40, 60, seed=6)
    rng = np.random.default_rng(6)
    pixels = field.window.pixels.copy()
    side = len(pixels)
    known = rng.random(pixels.shape) > 0.005
    known[:, 200:203] = False
    rays = pixels.copy()
    for _ in range(100):
        x, y, length = rng.integers(5, side - 20), rng.integers(5, side - 20), rng.integers(1, 8)
        rays[y : y + length, x] += rng.uniform(20, 500)
    inputs = {
        "lost": field.with_pixels(np.where(known, pixels, 0.0), known),
        "rays": field.with_pixels(rays),
        "sky": field.with_pixels(pixels + 1000 + 0.02 * np.arange(side)),
    }
    for name, window in inputs.items():
        found = psf_from_stars([window], SCALE, "r")
        error = errors_of(found.psf.at(0.0, 0.0), psf)
        assert field.are_stars(found.stars[found.stars["kept"]]).all(), name
        assert abs(error.fwhm) < 0.01, name
        assert max(abs(error.g1), abs(error.g2)) < 0.006, name
        assert abs(error.flux) < 0.02, name


def test_parts_of_an_image_are_as_good_as_the_whole() -> None:
    psf = PSFS["Moffat"]
    field = star_field(psf, 40, 40, seed=7)
    pixels, weight = field.window.pixels, field.window.inverse_variance
    parts = [
        Window(pixels[y : y + 300, x : x + 300], weight[y : y + 300, x : x + 300], x, y)
        for y in (0, 300)
        for x in (0, 300)
    ]
    found = psf_from_stars(iter(parts), SCALE, "r")
    assert field.are_stars(found.stars[found.stars["kept"]]).all()
    assert abs(errors_of(found.psf.at(0.0, 0.0), psf).fwhm) < 0.01


def test_a_psf_that_changes_over_the_image_is_followed() -> None:
    base, side = galsim.Moffat(beta=2.5, fwhm=0.8), 800

    def varied(x: float, y: float) -> galsim.GSObject:
        u, v = 2 * x / side - 1, 2 * y / side - 1
        return base.dilate(float(np.exp(0.03 * u))).shear(g1=0.02 * v, g2=-0.02 * u)

    field = star_field(base, 100, 60, seed=8, side=side, varied=varied, snr=(80, 800))
    found = psf_from_stars([field.window], SCALE, "r")
    assert found.degree == 1
    for x, y in ((100.0, 100.0), (400.0, 400.0), (700.0, 700.0), (100.0, 700.0)):
        error = errors_of(found.psf.at(x, y), varied(x, y))
        assert abs(error.fwhm) < 0.015
        assert max(abs(error.g1), abs(error.g2)) < 0.006


def test_stars_of_a_decam_exposure_have_the_psf_of_its_psfex_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """280 × 375 pixels hold three stars that can be used."""
    folder = "decam_testcases/testcase8/"
    name = "decam/CP/V4.8.2a/CP20171112/c4d_171113_060340_oo{}_r_ls9"
    image, weight, codes = (
        fits.getdata(real_file(f"{folder}images/{name.format(kind)}.N6.fits"), 1) for kind in ("i", "w", "d")
    )
    known = (weight > 0) & (codes == 0)
    window = Window(np.where(known, image, 0).astype(np.float32), np.where(known, weight, 0).astype(np.float32))
    monkeypatch.setattr(module, "LEAST_STARS", 3)
    ours = measure_psf(psf_from_stars([window], 0.262, "r").psf.at(0.0, 0.0))
    path: Path = real_file(f"{folder}calib/psfex/{name.format('i')}-psfex.fits")
    # The cutout begins at column 382 and row 9370 of the mosaic's frame, which is not that of the chip.
    truth = measure_psf(read_psf(path, 0.262).at(500.0, 1000.0))
    assert ours.sigma == pytest.approx(truth.sigma, rel=0.02)
    assert ours.fwhm == pytest.approx(truth.fwhm, rel=0.04)
    assert abs(ours.g - truth.g) < 0.015
