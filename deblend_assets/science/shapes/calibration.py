"""Calibration of a trained network's expected errors, on galaxies that it was not trained on.

First one factor for each quantity on its standard errors, the same for both components of a pair; then the flow, which
models the shape of what is left; then the spread of the flow.

A maximum-likelihood posterior is calibrated only conditional on the image. It covers 68 % of the galaxies that look
alike, but 61 % of those closest to a neighbour and 71 % of isolated ones, because some neighbours are hardly visible.
An analysis that selects by the true neighbours, in a simulation or with another survey, needs the coverage there as
well. The spread is therefore fitted to bring the coverage of many groups, thirds by truth among them, nearest to its
nominal value (coverage in each of many groups is multicalibration, Hébert-Johnson et al. 2018): the posterior is wider
where the stamp suggests a neighbour than conditional calibration alone would make it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deblend_assets.science.shapes.flow import TAIL, ResidualFlow, spread_of
from deblend_assets.science.shapes.groups import named_thirds, thirds_by_truth
from deblend_assets.science.shapes.heads import NEIGHBOURS
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.stamps.quantities import SPINS, turn
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.training.random_numbers import RandomNumbers

Floats = NDArray[np.float64]


def stretch_of(posterior: GaussianPosterior, truth: Floats) -> Floats:
    """Root mean square of the pulls (estimate - truth) / expected error, the components of a pair together.

    Args:
        posterior: standardized, of N galaxies.
        truth: standardized, (N, 6).

    Returns:
        (6,) factors on the expected errors.
    """
    squares = np.square(posterior.mean.numpy() - truth) / np.einsum("nii->ni", posterior.covariance.numpy())
    means = squares.mean(axis=0)
    means[:SPINS] = np.repeat(means[:SPINS].reshape(-1, 2).mean(axis=1), 2)
    return np.asarray(np.sqrt(means))


class FlowObjective:
    """Minus the log likelihood of the true quantities under the flow.

    Batches: standardized means (N, 6), Cholesky factors (N, 6, 6) of the calibrated Gaussians, log-odds of neighbours
    (N, M), and true values (N, 6).

    Args:
        flow: is trained.
    """

    def __init__(self, flow: ResidualFlow) -> None:
        self.network: nn.Module = flow
        self._flow = flow

    def losses(self, batch: Batch, random: RandomNumbers, *, training: bool) -> dict[str, Tensor]:
        """`total`: minus the mean log density [nats a galaxy]."""
        mean, cholesky, log_odds, values = batch
        posterior = GaussianPosterior(mean, cholesky=cholesky, log_odds={NEIGHBOURS.name: log_odds})
        if training:
            # The density is symmetric in any case; turned galaxies still are additional training data.
            elements = random.symmetries()
            posterior, values = posterior.turned(elements), turn(values, elements)
        # The bins of a spline are too narrow for bfloat16.
        with torch.autocast(mean.device.type, enabled=False):
            return {"total": -self._flow.log_prob(values, posterior).mean()}


def coverage_groups(snr: Floats, blendedness: Floats, nearest: Floats, crowding: Floats) -> tuple[NDArray, Floats]:
    """Groups whose coverage the spread is fitted to, and their weights.

    Args:
        snr, blendedness: of the targets, (N,).
        nearest: distance of the nearest neighbour, (N,) [arcsec]; infinite without one.
        crowding: estimated log-odds of a close neighbour, (N,).

    Returns:
        (G, N) bool: all; thirds of S/N; among those with a neighbour, thirds of blendedness and separation; thirds of
        `crowding`. And (G,) weights.
    """
    truth, look = thirds_by_truth(snr, blendedness, nearest), named_thirds("crowding", crowding)
    groups = np.stack([np.ones(len(snr), dtype=bool), *truth.values(), *look.values()])
    weights = np.concatenate([np.ones(1 + len(truth)), np.full(len(look), _LOOK_WEIGHT)])
    filled = groups.any(axis=1)
    return groups[filled], weights[filled]


# Weight of thirds by estimated crowding, which maximum likelihood calibrates already, relative to thirds by truth;
# chosen on validation galaxies.
_LOOK_WEIGHT = 0.3
_LEVELS = (0.68, 0.95)
# Prior scatter of the coefficients: with few galaxies all share nearly one factor.
_PRIOR = 0.5
# Samples of each galaxy, galaxies at a time; steps and rate of the fit; width in rank of the smoothed coverage.
_SAMPLES, _AT_ONCE, _STEPS, _RATE, _SMOOTHING = 400, 1_000, 600, 0.01, 0.006


def fit_spread(
    flow: ResidualFlow,
    values: Tensor,
    posterior: GaussianPosterior,
    groups: tuple[NDArray, Floats],
    generator: torch.Generator,
) -> None:
    """Set the flow's spread so that the coverage at 68 and 95 % is nearest to nominal in all groups together.

    Least squares, in units of each group's binomial error, with a Gaussian prior on the coefficients. The components of
    a pair share their coefficients.

    Args:
        flow: fitted.
        values: standardized (N, K), of galaxies that the flow was not fitted to.
        posterior: of the same galaxies, with log-odds of neighbours.
        groups: see `coverage_groups`.
        generator: of the samples.
    """
    flow.widening.zero_()
    samples = _sorted_samples(flow, posterior, generator)
    offsets = values - posterior.mean
    terms = flow.terms(posterior)
    masks = torch.as_tensor(groups[0], dtype=terms.dtype, device=terms.device)
    members = masks.sum(dim=1, keepdim=True)
    levels = terms.new_tensor(_LEVELS)[:, None, None]
    weights = torch.as_tensor(groups[1], dtype=terms.dtype, device=terms.device)[:, None]
    weights = weights * members / (levels * (1 - levels))
    fitted = torch.zeros_like(flow.widening, requires_grad=True)
    optimizer = torch.optim.Adam([fitted], lr=_RATE)
    with torch.enable_grad():
        for _ in range(_STEPS):
            near, far = spread_of(terms, _paired(fitted, flow.pairs))
            rank = (1 - TAIL) * _ranks(samples, offsets / near) + TAIL * _ranks(samples, offsets / far)
            covered = torch.sigmoid((levels / 2 - (rank - 0.5).abs()) / _SMOOTHING)
            difference = torch.einsum("gn,lnk->lgk", masks / members, covered) - levels
            # All but the factor that all galaxies share.
            coefficients = fitted.square().sum() - fitted[0, 0].square().sum()
            loss = (weights * difference.square()).sum() + coefficients / _PRIOR**2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    flow.widening.copy_(_paired(fitted.detach(), flow.pairs))


def _paired(coefficients: Tensor, pairs: int) -> Tensor:
    """Coefficients (..., K) with the mean over each pair in both of its columns."""
    columns = [c.mean(dim=-1, keepdim=True).expand_as(c) for c in coefficients[..., : 2 * pairs].split(2, -1)]
    return torch.cat([*columns, coefficients[..., 2 * pairs :]], dim=-1)


@torch.no_grad()
def _sorted_samples(flow: ResidualFlow, posterior: GaussianPosterior, generator: torch.Generator) -> Tensor:
    """Samples as offsets from the posterior's mean, in rising order, (N, K, sample)."""
    found = []
    for first in range(0, len(posterior), _AT_ONCE):
        part = posterior.rows(slice(first, first + _AT_ONCE))
        samples = flow.sample(part, _SAMPLES, generator) - part.mean
        found.append(samples.permute(1, 2, 0).sort(dim=2).values)
    return torch.cat(found)


def _ranks(samples: Tensor, values: Tensor) -> Tensor:
    """Share of sorted samples (N, K, sample) below values (N, K), interpolated linearly."""
    above = torch.searchsorted(samples, values.detach()[..., None].contiguous()).clamp(1, samples.shape[2] - 1)
    low, high = samples.gather(2, above - 1)[..., 0], samples.gather(2, above)[..., 0]
    between = ((values - low) / (high - low).clamp(min=1e-12)).clamp(-0.5, 1.5)
    return (above[..., 0] - 0.5 + between) / samples.shape[2]
