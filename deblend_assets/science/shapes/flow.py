"""The shape of the posterior beyond its Gaussian: a conditional flow of the standardized offsets.

A neural spline flow (Durkan et al. 2019, by `zuko`) models the distribution of the offsets from the network's Gaussian,
given the mean and errors of that Gaussian and the log-odds of neighbours. It is trained on galaxies that the network
was not trained on, so that the errors are representative. The density is averaged over the signs that the square's
symmetries give to the pairs, and so is exactly symmetric. A flow overfits the galaxies it is fitted to and is too
narrow for others. Its samples are therefore spread about the Gaussian's mean, a tenth of them further than the rest, by
factors that are fitted to other galaxies (`calibration.fit_spread`) and depend on the log-odds of neighbours.
"""

from __future__ import annotations

import itertools
import math

import torch
import zuko  # type: ignore[import-untyped]
from torch import Tensor, nn

from deblend_assets.science.shapes.heads import NEIGHBOURS
from deblend_assets.science.shapes.posterior import GaussianPosterior

# Signs of the (1st, 2nd) component of spin-2 pairs under flips and swaps: four cosets of the square's group.
_SIGNS = tuple(itertools.product((1.0, -1.0), repeat=2))
# Share of the samples that are spread further: for galaxies with an undetected neighbour or another surprise.
TAIL = 0.1
# Scale at which log-odds saturate.
_SATURATION = 4.0


class ResidualFlow(nn.Module):
    """p(quantities | Gaussian posterior, log-odds of neighbours).

    Args:
        quantities: number of quantities K.
        pairs: number of spin-2 pairs, which are the first 2 * pairs quantities.
        neighbours: number of log-odds M.
        transforms, hidden: number of transforms and width of their hidden layers.
    """

    _signs: Tensor
    widening: Tensor

    def __init__(self, quantities: int, pairs: int, neighbours: int, transforms: int = 3, hidden: int = 64) -> None:
        super().__init__()
        self.pairs = pairs
        signs = torch.ones(len(_SIGNS), quantities)
        signs[:, : 2 * pairs] = torch.tensor(_SIGNS).repeat(1, pairs)
        self.register_buffer("_signs", signs, persistent=False)
        self.register_buffer("widening", torch.zeros(2, 1 + 2 * neighbours, quantities))
        context = 2 * quantities + neighbours
        self.flow = zuko.flows.NSF(
            quantities, context=context, transforms=transforms, hidden_features=(hidden, hidden), passes=2
        )

    def terms(self, posterior: GaussianPosterior) -> Tensor:
        """Terms of the logarithm of the spread, (N, 1 + 2 M): 1, the saturated log-odds, and their squares."""
        odds = _saturated(posterior)
        return torch.cat([odds.new_ones((len(odds), 1)), odds, odds.square()], dim=1)

    def spread(self, posterior: GaussianPosterior) -> Tensor:
        """Factors on the samples' distances from the Gaussian's mean, (2, N, K): of most samples, and of the `TAIL`."""
        return spread_of(self.terms(posterior), self.widening)

    def _context(self, posterior: GaussianPosterior, signs: Tensor) -> Tensor:
        """(..., N, 2 K + M), for signs that broadcast to (..., N, K)."""
        means = posterior.mean * signs
        errors = posterior.cholesky.square().sum(dim=2).log() * 0.5
        odds = _saturated(posterior)
        return torch.cat([means, errors.expand_as(means), odds.expand(*means.shape[:-1], -1)], dim=-1)

    def log_prob(self, values: Tensor, posterior: GaussianPosterior) -> Tensor:
        """ln p of standardized values (N, K), (N,); the posteriors hold the log-odds of neighbours."""
        signs = self._signs[:, None]
        density = self.flow(self._context(posterior, signs).flatten(0, 1))
        parts = []
        for share, spread in zip((1 - TAIL, TAIL), self.spread(posterior), strict=True):
            offsets = posterior.standardized_offsets(posterior.mean + (values - posterior.mean) / spread)
            each = density.log_prob((offsets * signs).flatten(0, 1)).view(len(signs), -1)
            parts.append(each.logsumexp(dim=0) - spread.log().sum(dim=1) + math.log(share))
        determinant = posterior.cholesky.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        return torch.stack(parts).logsumexp(dim=0) - math.log(len(signs)) - determinant

    def sample(self, posterior: GaussianPosterior, count: int, generator: torch.Generator) -> Tensor:
        """Samples of standardized values, (count, N, K); count is a multiple of 4."""
        n, k = posterior.mean.shape
        base = torch.randn((count, n, k), generator=generator, device=generator.device)
        which = torch.randint(len(self._signs), (n,), generator=generator, device=generator.device)
        signs, (near, far) = self._signs[which], self.spread(posterior)
        in_tail = torch.rand((count, n, 1), generator=generator, device=generator.device) < TAIL
        spread = torch.where(in_tail, far, near)
        # A quarter of each galaxy's samples for each of the mixture's four signs.
        samples = []
        parts = zip(base.chunk(len(self._signs)), spread.chunk(len(self._signs)), strict=True)
        for part, (normal, factor) in enumerate(parts):
            turned = signs * self._signs[part]
            offsets = self.flow(self._context(posterior, turned)).transform.inv(normal) * turned
            samples.append(posterior.mean + factor * (posterior.cholesky @ offsets[..., None])[..., 0])
        return torch.cat(samples)


def spread_of(terms: Tensor, widening: Tensor) -> Tensor:
    """Factors (2, N, K) from terms (N, T) and coefficients (2, T, K); the tail's logarithm is added to the others'."""
    near, further = terms @ widening
    return torch.stack([near, near + further]).exp()


def _saturated(posterior: GaussianPosterior) -> Tensor:
    return torch.tanh(posterior.log_odds[NEIGHBOURS.name] / _SATURATION)
