"""Effective number of galaxies an arcmin²: what a catalogue's error of the mean shear says, cuts and noise inside.

n_eff = (σ_g / σ(ĝ))² / area. σ_g is the RMS a component of the true g of the fields' test galaxies, one number for all
methods; σ(ĝ) is the jack-knife error of the response-corrected mean of one component over fields that are not turned,
at one sign of the shear.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.field_shear.stacked import Stacked, response
from deblend_assets.science.statistics.jackknife import Measure

Floats = NDArray[np.float64]
_RESAMPLES = 500
_ONE_SIGMA = (0.15865, 0.84135)
# Variance of a mean shear that is rounding alone.
_ROUNDING = 1e-20


def influences(stacked: Stacked, shear: float) -> Floats:
    """What each field adds to the error of the mean, (F, 2): Σ of its squares is σ² of a component.

    The mean is of upright images under +g, less the applied shear, over the response of all images.
    """
    images = stacked.sums[:, :, 0, 0, 0]
    applied = shear * np.eye(2)
    deviation = images[..., 2:4] / response(stacked.sums.sum(axis=0), stacked.step)
    deviation = (deviation - images[..., 1:2] * applied).sum(axis=1)
    weight = images[..., 1].sum(axis=1)
    mean = deviation.sum(axis=0) / weight.sum()
    # The first order of leaving a field out; (F - 1) / F is that of the jack-knife.
    return np.asarray((deviation - mean * weight[:, None]) / weight.sum())


def effective_number(stacked: Stacked, shear: float, sigma_g: float, area: Floats, *, seed: int) -> Measure:
    """n_eff [1 / arcmin²], mean of both components' variances; its error is a bootstrap over fields, R with them.

    NaN without any scatter, as of fields without a galaxy.

    Args:
        stacked: sums of F fields.
        shear: |g| that was applied.
        sigma_g: RMS a component of the true g.
        area: unmasked sky of each field, (F,) [arcmin²].
        seed: of the bootstrap.
    """
    variances = _variances(stacked, shear, _drawn(len(stacked.fields), seed))
    return _bootstrapped(_over(np.full_like(variances, sigma_g**2 / area.sum()), variances))


def effective_ratio(ours: Stacked, other: Stacked, shear: float, *, seed: int) -> Measure:
    """n_eff of one method over that of another on the same fields; the bootstrap resamples both together, R too."""
    both = np.intersect1d(ours.fields, other.fields)
    own, others = (_variances(part.only(both), shear, _drawn(len(both), seed)) for part in (ours, other))
    return _bootstrapped(_over(others, own))


def _over(numerators: Floats, variances: Floats) -> Floats:
    """The quotients; NaN where there is no variance."""
    return np.divide(numerators, variances, where=variances > _ROUNDING, out=np.full_like(variances, np.nan))


def _bootstrapped(values: Floats) -> Measure:
    """The first value; its error is half of the interval that holds 68.27 % of those of the samples that have one.

    The standard deviation would be that of the few samples whose response is near 0.
    """
    known = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(known, _ONE_SIGMA) if len(known) > 1 else (np.nan, np.nan)
    return Measure(float(values[0]), float(high - low) / 2)


def _drawn(fields: int, seed: int) -> list[NDArray[np.int64]]:
    """All fields, then bootstrap samples of them."""
    rng = np.random.default_rng(seed)
    return [np.arange(fields), *rng.integers(0, fields, (_RESAMPLES, fields))]


def _variances(stacked: Stacked, shear: float, samples: list[NDArray[np.int64]]) -> Floats:
    """Of the mean shear of each sample of fields, with the response of that sample, mean of both components."""
    found = []
    for rows in samples:
        sample = Stacked(stacked.fields[rows], stacked.sums[rows], stacked.step)
        squares = np.square(influences(sample, shear)).mean(axis=1)
        found.append(squares.sum() * len(rows) / max(len(rows) - 1, 1))
    return np.array(found)
