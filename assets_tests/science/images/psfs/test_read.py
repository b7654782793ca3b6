"""The PSF of a band from every form that a user may give: the same star, centred, with the same flux."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import galsim
import numpy as np
import pytest
from astropy.io import fits

from deblend_assets.errors import CorruptDataError, DeblendError, MismatchError, SettingsError
from deblend_assets.science.images.psfs.read import psf_of
from deblend_assets.science.skies.psf_shape import measure_psf

SCALE = 0.2
STAR = galsim.Moffat(beta=2.5, fwhm=0.8).shear(g1=0.03, g2=-0.05)
OFFSET = (-0.484, 0.294)


def drawn(side: int = 51, offset: tuple[float, float] = (0.0, 0.0), profile: galsim.GSObject = STAR) -> np.ndarray:
    return profile.drawImage(nx=side, ny=side, scale=SCALE, offset=offset, dtype=float).array


def given(value: Any, wcs: galsim.BaseWCS | None = None, band: str = "r", bands: str = "gri") -> Any:
    return psf_of(value, wcs or galsim.PixelScale(SCALE), (300, 300), SCALE, band, tuple(bands), "field")


def on_pixels(psf: Any, side: int = 51) -> np.ndarray:
    return psf.at(150.0, 150.0).drawImage(nx=side, ny=side, scale=SCALE, dtype=float).array


def error_of(psf: Any, truth: np.ndarray) -> float:
    """Largest difference from an image, both of unit flux, over its peak."""
    found = on_pixels(psf, truth.shape[0])
    return float(np.abs(found / found.sum() - truth / truth.sum()).max() / (truth.max() / truth.sum()))


def matched_flux(image: np.ndarray, psf: Any) -> float:
    """Flux of a star by least squares with a PSF."""
    model = on_pixels(psf)
    return float((image * model).sum() / (model * model).sum())


def saved(path: Path, *images: np.ndarray, **keys: Any) -> str:
    """A file with an image an extension, or a cube."""
    hdus = [fits.PrimaryHDU(images[0]), *map(fits.ImageHDU, images[1:])]
    for hdu in hdus:
        hdu.header.update(keys)
    fits.HDUList(hdus).writeto(path)
    return str(path)


@pytest.mark.parametrize("value", [None, "measure", " Measure "])
def test_nothing_is_measured_from_the_stars(value: Any) -> None:
    assert given(value) is None


def test_every_form_of_one_star_is_the_same_psf(tmp_path: Path) -> None:
    image = drawn()
    forms = {
        "file": saved(tmp_path / "psf.fits", image),
        "path": tmp_path / "psf.fits",
        "keys": {"path": tmp_path / "psf.fits", "plane": 0},
        "array": image,
        "big-endian": image.astype(">f4"),
        "galsim image": galsim.Image(image, scale=SCALE),
        "ngmix": SimpleNamespace(image=image, jacobian=SimpleNamespace(scale=SCALE)),
        "galsim object": STAR,
        "even side": drawn(50),
        "not normalised": 417.0 * image,
    }
    for name, form in forms.items():
        psf = given(form)
        assert error_of(psf, image) < 2e-3, name
        assert psf.at(3.0, 4.0).flux == pytest.approx(1.0), name
        shape = measure_psf(psf.at(3.0, 4.0))
        assert np.hypot(shape.x, shape.y) < 0.005 * SCALE, name
    assert given(given(STAR)).at(0, 0) == given(STAR).at(0, 0)


@pytest.mark.parametrize("side", [51, 50])
def test_an_offset_of_the_psf_moves_nothing(side: int) -> None:
    """A PSF with the sub-pixel phase of an object; 51² with (-0.484, 0.294) in from_the_field #13."""
    psf = given(drawn(side, OFFSET))
    shape = measure_psf(psf.at(0, 0))
    assert np.hypot(shape.x, shape.y) < 0.01 * SCALE
    centred = given(drawn(side))
    assert matched_flux(drawn(), psf) == pytest.approx(matched_flux(drawn(), centred), rel=1e-3)
    assert abs(shape.g - measure_psf(STAR).g) < 1e-3


def test_a_shifted_galsim_object_is_centred() -> None:
    shape = measure_psf(given(5 * STAR.shift(0.09, -0.05)).at(0, 0))
    assert np.hypot(shape.x, shape.y) < 0.01 * SCALE


@pytest.mark.parametrize("total", [1.0, 25.0])
@pytest.mark.parametrize("key", [{"OVERSAMP": 5}, {"PSF_SAMP": 0.2}, {"PIXELSCL": SCALE / 5}, {}], ids=str)
def test_an_oversampled_psf_has_one_flux(total: float, key: dict[str, float], tmp_path: Path) -> None:
    """from_the_field #15: never 25 times the flux, whatever the sum of its pixels."""
    effective = galsim.Convolve(STAR, galsim.Pixel(SCALE))
    # The sides of the transform are those of the image: of a small one it holds light from beyond the edge.
    wide = effective.drawImage(nx=1275, ny=1275, scale=SCALE / 5, method="no_pixel", dtype=float).array
    fine = wide[510:765, 510:765]
    path = saved(tmp_path / "fine.fits", fine * total / fine.sum(), **key)
    psf = given(path if key else {"path": path, "oversampling": 5})
    assert matched_flux(drawn(), psf) == pytest.approx(matched_flux(drawn(), given(drawn())), rel=1e-3)
    assert error_of(psf, drawn()) < 2e-3


def test_an_oversampled_psf_without_the_field_s_pixel() -> None:
    fine = STAR.drawImage(nx=255, ny=255, scale=SCALE / 5, dtype=float).array
    size = measure_psf(STAR).sigma
    without, within = (given({"image": fine, "oversampling": 5, "pixel": pixel}).at(0, 0) for pixel in (False, True))
    assert measure_psf(without).sigma == pytest.approx(size, rel=2e-3)
    assert measure_psf(within).sigma < 0.99 * size


def test_an_oversampled_image_that_says_nothing_is_refused(tmp_path: Path) -> None:
    fine = STAR.drawImage(nx=255, ny=255, scale=SCALE / 5, dtype=float).array
    with pytest.raises(SettingsError, match=r"20.* pixels.*oversampling"):
        given(fine)
    with pytest.raises(MismatchError, match=r"0\.04 arcsec.*oversampling = 5"):
        given(galsim.Image(fine, scale=SCALE / 5))
    with pytest.raises(MismatchError, match=r"0\.04 arcsec.*oversampling = 5"):
        given(SimpleNamespace(image=fine, jacobian=SimpleNamespace(scale=SCALE / 5)))
    path = saved(tmp_path / "fine.fits", fine, OVERSAMP=5)
    with pytest.raises(MismatchError, match="5 by OVERSAMP, 4 by oversampling"):
        given({"path": path, "oversampling": 4})


# Files of several bands


def test_a_cube_has_a_plane_a_band(tmp_path: Path) -> None:
    stars = [drawn(profile=galsim.Gaussian(fwhm=fwhm)) for fwhm in (0.7, 0.9, 1.1)]
    cube = saved(tmp_path / "cube.fits", np.stack(stars))
    for band, star in zip("gri", stars, strict=True):
        assert error_of(given(cube, band=band), star) < 2e-3
    with pytest.raises(CorruptDataError, match=r"3 images.*plane"):
        given(cube, bands="griz")
    assert error_of(given({"path": cube, "plane": 2}, bands="griz"), stars[2]) < 2e-3


@pytest.mark.parametrize("key", ["BAND", "FILTER", "EXTNAME"])
def test_a_band_that_the_file_names_is_taken(key: str, tmp_path: Path) -> None:
    names = {
        "BAND": "{}",
        "FILTER": "{} DECam SDSS c0002 6415.0 1480.0",
        "EXTNAME": "PSF_{}",
    }[key]
    hdus = [fits.PrimaryHDU()]
    for band, fwhm in zip("zig", (0.7, 0.9, 1.1), strict=True):
        hdus.append(fits.ImageHDU(drawn(profile=galsim.Gaussian(fwhm=fwhm))))
        hdus[-1].header[key] = names.format(band)
    fits.HDUList(hdus).writeto(tmp_path / "psf.fits")
    for band, fwhm in zip("zig", (0.7, 0.9, 1.1), strict=True):
        psf = given(str(tmp_path / "psf.fits"), band=band, bands="giz")
        assert measure_psf(psf.at(0, 0)).fwhm == pytest.approx(fwhm, rel=5e-3)
    with pytest.raises(CorruptDataError, match="none is named as that of r"):
        given(str(tmp_path / "psf.fits"), bands="gri")
    with pytest.raises(MismatchError, match="of z, not of r"):
        given({"path": str(tmp_path / "psf.fits"), "plane": 0})


def test_one_extension_of_a_file(tmp_path: Path) -> None:
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.ones((90, 90)), name="SCI"), fits.ImageHDU(drawn(), name="PSF")]
    fits.HDUList(hdus).writeto(tmp_path / "all.fits")
    for extension in ("PSF", "psf", "2"):
        assert error_of(given(f"{tmp_path}/all.fits[{extension}]"), drawn()) < 2e-3
    saved(tmp_path / "cube.fits", np.stack([drawn(profile=galsim.Gaussian(fwhm=1.0)), drawn()]))
    assert error_of(given(f"{tmp_path}/cube.fits[0][1]"), drawn()) < 2e-3
    with pytest.raises(CorruptDataError, match="ERR"):
        given(f"{tmp_path}/all.fits[ERR]")


def test_a_compressed_image(tmp_path: Path) -> None:
    image = drawn().astype(np.float32)
    compressed = fits.CompImageHDU(image, compression_type="GZIP_2", quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), compressed]).writeto(tmp_path / "psf.fits.fz")
    assert error_of(given(str(tmp_path / "psf.fits.fz")), image) < 2e-3


# Profiles


@pytest.mark.parametrize(
    ("keys", "profile"),
    [
        ({"fwhm": 0.8, "beta": 3.0}, galsim.Moffat(beta=3.0, fwhm=0.8)),
        ({"fwhm": 0.8}, galsim.Kolmogorov(fwhm=0.8)),
        ({"fwhm": 0.8, "profile": "gaussian"}, galsim.Gaussian(fwhm=0.8)),
        ({"fwhm": 1, "profile": "kolmogorov"}, galsim.Kolmogorov(fwhm=1.0)),
        ({"fwhm": 0.45, "beta": 3.0}, galsim.Moffat(beta=3.0, fwhm=0.45)),
    ],
    ids=str,
)
def test_widths_and_profiles(keys: dict[str, Any], profile: galsim.GSObject) -> None:
    assert error_of(given(keys), drawn(profile=profile)) < 1e-3


def test_profiles_are_those_of_the_sky() -> None:
    """Pixels of 0.2 arcsec, x with v and y with -u: g1 changes sign; a local scale that differs changes the size."""
    turned = galsim.JacobianWCS(0.0, -SCALE, SCALE, 0.0)
    shape = measure_psf(given(galsim.Gaussian(fwhm=0.8).shear(g1=0.05, g2=0.02), turned).at(0, 0))
    assert (shape.g1, shape.g2) == pytest.approx((-0.05, -0.02), abs=1e-4)
    u, v = "0.2*(x-150) + 5e-5*(x-150)**2", "0.2*(y-150)"
    bent = galsim.UVFunction(u, v, xfunc=None, yfunc=None)
    psf = given({"fwhm": 0.8, "profile": "gaussian"}, bent)
    there = measure_psf(psf.at(249.0, 149.0))  # du/dx is 0.21: 5 % fewer pixels
    assert there.sigma / measure_psf(psf.at(149.0, 149.0)).sigma == pytest.approx(1.05**-0.5, rel=1e-3)
    assert there.g1 < -0.02


# What cannot be right


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"fwhm": 4.0, "beta": 3.0}, "4"),
        ({"fwhm": "0.8"}, "fwhm is '0.8'"),
        ({"fwhm": True}, "fwhm is True"),
        ({"fwhm": 0.8, "beta": 9.0}, "9"),
        ({"fwhm": 0.8, "profile": "airy"}, "airy"),
        ({"beta": 3.0}, "beta"),
        ({"fwhm": 0.8, "sigma": 1.0}, "fwhm, sigma"),
        ({"path": "a.fits", "fwhm": 0.8}, "path, fwhm"),
        ({"path": "a.fits", "plane": 1.5}, "plane is 1.5"),
        ({"path": "a.fits", "plane": True}, "plane is True"),
        ({"path": "a.fits", "pixel": 0}, "pixel is 0"),
        ({"path": "a.fits", "oversampling": "5"}, "oversampling is '5'"),
        ({"image": drawn(), "oversampling": -5}, "oversampling is -5"),
        ({}, "keys"),
        (0.8, "type float"),
        ("nowhere.fits", "nowhere.fits"),
        (-STAR, "positive flux"),
        (galsim.Gaussian(fwhm=0.2), "0.20 arcsec.* check the pixel scale of 0.2 arcsec"),
        ({"fwhm": -1}, "fwhm is -1, outside of 0.42 to 1.61 arcsec"),
        (galsim.DeltaFunction(), "DeltaFunction.*of a FWHM of some 0.5 to 1.4 arcsec"),
        (galsim.Airy(lam=700, diam=6.5), "Airy.*of a FWHM of some"),
        (drawn()[None], "shape"),
        (drawn() + drawn().max() / 50, "sky"),
        (drawn() - drawn().max() / 50, "no light|sky"),
        (drawn(11), "cut off"),
        (np.where(drawn() > drawn().max() / 2, np.nan, drawn()), "finite"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_right_is_one_line(value: Any, problem: str) -> None:
    with pytest.raises(DeblendError, match=problem) as caught:
        given(value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_pixels_of_which_no_psf_is_known_are_named() -> None:
    with pytest.raises(DeblendError, match=r"pixels of 1 arcsec.*0\.15 to 0\.3"):
        psf_of(galsim.Gaussian(fwhm=1.3), galsim.PixelScale(1.0), (300, 300), 1.0, "r", tuple("gri"), "field")
