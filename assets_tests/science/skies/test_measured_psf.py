"""PSFs that were measured once give a sky the numbers that their profiles give."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pytest

from deblend_assets.errors import MismatchError
from deblend_assets.science.skies.artefacts import sample_artefacts
from deblend_assets.science.skies.measured_psf import MeasuredPSF, flux_error
from deblend_assets.science.skies.noise import resampled
from deblend_assets.science.skies.psf import PSFModel
from deblend_assets.science.skies.saturation import full_well
from deblend_assets.science.skies.sky import Sky, SkyBand
from deblend_assets.settings import MaskSettings

SCALE = 0.2


def test_a_gaussian_has_its_closed_forms() -> None:
    sigma = 0.4
    psf = MeasuredPSF.of(galsim.Gaussian(sigma=sigma).shear(g1=0.05), SCALE)
    assert psf.shape.sigma == pytest.approx(sigma, rel=1e-3)
    assert psf.shape.g1 == pytest.approx(0.05, abs=1e-4)
    # A pixel of side a around the peak has a² / (2π σ²) of the light, less the curvature's share.
    share = (SCALE / sigma) ** 2
    assert psf.peak == pytest.approx(share / (2 * np.pi) * (1 - share / 12), rel=2e-3)
    assert psf.flux_error == pytest.approx(2 * np.pi**0.5 * sigma / SCALE, rel=0.03)  # √(4π) σ, and the pixel
    assert psf.flux_error == flux_error(galsim.Gaussian(sigma=sigma).shear(g1=0.05), SCALE)


def test_a_sky_of_measured_psfs_is_as_deep_as_full_and_as_damaged_as_that_of_the_profiles() -> None:
    band = SkyBand(
        PSFModel("moffat", 0.8, 3.0, 0.03, -0.02), sigma=40.0, zero_point=32.0, correlation=resampled("bilinear")
    )
    sky = Sky("test", SCALE, (96, 96), {"r": band, "i": replace(band, psf=PSFModel("kolmogorov", 0.7))})
    known = {name: replace(sky[name], psf=sky.measured_psf(name)) for name in sky.names}
    again = Sky("test", SCALE, (96, 96), known)
    masks = MaskSettings(trails=2.0, cosmic_rays=5.0)
    for name in sky.names:
        assert again.depth(name) == sky.depth(name)
        assert full_well(again, name, 17.0) == full_well(sky, name, 17.0)
    one, other = (sample_artefacts(which, masks, np.random.default_rng(1)) for which in (sky, again))
    np.testing.assert_array_equal(one.added, other.added)
    assert one.added.any()
    with pytest.raises(MismatchError, match="no profile"):
        again.psfs(0.0, 0.0)


def test_a_psf_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sky = Sky("test", SCALE, (64, 64), {"r": SkyBand(PSFModel("gaussian", 0.8), sigma=1.0, zero_point=30.0)})
    first = sky.measured_psf("r")
    monkeypatch.setattr(MeasuredPSF, "of", None)
    assert sky.measured_psf("r") is first
    assert sky.depth("r", 10.0) < sky.depth("r", 5.0)
