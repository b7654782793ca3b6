"""A shape posterior that is not trained, for tests of its use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from deblend_assets.science.shapes.model import (
    ShapePosterior,
    new_classifiers,
    new_flow,
    new_shape_network,
)
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.settings import ShapeRecipe


def untrained_shapes(bands: Sequence[str], pixels: int) -> ShapePosterior:
    """Of stamps of some bands: sky of 30 electrons' noise, expected errors a third of the population's scatter."""
    frame = StampFrame(tuple(bands), (30.0,) * len(bands), (28.0,) * len(bands), 0.2, pixels, bands[1])
    recipe = ShapeRecipe(widths=(8, 12), dense=16)
    population = PriorMoments((0.0,) * 4 + (-1.0, 9.0), tuple(tuple(row) for row in np.diag([0.05] * 4 + [0.4, 1.5])))
    network = new_shape_network(frame, recipe)
    with torch.no_grad():
        # Biases alone: without them every galaxy would have a mean of nearly 0.
        network.mean.bias.fill_(0.3)
    return ShapePosterior(
        network, new_classifiers(frame, recipe), new_flow(recipe), frame, population, 2, np.full(6, 1.0 / 3)
    )
