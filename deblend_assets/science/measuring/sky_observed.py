"""The model for every sky on observed stamps of any kind."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.measuring.sky_scene import measure_scenes
from deblend_assets.science.measuring.trust import trust_of
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.sky_shapes.quantities import BLOCKS, QUANTITIES
from deblend_assets.science.stamps.estimates import Estimates
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.stamps.quantities import columns_of

SKY_POSTERIOR, SKY_LIKELIHOOD = "sky_model", "sky_model_likelihood"
# Title and description, for pages and figures.
SKY_WORDS = {
    SKY_POSTERIOR: (
        "network for every sky",
        "posterior mean of one network for every sky, given PSF, noise, mask and the other detections of the stamp; "
        "fluxes of all detections solved together",
    ),
    SKY_LIKELIHOOD: (
        "network for every sky, likelihood only",
        "the same with the prior of its sky divided out; galaxies whose pixels hold too little information count as "
        "failures",
    ),
}


def measure_sky(model: SkyModel, stamps: ObservedStamps) -> dict[str, pd.DataFrame]:
    """Two tables of estimates (`ESTIMATE_COLUMNS`), one row a stamp: SKY_POSTERIOR and SKY_LIKELIHOOD.

    Fluxes of SKY_POSTERIOR are those of the scene: all detections of the stamp solved together, linear, in every band.
    Of the likelihood a quantity is NaN where the pixels hold too little information on it, and there is no flux.
    Flagged: any bit of `RowFlag`.

    Args:
        model: calibrated.
        stamps: of any side, in some of the model's bands.
    """
    scene = measure_scenes(model, stamps)
    flag = trust_of(stamps, scene).flags != 0
    posterior = _shapes(scene.targets.posterior, flag, stamps)
    posterior.flux[:], posterior.flux_err[:] = scene.fluxes.flux[:, 0], scene.fluxes.error[:, 0]
    return {
        SKY_POSTERIOR: posterior.table(),
        SKY_LIKELIHOOD: _shapes(scene.targets.likelihood, flag, stamps).table(),
    }


def _shapes(posterior: GaussianPosterior, flag: NDArray[np.bool_], stamps: ObservedStamps) -> Estimates:
    mean, errors = (np.array(part.numpy()) for part in (posterior.mean, posterior.errors))
    if posterior.flags is not None:
        for columns in columns_of(BLOCKS):
            unknown = ~posterior.is_constrained(columns.start)
            mean[unknown, columns] = errors[unknown, columns] = np.nan
    found = Estimates.nothing(len(stamps), stamps.bands)
    for letter, into, into_err in (("g", found.g, found.g_err), ("e", found.e, found.e_err)):
        columns = slice(QUANTITIES.index(f"{letter}1"), QUANTITIES.index(f"{letter}2") + 1)
        into[:], into_err[:] = mean[:, columns], errors[:, columns]
    found.flag[:] = flag
    return found
