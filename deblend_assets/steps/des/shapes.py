"""Measures shapes, fluxes and flags of a tile's galaxies."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from deblend_assets.science.deblender.network import BATCH
from deblend_assets.science.measuring.measure import Model, measure, shear_response
from deblend_assets.science.measuring.measured import Survey
from deblend_assets.science.shear.response import ShearOperator
from deblend_assets.science.statistics.metrics import Floats
from deblend_assets.steps.des.stamps import ModelStamps

# Stamps per block: enough batches for every core, and their images fit in memory.
_BLOCK = 16 * BATCH


def tile_shapes(
    model: Model,
    stamps: ModelStamps,
    training_flux: Floats,
    operator: ShearOperator,
    progress: Callable[[int], None] = lambda _: None,
) -> pd.DataFrame:
    """The measured columns of the catalogue "tile", one row per stamp; sky frame.

    Args:
        model: the model; the stamps are in its frame.
        stamps: north up and east left.
        training_flux: aperture fluxes of training scenes, label band [electron]; for the flag.
        operator: shears the stamps, for the response to shear.
        progress: receives the number of stamps measured.
    """
    tables = []
    for first in range(0, len(stamps.electrons), _BLOCK):
        rows = slice(first, first + _BLOCK)
        electrons, present, sigma = stamps.electrons[rows], stamps.present[rows], stamps.sigma[rows]
        response = shear_response(model, electrons, present, sigma, operator, first)
        table, _ = measure(model, electrons, present, Survey(sigma, training_flux, response))
        tables.append(table)
        progress(len(table))
    return pd.concat(tables, ignore_index=True)
