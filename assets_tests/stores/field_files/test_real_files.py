"""Files of real surveys, as their pipelines wrote them; skipped where they are not at hand."""

from __future__ import annotations

from pathlib import Path

import galsim
import numpy as np
import pytest

from assets_tests.science.skies.real_data import real_folder
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.stores.field_files import field_file_of_arguments, read_field

FOLDER = real_folder() or Path("absent")
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no real images")

DECAM = {
    **{f"testcase9/{band}": ("testcase9", band, "") for band in "grz"},
    **{f"testcase3/{band}": ("testcase3", band, "") for band in "grz"},
    **{f"testcase6/{band}": ("testcase6", band, "") for band in "grz"},
    "testcase5": ("testcase5", "z", ""),
}


def everything(shape: tuple[int, int]) -> tuple[slice, slice]:
    return slice(0, shape[0]), slice(0, shape[1])


def test_a_cutout_of_the_legacy_surveys() -> None:
    folder = FOLDER / "decals_dr9_cutout"
    name, psf = folder / "cutout_59.1067_-30.4848.fits", folder / "copsf_59.1067_-30.4848.fits"
    bands = dict(zip("grz", (1, 3, 5), strict=True))
    field = read_field(
        field_file_of_arguments(
            {band: f"{name}[{n}]" for band, n in bands.items()},
            weights={band: f"{name}[{n + 1}]" for band, n in bands.items()},
            psfs=dict.fromkeys(bands, str(psf)),
            zero_points=dict.fromkeys(bands, 22.5),
        ),
        pytest.fail,
    )
    assert field.names == ("g", "r", "z")
    assert field.shape == (256, 256)
    assert field.pixel_scale == pytest.approx(0.262, abs=1e-4)
    ra, dec = field.sky(np.array([127.5]), np.array([127.5]))
    assert (ra[0], dec[0]) == pytest.approx((59.1067, -30.4848), abs=2e-4)
    for observation, fwhm in zip(field.bands.values(), (1.17, 0.94, 0.90), strict=True):
        pixels, weight, _ = observation.read(everything(field.shape))
        chi = pixels * np.sqrt(weight)
        assert 1.4826 * np.median(np.abs(chi - np.median(chi))) == pytest.approx(1.0, abs=0.25)
        assert observation.psf is not None
        star = galsim.Convolve(observation.psf.at(128, 128), galsim.Pixel(0.262))
        assert star.calculateFWHM() == pytest.approx(fwhm, abs=0.02)


@pytest.mark.parametrize("case", DECAM.values(), ids=DECAM)
def test_exposures_of_decam(case: tuple[str, str, str]) -> None:
    """TPV, rows along right ascension, counts with the sky in, weights and codes of the Community Pipeline."""
    test, band, _ = case
    images = sorted((FOLDER / "decam_testcases" / test / "images").rglob(f"*_ooi_{band}_*.fits"))
    assert images
    for image in images:
        inverse, codes = (image.with_name(image.name.replace("_ooi_", part)) for part in ("_oow_", "_ood_"))
        said: list[str] = []
        settings = field_file_of_arguments(
            {band: str(image)},
            weights={band: str(inverse)},
            bmasks={band: str(codes)},
            zero_points={} if test == "testcase5" else {band: 30.0},
        )
        field = read_field(settings, said.append)
        assert field.pixel_scale == pytest.approx(0.2626, abs=0.002)
        jacobian = field.jacobian(10, 10)
        assert np.abs(np.diag(jacobian)).max() < 0.01, "the axes are turned by 90 degrees"
        observation = field.bands[band]
        if test == "testcase5":
            assert observation.zero_point == 29.948
        pixels, weight, mask = observation.read(everything(field.shape))
        if test == "testcase6":  # a saturated star, whose wings are steeper than the noise
            assert mask.max() >= MaskBit.SATURATED
            continue
        both = (weight[:, 1:] > 0) & (weight[:, :-1] > 0)
        variance = 1 / weight[:, 1:][both] + 1 / weight[:, :-1][both]
        differences = np.diff(pixels, axis=1)[both] / np.sqrt(variance)
        assert 1.4826 * np.median(np.abs(differences)) == pytest.approx(1.0, abs=0.15)


def test_cubes_of_hsc_and_the_same_sky_of_hst() -> None:
    folder = FOLDER / "hsc_hst_pair"
    hsc = field_file_of_arguments(
        {band: f"{folder}/Cut_HSC.fits[0][{k}]" for k, band in enumerate("grizy")},
        psfs=dict.fromkeys("grizy", f"{folder}/PSF_HSC.fits"),
        zero_points=dict.fromkeys("grizy", 27.0),
    )
    field = read_field(hsc, pytest.fail)
    assert field.shape == (50, 50)
    assert field.pixel_scale == pytest.approx(0.168, abs=1e-4)
    hst = read_field(field_file_of_arguments({"i": f"{folder}/Cut_HST.fits"}, zero_points={"i": 25.9}), pytest.fail)
    assert hst.pixel_scale == pytest.approx(0.03, abs=1e-3)
    places = [one.sky(np.array([(one.shape[1] - 1) / 2]), np.array([(one.shape[0] - 1) / 2])) for one in (field, hst)]
    (ra, dec), (other_ra, other_dec) = places
    assert np.hypot((ra - other_ra) * np.cos(np.deg2rad(dec)), dec - other_dec)[0] * 3600 < 0.5
