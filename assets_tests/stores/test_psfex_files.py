"""PSFEx files as they are written, read and moved to another image of the same sky."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from deblend_assets.science.skies.psf_files import read_psf
from deblend_assets.science.skies.psfex_psf import PSFExPSF
from deblend_assets.stores.psfex_files import moved_psfex, psfex_file

CARDS = {"CRPIX1": 100.5, "CRPIX2": 80.5}


def model(degree: int) -> PSFExPSF:
    terms = (degree + 1) * (degree + 2) // 2
    basis = np.random.default_rng(1).random((terms, 5, 5)).astype(np.float32).astype(np.float64)
    return PSFExPSF(basis, degree, (100.5, 80.5), (100.0, 80.0), 1.0, 0.26, "here")


def read(data: bytes, folder: Path) -> PSFExPSF:
    path = folder / "psf.fits"
    path.write_bytes(data)
    found = read_psf(path, 0.26)
    assert isinstance(found, PSFExPSF)
    return found


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_a_model_is_read_as_it_was_written_and_moves_with_the_image(degree: int, tmp_path: Path) -> None:
    psf = model(degree)
    data = psfex_file(psf, CARDS)
    # The other image begins 30 columns and 7 rows later.
    moved = moved_psfex(data, (70.5, 73.5))
    for x, y in ((30.0, 7.0), (150.0, 90.5)):
        np.testing.assert_allclose(read(data, tmp_path).image(x, y), psf.image(x, y))
        np.testing.assert_allclose(read(moved, tmp_path).image(x - 30, y - 7), psf.image(x, y))
    assert moved_psfex(moved, (70.5, 73.5)) == moved, "it knows its own image"


def test_what_is_no_model_or_has_no_wcs_is_refused() -> None:
    stream = io.BytesIO()
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(stream)
    with pytest.raises(ValueError, match="no PSFEx model"):
        moved_psfex(stream.getvalue(), (1.0, 1.0))
    with pytest.raises(ValueError, match="no WCS"):
        moved_psfex(psfex_file(model(1), {}), (1.0, 1.0))
