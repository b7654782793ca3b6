"""Posteriors of redshift: mixtures of Gaussians on ln(1 + z), and the head of a network that gives them.

Colours are degenerate in redshift: a single Gaussian would peak between two solutions. The variable is ln(1 + z),
because spectra shift by it in ln(wavelength), and because a small error in it is the customary Δz / (1 + z). Mixture
density networks are of Bishop 1994.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# In units of the population's scatter, about 0.25: 0.001 in ln(1 + z), far below the error of broad-band redshifts.
_LEAST_SIGMA = 0.005
# Each halves the bracket: from tens of the population's scatter to below the precision of float32.
_BISECTIONS = 32


@dataclass(frozen=True)
class RedshiftPosterior:
    """Mixtures of C Gaussians on ln(1 + z), one for each galaxy; float32.

    A small part of the density may lie below z = 0, because Gaussians are unbounded.

    Attributes:
        log_weights: (N, C), natural logarithms; the weights of a galaxy add up to 1.
        means: (N, C), of ln(1 + z).
        sigmas: (N, C), above 0, in ln(1 + z).
    """

    log_weights: Tensor
    means: Tensor
    sigmas: Tensor

    def log_prob(self, values: Tensor) -> Tensor:
        """ln of the density per unit of ln(1 + z) at M values for each galaxy, (N, M) to (N, M)."""
        standard = self._standardised(values)
        normal = -0.5 * standard.square() - self.sigmas.log()[:, None] - 0.5 * math.log(2 * math.pi)
        return (self.log_weights[:, None] + normal).logsumexp(dim=2)

    def cdf(self, values: Tensor) -> Tensor:
        """Probability below M values of ln(1 + z) for each galaxy, (N, M) to (N, M) in [0, 1]."""
        below = torch.special.ndtr(self._standardised(values))
        # With rounding, weights may sum to slightly more than 1.
        return (self.log_weights.exp()[:, None] * below).sum(dim=2).clamp(0.0, 1.0)

    def quantile(self, probabilities: Tensor) -> Tensor:
        """Quantiles of ln(1 + z), by bisection of the cdf.

        Args:
            probabilities: (M,), the same for all galaxies, each above 0 and below 1.

        Returns:
            (N, M).

        Raises:
            ValueError: a probability is not between 0 and 1.
        """
        if not bool(((probabilities > 0) & (probabilities < 1)).all()):
            raise ValueError(f"probabilities between 0 and 1 expected, got {probabilities.tolist()}")
        wanted = probabilities.to(self.means)
        # A mixture's quantile lies between the smallest and the largest of its components'.
        ends = self.means[:, None] + self.sigmas[:, None] * torch.special.ndtri(wanted)[:, None]
        low, high = ends.amin(dim=2), ends.amax(dim=2)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            below = self.cdf(middle) < wanted
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return 0.5 * (low + high)

    def mean(self) -> Tensor:
        """Expected ln(1 + z), (N,)."""
        return (self.log_weights.exp() * self.means).sum(dim=1)

    def median(self) -> Tensor:
        """The point estimate: median of ln(1 + z), (N,); its `expm1` is the median redshift."""
        return self.quantile(torch.tensor([0.5]))[:, 0]

    def sigma(self) -> Tensor:
        """Half of the central 68.3 % interval of ln(1 + z), (N,): σ where the posterior is Gaussian."""
        ends = self.quantile(torch.special.ndtr(torch.tensor([-1.0, 1.0])))
        return 0.5 * (ends[:, 1] - ends[:, 0])

    def _standardised(self, values: Tensor) -> Tensor:
        """(N, M) to offsets from each component in units of its σ, (N, M, C)."""
        return (values[:, :, None] - self.means[:, None]) / self.sigmas[:, None]


@dataclass(frozen=True)
class RedshiftScale:
    """Mean and standard deviation of ln(1 + z) over the training galaxies: zero and unit of the network."""

    mean: float
    scale: float

    @classmethod
    def of(cls, redshifts: NDArray[np.float64]) -> RedshiftScale:
        """From true redshifts (N,), above -1 and not all equal."""
        logarithms = np.log1p(redshifts)
        return cls(float(logarithms.mean()), float(logarithms.std()))


class MixtureHead(nn.Module):
    """Features to posteriors.

    Args:
        features: their number.
        scale: zero and unit of ln(1 + z); stored with the weights, as buffers.
        components: number of Gaussians in a mixture.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, scale: RedshiftScale, components: int) -> None:
        super().__init__()
        self.mixture = nn.Linear(features, 3 * components)
        # Spread over the population at first: components with equal initial values would stay equal.
        with torch.no_grad():
            self.mixture.bias.zero_()
            self.mixture.bias[components : 2 * components] = torch.linspace(-1.0, 1.0, components + 2)[1:-1]
        self.register_buffer("mean", torch.tensor(scale.mean))
        self.register_buffer("scale", torch.tensor(scale.scale))

    def forward(self, features: Tensor) -> RedshiftPosterior:
        """(N, features) float32 to posteriors."""
        weights, means, sigmas = self.mixture(features).chunk(3, dim=1)
        return RedshiftPosterior(
            weights.log_softmax(dim=1),
            self.mean + self.scale * means,
            self.scale * (nn.functional.softplus(sigmas) + _LEAST_SIGMA),
        )
