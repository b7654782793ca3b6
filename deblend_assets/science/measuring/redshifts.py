"""Redshifts of measured galaxies, from the fluxes of their scenes."""

from __future__ import annotations

import numpy as np
import torch

from deblend_assets.science.measuring.sky_scene import SkyScene
from deblend_assets.science.redshift.photometry import Photometry
from deblend_assets.science.redshift.row_redshifts import RowEstimates, RowRedshifts
from deblend_assets.science.simulation.galaxies import nanojansky
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.observed import ObservedStamps


def redshifts_of(network: RowRedshifts | None, stamps: ObservedStamps, scene: SkyScene) -> RowEstimates:
    """Redshifts of the targets of N stamps; NaN without a network, or where no band has a flux.

    Args:
        network: trained.
        stamps, scene: see `SkyRows`.
    """
    if network is None:
        return RowEstimates(*np.full((3, len(stamps)), np.nan))
    return network.estimates(photometry_of(stamps, scene))


def photometry_of(stamps: ObservedStamps, scene: SkyScene) -> Photometry:
    """What redshifts are estimated from, of the targets of N stamps.

    Args:
        stamps, scene: see `SkyRows`.
    """
    fluxes, unit = scene.fluxes, nanojansky(stamps.zero_point)
    flux, noise, error = (part[:, 0] * unit for part in (fluxes.flux, fluxes.noise_error, fluxes.error))
    bands = np.full((2, len(stamps), len(CATSIM_BANDS)), np.nan)
    bands[:, :, [CATSIM_BANDS.index(band) for band in stamps.bands]] = flux, noise
    # Of all bands together, hence that of the brightest ones.
    square, light = (np.nansum(part, axis=1) for part in ((error**2 - noise**2).clip(0), flux**2))
    common = np.sqrt(square / np.where(light > 0, light, 1.0))
    shared = fluxes.blendedness[np.arange(len(stamps)), 0, scene.targets.reference]
    columns = (*bands, common, np.nan_to_num(shared))
    return Photometry(*(torch.from_numpy(np.asarray(column, np.float32)) for column in columns))
