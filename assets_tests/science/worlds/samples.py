"""Observed fields of Gaussian galaxies behind a Gaussian PSF, whose truth has closed forms."""

from __future__ import annotations

import numpy as np

from deblend_assets.science.simulation.field_light import FieldRenderer
from deblend_assets.science.simulation.fields import Field
from deblend_assets.science.simulation.galaxies import Galaxies, Morphology
from deblend_assets.science.simulation.intrinsic import intrinsic_shapes
from deblend_assets.science.simulation.sources import Sources
from deblend_assets.science.skies.psf import PSFModel
from deblend_assets.science.skies.sky import Sky, SkyBand
from deblend_assets.science.worlds.observed_fields import observe_field
from deblend_assets.science.worlds.targets import Targets, field_targets
from deblend_assets.settings import DetectionSettings, MaskSettings, StampSettings

SCALE, FWHM = 0.2, 0.8
STAMPS = StampSettings(side=33, psf_side=31, lags=2, others=4)
DETECTION = DetectionSettings()
# Half-light radius over sigma of a Gaussian, and FWHM over sigma.
HLR, FWHM_OVER_SIGMA = np.sqrt(2 * np.log(2)), 2 * np.sqrt(2 * np.log(2))


def gaussian_field(x: list[float], y: list[float], flux: list[float], sigma: float, g: complex, side: int) -> Field:
    """Gaussian galaxies of one size [arcsec] and shape, of these fluxes [nJy] in r and i, under a Gaussian PSF."""
    count = len(x)
    light = np.zeros((count, 6, 3))
    light[:, :, 0] = np.asarray(flux)[:, None]
    two = np.ones((count, 2))
    bodies = Galaxies.build(
        np.arange(count), Morphology.SERSIC, two[:, 0], light, 0.5 * two, HLR * sigma * two, np.full((count, 2), g)
    )
    psf = PSFModel("gaussian", FWHM)
    bands = {"r": SkyBand(psf, sigma=1.0, zero_point=31.4), "i": SkyBand(psf, sigma=1.0, zero_point=31.4)}
    sources = Sources(bodies, intrinsic_shapes(bodies), np.array(x), np.array(y), np.full(count, -1))
    return Field(FieldRenderer(Sky("test", SCALE, (side, side), bands)), sources)


def targets_of(field: Field, masks: MaskSettings | None = None, settings: StampSettings = STAMPS) -> Targets:
    return field_targets(observe_field(field, 3, masks, DETECTION), 5, settings, 10.0)
