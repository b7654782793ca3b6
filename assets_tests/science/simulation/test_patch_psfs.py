"""PSFs of patches: each is that of its patch's centre, and known ones are the same as rendered ones."""

from __future__ import annotations

import numpy as np
import pytest

from deblend_assets.errors import MismatchError
from deblend_assets.science.simulation.patch_psfs import KnownPSFs, PatchPSFs
from deblend_assets.science.skies.psf import PSFModel, PSFVariation, VaryingPSF
from deblend_assets.science.skies.sky import Sky, SkyBand

SHAPE = (90, 120)


@pytest.fixture(scope="module")
def psfs() -> PatchPSFs:
    variation = PSFVariation.random(SHAPE, np.random.default_rng(3))
    psf = VaryingPSF(PSFModel("moffat", 0.8, 3.0), variation)
    bands = {name: SkyBand(psf, sigma=1.0, zero_point=30.0) for name in ("r", "i")}
    return PatchPSFs(Sky("test", 0.2, SHAPE, bands), 3)


def test_patches_are_numbered_row_by_row_and_have_the_psf_at_their_centre(psfs: PatchPSFs) -> None:
    assert psfs.patch([0.0, 119.0, 0.0, 500.0], [0.0, 0.0, 89.0, 500.0]).tolist() == [0, 2, 6, 8]
    assert psfs.centre(4) == (59.5, 44.5)
    for number in range(9):
        x, y = psfs.centre(number)
        assert int(psfs.patch(x, y)) == number
        ln_size, change = psfs.sky["r"].psf.variation.at(x, y)
        shape = psfs.psf_shape(number, 0)
        assert shape.fwhm == pytest.approx(0.8 * np.exp(ln_size), rel=2e-3)
        assert shape.g == pytest.approx(complex(change), abs=1e-3)


def test_known_psfs_are_those_that_were_rendered_and_no_others(psfs: PatchPSFs) -> None:
    images = np.stack([psfs.psf_images(*psfs.centre(number), 21) for number in range(9)])
    shapes = {(number, band): psfs.psf_shape(number, band) for number in range(9) for band in range(2)}
    known = KnownPSFs(psfs.sky, 3, images, shapes)
    for x, y in ((3.0, 4.0), (100.0, 80.0), (-20.0, 45.0)):
        np.testing.assert_array_equal(known.psf_images(x, y, 21), psfs.psf_images(x, y, 21))
    assert known.psf_shape(5, 1) == psfs.psf_shape(5, 1)
    with pytest.raises(MismatchError, match="21 pixels, not 31"):
        known.psf_images(3.0, 4.0, 31)
