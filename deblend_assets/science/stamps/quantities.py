"""What is estimated of a galaxy, how it turns with the stamp, and how it is distributed over the population.

Six numbers: the intrinsic *shear-type* g (a - b)/(a + b), which no PSF has touched; the observed *distortion* e
(a² - b²)/(a² + b²) of the label band, unweighted moments of the stamp with PSF; natural logarithms of the
circularised half-light radius before PSF [arcsec] and of the total flux in the label band [electron]. The pairs are
spin 2, pixel frame (x with the column, y with the row); the logarithms do not turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblend_assets.science.stamps.symmetries import transform_ellipticity

QUANTITIES = ("g1", "g2", "e1", "e2", "ln_size", "ln_flux")
SPINS = 4  # the first of them: pairs that turn


def quantities(targets: pd.DataFrame, label_band: str) -> NDArray[np.float64]:
    """The true values.

    Args:
        targets: rows of a truth table (`scene_truth.TRUTH_COLUMNS`), one a scene.
        label_band: of flux and distortion.

    Returns:
        (N, 6); NaN in a row of a galaxy without a shape (AGN light alone).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log(targets[["hlr_arcsec", f"flux_{label_band}"]].to_numpy(float))
    values = np.concatenate([targets[list(QUANTITIES[:SPINS])].to_numpy(float), logarithms], axis=1)
    return np.where(np.isfinite(values).all(axis=1, keepdims=True), values, np.nan)


def turn(values: Tensor, elements: Tensor) -> Tensor:
    """Quantities (N, 6) of stamps to which elements (N,) of the square's group were applied (`symmetries`)."""
    return torch.cat([transform_ellipticity(values[:, :SPINS], elements), values[:, SPINS:]], dim=1)


@dataclass(frozen=True)
class PriorMoments:
    """First and second moments of the quantities over the training galaxies.

    They are the units of the network, and the prior that its estimates contain.

    Attributes:
        mean: (6,); 0 for the pairs, which have no direction.
        covariance: (6, 6), of the same symmetry: a pair's components alike and not correlated with each other.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> PriorMoments:
        """Of true values (N, 6), each counted in all orientations."""
        mean = values.mean(axis=0)
        mean[:SPINS] = 0.0
        offset = values - mean
        covariance = offset.T @ offset / len(values)
        spins = covariance[:SPINS, :SPINS].reshape(2, 2, 2, 2)
        alike = np.einsum("pkqk->pq", spins) / 2
        covariance[:SPINS, :SPINS] = np.einsum("pq,kl->pkql", alike, np.eye(2)).reshape(SPINS, SPINS)
        covariance[:SPINS, SPINS:] = covariance[SPINS:, :SPINS] = 0.0
        return cls(tuple(mean.tolist()), tuple(tuple(row) for row in covariance.tolist()))

    @property
    def scale(self) -> NDArray[np.float64]:
        """Standard deviations, (6,)."""
        return np.sqrt(np.diag(np.asarray(self.covariance)))

    def whiten(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 6) to units of the population's standard deviation from its mean."""
        return (values - np.asarray(self.mean)) / self.scale
