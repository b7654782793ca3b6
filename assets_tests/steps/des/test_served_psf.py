"""The PSF on its way from the archive to a measurement: bright galaxies of known shape come back as they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import galsim
import numpy as np
import pandas as pd
import pytest
from astropy.wcs import WCS

import deblend_assets as da
from assets_tests.science.images.samples import drawn, grid, noise
from assets_tests.science.simulation.field_samples import small_sky
from deblend_assets.science.simulated_survey.fitted_psf import fitted_psfs
from deblend_assets.science.simulated_survey.geometry import TileGeometry
from deblend_assets.science.simulation.patch_psfs import PatchPSFs
from deblend_assets.science.skies.psf import PSFModel, PSFVariation, VaryingPSF
from deblend_assets.stores.psfex_files import moved_psfex, psfex_file

SIDE, SNR = 320, 200.0
# The measured image begins here on the archive's [pixel].
LEFT, BOTTOM = 40, 10
# g1 grows from left to right, g2 from bottom to top.
CHANGE = PSFVariation((SIDE, SIDE), (0.0,) * 5, (0.035, 0.0, 0.0, 0.0, 0.0), (0.0, 0.035, 0.0, 0.0, 0.0))
PSF = VaryingPSF(PSFModel("moffat", 1.0, beta=3.0, g1=0.035, g2=-0.035), CHANGE)


@dataclass(frozen=True)
class TruePSF:
    """The PSF of the measured image."""

    def at(self, x: float, y: float) -> galsim.GSObject:
        return PSF.at(x + LEFT, y + BOTTOM)


@pytest.mark.slow
def test_bright_galaxies_have_their_true_shapes_as_if_the_psf_were_known(tmp_path: Path) -> None:
    x, y = grid(SIDE, 50, margin=60)
    rng = np.random.default_rng(1)
    g = rng.uniform(0.05, 0.4, len(x)) * np.exp(2j * np.pi * rng.random(len(x)))
    discs = [galsim.Exponential(half_light_radius=0.4).shear(g1=s.real, g2=s.imag) for s in g]
    seen = [galsim.Convolve(disc, PSF.at(*at)) for disc, at in zip(discs, zip(x, y, strict=True), strict=True)]
    flux = [SNR / np.linalg.norm(profile.drawImage(nx=61, ny=61, scale=0.2).array) for profile in seen]
    pixels = (drawn((SIDE, SIDE), x, y, flux, seen) + noise((SIDE, SIDE), 1))[BOTTOM:, LEFT:]
    cards = TileGeometry.of_tile("DES1200+6000", SIDE, 0.2).cards()
    crpix = (SIDE + 1) / 2 - LEFT, (SIDE + 1) / 2 - BOTTOM
    file = tmp_path / "psf.fits"
    file.write_bytes(moved_psfex(psfex_file(fitted_psfs(PatchPSFs(small_sky(SIDE, PSF), 3), 41)[0], cards), crpix))
    places = pd.DataFrame({"x": x - LEFT, "y": y - BOTTOM})
    measured = {}
    for name, psf in (("served", file), ("true", TruePSF())):
        observed = da.Observation(
            pixels,
            weight=np.ones_like(pixels),
            zero_point=30.0,
            psf=psf,
            wcs=WCS(cards | {"CRPIX1": crpix[0], "CRPIX2": crpix[1]}),
        )
        measured[name] = da.measure(da.Field({"r": observed}), places).to_pandas()
    served, true = measured["served"], measured["true"]
    found = (served["g1"] + 1j * served["g2"]).to_numpy()
    assert len(found) == 25
    assert found == pytest.approx((true["g1"] + 1j * true["g2"]).to_numpy(), abs=0.01)
    assert (found * g.conj()).real.sum() / (abs(g) ** 2).sum() == pytest.approx(1.0, abs=0.03)
    pull = [(found - g).real / served["g_cov_11"] ** 0.5, (found - g).imag / served["g_cov_22"] ** 0.5]
    assert np.sqrt(np.mean(np.square(pull))) < 1.2
