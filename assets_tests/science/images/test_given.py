"""Fields of an ngmix MultiBandObsList, without ngmix: lists that have its attributes."""

from __future__ import annotations

from typing import Any

import galsim
import numpy as np
import pytest
from astropy import wcs as astropy_wcs
from astropy.io import fits

import deblend_assets as da

WCS = galsim.JacobianWCS(-0.2, 0.0, 0.0, 0.2)


class Jacobian:
    """Of ngmix, as far as it is read."""

    def get_galsim_wcs(self) -> galsim.JacobianWCS:
        return WCS


class Seen:
    """An `ngmix.Observation`."""

    def __init__(self, level: float, **meta: Any) -> None:
        self.image, self.weight = np.full((8, 10), level), np.full((8, 10), 4.0)
        self.bmask, self.jacobian, self.meta = np.zeros((8, 10), np.int32), Jacobian(), meta
        self.bmask[2, 3] = 16

    def has_bmask(self) -> bool:
        return True

    def has_psf(self) -> bool:
        return False


class Listed(list[Any]):
    """An `ngmix.ObsList` or `MultiBandObsList`."""

    def __init__(self, members: list[Any], **meta: Any) -> None:
        super().__init__(members)
        self.meta = meta


def test_a_multi_band_obs_list_is_a_field() -> None:
    field = da.Field.from_ngmix(Listed([Listed([Seen(2.0)]), Listed([Seen(1.0)])]), "rg", [30.0, 27.0])
    assert field.names == ("g", "r")
    assert field.zero_points.tolist() == [27.0, 30.0]
    assert field.wcs == WCS
    pixels, weight, _ = field.bands["r"].read((slice(0, 8), slice(0, 10)))
    assert (pixels[weight > 0] == 2).all()
    assert np.argwhere(weight == 0).tolist() == [[2, 3]]
    assert weight.max() == 4


def test_names_and_zero_points_are_those_of_meta() -> None:
    mbobs = Listed([Listed([Seen(2.0, magzp_ref=30.0)], band="r"), Listed([Seen(1.0, band="g", zero_point=27.0)])])
    field = da.Field.from_ngmix(mbobs)
    assert field.names == ("g", "r")
    assert field.zero_points.tolist() == [27.0, 30.0]


@pytest.mark.parametrize(
    ("mbobs", "bands", "line"),
    [
        (Listed([Listed([Seen(1.0)])]), None, "band and zero_point of meta"),
        (Listed([Listed([Seen(1.0, zero_point=30.0)])]), "gr", "1 bands, of names"),
        (Listed([Listed([Seen(1.0, zero_point=30.0, band="r")] * 2)]), None, "one coadd a band"),
    ],
)
def test_what_is_not_known_is_one_line(mbobs: Listed, bands: str | None, line: str) -> None:
    with pytest.raises(da.DeblendError, match=line):
        da.Field.from_ngmix(mbobs, bands)


SIGMA = np.linspace(6.0, 8.0, 100) * np.ones((90, 1))
PIXELS = SIGMA * np.random.default_rng(5).normal(size=SIGMA.shape)


def observed(weight: Any, zero_point: Any = 30.0) -> Any:
    return da.Observation(PIXELS, weight, zero_point=zero_point, psf={"fwhm": 0.8}, wcs=0.2, where="r")


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (1.0, r"weight is 0 or 1, for a noise of 1, but the pixels' noise is 7\S* \[r\]: give 1 / noise\*\*2, here"),
        (np.indices(SIGMA.shape)[0] > 9, r"weight is 0 or 1, .* and bmask says which pixels are lost"),
        (SIGMA**2, r"weight is a map of variance: for a noise of 7\S* it is 49 \[r\]: give 1 / weight in its place"),
        (SIGMA, r"weight is a map of rms: .*: give 1 / weight\*\*2 in its place"),
    ],
)
def test_a_weight_that_is_no_inverse_variance_is_one_line(weight: Any, message: str) -> None:
    with pytest.raises(da.DeblendError, match=message):
        observed(weight)


@pytest.mark.parametrize("weight", [7.0**-2, SIGMA**-2, 0.5 * SIGMA**-2, np.zeros(SIGMA.shape), None])
def test_a_weight_that_agrees_within_a_factor_is_kept(weight: Any) -> None:
    assert (observed(weight).weight is None) == (weight is None)


@pytest.mark.parametrize("zero_point", [None, "AB", float("nan")])
def test_a_zero_point_that_is_none_is_one_line(zero_point: Any) -> None:
    with pytest.raises(da.DeblendError, match=r"zero_point is .* \[r\]: give the AB magnitude of one image unit"):
        observed(None, zero_point)


@pytest.mark.parametrize(
    ("wcs", "said"),
    [(None, "None"), (fits.Header({"MAGZERO": 30.0}), "a Header without a WCS"), (0.0, "a float"), ("0.2", "a str")],
)
def test_no_wcs_is_one_line_and_not_pixels_of_an_arcsec(wcs: Any, said: str) -> None:
    with pytest.raises(da.DeblendError, match=rf"wcs is {said}.* \[image\]: give .* or the pixel scale in arcsec"):
        da.Observation(PIXELS, zero_point=30, psf={"fwhm": 0.8}, wcs=wcs)


@pytest.mark.parametrize(
    "cards",
    [
        {"CDELT1": -5.5e-5, "CDELT2": 5.5e-5, "CROTA2": 30.0},
        {"CD1_1": -5.5e-5, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 5.5e-5, "LONPOLE": 150.0},
        {"CD1_1": -5.5e-5, "CD2_2": 5.5e-5, "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.0, "PV1_4": 9.0},
    ],
    ids=["CROTA2", "LONPOLE", "a term whose order is not written out"],
)
def test_a_header_is_read_as_files_are(cards: dict[str, Any]) -> None:
    base = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 150.0,
        "CRVAL2": 40.0,
        "CRPIX1": 50.0,
        "CRPIX2": 45.0,
    }
    header = fits.Header(base | cards)
    found = da.Observation(PIXELS, zero_point=30, psf={"fwhm": 0.8}, wcs=header).wcs
    expected = astropy_wcs.WCS(fits.Header({"PV2_1": 1.0} | base | cards)).all_pix2world([[90.0, 10.0]], 1)[0]
    ra, dec = found.xyToradec(90.0, 10.0, units="degrees")
    np.testing.assert_allclose([ra % 360, dec], expected, atol=1e-8)
    assert da.Observation(PIXELS, zero_point=30, psf={"fwhm": 0.8}, wcs=np.float32(0.2)).wcs.isPixelScale()


def test_pixels_of_a_masked_array_that_are_masked_are_lost() -> None:
    mask = np.zeros(PIXELS.shape, bool)
    mask[40:44, 50] = True
    weight = np.ma.masked_array(SIGMA**-2, np.roll(mask, 9, axis=0))
    spoilt = np.ma.masked_array(np.where(mask, 1e6, PIXELS), mask)
    found = da.Observation(spoilt, weight, zero_point=30, psf={"fwhm": 0.8}, wcs=0.2)
    pixels, weights, _ = found.read((slice(None), slice(None)))
    assert np.array_equal(weights == 0, mask | weight.mask)
    assert np.abs(pixels).max() < 1e3
    whole = np.ma.masked_array(np.where(mask, 30000, 10 * PIXELS).astype(np.int16), mask)
    stamps = da.Stamps(np.ma.stack([whole])[None], bands="r", psf={"fwhm": 0.8}, wcs=0.2, zero_point=30)
    assert np.isnan(stamps.image[0, 0][mask]).all()


def test_an_image_of_galsim_brings_its_pixel_scale() -> None:
    image = galsim.Image(PIXELS, scale=0.21)
    found = da.Observation(image, galsim.Image(SIGMA**-2), zero_point=30, psf={"fwhm": 0.8})
    assert found.wcs == galsim.PixelScale(0.21)
    np.testing.assert_array_equal(found.image, PIXELS)
    assert da.Observation(image, zero_point=30, psf={"fwhm": 0.8}, wcs=0.2).wcs == galsim.PixelScale(0.2)


@pytest.mark.parametrize(
    ("image", "weight", "said"),
    [
        ("r.fits", None, r"an image of str .*: .* da\.read_field reads the files"),
        (PIXELS * 1j, None, "an image of ndarray .complex128.*real numbers"),
        (PIXELS, np.ones((5, 5)), r"weight has shape \(5, 5\), the image"),
    ],
)
def test_what_is_no_image_or_weight_is_one_line(image: Any, weight: Any, said: str) -> None:
    with pytest.raises(da.DeblendError, match=said):
        da.Observation(image, weight, zero_point=30, psf={"fwhm": 0.8}, wcs=0.2)


@pytest.mark.parametrize("bands", [{"r": PIXELS}, ["r"], PIXELS])
def test_a_field_of_other_things_than_observations_is_one_line(bands: Any) -> None:
    with pytest.raises(da.DeblendError, match=r"no observations by name .*write da\.Field"):
        da.Field(bands)
