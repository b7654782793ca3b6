"""The six estimated quantities of a galaxy, their rotation with the stamp, and their population moments.

The intrinsic *shear-type* g (a - b)/(a + b), before PSF; the observed *distortion* e
(a² - b²)/(a² + b²) of the label band, unweighted moments of the stamp with PSF; natural logarithms of the
circularised half-light radius before PSF [arcsec] and of the total flux in the label band [electron]. The pairs are
spin 2, pixel frame (x with the column, y with the row); the logarithms are scalars.
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
SPINS = 4  # the first four are spin-2 pairs


def quantities(targets: pd.DataFrame, label_band: str) -> NDArray[np.float64]:
    """The true values.

    Args:
        targets: rows of a truth table (`scene_truth.TRUTH_COLUMNS`), one a scene.
        label_band: band of flux and distortion.

    Returns:
        (N, 6); NaN in a row of a galaxy without a shape (AGN light alone).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log(targets[["hlr_arcsec", f"flux_{label_band}"]].to_numpy(float))
    values = np.concatenate([targets[list(QUANTITIES[:SPINS])].to_numpy(float), logarithms], axis=1)
    return np.where(np.isfinite(values).all(axis=1, keepdims=True), values, np.nan)


def turn(values: Tensor, elements: Tensor) -> Tensor:
    """Apply elements (N,) of the square's symmetry group (`symmetries`) to quantities (N, 6)."""
    return torch.cat([transform_ellipticity(values[:, :SPINS], elements), values[:, SPINS:]], dim=1)


@dataclass(frozen=True)
class PriorMoments:
    """First and second moments of the quantities over the training galaxies.

    They define the units of the network, and the prior in its estimates.

    Attributes:
        mean: (6,); 0 for the pairs, by isotropy.
        covariance: (6, 6), isotropic: the components of a pair have equal variance and no correlation.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> PriorMoments:
        """Compute from true values (N, 6), averaged over all orientations."""
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
        """Standardize values (N, 6) by the population's mean and standard deviation."""
        return (values - np.asarray(self.mean)) / self.scale
