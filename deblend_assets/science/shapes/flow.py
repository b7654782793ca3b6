"""The shape of the posterior beyond its Gaussian: a conditional flow of the standardised offsets.

The network's Gaussian standardises the quantities; a neural spline flow (Durkan et al. 2019, by `zuko`) then learns how
the offsets are distributed, given that Gaussian's mean and errors. It is trained on galaxies that the network was not
trained on, so that it sees the errors that it is asked about. The density is averaged over the signs that the square's
symmetries give to the pairs, hence exact under them. What a flow learns by heart makes it too narrow on others: its
offsets are spread by factors that galaxies decide which it was not fitted to.
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
# Draws a galaxy, and first, last and number of the factors that are tried.
_DRAWS, _FACTORS, _LEVEL = 200, (0.7, 1.5, 161), 0.68


class ResidualFlow(nn.Module):
    """p(quantities | Gaussian posterior).

    Args:
        quantities: how many.
        pairs: of spin-2 components, the first 2 * pairs of the quantities.
        transforms, hidden: of the flow.
    """

    _signs: Tensor
    spread: Tensor

    def __init__(self, quantities: int, pairs: int, transforms: int = 3, hidden: int = 64) -> None:
        super().__init__()
        signs = torch.ones(len(_SIGNS), quantities)
        signs[:, : 2 * pairs] = torch.tensor(_SIGNS).repeat(1, pairs)
        self.register_buffer("_signs", signs, persistent=False)
        self.register_buffer("spread", torch.ones(quantities))
        self.flow = zuko.flows.NSF(
            quantities, context=2 * quantities, transforms=transforms, hidden_features=(hidden, hidden), passes=2
        )

    def _context(self, posterior: GaussianPosterior, signs: Tensor) -> Tensor:
        """(..., N, 2 K), of signs (..., N, K) or such as spread to them."""
        means = posterior.mean * signs
        errors = posterior.cholesky.square().sum(dim=2).log() * 0.5
        return torch.cat([means, errors.expand_as(means)], dim=-1)

    def log_prob(self, values: Tensor, posterior: GaussianPosterior) -> Tensor:
        """ln p of whitened values (N, K), (N,)."""
        offsets = posterior.standardised(values) / self.spread
        signs = self._signs[:, None]
        context = self._context(posterior, signs).flatten(0, 1)
        each = self.flow(context).log_prob((offsets * signs).flatten(0, 1)).view(len(signs), -1)
        determinant = posterior.cholesky.diagonal(dim1=1, dim2=2).log().sum(dim=1) + self.spread.log().sum()
        return each.logsumexp(dim=0) - math.log(len(signs)) - determinant

    @torch.no_grad()
    def fit_spread(self, values: Tensor, posterior: GaussianPosterior, generator: torch.Generator) -> None:
        """Set the spread with which central 68 % intervals of the offsets hold 68 % of the galaxies; a pair has one.

        Of greatest likelihood it would be what the few galaxies in the tails want.

        Args:
            values: whitened (N, K), of galaxies that the flow was not fitted to.
            posterior: theirs.
            generator: of the draws.
        """
        self.spread.fill_(1.0)
        drawn = self.sample(posterior, _DRAWS, generator)
        true = posterior.standardised(values)
        offsets = torch.stack([posterior.standardised(draw) for draw in drawn])
        factors = torch.linspace(*_FACTORS)
        held = torch.stack(
            [(((offsets * f < true).float().mean(dim=0) - 0.5).abs() < _LEVEL / 2).float().mean(dim=0) for f in factors]
        )
        paired = int((self._signs != 1).any(dim=0).sum())
        held[:, :paired] = held[:, :paired].unflatten(1, (-1, 2)).mean(dim=2).repeat_interleave(2, dim=1)
        self.spread.copy_(factors.to(held.device)[(held - _LEVEL).abs().argmin(dim=0)])

    def sample(self, posterior: GaussianPosterior, count: int, generator: torch.Generator) -> Tensor:
        """Draws of whitened values, (count, N, K)."""
        n, k = posterior.mean.shape
        base = torch.randn((count, n, k), generator=generator, device=generator.device)
        which = torch.randint(len(self._signs), (n,), generator=generator, device=generator.device)
        signs = self._signs[which]
        # One sign a galaxy and a quarter of the draws each: the mixture's four parts in equal shares.
        drawn = []
        for part, draws in enumerate(base.chunk(len(self._signs))):
            turned = signs * self._signs[part]
            offsets = self.flow(self._context(posterior, turned)).transform.inv(draws) * turned * self.spread
            drawn.append(posterior.mean + (posterior.cholesky @ offsets[..., None])[..., 0])
        return torch.cat(drawn)
