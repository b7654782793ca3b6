"""Whether a detection is probably two sources: of what the network sees, how bright the target is, how it is shaped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.sky_shapes.inputs import Floats

MOST_EVIDENCE = 0.8
"""Of `evidence_of_two`; docs/trust.md has the shares of single galaxies and of merged pairs above it."""
LEAST_APART = 2.0
"""Distance of the nearest other detection [FWHM]: what the network sees of a closer one is no second source."""
# Largest S/N that counts in one band alone: what the network sees there grows no surer beyond. Without a limit a fifth
# of the right single galaxies above S/N 200 were taken for two.
_MOST_IN_ONE_BAND = 100.0
# Of a probability, from 0 and from 1.
_LEAST = 1e-9


def evidence_of_two(probability: Floats, snr: Floats, concentration: Floats, bands: NDArray[np.integer]) -> Floats:
    """ln p / (1 - p) + ln S/N - C, (N,); NaN where one of them is.

    The sum is the logistic regression of merged pairs against right single galaxies of training fields: all three
    factors came out as 1 within a tenth. The bright show a neighbour best, and two sources fitted by one profile have
    less of a core than galaxies have.

    Args:
        probability: that another source of a tenth of the light or more has no detection of its own, (N,).
        snr: over all bands, (N,).
        concentration: 5 log10(r80 / r20) of the target's profile, (N,).
        bands: number of those present, (N,).
    """
    p = np.clip(probability, _LEAST, 1 - _LEAST)
    counted = np.where(bands > 1, snr, np.minimum(snr, _MOST_IN_ONE_BAND))
    return np.asarray(np.log(p / (1 - p)) + np.log(np.maximum(counted, _LEAST)) - concentration)
