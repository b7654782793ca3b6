"""Bringing a trained network's expected errors to the actual ones, on galaxies that it was not trained on.

First one factor a quantity on its standard errors, the components of a pair alike; then the flow, which learns the
shape of what is left.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deblend_assets.science.draws import Draws
from deblend_assets.science.feeding import Batch
from deblend_assets.science.shapes.flow import ResidualFlow
from deblend_assets.science.shapes.network import GaussianPosterior
from deblend_assets.science.shapes.quantities import SPINS, turn

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

    Batches: whitened means (N, 6), Cholesky factors (N, 6, 6) of the calibrated Gaussians, and true values (N, 6).
    """

    def __init__(self, flow: ResidualFlow) -> None:
        self.network: nn.Module = flow
        self._flow = flow

    def losses(self, batch: Batch, draws: Draws, *, training: bool) -> dict[str, Tensor]:
        """`total`: minus the mean log density [nats a galaxy]."""
        mean, cholesky, values = batch
        if training:
            # The density is symmetric by itself; turned galaxies are more galaxies all the same.
            elements = draws.symmetries()
            signs = turn(torch.ones_like(mean), elements)
            mean, values, cholesky = mean * signs, values * signs, cholesky * signs[:, :, None] * signs[:, None, :]
        # The bins of a spline are too narrow for bfloat16.
        with torch.autocast(mean.device.type, enabled=False):
            return {"total": -self._flow.log_prob(values, GaussianPosterior(mean, cholesky)).mean()}
