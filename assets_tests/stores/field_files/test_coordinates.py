"""The WCS of an image: every way in which headers write it, against wcslib, or one line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from assets_tests.stores.field_files.files import TAN, noise
from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.stores.field_files.coordinates import wcs_of
from deblend_assets.stores.field_files.planes import FitsImage, FitsPlane

# 1 arcsec a pixel, CRPIX in the middle of 2,000 pixels.
LARGE = {
    **TAN,
    **{"CRPIX1": 1000.0, "CRPIX2": 1000.0, "CD1_1": -1 / 3600, "CD2_2": 1 / 3600},
}
PV = {"PV1_1": 1.0, "PV2_1": 1.0, "PV1_7": 0.02}
SIP = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-6, "A_1_1": 0.0, "A_0_2": 0.0, "B_2_0": 0.0, "B_1_1": 0.0, "B_0_2": 2e-6}
PLACES = ((1.0, 1.0), (1900.0, 1000.0), (300.0, 1800.0))


def without(*keys: str, **cards: Any) -> dict[str, Any]:
    return {**{key: value for key, value in LARGE.items() if key not in keys}, **cards}


CDELT = {"CDELT1": -1 / 3600, "CDELT2": 1 / 3600}
NO_CD = without("CD1_1", "CD1_2", "CD2_1", "CD2_2", **CDELT)
HEADERS = {
    "TAN": LARGE,
    "rotated by 90 degrees": {**LARGE, "CD1_1": 0.0, "CD1_2": 1 / 3600, "CD2_1": 1 / 3600, "CD2_2": 0.0},
    "east right": {**LARGE, "CD1_1": 1 / 3600},
    "latitude first": {
        **LARGE,
        **{"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": -5.0, "CRVAL2": 30.0},
        **{"CD1_1": 0.0, "CD1_2": 1 / 3600, "CD2_1": -1 / 3600, "CD2_2": 0.0},
    },
    "CDELT": NO_CD,
    "CROTA2": {**NO_CD, "CROTA2": 30.0},
    "PC, zeros left out": {**NO_CD, "PC1_1": 1.0, "PC2_2": 1.0},
    "LONPOLE": {**LARGE, "LONPOLE": 150.0},
    "arcsec": {
        **LARGE,
        **{"CUNIT1": "arcsec", "CUNIT2": "arcsec", "CRVAL1": 30.0 * 3600, "CRVAL2": -5.0 * 3600},
        **{"CD1_1": -1.0, "CD2_2": 1.0},
    },
    "SIP": {**LARGE, "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", **SIP},
    "TPV": {**LARGE, "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", **PV},
    "TPV, term in r": {**LARGE, "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.0, "PV1_11": 0.02},
    "TPV, PV2_1 left out": {**LARGE, "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.0, "PV1_4": 0.01},
    "TPV of order 5": {**LARGE, "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.0, "PV2_19": 3.0},
    "SCAMP's PV": {**LARGE, **PV},
    "SIN": {**LARGE, "CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"},
    "ZPN": {**LARGE, "CTYPE1": "RA---ZPN", "CTYPE2": "DEC--ZPN", "PV2_1": 1.0, "PV2_3": 42.0},
    "ZEA": {**LARGE, "CTYPE1": "RA---ZEA", "CTYPE2": "DEC--ZEA"},
}


def image_of(cards: dict[str, Any], shape: tuple[int, int] = (2000, 2000)) -> FitsImage:
    header = fits.Header(list(cards.items()))
    return FitsImage(FitsPlane("image.fits", 0, (), shape, "image.fits"), header, fits.Header())


def read(cards: dict[str, Any], pixel_scale: float | None = None) -> galsim.BaseWCS:
    return wcs_of(image_of(cards), pixel_scale, lambda line: pytest.fail(line))


def expected(cards: dict[str, Any], x: float, y: float) -> galsim.CelestialCoord:
    """Where wcslib puts a pixel; it knows SCAMP's PV by the name TPV, and not that PVi_1 is 1 where it is left out."""
    cards = dict(cards)
    if cards["CTYPE1"] == "RA---TAN" and "PV1_1" in cards:
        cards |= {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"}
    if cards["CTYPE1"] == "RA---TPV":
        cards = {"PV1_1": 1.0, "PV2_1": 1.0, **cards}
    (ra,), (dec,) = WCS(fits.Header(list(cards.items()))).all_pix2world([x], [y], 1, ra_dec_order=True)
    return galsim.CelestialCoord(ra * galsim.degrees, dec * galsim.degrees)


@pytest.mark.parametrize("cards", HEADERS.values(), ids=HEADERS)
def test_positions_are_those_of_wcslib(cards: dict[str, Any]) -> None:
    wcs = read(cards)
    there = pickle.loads(pickle.dumps(wcs))
    for x, y in PLACES:
        place = wcs.toWorld(galsim.PositionD(x, y))
        assert place.distanceTo(expected(cards, x, y)) / galsim.arcsec < 1e-3
        back = there.toImage(place)
        assert (back.x, back.y) == pytest.approx((x, y), abs=1e-3)


def test_pv_terms_count_whatever_the_projection_is_called() -> None:
    """What others ran into, 11: a term of PV1_7 alone moves a place 900 pixels from CRPIX by 1.125 arcsec."""
    place = galsim.PositionD(1900, 1000)
    plain, scamp, tpv = (read(HEADERS[name]) for name in ("TAN", "SCAMP's PV", "TPV"))
    assert scamp.toWorld(place).distanceTo(tpv.toWorld(place)) / galsim.arcsec < 1e-3
    for wcs in (scamp, tpv):
        assert wcs.toWorld(place).distanceTo(plain.toWorld(place)) / galsim.arcsec == pytest.approx(1.125, abs=2e-3)
        shear = wcs.local(place).getDecomposition()[1]
        assert shear.g1 == pytest.approx(0.0019, abs=1e-4)
        assert shear.g2 == pytest.approx(0.0, abs=1e-4)


def test_tnx_is_read() -> None:
    """A term in x alone is a change of scale. GalSim knows Chebyshev polynomials of order 4, wcslib none."""
    words = "1. 4. 4. 2. -1. 1. -1. 1. 0. {} 0. 0. 0. 0. 0. 0. 0. 0."
    lng, lat = (
        f'wtype=tnx axtype={axis} {axis_}cor = "{words.format(term)} "'
        for axis, axis_, term in (
            ("ra", "lng", "1e-3"),
            ("dec", "lat", "0."),
        )
    )
    cards = {**LARGE, "CTYPE1": "RA---TNX", "CTYPE2": "DEC--TNX", "WAT1_001": lng, "WAT2_001": lat}
    place = galsim.PositionD(1900, 1000)
    assert type(read(cards)) is galsim.GSFitsWCS
    apart = read(cards).toWorld(place).distanceTo(read(LARGE).toWorld(place)) / galsim.arcsec
    assert apart == pytest.approx(0.9, rel=0.01)


def test_sip_terms_without_the_name_are_not_applied_and_it_is_said() -> None:
    said: list[str] = []
    wcs = wcs_of(image_of({**LARGE, **SIP}), None, said.append)
    assert wcs.toWorld(galsim.PositionD(1900, 1000)) == read(LARGE).toWorld(galsim.PositionD(1900, 1000))
    assert said == ["SIP terms are not applied, since CTYPE1 is RA---TAN without -SIP [image.fits]"]


def test_a_cube_has_the_wcs_of_its_first_two_axes() -> None:
    third = {"CTYPE3": "WAVE", "CRVAL3": 1.0, "CRPIX3": 1.0, "CD3_3": 1.0, "CD1_3": 0.0}
    assert read({**LARGE, "WCSAXES": 3, "NAXIS": 3, **third}) == read(LARGE)


@pytest.mark.parametrize("origin", [(1, 1), (-7, 12)])
@pytest.mark.parametrize("wcs", [galsim.PixelScale(0.2), galsim.JacobianWCS(-0.2, 0.01, 0.02, 0.19)])
def test_a_linear_wcs_of_galsim_counts_from_the_first_pixel(
    tmp_path: Path, wcs: galsim.BaseWCS, origin: tuple[int, int]
) -> None:
    image = galsim.Image(noise(), wcs=wcs, xmin=origin[0], ymin=origin[1])
    image.write(str(tmp_path / "image.fits"))
    header = fits.getheader(tmp_path / "image.fits")
    found = wcs_of(image_of(dict(header.items())), None, print)
    for x, y in ((1.0, 1.0), (20.5, 7.0)):
        world = image.wcs.toWorld(galsim.PositionD(x + origin[0] - 1, y + origin[1] - 1))
        place = found.toWorld(galsim.PositionD(x, y))
        assert (place.x, place.y) == pytest.approx((world.x, world.y))


def test_a_header_never_chooses_what_is_run(tmp_path: Path) -> None:
    """GalSim evaluates GS_WCS as Python."""
    marker = tmp_path / "ran"
    with pytest.raises(MissingDataError, match="no celestial coordinates"):
        read({"GS_WCS": f"open({str(marker)!r}, 'w')"})
    assert not marker.exists()


def test_without_a_wcs_the_pixel_scale_is_needed() -> None:
    assert read({}, pixel_scale=0.3) == galsim.PixelScale(0.3)
    with pytest.raises(MissingDataError, match=r"has no celestial coordinates \[image.fits\]: .* give pixel_scale"):
        read({})
    with pytest.raises(MissingDataError, match="has no celestial coordinates"):
        read({**LARGE, "CTYPE1": "LINEAR", "CTYPE2": "LINEAR"})


def test_a_pixel_scale_that_contradicts_the_header_is_one_line() -> None:
    assert read(LARGE, pixel_scale=1.0) == read(LARGE)
    with pytest.raises(MismatchError, match=r"pixel_scale is 0\.2 arcsec, that of the header 1"):
        read(LARGE, pixel_scale=0.2)


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "has coordinates GLON-TAN, GLAT-TAN"),
        ({"CTYPE1": "RA---TAN", "CTYPE2": "RA---TAN"}, "has coordinates RA---TAN, RA---TAN"),
        ({"RADESYS": "FK4"}, "has coordinates of FK4"),
        ({"EQUINOX": 1950.0}, "has coordinates of equinox 1950"),
        ({"CTYPE1": "RA---ZPX", "CTYPE2": "DEC--ZPX"}, "has a WCS of RA---ZPX that cannot be read"),
        ({"CD1_1": 0.0, "CD2_2": 0.0}, "has a WCS of RA---TAN that cannot be read (pixels of 3599.22 arcsec)"),
        ({"CRVAL1": "thirty"}, "has a WCS of RA---TAN that cannot be read"),
    ],
)
def test_coordinates_that_cannot_be_used_are_one_line(cards: dict[str, Any], said: str) -> None:
    with pytest.raises(MissingDataError) as failure:
        read({**LARGE, **cards})
    assert str(failure.value).startswith(said)
    assert "\n" not in str(failure.value)


def test_distances_are_seen_where_the_pole_is() -> None:
    """The referee's distance is an angle, not a difference of coordinates."""
    assert np.isfinite(read({**LARGE, "CRVAL2": 89.9}).pixelArea(galsim.PositionD(10, 10)))
