"""The six estimated quantities of a galaxy, their rotation with the stamp, and their population moments.

The intrinsic *shear-type* g (a - b)/(a + b), before PSF; the observed *distortion* e
(a² - b²)/(a² + b²) of the label band, unweighted moments of the stamp with PSF; natural logarithms of the
circularised half-light radius before PSF [arcsec] and of the total flux in the label band [electron]. The pairs are
spin 2, pixel frame (x with the column, y with the row); the logarithms are scalars.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblend_assets.science.stamps.symmetries import transform_ellipticity, transform_vectors


class Block(NamedTuple):
    """Quantities that turn with the stamp together.

    Attributes:
        names: of the two components of a pair, or of one number.
        spin: 2: the pair of an ellipticity; 1: a vector (x, y); 0: a number that does not turn.
    """

    names: tuple[str, ...]
    spin: int


BLOCKS = (Block(("g1", "g2"), 2), Block(("e1", "e2"), 2), Block(("ln_size",), 0), Block(("ln_flux",), 0))


def names_of(blocks: Sequence[Block]) -> tuple[str, ...]:
    """All quantities of some blocks, in order."""
    return tuple(name for block in blocks for name in block.names)


QUANTITIES = names_of(BLOCKS)
SPINS = 4  # the first four are spin-2 pairs


def columns_of(blocks: Sequence[Block]) -> list[slice]:
    """Where each block's quantities are on the axis of the quantities."""
    ends = np.cumsum([0, *(len(block.names) for block in blocks)]).tolist()
    return [slice(first, end) for first, end in itertools.pairwise(ends)]


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


def turn(values: Tensor, elements: Tensor, blocks: Sequence[Block] = BLOCKS) -> Tensor:
    """Apply elements (N,) of the square's symmetry group (`symmetries`) to quantities (N, K) of some blocks."""
    parts = []
    for block, columns in zip(blocks, columns_of(blocks), strict=True):
        part = values[:, columns]
        if block.spin:
            part = (transform_vectors if block.spin == 1 else transform_ellipticity)(part, elements)
        parts.append(part)
    return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class PriorMoments:
    """First and second moments of the quantities over the training galaxies.

    They define the units of the network, and the prior in its estimates.

    Attributes:
        mean: (K,); 0 for the pairs, by isotropy.
        covariance: (K, K), isotropic: the components of a pair have equal variance and no correlation.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, values: NDArray[np.float64], blocks: Sequence[Block] = BLOCKS) -> PriorMoments:
        """Compute from true values (N, K) of some blocks, averaged over all orientations."""
        mean = values.mean(axis=0)
        mean[np.repeat([block.spin for block in blocks], [len(block.names) for block in blocks]) > 0] = 0.0
        offset = values - mean
        covariance = offset.T @ offset / len(values)
        averaged = np.zeros_like(covariance)
        placed = list(zip(blocks, columns_of(blocks), strict=True))
        for first, rows in placed:
            for second, columns in placed:
                if first.spin == second.spin:
                    part = covariance[rows, columns]
                    averaged[rows, columns] = np.trace(part) / 2 * np.eye(2) if first.spin else part
        return cls(tuple(mean.tolist()), tuple(tuple(row) for row in averaged.tolist()))

    @property
    def scale(self) -> NDArray[np.float64]:
        """Standard deviations, (K,)."""
        return np.sqrt(np.diag(np.asarray(self.covariance)))

    def whiten(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standardize values (N, K) by the population's mean and standard deviation."""
        return (values - np.asarray(self.mean)) / self.scale
