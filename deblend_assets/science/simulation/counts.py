"""Measured numbers of galaxies by magnitude, and catalogues thinned to them.

The numbers are COSMOS2020's (Weaver et al. 2022, ApJS 258, 11; 2110.13923, Table 2, i, The Farmer), from i = 19 to
26.5. The power law of the LSST Science Book (`relations.count_density`) agrees within 15 % from i = 21 to 25, and has
1.9 times as many galaxies at i = 19.3, 1.5 times as many at i = 20.3 and 26.3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import CatalogError
from deblend_assets.science.simulation import relations

# The COSMOS2020 part of the table.
MAGNITUDES, PER_MAGNITUDE = relations.OBSERVED_I[2:], relations.OBSERVED_LOG[2:]
# Beyond the bins [dex a magnitude]: that of the first two of them; and a choice, which is near that of the last two.
_BRIGHT_SLOPE, _FAINT_SLOPE = 0.44, 0.2
_BIN = 0.5
_LEAST = 20  # galaxies of a bin whose own number is trusted

Floats = NDArray[np.float64]


def measured_density(i_mag: ArrayLike) -> Floats:
    """Galaxies a square arcmin and magnitude, of the shape of `i_mag`; a power law beyond the measured range."""
    i = np.asarray(i_mag, np.float64)
    log = np.interp(i, MAGNITUDES, PER_MAGNITUDE)
    log = log + _BRIGHT_SLOPE * np.minimum(i - MAGNITUDES[0], 0) + _FAINT_SLOPE * np.maximum(i - MAGNITUDES[-1], 0)
    return np.asarray(10.0**log / 3600.0)


def thin_to_measured(i_mag: Floats, area: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], float]:
    """Galaxies of a catalogue to keep so that their numbers by magnitude are the measured ones.

    Args:
        i_mag: of the catalogue, (N,).
        area: on which so many galaxies lie [arcmin²].
        rng: random numbers.

    Returns:
        Rows that are kept, rising; and the area on which those lie [arcmin²].

    Raises:
        CatalogError: too few galaxies to know their numbers.
    """
    edges = np.arange(np.floor(i_mag.min() / _BIN) * _BIN, i_mag.max() + _BIN, _BIN)
    number = np.histogram(i_mag, edges)[0]
    trusted = np.flatnonzero(number >= _LEAST)
    if len(trusted) < 2:
        raise CatalogError(
            f"{len(i_mag)} galaxies are too few to compare with measured counts",
            where="thin_to_measured",
            remedy="use a catalogue of some thousands of galaxies",
        )
    # The catalogue may begin or end within a bin: what it covers of it counts.
    low, high = np.maximum(edges[:-1], i_mag.min()), np.minimum(edges[1:], i_mag.max())
    middle = 0.5 * (low + high)
    own = number / (area * np.maximum(high - low, 1e-3))
    ratio = measured_density(middle[trusted]) / own[trusted]
    wanted = np.interp(i_mag, middle[trusted], ratio)
    most = float(wanted.max())
    return np.flatnonzero(rng.random(len(i_mag)) < wanted / most), area / most
