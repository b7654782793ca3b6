"""From a blended stamp to a Gaussian posterior of the target's quantities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deblend_assets.science.networks.trunk import StampTrunk


@dataclass(frozen=True)
class GaussianPosterior:
    """Of K quantities, whitened.

    Attributes:
        mean: (N, K).
        cholesky: (N, K, K), lower triangular with positive diagonal; covariance = cholesky @ cholesky.T.
    """

    mean: Tensor
    cholesky: Tensor

    def standardised(self, values: Tensor) -> Tensor:
        """Values (N, K) as offsets from the mean in units of the expected error, (N, K)."""
        offset = (values - self.mean)[:, :, None]
        standard: Tensor = torch.linalg.solve_triangular(self.cholesky, offset, upper=False)[:, :, 0]
        return standard

    def log_prob(self, values: Tensor) -> Tensor:
        """ln p of values (N, K), (N,)."""
        k = self.mean.shape[1]
        half = 0.5 * self.standardised(values).square().sum(dim=1)
        determinant = self.cholesky.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        return -half - determinant - 0.5 * k * float(torch.log(torch.tensor(2 * torch.pi)))


class ShapeNetwork(nn.Module):
    """Stamps to the posterior of their targets.

    Args:
        trunk: the features' network.
        dense: its features.
        quantities: how many are estimated.
    """

    def __init__(self, trunk: StampTrunk, dense: int, quantities: int) -> None:
        super().__init__()
        self.trunk, self.quantities = trunk, quantities
        self.mean = nn.Linear(dense, quantities)
        self.spread = nn.Linear(dense, quantities * (quantities + 1) // 2)
        nn.init.zeros_(self.spread.weight)
        nn.init.zeros_(self.spread.bias)
        rows, columns = torch.tril_indices(quantities, quantities)
        self.register_buffer("_rows", rows, persistent=False)
        self.register_buffer("_columns", columns, persistent=False)

    def forward(self, stamps: Tensor, present: Tensor) -> GaussianPosterior:
        """(N, band, y, x) in units of the sky's noise and mask (N, band) to a posterior in float32."""
        return self.posterior(self.trunk.maps(stamps, present), present)

    def posterior(self, maps: Tensor, present: Tensor) -> GaussianPosterior:
        """The trunk's maps and mask to a posterior in float32."""
        hidden = self.trunk.features(maps, present).float()
        # Three digits are not enough for a bright galaxy's shape.
        with torch.autocast(hidden.device.type, enabled=False):
            mean, spread = self.mean(hidden), self.spread(hidden)
        lower = mean.new_zeros((mean.shape[0], self.quantities, self.quantities))
        lower[:, self._rows, self._columns] = spread
        # Errors below e^-7 or above e^2 of the population's scatter are not of this world.
        diagonal = lower.diagonal(dim1=1, dim2=2).clamp(-7.0, 2.0).exp()
        cholesky = lower.tril(-1) + torch.diag_embed(diagonal)
        return GaussianPosterior(mean, cholesky)
