"""A learned prior of the latent: a normalizing flow in place of N(0, 1).

Stage 1 pulls q(z|x) toward N(0, 1), but only in part. The decoder is trained on the aggregate posterior q(z) = ⟨q(z|x)⟩
over the galaxies, and samples of N(0, 1) fall where no galaxy is. A flow (Rezende & Mohamed 2015) trained on q(z) with
encoder and decoder frozen maximises E_q[ln p(z)], the only part of the KL term that contains the prior, so that the KL
falls by the same amount. The flow then generates new galaxies, and can replace N(0, 1) in stage 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import zuko  # type: ignore[import-untyped]
from torch import Tensor, nn

from deblend_assets.science.networks import Latent
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.training.random_numbers import RandomNumbers

LogProb = Callable[[Tensor], Tensor]

# Half the side of the splines' box [standard deviation of the aggregate posterior]. Beyond it they are the identity and
# a tail is Gaussian: for the tail of a parabola zuko's default of 5 loses 0.09 nats, 8 loses 0.01.
_BOUND = 8.0
_BINS = 12
_SLOPE = 1e-3  # least slope of a spline, zuko's default
_LOG_2PI = math.log(2.0 * math.pi)


class LatentFlow(nn.Module):
    """p(z): coupling layers of monotonic rational-quadratic splines (Durkan et al. 2019, by `zuko`) on whitened z.

    Coupling layers make density and sampling fast: one pass through each layer for the density, two for a sample.
    Before training the splines are the identity, and p(z) is the Gaussian with `whiten`'s mean and covariance (N(0, 1)
    without it). Initial weights and permutations come from torch's global generator; both are in the state dict.

    Args:
        latent: dimension of z, at least 2.
        transforms: coupling layers, each splitting a random permutation of the latent in halves.
        hidden: width of the two hidden layers of each.
    """

    centre: Tensor
    factor: Tensor

    def __init__(self, latent: int, transforms: int, hidden: int) -> None:
        super().__init__()
        self.latent = latent
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("factor", torch.eye(latent))
        # As zuko.flows.NSF, whose box cannot be set.
        self.flow = zuko.flows.MAF(
            latent,
            transforms=transforms,
            randperm=True,
            passes=2,
            univariate=partial(zuko.transforms.MonotonicRQSTransform, bound=_BOUND, slope=_SLOPE),
            shapes=[(_BINS,), (_BINS,), (_BINS - 1,)],
            hidden_features=(hidden, hidden),
        )
        for layer in self.flow.transform.transforms:
            nn.init.zeros_(layer.hyper[-1].weight)
            nn.init.zeros_(layer.hyper[-1].bias)

    @torch.no_grad()
    def whiten(self, latent: Latent) -> None:
        """Set the whitening to mean and covariance of the aggregate posterior; once, before training.

        Args:
            latent: q(z|x) of the training galaxies, (N, latent), N > 1.

        Raises:
            torch.linalg.LinAlgError: the covariance is singular.
        """
        mean = latent.mean.double()
        # Covariance of a mixture: that of the means plus the mean of the covariances.
        covariance = torch.cov(mean.T) + latent.log_variance.double().exp().mean(dim=0).diag()
        self.centre.copy_(mean.mean(dim=0))
        self.factor.copy_(torch.linalg.cholesky(covariance))

    def log_prob(self, z: Tensor) -> Tensor:
        """ln p(z), (N, latent) to (N,); in float32 even under autocast: bfloat16 is too coarse for splines."""
        with torch.autocast(z.device.type, enabled=False):
            offset = (z.float() - self.centre).T
            whitened = torch.linalg.solve_triangular(self.factor, offset, upper=False).T
            density: Tensor = self.flow().log_prob(whitened)
            return density - self.factor.diagonal().log().sum()

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """RandomNumbers of z, (count, latent) float32; the generator is on the flow's device."""
        base = torch.randn((count, self.latent), generator=generator, device=generator.device)
        whitened: Tensor = self.flow().transform.inv(base)
        return self.centre + whitened @ self.factor.T


def gaussian_log_prob(z: Tensor) -> Tensor:
    """ln N(z; 0, 1), the report's prior: (N, latent) to (N,)."""
    return -0.5 * (z.square() + _LOG_2PI).sum(dim=-1)


def kl_nats(latent: Latent, log_prob: LogProb, noise: Tensor) -> Tensor:
    """D_KL(q(z|x) || p) by Monte Carlo, for any prior: the mean of ln q(z|x) - ln p(z) over samples of q.

    Differentiable in `latent`. Unlike the divergence, a galaxy's estimate may be negative; its expectation is not.

    Args:
        latent: q(z|x), (N, latent).
        log_prob: ln p, (M, latent) to (M,).
        noise: ε ~ N(0, 1), (S, N, latent): S samples for each galaxy.

    Returns:
        (N,) [nats].
    """
    z = latent.sample(noise)
    log_q = -0.5 * (noise.square() + latent.log_variance + _LOG_2PI).sum(dim=-1)
    log_p = log_prob(z.flatten(0, 1)).unflatten(0, z.shape[:2])
    return (log_q - log_p).mean(dim=0)


class LatentFlowObjective:
    """Fit the flow to the aggregate posterior. Batches: mean and log variance of q(z|x), (N, latent) each."""

    def __init__(self, network: LatentFlow) -> None:
        self.network: nn.Module = network
        self._flow = network

    def losses(self, batch: Batch, random: RandomNumbers, *, training: bool) -> dict[str, Tensor]:
        """`total`: E_q[-ln p(z)] with one sample for each galaxy; `kl`: that minus the entropy of q(z|x) [nats]."""
        mean, log_variance = batch
        z = Latent(mean, log_variance).sample(random.normal(self._flow.latent))
        cross_entropy = -self._flow.log_prob(z).mean()
        entropy = 0.5 * (log_variance + 1.0 + _LOG_2PI).sum(dim=1).mean()
        return {"total": cross_entropy, "kl": cross_entropy - entropy}
