"""The AB magnitude of one image unit, and the band that a header names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.images.band_names import band_of
from deblend_assets.stores.field_files.bands import require_band
from deblend_assets.stores.field_files.planes import FitsImage, FitsPlane
from deblend_assets.stores.field_files.units import unit_magnitude
from deblend_assets.stores.field_files.zero_points import zero_point

AREA = 0.04  # of a pixel [arcsec²]


def image(primary: dict[str, Any] | None = None, **cards: Any) -> FitsImage:
    plane = FitsPlane("image.fits", 1, (), (10, 10), "image.fits")
    headers = (fits.Header([(key.upper(), value) for key, value in given.items()]) for given in (cards, primary or {}))
    return FitsImage(plane, *headers)


def found(given: float | None = None, primary: dict[str, Any] | None = None, **cards: Any) -> float:
    return zero_point(image(primary, **cards), given, AREA)


@pytest.mark.parametrize("keyword", ["MAGZERO", "MAGZPT", "ZEROPOINT", "PHOTZP", "PIXZP"])
def test_the_usual_keywords_of_the_image_or_of_the_primary(keyword: str) -> None:
    assert found(**{keyword: 27.5}) == 27.5
    assert found(primary={keyword: 27.5}) == 27.5
    assert found(primary={keyword: 20.0}, **{keyword: 27.5}) == 27.5
    assert found(**{keyword: " 27.5 "}) == 27.5


@pytest.mark.parametrize(
    ("unit", "magnitude"),
    [
        *(("nJy", 31.4), ("NJY", 31.4), ("nanoJansky", 31.4), ("nJy/pixel", 31.4), ("uJy", 23.9), ("microJy", 23.9)),
        *(("mJy", 16.4), ("Jy", 8.9), ("nanomaggy", 22.5), ("nanomaggies", 22.5), ("nMgy", 22.5), ("maggy", 0.0)),
        ("10**-9 Jy", 31.4),
        ("erg / (s cm2 Hz)", -48.6),
        # 1 MJy/sr over a pixel of 0.2 arcsec: 1e6 × 0.04 / 206,265² Jy = 0.94 µJy.
        *(("MJy/sr", 23.9669), ("MJy sr-1", 23.9669), ("MJY/SR", 23.9669), ("nJy/arcsec**2", 34.8949)),
    ],
)
def test_units_of_flux_say_it_themselves(unit: str, magnitude: float) -> None:
    assert unit_magnitude(unit.replace("micro", "µ"), AREA) == pytest.approx(magnitude, abs=1e-4)
    assert found(bunit=unit) == pytest.approx(magnitude, abs=1e-4)


@pytest.mark.parametrize("unit", ["adu", "ADU/s", "counts", "electron", "electrons/s", "DN", "", "Jy/beam", "mag"])
def test_other_units_do_not(unit: str) -> None:
    assert unit_magnitude(unit, AREA) is None
    assert found(bunit=unit, magzero=25.0) == 25.0
    with pytest.raises(
        MissingDataError, match=r"has no zero point .*give zero_point, the AB magnitude of one image unit"
    ):
        found(bunit=unit)


def test_fluxmag0_is_the_flux_of_magnitude_0() -> None:
    """HSC's coadds: magnitude 27."""
    assert found(primary={"fluxmag0": 63095734448.0194}) == pytest.approx(27.0)


def test_three_images_of_one_source_give_one_flux() -> None:
    """What others ran into, 12: zero points 30, 27, 25."""
    zero_points = np.array([found(magzero=30.0), found(27.0), found(photzp=25.0)])
    counts = np.array([275.4, 17.38, 2.754])
    nanojansky = counts * 10 ** (-0.4 * (zero_points - unit_magnitude("nJy", AREA)))
    np.testing.assert_allclose(nanojansky, 1000, rtol=1e-3)


def test_decams_pipeline_gives_magzpt_of_a_second() -> None:
    """Values of c4d_150411_035242_ooi_z_v1: MAGZERO is of the 114 s."""
    decam = {"exptime": 114.0, "plver": "V3.6.2", "magzpt": 24.805737871659}
    assert found(bunit="adu", primary={**decam, "magzero": 29.948}) == 29.948
    assert found(bunit="adu", primary=decam) == pytest.approx(29.948, abs=1e-4)
    assert found(bunit="adu/s", primary=decam) == 24.805737871659


def test_magzpt_alone_is_not_guessed() -> None:
    with pytest.raises(MissingDataError, match=r"MAGZPT is 25.3 and EXPTIME 720: .* zero_point = 25\.3 or 32\.4433"):
        found(magzpt=25.3, exptime=720.0)
    assert found(32.4433, magzpt=25.3, exptime=720.0) == 32.4433
    assert found(25.3, magzpt=25.3, exptime=720.0) == 25.3
    assert found(magzpt=25.3, exptime=720.0, bunit="electron/s") == 25.3
    assert found(magzpt=25.3, exptime=1.0) == 25.3


@pytest.mark.parametrize(
    ("given", "cards", "said"),
    [
        (30.0, {"magzero": 27.0}, "zero_point is 30, MAGZERO is 27"),
        (None, {"magzero": 27.0, "photzp": 27.002}, "MAGZERO is 27, PHOTZP is 27.002"),
        (27.0, {"bunit": "nJy"}, "zero_point is 27, that of BUNIT = nJy is 31.4"),
        (26.0, {"fluxmag0": 63095734448.0194}, r"zero_point is 26, 2.5 lg\(FLUXMAG0\) is 27"),
        (20.0, {"magzpt": 25.3, "exptime": 720.0}, "zero_point is 20, MAGZPT is 25.3"),
    ],
)
def test_a_contradiction_is_one_line(given: float | None, cards: dict[str, Any], said: str) -> None:
    with pytest.raises(MismatchError, match=rf"^{said} \[image.fits\]: keep the one"):
        found(given, **cards)


def test_headers_round_their_zero_points() -> None:
    assert found(27.0004, magzero=27.0) == 27.0004


@pytest.mark.parametrize("value", [-999.0, "unknown", True])
def test_what_is_no_magnitude_is_one_line(value: Any) -> None:
    with pytest.raises(MissingDataError, match=r"MAGZERO is .*, which is no magnitude"):
        found(magzero=value)


@pytest.mark.parametrize(
    ("text", "band"),
    [
        *(("r", "r"), ("HSC-R", "r"), ("HSC-I2", "i"), ("HSC-Y", "y"), ("r.MP9602", "r"), ("u.MP9302", "u")),
        *(("r DECam SDSS c0002 6415.0 1480.0", "r"), ("Y DECam c0005 10095.0 1130.0", "y"), ("zd DECam k1038", "z")),
        *(("OCAM_r_SDSS", "r"), ("r_57", "r"), ("sdss_g", "g"), ("LSST y", "y"), ("g.00000", "g"), ("bokr", "r")),
        *(("VR DECam c0007 6300.0 2600.0", None), ("N964 DECam c0008", None), ("g+r", None), ("F814W", None)),
    ],
)
def test_names_of_filters(text: str, band: str | None) -> None:
    assert band_of(text) == band


def test_a_header_with_another_band_is_one_line() -> None:
    require_band(image(filter="r DECam SDSS c0002 6415.0 1480.0"), "r")
    require_band(image(filter="VR DECam c0007 6300.0 2600.0"), "r")
    require_band(image(band=2), "r")
    require_band(image(primary={"filter": "Y"}), "Y")
    with pytest.raises(MismatchError, match=r"is given as r, but its FILTER is 'HSC-I' \[image.fits\]: give it as i"):
        require_band(image(primary={"filter": "HSC-I"}), "r")
