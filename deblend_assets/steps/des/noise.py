"""The noise of a tile's cutouts against their weight maps."""

from __future__ import annotations

import numpy as np

from deblend_assets.science.des.cutouts import pixel_sigma
from deblend_assets.stores.tiles import Cutouts

NOISE_LIMIT = 0.2
"""Of the deviation of a ratio from 1 that is noticed; 0.2 are some 0.2 mag of depth."""


def noise_ratios(cutouts: Cutouts) -> dict[str, float]:
    """Scatter in the stamps' borders over the noise of their weight maps, median of the galaxies, by band.

    A band without a weight map is left out.
    """
    ratios = {}
    for k, band in enumerate(cutouts.bands):
        weighted = np.flatnonzero(cutouts.galaxies[f"has_weight_{band}"].to_numpy())
        border = [pixel_sigma(cutouts.counts[n, k], None) for n in weighted]
        if len(weighted):
            ratios[band] = float(np.median(border / cutouts.galaxies[f"sigma_{band}"].to_numpy()[weighted]))
    return ratios
