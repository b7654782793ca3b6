"""Gaussian posteriors of a galaxy's quantities, and the likelihood-only estimate: the prior divided out.

With posterior N(m, C) and a prior of moments (p, P), the likelihood has the information L = C^-1 - P^-1 and its peak
at p + (1 - C P^-1)^-1 (m - p). The posterior mean is shrunk toward the prior mean; the peak of the likelihood is not:
its slope on the truth is 1. Where the pixels add little information, dividing by it would amplify noise without limit;
the information is therefore bounded from below, and the galaxy is flagged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblend_assets.science.stamps.quantities import BLOCKS, Block, PriorMoments, columns_of, turn

Floats = NDArray[np.float64]

# Least information of the pixels, in units of the prior's, by which the likelihood-only estimate divides.
_LEAST_INFORMATION = 0.5
SHAPE_FLAGS = {
    1: "g: the pixels hold less than half of the population's information, no likelihood-only estimate is given",
    2: "e: the same",
    4: "size: the same",
    8: "flux: the same",
}


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
        blocks: the quantities, and how they turn with the stamp. The prior is divided out block by block: a pair, whose
            errors may be correlated, or a single number. Block number k has the flag 2^k.
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
        blocks: Sequence[Block] = BLOCKS,
    ) -> None:
        if (cholesky is None) == (covariance is None):
            raise ValueError("give the Cholesky factor or the covariance")
        self.mean, self.standardized, self.flags, self.blocks = mean, standardized, flags, blocks
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
        if any(block.spin == 1 for block in self.blocks):
            count = self.mean.shape[1]
            units = torch.eye(count, dtype=self.mean.dtype, device=self.mean.device).repeat(self.mean.shape[0], 1)
            matrix = turn(units, elements.repeat_interleave(count), self.blocks).unflatten(0, (-1, count)).mT
            mean, covariance = (matrix @ self.mean[:, :, None])[:, :, 0], matrix @ self.covariance @ matrix.mT
            return GaussianPosterior(mean, covariance=covariance, log_odds=self.log_odds, blocks=self.blocks)
        signs = turn(torch.ones_like(self.mean), elements, self.blocks)
        cholesky = self.cholesky * (signs[:, :, None] * signs[:, None, :])
        return GaussianPosterior(self.mean * signs, cholesky=cholesky, log_odds=self.log_odds, blocks=self.blocks)

    def stretched(self, factors: Tensor) -> GaussianPosterior:
        """With the standard deviations multiplied by factors, (K,) or (N, K)."""
        squares = factors[..., :, None] * factors[..., None, :]
        covariance = self.covariance * squares.to(self.covariance)
        return GaussianPosterior(self.mean, covariance=covariance, log_odds=self.log_odds, blocks=self.blocks)

    def single(self, device: torch.device) -> GaussianPosterior:
        """In float32 on a device, by its Cholesky factor, as the flow takes it."""
        mean, cholesky = (part.float().to(device) for part in (self.mean, self.cholesky))
        log_odds = {name: odds.float().to(device) for name, odds in self.log_odds.items()}
        return GaussianPosterior(mean, cholesky=cholesky, log_odds=log_odds, blocks=self.blocks)

    def double(self) -> GaussianPosterior:
        """In float64 on the host, by its covariance."""
        mean, covariance = (part.cpu().double() for part in (self.mean, self.covariance))
        log_odds = {name: odds.cpu().double() for name, odds in self.log_odds.items()}
        return GaussianPosterior(mean, covariance=covariance, log_odds=log_odds, blocks=self.blocks)

    def rows(self, chosen: slice | NDArray[np.bool_]) -> GaussianPosterior:
        """Posteriors of some of the galaxies."""
        mean, cholesky = self.mean[chosen], self.cholesky[chosen]
        log_odds = {name: odds[chosen] for name, odds in self.log_odds.items()}
        return GaussianPosterior(mean, cholesky=cholesky, log_odds=log_odds, blocks=self.blocks)

    @staticmethod
    def joined(parts: Sequence[GaussianPosterior]) -> GaussianPosterior:
        """One after another, by their covariances."""
        return _gathered(parts, torch.cat)

    @staticmethod
    def averaged(parts: Sequence[GaussianPosterior]) -> GaussianPosterior:
        """Means, covariances and log-odds averaged over several posteriors of the same galaxies."""
        return _gathered(parts, lambda tensors: torch.stack(tensors).mean(dim=0))

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
            blocks=self.blocks,
        )

    def likelihood_only(self, prior: GaussianPosterior | None = None) -> GaussianPosterior:
        """The likelihood-only estimate of a standardized posterior: the prior divided out, with its flags.

        Args:
            prior: of each galaxy, standardized by the same moments; none: that of the population, in whose units the
                posterior is: mean 0 and the unit matrix. Correlations between blocks are left out.
        """
        assert self.standardized, "prior and posterior are in the same units"
        mean, covariance = self.mean.numpy(), self.covariance.numpy()
        likelihood, likelihood_covariance = np.empty_like(mean), np.zeros_like(covariance)
        flags = np.zeros(len(mean), dtype=np.int16)
        for number, block in enumerate(columns_of(self.blocks)):
            centre, scale = np.zeros(1), np.eye(block.stop - block.start)
            if prior is not None:
                centre = prior.mean[:, block].numpy()
                scale = np.linalg.cholesky(prior.covariance[:, block, block].numpy())
            found, found_covariance, information = _unit_prior_divided(
                np.asarray(np.linalg.solve(scale, (mean[:, block] - centre)[:, :, None])[:, :, 0]),
                _both_sides(np.asarray(np.linalg.inv(scale)), covariance[:, block, block]),
            )
            likelihood[:, block] = centre + (scale @ found[:, :, None])[:, :, 0]
            likelihood_covariance[:, block, block] = _both_sides(scale, found_covariance)
            flags |= np.where((information < _LEAST_INFORMATION).any(axis=1), 1 << number, 0).astype(np.int16)
        return GaussianPosterior(
            torch.from_numpy(likelihood),
            covariance=torch.from_numpy(likelihood_covariance),
            flags=flags,
            blocks=self.blocks,
        )

    def is_constrained(self, quantity: int) -> NDArray[np.bool_]:
        """(N,) whether the pixels alone constrain a quantity (its number); of a likelihood-only estimate."""
        assert self.flags is not None
        columns = enumerate(columns_of(self.blocks))
        block = next(number for number, of in columns if of.start <= quantity < of.stop)
        return (self.flags & (1 << block)) == 0


def _unit_prior_divided(mean: Floats, covariance: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean and covariance of the likelihood of one block, and the information along its axes over the prior's, (N, k).

    The prior has mean 0 and the unit matrix. It has no direction, so the axes of the posterior diagonalise both.

    Args:
        mean: (N, k).
        covariance: (N, k, k).
    """
    ratio, axes = np.linalg.eigh(covariance)
    information = 1.0 / ratio - 1.0
    kept = np.maximum(information, _LEAST_INFORMATION)
    along = np.einsum("nji,nj->ni", axes, mean)
    # 1 / (1 - ratio) = (1 + information) / information.
    found = np.einsum("nij,nj->ni", axes, along * (1.0 + kept) / kept)
    return found, np.einsum("nij,nj,nkj->nik", axes, 1.0 / kept, axes), information


def _both_sides(matrix: Floats, covariance: Floats) -> Floats:
    """Covariances (N, k, k) after a linear map (k, k) or (N, k, k)."""
    return np.asarray(matrix @ covariance @ np.swapaxes(matrix, -1, -2))


def _gathered(parts: Sequence[GaussianPosterior], together: Callable[[list[Tensor]], Tensor]) -> GaussianPosterior:
    return GaussianPosterior(
        together([part.mean for part in parts]),
        covariance=together([part.covariance for part in parts]),
        log_odds={name: together([part.log_odds[name] for part in parts]) for name in parts[0].log_odds},
        blocks=parts[0].blocks,
    )
