"""The regressor of section 3.2 (Fig. 10): latent mean to observed distortion."""

from __future__ import annotations

from torch import Tensor, nn


class Regressor(nn.Module):
    """Dense layers of 128, 64 and 32 units with PReLU and dropout, tanh at the end.

    Args:
        latent: dimension of the latent mean.
        dropout: probability of dropping a unit in training.
    """

    def __init__(self, latent: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = latent
        for units in (128, 64, 32):
            layers += [nn.Linear(width, units), nn.PReLU(), nn.Dropout(dropout)]
            width = units
        self.layers = nn.Sequential(*layers, nn.Linear(width, 2), nn.Tanh())

    def forward(self, latent_mean: Tensor) -> Tensor:
        """(N, latent) to (N, 2): distortion components (e1, e2), each in (-1, 1)."""
        estimate: Tensor = self.layers(latent_mean)
        return estimate
