"""The regressor of section 3.2 (Fig. 10): latent mean to ellipticities and their expected errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Components in the order of the output; the report's regressor has the first two.
DISTORTION = ("e1", "e2")
SHEAR = ("g1", "g2")


@dataclass(frozen=True)
class ShapeEstimate:
    """Estimates for one batch.

    Attributes:
        mean: (N, component), each in (-1, 1): observed distortion e1, e2 and, where the recipe says so, intrinsic
            shear-type g1, g2.
        log_sigma: (N, component), natural logarithm of each expected error.
    """

    mean: Tensor
    log_sigma: Tensor


class Regressor(nn.Module):
    """Dense layers of 128, 64 and 32 units with PReLU and dropout, tanh at the end.

    A second, linear head on the same features gives the expected errors. Its gradients do not reach the features, so
    the means are those of a squared-error loss alone.

    Args:
        latent: dimension of the latent mean.
        dropout: probability of dropping a unit in training.
        components: names of the estimated components.
    """

    def __init__(self, latent: int, dropout: float, components: tuple[str, ...]) -> None:
        super().__init__()
        self.components = components
        layers: list[nn.Module] = []
        width = latent
        for units in (128, 64, 32):
            layers += [nn.Linear(width, units), nn.PReLU(), nn.Dropout(dropout)]
            width = units
        self.layers = nn.Sequential(*layers)
        self.mean = nn.Linear(width, len(components))
        self.log_sigma = nn.Linear(width, len(components))
        nn.init.constant_(self.log_sigma.bias, -2.0)

    def forward(self, latent_mean: Tensor) -> ShapeEstimate:
        """(N, latent) to estimates in the pixel frame."""
        features = self.layers(latent_mean)
        # Errors below 1e-3 or above 2.7 are unphysical and are clamped, so that none overflows.
        return ShapeEstimate(torch.tanh(self.mean(features)), self.log_sigma(features.detach()).clamp(-7.0, 1.0))
