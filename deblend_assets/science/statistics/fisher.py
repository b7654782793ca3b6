"""Covariances from a Fisher matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve


def marginal_covariance(information: NDArray, wanted: int) -> NDArray[np.float64]:
    """Covariance of the first parameters, the others marginalised.

    Args:
        information: Fisher matrix, priors included, (P, P).
        wanted: how many.

    Returns:
        (wanted, wanted); NaN for a parameter without information (the flux in a band without light), and for
        all where the information is singular.
    """
    covariance = np.full((wanted, wanted), np.nan)
    diagonal = np.diag(information)
    kept = np.flatnonzero(diagonal > 0)
    # In units of the parameters' own errors, so that only correlations are left in the condition number.
    scale = diagonal[kept] ** -0.5
    first = kept[kept < wanted]
    unit = np.eye(len(kept), len(first))
    try:
        solved = cho_solve(cho_factor(information[np.ix_(kept, kept)] * np.outer(scale, scale), lower=True), unit)
    except np.linalg.LinAlgError:
        return covariance
    covariance[np.ix_(first, first)] = solved[: len(first)] * np.outer(scale[: len(first)], scale[: len(first)])
    return covariance
