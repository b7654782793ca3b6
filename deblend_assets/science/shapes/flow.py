"""The shape of the posterior beyond its Gaussian: a conditional flow of the standardised offsets.

The network's Gaussian standardises the quantities; a neural spline flow (Durkan et al. 2019, by `zuko`) then learns how
the offsets are distributed, given that Gaussian's mean and errors. It is trained on galaxies that the network was not
trained on, so that it sees the errors that it is asked about. The density is averaged over the signs that the square's
symmetries give to the pairs, hence exact under them.
"""

from __future__ import annotations

import itertools

import torch
import zuko  # type: ignore[import-untyped]
from torch import Tensor, nn

from deblend_assets.science.shapes.network import GaussianPosterior

# (1st, 2nd component) signs of the four cosets: what flips and swaps do to spin-2 pairs.
_SIGNS = tuple(itertools.product((1.0, -1.0), repeat=2))


class ResidualFlow(nn.Module):
    """p(quantities | Gaussian posterior).

    Args:
        quantities: how many.
        pairs: of spin-2 components, the first 2 * pairs of the quantities.
        transforms, hidden: of the flow.
    """

    _signs: Tensor

    def __init__(self, quantities: int, pairs: int, transforms: int = 3, hidden: int = 64) -> None:
        super().__init__()
        signs = torch.ones(len(_SIGNS), quantities)
        signs[:, : 2 * pairs] = torch.tensor(_SIGNS).repeat(1, pairs)
        self.register_buffer("_signs", signs, persistent=False)
        self.flow = zuko.flows.NSF(
            quantities, context=2 * quantities, transforms=transforms, hidden_features=(hidden, hidden), passes=2
        )

    def _context(self, posterior: GaussianPosterior, signs: Tensor) -> Tensor:
        errors = posterior.cholesky.square().sum(dim=2).log() * 0.5
        return torch.cat([posterior.mean * signs, errors], dim=1)

    def log_prob(self, values: Tensor, posterior: GaussianPosterior) -> Tensor:
        """ln p of whitened values (N, K), (N,)."""
        offsets = posterior.standardised(values)
        each = [self.flow(self._context(posterior, s)).log_prob(offsets * s) for s in self._signs]
        determinant = posterior.cholesky.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        return torch.stack(each).logsumexp(dim=0) - float(torch.log(torch.tensor(float(len(each))))) - determinant

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
            offsets = self.flow(self._context(posterior, turned)).transform.inv(draws) * turned
            drawn.append(posterior.mean + (posterior.cholesky @ offsets[..., None])[..., 0])
        return torch.cat(drawn)
