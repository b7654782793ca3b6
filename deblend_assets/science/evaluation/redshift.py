"""Accuracy of estimated redshifts, and calibration of their posteriors.

With Δz = (z_estimate - z) / (1 + z), as usual since photometric redshifts are compared with spectroscopic ones:

* `sigma_NMAD` = 1.4826 median |Δz - median Δz|, the normalised median absolute deviation: σ of a Gaussian, robust
  against outliers. Authors differ in whether they subtract the median; it is subtracted here, so that bias does not
  count as scatter.
* `bias` = median Δz.
* `outliers` = share of |Δz| > 0.15, the limit of Ilbert et al. (2006) and of Hildebrandt et al. (2012). Nothing is
  cut before the other two measures.

The probability integral transform (PIT) of a galaxy is its posterior's cdf at the true redshift. For
calibrated posteriors it is uniform on [0, 1]: a histogram that is high at both ends means that they are too narrow, one
that is high in the middle that they are too wide.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.statistics.accuracy import Evaluation, measured
from deblend_assets.science.statistics.metrics import Floats, robust_sigma

OUTLIER = 0.15
PIT_BINS = 20
_LEVELS = (0.68, 0.95)
_MEASURES = ("sigma_NMAD", "bias", "outliers")


def evaluate_redshifts(
    true_z: NDArray[np.floating],
    estimate_z: NDArray[np.floating],
    cdf_at_truth: NDArray[np.floating] | None,
    *,
    resamples: int,
    seed: int,
) -> Evaluation:
    """Measures of redshift estimates, and of their posteriors where there are any.

    Args:
        true_z: (N,), above -1.
        estimate_z: (N,); NaN where there is none.
        cdf_at_truth: (N,), probability below the true redshift, in [0, 1]; None for estimates without posteriors.
        resamples, seed: of the bootstrap over galaxies.

    Returns:
        `n`; `failures`, estimates (or cdfs) that are not numbers, left out of everything else; `sigma_NMAD`, `bias`
        and `outliers`, in units of Δz (the module's docstring). With cdfs also `pit`: `coverage_68%` and
        `coverage_95%`, the share of galaxies whose true redshift lies in the central interval of so much probability;
        `kolmogorov`, the greatest distance between the PIT's cumulative distribution and the uniform one, which
        exceeds 1.36 / √n in 5 % of large samples of right posteriors (Kolmogorov's limit); and `histogram`, the
        density of the PIT in 20 equal bins from 0 to 1, each 1 where the posteriors are right. Every measure is
        `{"value", "error"}`, the error a bootstrap's; both None below `accuracy.MINIMUM_ROWS` galaxies. That of
        `kolmogorov` is of the distance measured, which is never below 0, and no test of whether it differs from 0.

    Raises:
        ValueError: the arrays differ in shape, a true redshift is not a number above -1, or a cdf is outside [0, 1].
    """
    truth, estimate = (np.asarray(z, dtype=np.float64) for z in (true_z, estimate_z))
    cdf = None if cdf_at_truth is None else np.asarray(cdf_at_truth, dtype=np.float64)
    if truth.ndim != 1 or any(other.shape != truth.shape for other in (estimate, cdf) if other is not None):
        raise ValueError("true and estimated redshifts, and cdfs, of one shape (N,) expected")
    if not (np.isfinite(truth) & (truth > -1)).all():
        raise ValueError("true redshifts above -1 expected")
    if cdf is not None and ((cdf < 0) | (cdf > 1)).any():
        raise ValueError("cdfs between 0 and 1 expected")

    worked = np.isfinite(estimate) if cdf is None else np.isfinite(estimate) & np.isfinite(cdf)
    off = ((estimate - truth) / (1 + truth))[worked]
    found: Evaluation = {"n": len(truth), "failures": int((~worked).sum())}
    found |= measured(_offsets, _MEASURES, {"off": off}, resamples, seed)
    if cdf is not None:
        found["pit"] = _uniformity(cdf[worked], resamples, seed)
    return found


def _uniformity(pit: Floats, resamples: int, seed: int) -> Evaluation:
    names = [*(f"coverage_{level:.0%}" for level in _LEVELS), "kolmogorov"]
    bins = [f"bin {k}" for k in range(PIT_BINS)]
    found = measured(_pit, [*names, *bins], {"pit": pit}, resamples, seed)
    return {name: found[name] for name in names} | {"histogram": [found[name] for name in bins]}


def _offsets(columns: Mapping[str, Floats]) -> Floats:
    off = columns["off"]
    return np.stack([robust_sigma(off), np.median(off, axis=-1), (np.abs(off) > OUTLIER).mean(axis=-1)])


def _pit(columns: Mapping[str, Floats]) -> Floats:
    pit = np.sort(columns["pit"], axis=-1)
    n = pit.shape[-1]
    # The empirical distribution is a staircase: above the uniform one it is farthest at a step's top, else at its foot.
    steps = np.arange(n + 1) / n
    distance = np.maximum(steps[1:] - pit, pit - steps[:-1]).max(axis=-1)
    within = [(np.abs(pit - 0.5) < level / 2).mean(axis=-1) for level in _LEVELS]
    # 1 itself belongs to the last bin.
    numbers = np.minimum((pit * PIT_BINS).astype(np.int64), PIT_BINS - 1)
    density = [PIT_BINS * (numbers == k).mean(axis=-1) for k in range(PIT_BINS)]
    return np.stack([*within, distance, *density])
