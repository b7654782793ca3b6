"""Gaussian posteriors of a galaxy's quantities, and the likelihood-only estimate: the prior divided out.

With posterior N(m, C) and a prior of moments (p, P), the likelihood has the information L = C^-1 - P^-1 and its peak
at p + (1 - C P^-1)^-1 (m - p). The posterior mean is shrunk toward the prior mean; the peak of the likelihood is not:
its slope on the truth is 1. Where the pixels add little information, dividing by it would amplify noise without limit;
the information is therefore bounded from below, and the galaxy is flagged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblend_assets.science.stamps.quantities import PriorMoments, turn

# Least information of the pixels, in units of the prior's, by which the likelihood-only estimate divides.
_LEAST_INFORMATION = 0.5
SHAPE_FLAGS = {
    1: "g: the pixels hold less than half of the population's information, no likelihood-only estimate is given",
    2: "e: the same",
    4: "size: the same",
    8: "flux: the same",
}
# The prior is divided out block by block: a pair, whose errors may be correlated, or a single logarithm. And its flag.
_BLOCKS = ((slice(0, 2), 1), (slice(2, 4), 2), (slice(4, 5), 4), (slice(5, 6), 8))


class GaussianPosterior:
    """Gaussian posteriors of K quantities for N galaxies, from the network to the catalogue.

    Standardized posteriors are in the units of the network: offsets from the population's mean in units of its standard
    deviation (`PriorMoments`). `in_own_units` gives those of the quantities (`quantities.QUANTITIES`).

    Args:
        mean: (N, K).
        cholesky: (N, K, K), lower triangular, positive diagonal. Give this or the covariance; the other one is computed
            when it is first used.
        covariance: (N, K, K).
        log_odds: log-odds of each head's criteria (`heads.HEADS`), (N, criterion) by name; heads may be skipped.
        flags: (N,) bits of SHAPE_FLAGS; of a likelihood-only estimate.
        standardized: whether the numbers are in units of the population's standard deviation.
    """

    def __init__(
        self,
        mean: Tensor,
        *,
        cholesky: Tensor | None = None,
        covariance: Tensor | None = None,
        log_odds: Mapping[str, Tensor] | None = None,
        flags: NDArray[np.int16] | None = None,
        standardized: bool = True,
    ) -> None:
        if (cholesky is None) == (covariance is None):
            raise ValueError("give the Cholesky factor or the covariance")
        self.mean, self.standardized, self.flags = mean, standardized, flags
        self.log_odds: dict[str, Tensor] = dict(log_odds or {})
        self._cholesky, self._covariance = cholesky, covariance

    def __len__(self) -> int:
        return len(self.mean)

    @cached_property
    def cholesky(self) -> Tensor:
        """(N, K, K), lower triangular; covariance = cholesky @ cholesky.T."""
        if self._cholesky is not None:
            return self._cholesky
        factor: Tensor = torch.linalg.cholesky(self._covariance)
        return factor

    @cached_property
    def covariance(self) -> Tensor:
        """(N, K, K)."""
        return self.cholesky @ self.cholesky.mT if self._covariance is None else self._covariance

    @property
    def errors(self) -> Tensor:
        """Standard deviations, (N, K)."""
        return self.covariance.diagonal(dim1=1, dim2=2).sqrt()

    def standardized_offsets(self, values: Tensor) -> Tensor:
        """Offsets of values (N, K) from the mean, decorrelated and in units of the standard deviation, (N, K)."""
        offset = (values - self.mean)[:, :, None]
        standard: Tensor = torch.linalg.solve_triangular(self.cholesky, offset, upper=False)[:, :, 0]
        return standard

    def log_prob(self, values: Tensor) -> Tensor:
        """ln p of values (N, K), (N,)."""
        k = self.mean.shape[1]
        half = 0.5 * self.standardized_offsets(values).square().sum(dim=1)
        determinant = self.cholesky.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        return -half - determinant - 0.5 * k * float(torch.log(torch.tensor(2 * torch.pi)))

    def turned(self, elements: Tensor) -> GaussianPosterior:
        """Posteriors of stamps to which elements (N,) of the square's group were applied; log-odds do not turn."""
        signs = turn(torch.ones_like(self.mean), elements)
        outer = signs[:, :, None] * signs[:, None, :]
        return GaussianPosterior(self.mean * signs, cholesky=self.cholesky * outer, log_odds=self.log_odds)

    def stretched(self, factors: NDArray[np.float64]) -> GaussianPosterior:
        """With the standard deviations multiplied by (K,) factors."""
        outer = torch.from_numpy(np.outer(factors, factors)).to(self.covariance)
        return GaussianPosterior(self.mean, covariance=self.covariance * outer, log_odds=self.log_odds)

    def single(self, device: torch.device) -> GaussianPosterior:
        """In float32 on a device, by its Cholesky factor, as the flow takes it."""
        mean, cholesky = (part.float().to(device) for part in (self.mean, self.cholesky))
        log_odds = {name: odds.float().to(device) for name, odds in self.log_odds.items()}
        return GaussianPosterior(mean, cholesky=cholesky, log_odds=log_odds)

    def double(self) -> GaussianPosterior:
        """In float64 on the host, by its covariance."""
        mean, covariance = (part.cpu().double() for part in (self.mean, self.covariance))
        log_odds = {name: odds.cpu().double() for name, odds in self.log_odds.items()}
        return GaussianPosterior(mean, covariance=covariance, log_odds=log_odds)

    def rows(self, chosen: slice | NDArray[np.bool_]) -> GaussianPosterior:
        """Posteriors of some of the galaxies."""
        log_odds = {name: odds[chosen] for name, odds in self.log_odds.items()}
        return GaussianPosterior(self.mean[chosen], cholesky=self.cholesky[chosen], log_odds=log_odds)

    @staticmethod
    def joined(parts: Sequence[GaussianPosterior]) -> GaussianPosterior:
        """One after another, by their covariances."""
        return GaussianPosterior(
            torch.cat([part.mean for part in parts]),
            covariance=torch.cat([part.covariance for part in parts]),
            log_odds={name: torch.cat([part.log_odds[name] for part in parts]) for name in parts[0].log_odds},
        )

    def in_own_units(self, population: PriorMoments) -> GaussianPosterior:
        """In the quantities' own units, float64.

        Args:
            population: the moments by which they are standardized.
        """
        assert self.standardized
        scale = torch.from_numpy(population.scale)
        return GaussianPosterior(
            torch.tensor(population.mean, dtype=torch.float64) + self.mean * scale,
            covariance=self.covariance * scale.outer(scale),
            log_odds=self.log_odds,
            flags=self.flags,
            standardized=False,
        )

    def likelihood_only(self) -> GaussianPosterior:
        """The likelihood-only estimate of a standardized posterior: the prior divided out, with its flags."""
        assert self.standardized, "the standardized prior of each block is the unit matrix"
        mean, covariance = self.mean.numpy(), self.covariance.numpy()
        likelihood, likelihood_covariance = np.empty_like(mean), np.zeros_like(covariance)
        flags = np.zeros(len(mean), dtype=np.int16)
        for block, flag in _BLOCKS:
            # The prior of a pair has no direction, so the axes of the posterior diagonalise both.
            ratio, axes = np.linalg.eigh(covariance[:, block, block])
            information = 1.0 / ratio - 1.0
            kept = np.maximum(information, _LEAST_INFORMATION)
            along = np.einsum("nji,nj->ni", axes, mean[:, block])
            # 1 / (1 - ratio) = (1 + information) / information.
            likelihood[:, block] = np.einsum("nij,nj->ni", axes, along * (1.0 + kept) / kept)
            likelihood_covariance[:, block, block] = np.einsum("nij,nj,nkj->nik", axes, 1.0 / kept, axes)
            flags |= np.where((information < _LEAST_INFORMATION).any(axis=1), flag, 0).astype(np.int16)
        return GaussianPosterior(
            torch.from_numpy(likelihood), covariance=torch.from_numpy(likelihood_covariance), flags=flags
        )

    def is_constrained(self, quantity: int) -> NDArray[np.bool_]:
        """(N,) whether the pixels alone constrain a quantity (its number); of a likelihood-only estimate."""
        assert self.flags is not None
        bits = next(flag for block, flag in _BLOCKS if block.start <= quantity < block.stop)
        return (self.flags & bits) == 0
