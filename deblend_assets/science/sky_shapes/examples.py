"""What one target gives to a training: the network's inputs, the true values, whether it is a star or a blend."""

from __future__ import annotations

import torch

from deblend_assets.science.sky_shapes.centring import centred
from deblend_assets.science.sky_shapes.inputs import given
from deblend_assets.science.sky_shapes.network import CHANCES
from deblend_assets.science.sky_shapes.quantities import units_of, values_of
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.worlds.targets import Targets


def examples(targets: Targets) -> Batch:
    """The tensors of N targets, at the places where they are measured (`centring`).

    Args:
        targets: N detections.

    Returns:
        Those of `GivenStamps`; true values, (N, 9) float64, not standardized, NaN where the target is no galaxy;
        whether it is what each of `CHANCES` is of, (N, chances) bool.
    """
    true = torch.tensor(targets.truth[list(CHANCES.values())].to_numpy(bool))
    stamps, _ = centred(targets.stamps, units_of(targets.stamps).fwhm)
    return (*given(stamps), torch.from_numpy(values_of(targets.truth, stamps)), true)


def standardized(batch: Batch, prior: PriorMoments) -> Batch:
    """`examples` with their true values in units of the population, float32.

    Args:
        batch: tensors of `examples`.
        prior: the population's moments.
    """
    *inputs, values, true = batch
    return (*inputs, torch.from_numpy(prior.whiten(values.numpy())).float(), true)
