"""From a blended stamp to a Gaussian posterior of the target's quantities."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deblend_assets.science.networks.trunk import StampTrunk
from deblend_assets.science.shapes.posterior import GaussianPosterior


class ShapeNetwork(nn.Module):
    """Stamps to standardized posteriors of their targets.

    Args:
        trunk: computes the features.
        dense: number of features.
        quantities: how many are estimated.
    """

    _rows: Tensor
    _columns: Tensor

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
        # The three digits of bfloat16 are not enough for a bright galaxy's shape.
        with torch.autocast(hidden.device.type, enabled=False):
            mean, spread = self.mean(hidden), self.spread(hidden)
        return GaussianPosterior(mean, cholesky=cholesky_of(spread, self._rows, self._columns))


def cholesky_of(spread: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Cholesky factors (N, K, K) from a network's outputs (N, K (K + 1) / 2), of which the diagonal's are logarithms.

    Args:
        spread: the outputs, row by row.
        rows, columns: of each output, (K (K + 1) / 2,), as `torch.tril_indices` gives them.
    """
    quantities = math.isqrt(2 * spread.shape[1])
    lower = spread.new_zeros((spread.shape[0], quantities, quantities))
    lower[:, rows, columns] = spread
    # Errors below e^-7 or above e^2 times the population's scatter are unphysical and are clamped.
    diagonal = lower.diagonal(dim1=1, dim2=2).clamp(-7.0, 2.0).exp()
    return lower.tril(-1) + torch.diag_embed(diagonal)
