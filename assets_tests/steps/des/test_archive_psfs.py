"""PSFs of an archive at positions on its sky: where they are evaluated, and how often their files are fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import galsim
import numpy as np
import pytest

from deblend_assets.errors import ArchiveError
from deblend_assets.science.des.cutouts import ImageRecord
from deblend_assets.science.simulated_survey.geometry import TileGeometry
from deblend_assets.science.skies.psf_images import measure_psf_images
from deblend_assets.science.skies.psfex_psf import PSFExPSF
from deblend_assets.steps.des.archive_psfs import ArchivePSFs
from deblend_assets.stores.psfex_files import psfex_file

SIDE, SCALE = 31, 0.26
GEOMETRY = TileGeometry.of_tile("DES1200+6000", 401, SCALE)
RECORD = ImageRecord("http://x/cutout?siaRef=a&extn=4", "r", "psf", 900.0, "the PSF")


class Archive:
    """Answers every request with the same bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.requests: list[ImageRecord] = []

    def fetch(self, record: ImageRecord, check: Callable[[bytes], Any]) -> Any:
        self.requests.append(record)
        return check(self.data)


def psfs(archive: Archive) -> ArchivePSFs:
    found = ArchivePSFs(archive, SCALE, SIDE)
    found.fetch([RECORD, replace(RECORD, url=f"{RECORD.url}&POS=1,2")])
    return found


def star(fwhm: float) -> np.ndarray:
    return galsim.Moffat(beta=3.0, fwhm=fwhm).drawImage(nx=SIDE, ny=SIDE, scale=1.0).array.astype(np.float64)


def test_psfs_change_along_the_columns_of_the_image_and_a_file_is_fetched_once() -> None:
    # Narrower by one pixel at the left edge, wider at the right one; east is left.
    basis = np.stack([star(4.0), 0.5 * (star(5.0) - star(3.0)), np.zeros((SIDE, SIDE))])
    model = PSFExPSF(basis, 1, (201.0, 201.0), (200.0, 200.0), 1.0, SCALE, "here")
    archive = Archive(psfex_file(model, GEOMETRY.cards()))
    found = psfs(archive)
    ra, dec = GEOMETRY.sky(np.array([0.0, 200.0, 400.0]), np.array([300.0, 200.0, 100.0]))
    of_galaxies = [replace(RECORD, url=f"{RECORD.url}&POS={x},{y}") for x, y in zip(ra, dec, strict=True)]
    images = np.stack([found.image(*galaxy) for galaxy in zip(of_galaxies, ra.tolist(), dec.tolist(), strict=True)])
    assert images.shape == (3, SIDE, SIDE)
    assert images.dtype == np.float32
    widths = measure_psf_images(images).fwhm
    assert widths[0] < widths[1] - 0.5 < widths[2] - 1.0
    assert images[1] == pytest.approx(star(4.0) / star(4.0).sum(), abs=2e-4)
    assert archive.requests == [RECORD], "the first one that was listed"


def test_what_is_no_psf_is_an_error_of_the_archive() -> None:
    with pytest.raises(ArchiveError, match="cannot be read as a PSF"):
        psfs(Archive(b"SIMPLE"))
