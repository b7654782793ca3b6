"""The shape of the posterior beyond its Gaussian: a conditional flow of the standardised offsets.

The network's Gaussian standardises the quantities; a neural spline flow (Durkan et al. 2019, by `zuko`) then learns how
the offsets are distributed, given that Gaussian's mean and errors and what the stamp tells of neighbours. It is trained
on galaxies that the network was not trained on, so that it sees the errors that it is asked about. The density is
averaged over the signs that the square's symmetries give to the pairs, hence exact under them. What a flow learns by
heart makes it too narrow on others: its draws are spread about the Gaussian's mean, a tenth of them further than the
rest, by factors that galaxies decide which it was not fitted to (`calibration.fit_spread`), and that follow what is
told of neighbours.
"""

from __future__ import annotations

import itertools
import math

import torch
import zuko  # type: ignore[import-untyped]
from torch import Tensor, nn

from deblend_assets.science.shapes.network import GaussianPosterior

# (1st, 2nd component) signs of the four cosets: what flips and swaps do to spin-2 pairs.
_SIGNS = tuple(itertools.product((1.0, -1.0), repeat=2))
# Share of the draws that are spread further: where the truth is when something was not seen.
TAIL = 0.1
# Log-odds that are as good as certain.
_CERTAIN = 4.0


class ResidualFlow(nn.Module):
    """p(quantities | Gaussian posterior, log-odds about neighbours).

    Args:
        quantities: how many.
        pairs: of spin-2 components, the first 2 * pairs of the quantities.
        neighbours: how many log-odds.
        transforms, hidden: of the flow.
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

    def terms(self, neighbours: Tensor) -> Tensor:
        """Terms of the logarithm of the spread, (N, 1 + 2 M): 1, the log-odds (N, M), clamped, and their squares."""
        told = _told(neighbours)
        return torch.cat([told.new_ones((len(told), 1)), told, told.square()], dim=1)

    def spread(self, neighbours: Tensor) -> Tensor:
        """Factors on the draws' distances from the Gaussian's mean, given log-odds (N, M).

        Returns:
            (2, N, K): those of most draws and those of the `TAIL`.
        """
        return spread_of(self.terms(neighbours), self.widening)

    def _context(self, posterior: GaussianPosterior, neighbours: Tensor, signs: Tensor) -> Tensor:
        """(..., N, 2 K + M), of signs (..., N, K) or such as spread to them."""
        means = posterior.mean * signs
        errors = posterior.cholesky.square().sum(dim=2).log() * 0.5
        told = _told(neighbours)
        return torch.cat([means, errors.expand_as(means), told.expand(*means.shape[:-1], -1)], dim=-1)

    def log_prob(self, values: Tensor, posterior: GaussianPosterior, neighbours: Tensor) -> Tensor:
        """ln p of whitened values (N, K), (N,)."""
        signs = self._signs[:, None]
        density = self.flow(self._context(posterior, neighbours, signs).flatten(0, 1))
        parts = []
        for share, spread in zip((1 - TAIL, TAIL), self.spread(neighbours), strict=True):
            offsets = posterior.standardised(posterior.mean + (values - posterior.mean) / spread)
            each = density.log_prob((offsets * signs).flatten(0, 1)).view(len(signs), -1)
            parts.append(each.logsumexp(dim=0) - spread.log().sum(dim=1) + math.log(share))
        determinant = posterior.cholesky.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        return torch.stack(parts).logsumexp(dim=0) - math.log(len(signs)) - determinant

    def sample(
        self, posterior: GaussianPosterior, neighbours: Tensor, count: int, generator: torch.Generator
    ) -> Tensor:
        """Draws of whitened values, (count, N, K)."""
        n, k = posterior.mean.shape
        base = torch.randn((count, n, k), generator=generator, device=generator.device)
        which = torch.randint(len(self._signs), (n,), generator=generator, device=generator.device)
        signs, (near, far) = self._signs[which], self.spread(neighbours)
        in_tail = torch.rand((count, n, 1), generator=generator, device=generator.device) < TAIL
        spread = torch.where(in_tail, far, near)
        # One sign a galaxy and a quarter of the draws each: the mixture's four parts in equal shares.
        drawn = []
        parts = zip(base.chunk(len(self._signs)), spread.chunk(len(self._signs)), strict=True)
        for part, (draws, factor) in enumerate(parts):
            turned = signs * self._signs[part]
            offsets = self.flow(self._context(posterior, neighbours, turned)).transform.inv(draws) * turned
            drawn.append(posterior.mean + factor * (posterior.cholesky @ offsets[..., None])[..., 0])
        return torch.cat(drawn)


def spread_of(terms: Tensor, widening: Tensor) -> Tensor:
    """Factors (2, N, K) of terms (N, T) and coefficients (2, T, K); those of the tail are counted from the others."""
    near, further = terms @ widening
    return torch.stack([near, near + further]).exp()


def _told(neighbours: Tensor) -> Tensor:
    return torch.tanh(neighbours / _CERTAIN)
