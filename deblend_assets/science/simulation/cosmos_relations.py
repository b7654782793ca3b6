"""Shapes of COSMOS galaxies as quantiles: Sérsic index, size, axis ratio, bulge and disc.

Quantiles of the 81,499 fits of GalSim's COSMOS catalogue (25.2 sample: HST/ACS F814W; sample of Leauthaud et al. 2007,
ApJS 172, 219, astro-ph/0702359; fits of Lackner & Gunn 2012, MNRAS 421, 2277, 1107.1498; catalogue by
Mandelbaum et al., zenodo 3242143), in bins of F814W magnitude, which stands for i here. Radii are sqrt(ab) of the
half-light ellipse.

Beyond its limit n and q are held, and sizes follow ln r = const - 0.2 i, half the slope before it: a choice between the
fits' own slope and none (`relations.SIZE_FAINTEST`), where there are no fits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHARES = np.array([0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
"""Shares of the galaxies below each quantile of the tables; between them linear, outside held."""
MAGNITUDES = np.array([19.92, 21.10, 22.08, 23.09, 23.93, 24.78])
"""Median F814W of the rows of the tables."""

# Indices at 0.3 and 6 are the limits of the range, where fits pile up.
SERSIC_INDEX = np.array(
    [
        [0.47, 0.72, 0.88, 1.15, 1.40, 1.77, 2.34, 2.97, 3.66, 4.43, 5.29, 6.0, 6.0],
        [0.36, 0.55, 0.69, 0.87, 1.07, 1.28, 1.57, 2.05, 2.80, 3.77, 4.93, 6.0, 6.0],
        [0.30, 0.43, 0.55, 0.72, 0.88, 1.05, 1.27, 1.58, 2.11, 3.06, 4.51, 5.71, 6.0],
        [0.30, 0.37, 0.48, 0.65, 0.80, 0.97, 1.16, 1.41, 1.78, 2.45, 3.84, 5.26, 6.0],
        [0.30, 0.32, 0.45, 0.64, 0.80, 0.98, 1.18, 1.43, 1.79, 2.43, 3.76, 5.37, 6.0],
        [0.30, 0.30, 0.36, 0.59, 0.79, 1.00, 1.26, 1.58, 2.06, 2.89, 4.67, 6.0, 6.0],
    ]
)
LN_RADIUS = np.array(  # [arcsec]
    [
        [-1.97, -1.34, -1.08, -0.81, -0.64, -0.51, -0.39, -0.27, -0.13, 0.01, 0.23, 0.38, 0.62],
        [-2.17, -1.63, -1.41, -1.14, -0.97, -0.82, -0.70, -0.58, -0.46, -0.33, -0.15, -0.03, 0.29],
        [-2.34, -1.89, -1.67, -1.41, -1.24, -1.09, -0.96, -0.83, -0.72, -0.59, -0.42, -0.27, 0.00],
        [-2.72, -2.19, -1.97, -1.71, -1.52, -1.38, -1.24, -1.12, -0.99, -0.86, -0.67, -0.49, -0.09],
        [-3.01, -2.49, -2.27, -1.99, -1.80, -1.65, -1.51, -1.38, -1.25, -1.09, -0.87, -0.65, -0.13],
        [-3.51, -2.89, -2.61, -2.32, -2.14, -1.99, -1.85, -1.72, -1.58, -1.42, -1.17, -0.92, -0.30],
    ]
)
AXIS_RATIO = np.array(
    [
        [0.194, 0.273, 0.338, 0.432, 0.516, 0.579, 0.650, 0.705, 0.758, 0.820, 0.892, 0.927, 0.971],
        [0.201, 0.268, 0.324, 0.411, 0.487, 0.560, 0.625, 0.682, 0.747, 0.809, 0.879, 0.916, 0.964],
        [0.193, 0.268, 0.318, 0.398, 0.472, 0.540, 0.601, 0.664, 0.729, 0.794, 0.865, 0.913, 0.964],
        [0.177, 0.242, 0.287, 0.366, 0.430, 0.491, 0.555, 0.617, 0.681, 0.751, 0.828, 0.881, 0.948],
        [0.164, 0.226, 0.270, 0.339, 0.395, 0.453, 0.509, 0.570, 0.638, 0.711, 0.800, 0.857, 0.937],
        [0.116, 0.181, 0.227, 0.290, 0.345, 0.398, 0.454, 0.512, 0.579, 0.653, 0.755, 0.826, 0.922],
    ]
)

# Of the galaxies that two profiles fit better than one, brighter than 23.5, where the fits are least noisy.
BULGE_FRACTION = np.array([0.107, 0.119, 0.137, 0.177, 0.231, 0.294, 0.373, 0.462, 0.544, 0.642, 0.750, 0.811, 0.877])
RADIUS_RATIO = np.array([0.087, 0.140, 0.173, 0.221, 0.263, 0.309, 0.367, 0.436, 0.521, 0.645, 0.879, 1.174, 1.804])
"""Bulge over disc."""
BULGE_AXIS_RATIO = np.array([0.056, 0.080, 0.113, 0.188, 0.274, 0.365, 0.451, 0.531, 0.614, 0.700, 0.807, 0.870, 0.947])
MISALIGNMENT = np.array([0.373, 1.961, 4.026, 9.634, 16.05, 23.58, 32.43, 41.94, 53.84, 65.72, 77.81, 83.98, 88.81])
"""Angle between the major axes of bulge and disc [deg]."""
INDEX_AND_RADIUS, INDEX_AND_AXIS_RATIO, RADIUS_AND_AXIS_RATIO = -0.1, 0.08, 0.15
"""Correlations of normal scores at a given magnitude, over all magnitudes (the first falls from -0.3 to -0.06)."""
FRACTION_AND_RATIO = 0.4
"""Correlation of the normal scores of bulge fraction and radius ratio."""

_FAINT_SLOPE, _BRIGHT_SLOPE = -0.2, -0.3  # of ln radius by magnitude, beyond the rows of the table


def quantile(table: Floats, share: Floats) -> Floats:
    """Quantiles of one row of a table, (N,), of shares (N,)."""
    return np.asarray(np.interp(share, SHARES, table))


def quantile_at(table: Floats, i_mag: Floats, share: Floats) -> Floats:
    """Quantiles of a table of the rows `MAGNITUDES`, (N,): linear in magnitude and share, the ends held."""
    by_row = np.stack([np.interp(share, SHARES, row) for row in table])
    place = np.interp(i_mag, MAGNITUDES, np.arange(len(MAGNITUDES)))
    row = np.minimum(place.astype(np.int64), len(MAGNITUDES) - 2)
    part, galaxy = place - row, np.arange(len(i_mag))
    return np.asarray((1 - part) * by_row[row, galaxy] + part * by_row[row + 1, galaxy])


def radius_at(i_mag: Floats, share: Floats) -> Floats:
    """Half-light radii [arcsec] at a magnitude, (N,), of shares (N,)."""
    fainter = np.maximum(i_mag - MAGNITUDES[-1], 0.0)
    brighter = np.maximum(MAGNITUDES[0] - i_mag, 0.0)
    return np.asarray(np.exp(quantile_at(LN_RADIUS, i_mag, share) + _FAINT_SLOPE * fainter - _BRIGHT_SLOPE * brighter))
