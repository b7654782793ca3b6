"""Bringing a trained network's expected errors to the actual ones, on galaxies that it was not trained on.

First one factor a quantity on its standard errors, the components of a pair alike; then the flow, which learns the
shape of what is left; then its spread.

A posterior of greatest likelihood covers 68 % of the galaxies that look alike, and so it covers 61 % of those that
stand closest to a neighbour and 71 % of those that stand alone: some neighbours are hardly seen. Who selects by what is
true of neighbours, in a simulation or by another survey, wants the promise kept there as well. The spread is therefore
what brings the coverage of many groups nearest to what is promised, thirds by truth among them (coverage that holds in
each of many groups is multicalibration, Hébert-Johnson et al. 2018): it is wider where the stamp gives reason to
suspect a neighbour than its look alone asks for.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deblend_assets.science.shapes.flow import TAIL, ResidualFlow, spread_of
from deblend_assets.science.shapes.groups import named_thirds, thirds_by_truth
from deblend_assets.science.shapes.network import GaussianPosterior
from deblend_assets.science.stamps.quantities import SPINS, turn
from deblend_assets.science.training.draws import Draws
from deblend_assets.science.training.feeding import Batch

Floats = NDArray[np.float64]


def stretch_of(mean: Floats, covariance: Floats, truth: Floats) -> Floats:
    """Root mean square of the pulls (estimate - truth) / expected error, the components of a pair together.

    Args:
        mean, covariance: whitened posteriors, (N, 6) and (N, 6, 6).
        truth: whitened, (N, 6).

    Returns:
        (6,) factors on the expected errors.
    """
    squares = np.square(mean - truth) / np.einsum("nii->ni", covariance)
    means = squares.mean(axis=0)
    means[:SPINS] = np.repeat(means[:SPINS].reshape(-1, 2).mean(axis=1), 2)
    return np.asarray(np.sqrt(means))


class FlowObjective:
    """The likelihood of the true quantities under the flow.

    Batches: whitened means (N, 6), Cholesky factors (N, 6, 6) of the calibrated Gaussians, log-odds about neighbours
    (N, M), and true values (N, 6).
    """

    def __init__(self, flow: ResidualFlow) -> None:
        self.network: nn.Module = flow
        self._flow = flow

    def losses(self, batch: Batch, draws: Draws, *, training: bool) -> dict[str, Tensor]:
        """`total`: minus the mean log density [nats a galaxy]."""
        mean, cholesky, neighbours, values = batch
        if training:
            # The density is symmetric by itself; turned galaxies are more galaxies all the same.
            elements = draws.symmetries()
            signs = turn(torch.ones_like(mean), elements)
            mean, values, cholesky = mean * signs, values * signs, cholesky * signs[:, :, None] * signs[:, None, :]
        # The bins of a spline are too narrow for bfloat16.
        with torch.autocast(mean.device.type, enabled=False):
            return {"total": -self._flow.log_prob(values, GaussianPosterior(mean, cholesky), neighbours).mean()}


def coverage_groups(snr: Floats, blendedness: Floats, nearest: Floats, seen: Floats) -> tuple[NDArray, Floats]:
    """The groups in which the spread is to keep the promised coverage, and their weights.

    Args:
        snr, blendedness: of each target, (N,).
        nearest: distance of the nearest neighbour, (N,) [arcsec]; infinite without one.
        seen: log-odds of a close neighbour, as the stamp tells, (N,).

    Returns:
        (G, N) bool: all; thirds of S/N; among those with a neighbour, thirds of blendedness and separation; thirds of
        `seen`. And (G,).
    """
    truth, look = thirds_by_truth(snr, blendedness, nearest), named_thirds("seen", seen)
    groups = np.stack([np.ones(len(snr), dtype=bool), *truth.values(), *look.values()])
    weights = np.concatenate([np.ones(1 + len(truth)), np.full(len(look), _SEEN)])
    there = groups.any(axis=1)
    return groups[there], weights[there]


# Weight of thirds by what is seen, which are kept by likelihood already, against those by truth; chosen on validation
# galaxies.
_SEEN = 0.3
_LEVELS = (0.68, 0.95)
# Scatter of the coefficients before any galaxy is seen: few galaxies have one factor for all.
_PRIOR = 0.5
# Draws a galaxy, galaxies drawn for at a time; steps and rate; width in rank over which "held" is smoothed.
_DRAWS, _AT_ONCE, _STEPS, _RATE, _SOFT = 400, 1_000, 600, 0.01, 0.006


def fit_spread(
    flow: ResidualFlow,
    values: Tensor,
    posterior: GaussianPosterior,
    neighbours: Tensor,
    groups: tuple[NDArray, Floats],
    generator: torch.Generator,
) -> None:
    """Set the flow's spread to what brings coverage at 68 and 95 % nearest to 68 and 95 % in all groups at once.

    Least squares in units of each group's sampling error, with a Gaussian prior on the coefficients. A pair has one.

    Args:
        flow: fitted.
        values: whitened (N, K), of galaxies that the flow was not fitted to.
        posterior, neighbours: theirs.
        groups: see `coverage_groups`.
        generator: of the draws.
    """
    flow.widening.zero_()
    drawn = _sorted_draws(flow, posterior, neighbours, generator)
    off = values - posterior.mean
    terms = flow.terms(neighbours)
    masks = torch.as_tensor(groups[0], dtype=terms.dtype, device=terms.device)
    members = masks.sum(dim=1, keepdim=True)
    levels = terms.new_tensor(_LEVELS)[:, None, None]
    weights = torch.as_tensor(groups[1], dtype=terms.dtype, device=terms.device)[:, None]
    weights = weights * members / (levels * (1 - levels))
    wanted = torch.zeros_like(flow.widening, requires_grad=True)
    optimizer = torch.optim.Adam([wanted], lr=_RATE)
    with torch.enable_grad():
        for _ in range(_STEPS):
            near, far = spread_of(terms, _paired(wanted, flow.pairs))
            rank = (1 - TAIL) * _ranks(drawn, off / near) + TAIL * _ranks(drawn, off / far)
            held = torch.sigmoid((levels / 2 - (rank - 0.5).abs()) / _SOFT)
            missed = torch.einsum("gn,lnk->lgk", masks / members, held) - levels
            # All but the factor that all galaxies share.
            coefficients = wanted.square().sum() - wanted[0, 0].square().sum()
            loss = (weights * missed.square()).sum() + coefficients / _PRIOR**2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    flow.widening.copy_(_paired(wanted.detach(), flow.pairs))


def _paired(coefficients: Tensor, pairs: int) -> Tensor:
    """Columns of a pair alike, the last axis of any shape."""
    columns = [c.mean(dim=-1, keepdim=True).expand_as(c) for c in coefficients[..., : 2 * pairs].split(2, -1)]
    return torch.cat([*columns, coefficients[..., 2 * pairs :]], dim=-1)


@torch.no_grad()
def _sorted_draws(
    flow: ResidualFlow, posterior: GaussianPosterior, neighbours: Tensor, generator: torch.Generator
) -> Tensor:
    """Draws about the posterior's mean in rising order, (N, K, draw)."""
    found = []
    for first in range(0, len(neighbours), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        part = GaussianPosterior(posterior.mean[rows], posterior.cholesky[rows])
        drawn = flow.sample(part, neighbours[rows], _DRAWS, generator) - part.mean
        found.append(drawn.permute(1, 2, 0).sort(dim=2).values)
    return torch.cat(found)


def _ranks(drawn: Tensor, values: Tensor) -> Tensor:
    """Share of sorted draws (N, K, draw) below values (N, K), straight lines between them."""
    above = torch.searchsorted(drawn, values.detach()[..., None].contiguous()).clamp(1, drawn.shape[2] - 1)
    low, high = drawn.gather(2, above - 1)[..., 0], drawn.gather(2, above)[..., 0]
    between = ((values - low) / (high - low).clamp(min=1e-12)).clamp(-0.5, 1.5)
    return (above[..., 0] - 0.5 + between) / drawn.shape[2]
