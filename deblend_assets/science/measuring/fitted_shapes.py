"""The network's posterior and the fit of the target's profile to the pixels, together.

The network knows galaxies, and what blends and masks do; at S/N above some 100 its numbers do not reach what the pixels
hold. The fit (`deblender.scene_fit`) reaches it where a Sérsic profile describes the galaxy and no neighbour is in the
way. Fitted numbers y with covariance R count as a measurement of the quantities x, of posterior (m, C):

    K = C Hᵀ (H C Hᵀ + R)⁻¹,    m' = m + K (y - H m),    C' = (1 - K H) C,

H the quantities that are fitted. Of the others, which follow by their correlations, half of the variance that they
would lose is kept: those correlations are not better known. R is the fit's own covariance times `WIDER`, χ² to the
power `BY_CHI2` and exp(`BY_BLEND` × blendedness): what profiles and neighbours that are not known do, and that both
estimates are from the same pixels. The numbers were fitted to galaxies of training fields (docs/shape_fit.md).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from deblend_assets.science.deblender.scene_fit import TargetFit
from deblend_assets.science.deblender.scene_sources import NUMBERS
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.model import SkyMeasurement
from deblend_assets.science.sky_shapes.quantities import QUANTITIES

WIDER, BY_CHI2, BY_BLEND, KEPT = 6.0, 5.0, 4.5, 0.5
# The quantity that each number of a profile is.
_OF_NUMBER = {"x": "dx", "y": "dy", "g1": "g1", "g2": "g2", "ln_hlr": "ln_size", "concentration": "concentration"}
COLUMNS = np.array([QUANTITIES.index(_OF_NUMBER[name]) for name in NUMBERS])
"""Number of the quantity that each of `NUMBERS` is."""

Floats = NDArray[np.float64]


class FittedShapes(NamedTuple):
    """What is known of N targets with the fit.

    Attributes:
        measurement: of network and fit; that of the network alone where there is no fit.
        gain: K of the posterior, (N, 9, 6); 0 where there is no fit.
    """

    measurement: SkyMeasurement
    gain: Floats


def with_fit(found: SkyMeasurement, fit: TargetFit, position: Floats) -> FittedShapes:
    """Join both.

    Args:
        found: by the network, of N targets.
        fit: of the same.
        position: x, y of the detections, (N, 2) [pixel].
    """
    fitted = np.isfinite(fit.values[:, 0])
    values = fit.values.copy()
    values[:, :2] -= position
    wider = WIDER * np.maximum(fit.chi2, 1.0) ** BY_CHI2 * np.exp(BY_BLEND * np.clip(fit.blendedness, 0, 1))
    errors = fit.covariance * wider[:, None, None]
    posterior, gain = _updated(found.posterior, values, errors, fitted)
    likelihood, _ = _updated(found.likelihood, values, errors, fitted)
    return FittedShapes(found._replace(posterior=posterior, likelihood=likelihood), gain)


def _updated(
    posterior: GaussianPosterior, values: Floats, errors: Floats, fitted: NDArray[np.bool_]
) -> tuple[GaussianPosterior, Floats]:
    mean, covariance = posterior.mean.numpy().copy(), posterior.covariance.numpy().copy()
    gain = np.zeros((*mean.shape, len(COLUMNS)))
    rows = np.flatnonzero(fitted & np.isfinite(mean).all(axis=1))
    before = covariance[rows]
    observed = before[:, COLUMNS[:, None], COLUMNS] + errors[rows]
    gain[rows] = np.swapaxes(np.linalg.solve(observed, before[:, COLUMNS]), 1, 2)
    mean[rows] += (gain[rows] @ (values[rows] - mean[rows][:, COLUMNS])[..., None])[..., 0]
    # Joseph's form: positive whatever the rounding.
    kept = np.eye(mean.shape[1]) - gain[rows] @ np.eye(mean.shape[1])[COLUMNS]
    after = kept @ before @ np.swapaxes(kept, 1, 2) + gain[rows] @ errors[rows] @ np.swapaxes(gain[rows], 1, 2)
    others = np.setdiff1d(np.arange(mean.shape[1]), COLUMNS)
    block = others[:, None], others
    after[:, *block] += KEPT * (before[:, *block] - after[:, *block])
    covariance[rows] = after
    joined = GaussianPosterior(
        torch.from_numpy(mean),
        covariance=torch.from_numpy(covariance),
        log_odds=posterior.log_odds,
        flags=posterior.flags,
        standardized=posterior.standardized,
        blocks=posterior.blocks,
    )
    return joined, gain
