"""What one target gives to a training: the network's inputs, the true values, whether it is a star."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from deblend_assets.science.sky_shapes.inputs import given
from deblend_assets.science.sky_shapes.quantities import values_of
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.worlds.targets import Targets

FARTHEST = 4.0
"""Of a position that is given from the detection's [pixel]."""


def examples(targets: Targets) -> Batch:
    """The tensors of N targets.

    Returns:
        Those of `GivenStamps`; true values, (N, 9) float64, not standardized, NaN where the target is no galaxy;
        whether it is a star, (N,) bool.
    """
    star = torch.tensor(targets.truth["star"].to_numpy(bool))
    return (*given(targets.stamps), torch.from_numpy(values_of(targets.truth, targets.stamps)), star)


def displaced(targets: Targets, share: float, rng: np.random.Generator) -> Targets:
    """Targets of which a share is given at a place that is up to `FARTHEST` pixels from the detection's.

    Positions from elsewhere are off: an astrometric solution, a count of pixels from 1. A network that has met them
    knows where its target is.

    Args:
        targets: N of them.
        share: probability of each.
        rng: random numbers.
    """
    radius = np.where(rng.random(len(targets)) < share, FARTHEST * rng.random(len(targets)), 0.0)
    angle = rng.uniform(0, 2 * np.pi, len(targets))
    shift = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    truth = targets.truth.assign(x=targets.truth["x"] + shift[:, 0], y=targets.truth["y"] + shift[:, 1])
    return Targets(replace(targets.stamps, position=targets.stamps.position + shift), truth)


def standardized(batch: Batch, prior: PriorMoments) -> Batch:
    """`examples` with their true values in units of the population, float32.

    Args:
        batch: tensors of `examples`.
        prior: the population's moments.
    """
    *inputs, values, star = batch
    return (*inputs, torch.from_numpy(prior.whiten(values.numpy())).float(), star)
