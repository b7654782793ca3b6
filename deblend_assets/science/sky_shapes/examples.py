"""What one target gives to a training: the network's inputs, the true values, whether it is a star."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from deblend_assets.science.sky_shapes.inputs import Floats, given
from deblend_assets.science.sky_shapes.quantities import QUANTITIES, units_of, values_of
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.worlds.targets import Targets

FARTHEST = 4.0
"""Of a place that is given from the detection's [pixel]."""
_OFFSET = slice(QUANTITIES.index("dx"), QUANTITIES.index("dy") + 1)


def displacements(number: int, share: float, rng: np.random.Generator) -> Floats:
    """From the detections to the places that are given instead, (N, 2) [pixel]; 0 for most.

    Positions from elsewhere are off: an astrometric solution, a count of pixels from 1. A network that has met them
    knows where its target is.

    Args:
        number: N.
        share: probability that a place is another one, up to `FARTHEST` away.
        rng: random numbers.
    """
    radius = np.where(rng.random(number) < share, FARTHEST * rng.random(number), 0.0)
    angle = rng.uniform(0, 2 * np.pi, number)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def examples(targets: Targets, shift: Floats | None = None) -> Batch:
    """The tensors of N targets.

    Args:
        targets: N detections.
        shift: see `displacements`; none: the place of the detection is given.

    Returns:
        Those of `GivenStamps`; true values, (N, 9) float64, not standardized, NaN where the target is no galaxy;
        whether it is a star, (N,) bool.
    """
    star = torch.tensor(targets.truth["star"].to_numpy(bool))
    stamps, values = targets.stamps, values_of(targets.truth, targets.stamps)
    if shift is not None:
        values[:, _OFFSET] -= shift / units_of(stamps).fwhm[:, None]
        stamps = replace(stamps, position=stamps.position + shift)
    return (*given(stamps), torch.from_numpy(values), star)


def standardized(batch: Batch, prior: PriorMoments) -> Batch:
    """`examples` with their true values in units of the population, float32.

    Args:
        batch: tensors of `examples`.
        prior: the population's moments.
    """
    *inputs, values, star = batch
    return (*inputs, torch.from_numpy(prior.whiten(values.numpy())).float(), star)
