"""Each galaxy of a field alone."""

from __future__ import annotations

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.table import Table

import deblend_assets as da
from deblend_assets.errors import MismatchError

PSF, SCALE, SIDE = galsim.Moffat(beta=3, fwhm=0.8), 0.2, 120
FIRST, SECOND = (55.3, 60.2), (65.0, 60.0)
FLUXES = (3000.0, 2000.0)


def drawn(*chosen: int) -> np.ndarray:
    """The galaxies without noise."""
    image = galsim.ImageD(SIDE, SIDE, scale=SCALE)
    for k in chosen:
        galaxy = galsim.Exponential(half_light_radius=0.4, flux=FLUXES[k]).shear(g1=0.2 - 0.3 * k)
        place = galsim.PositionD(*(np.array((FIRST, SECOND)[k]) + 1))
        galsim.Convolve(galaxy, PSF).drawImage(image, center=place, add_to_image=True)
    return np.array(image.array)


@pytest.fixture(scope="module")
def field() -> da.Field:
    rng = np.random.default_rng(1)
    both = drawn(0, 1)
    return da.Field(
        {
            band: da.Observation(both + rng.normal(size=both.shape), 1.0, zero_point=30, psf=PSF, wcs=SCALE)
            for band in "ri"
        }
    )


@pytest.fixture(scope="module")
def table(field: da.Field) -> object:
    found = da.measure(field)
    assert len(found) == 2
    assert found.meta["lines"][0].startswith("2 detected, ")
    return found[np.argsort(found["x"])]


def test_the_catalogue_is_written_as_astropy_writes_tables(table: Table, tmp_path: Path) -> None:
    for name in ("catalog.fits", "catalog.ecsv", "catalog.parquet"):
        table.write(tmp_path / name)
        again = Table.read(tmp_path / name)
        assert again["flux_r"].unit == table["flux_r"].unit == "nJy"
        assert list(again["bands_present"]) == ["ri", "ri"]


def test_the_neighbour_is_gone(field: da.Field, table: object) -> None:
    alone = da.deblend(field, table)
    half = alone.shape[-1] // 2
    for k, (x, y) in enumerate((FIRST, SECOND)):
        left, low = int(np.floor(x + 0.5)) - half, int(np.floor(y + 0.5)) - half
        window = slice(low, low + 2 * half + 1), slice(left, left + 2 * half + 1)
        left_over = alone[k, 0] - drawn(k)[window]
        # The noise stays; a tenth of the neighbour's light does not.
        assert left_over.std() == pytest.approx(1.0, abs=0.1)
        assert abs(left_over[half - 4 : half + 5, half - 14 : half + 15].sum()) < 0.1 * FLUXES[1 - k]


def test_another_psf_is_that_of_the_model(field: da.Field, table: object) -> None:
    sharp = da.deblend(field, table, psf=galsim.Gaussian(fwhm=0.5))
    common = da.deblend(field, table, psf="common")
    for images in (sharp, common):
        np.testing.assert_allclose(images[:, 0].sum(axis=(1, 2)), FLUXES, rtol=0.08)
    assert (sharp.max(axis=(2, 3)) > 1.5 * common.max(axis=(2, 3))).all()


def test_what_is_not_there_is_refused(field: da.Field) -> None:
    with pytest.raises(MismatchError, match="no table"):
        da.deblend(field)
    with pytest.raises(MismatchError, match="none of 1 positions lies on the image"):
        da.deblend(field, {"x": [500.0], "y": [3.0]})
