"""The model for every sky on observed stamps of any kind."""

from __future__ import annotations

import numpy as np
import pandas as pd

from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.model import SkyMeasurement, SkyModel
from deblend_assets.science.sky_shapes.quantities import BLOCKS, QUANTITIES
from deblend_assets.science.stamps.estimates import Estimates
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.stamps.quantities import columns_of

SKY_POSTERIOR, SKY_LIKELIHOOD = "sky_model", "sky_model_likelihood"
# Title and description, for pages and figures.
SKY_WORDS = {
    SKY_POSTERIOR: (
        "network for every sky",
        "posterior mean of one network for every sky; given PSF, noise, mask and the other detections of the stamp",
    ),
    SKY_LIKELIHOOD: (
        "network for every sky, likelihood only",
        "the same with the prior of its sky divided out; galaxies whose pixels hold too little information count as "
        "failures",
    ),
}


def measure_sky(model: SkyModel, stamps: ObservedStamps) -> dict[str, pd.DataFrame]:
    """Two tables of estimates (`ESTIMATE_COLUMNS`), one row a stamp: SKY_POSTERIOR and SKY_LIKELIHOOD.

    Fluxes are exp(ln flux) in the reference band, NaN in the others. Of the likelihood a quantity is NaN where the
    pixels hold too little information on it. No row is flagged: the model does not yet say which it does not trust.

    Args:
        model: calibrated.
        stamps: of any side, in some of the model's bands.
    """
    found = model.measure(stamps)
    return {
        SKY_POSTERIOR: _table(found.posterior, found, stamps),
        SKY_LIKELIHOOD: _table(found.likelihood, found, stamps),
    }


def _table(posterior: GaussianPosterior, found: SkyMeasurement, stamps: ObservedStamps) -> pd.DataFrame:
    mean, errors = (np.array(part.numpy()) for part in (posterior.mean, posterior.errors))
    if posterior.flags is not None:
        for columns in columns_of(BLOCKS):
            unknown = ~posterior.is_constrained(columns.start)
            mean[unknown, columns] = errors[unknown, columns] = np.nan
    table = Estimates.nothing(len(stamps), stamps.bands)
    for letter, into, into_err in (("g", table.g, table.g_err), ("e", table.e, table.e_err)):
        columns = slice(QUANTITIES.index(f"{letter}1"), QUANTITIES.index(f"{letter}2") + 1)
        into[:], into_err[:] = mean[:, columns], errors[:, columns]
    one = (np.arange(len(stamps)), found.reference)
    flux = np.exp(mean[:, QUANTITIES.index("ln_flux")])
    table.flux[one], table.flux_err[one] = flux, flux * errors[:, QUANTITIES.index("ln_flux")]
    return table.table()
