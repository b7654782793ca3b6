"""Mean shapes of a field's galaxies where there should be none: around bright stars, by position, by the PSF's shape.

Sky frame, +x west, +y north: GalSim's, and TreeCorr's without a flip. Tangential is γ_t = -(g1 cos 2φ + g2 sin 2φ), φ
from west towards north: positive for ellipses along circles around the centre, as a lens makes them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST = 20
"""Fewest galaxies, or pairs of galaxy and star, of a bin."""

Floats = NDArray[np.float64]


class BinnedShear(NamedTuple):
    """Means of two components in K bins.

    Attributes:
        at: mean of the quantity, (K,).
        mean: of both components, (K, 2).
        error: standard error, (K, 2).
        number: (K,).
    """

    at: Floats
    mean: Floats
    error: Floats
    number: NDArray[np.int64]


class Slope(NamedTuple):
    """A slope and its standard error; NaN where there is none."""

    value: float
    error: float


def shear_around(centres: Floats, places: Floats, g: Floats, edges: Floats) -> BinnedShear:
    """Tangential and cross component around centres, in rings; without the rings of fewer than `LEAST` pairs.

    Args:
        centres: u and v, (M, 2) [arcsec].
        places: of the galaxies, (N, 2) [arcsec].
        g: shear-type, sky frame, (N, 2).
        edges: of the rings, rising, (K + 1,) [arcsec].
    """
    sums = np.zeros((len(edges) - 1, 6))
    for centre in centres:
        u, v = (places - centre).T
        radius, double = np.hypot(u, v), 2 * np.arctan2(v, u)
        tangential = -(g[:, 0] * np.cos(double) + g[:, 1] * np.sin(double))
        cross = g[:, 0] * np.sin(double) - g[:, 1] * np.cos(double)
        ring = np.digitize(radius, edges) - 1
        inside = (ring >= 0) & (ring < len(sums))
        rows = np.stack([np.ones_like(u), radius, tangential, cross, tangential**2, cross**2], axis=1)
        np.add.at(sums, ring[inside], rows[inside])
    sums = sums[sums[:, 0] >= LEAST]
    number = sums[:, :1]
    mean = sums[:, 2:4] / number
    error = np.sqrt(np.maximum(sums[:, 4:] / number - mean**2, 0) / (number - 1))
    return BinnedShear(sums[:, 1] / number[:, 0], mean, error, number[:, 0].astype(np.int64))


def shear_by(values: Floats, g: Floats, bins: int = 8) -> BinnedShear:
    """Means in at least two bins of equally many galaxies, `LEAST` or more each; none where all values are the same.

    Args:
        values: what is binned by, (N,); NaN is left out.
        g: (N, 2).
        bins: number of them, at most.
    """
    known = np.isfinite(values) & np.isfinite(g).all(axis=1)
    values, g = values[known], g[known]
    bins = min(bins, len(values) // LEAST)
    if bins < 2 or not varies(values):
        return BinnedShear(np.zeros(0), np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, np.int64))
    parts = np.array_split(np.argsort(values, kind="stable"), bins)
    number = np.array([len(part) for part in parts])
    return BinnedShear(
        np.array([values[part].mean() for part in parts]),
        np.array([g[part].mean(axis=0) for part in parts]),
        np.array([g[part].std(axis=0, ddof=1) for part in parts]) / np.sqrt(number)[:, None],
        number,
    )


def slope_of(values: Floats, component: Floats) -> Slope:
    """Least-squares slope of a component on a quantity; NaN with fewer than `LEAST` galaxies or equal values."""
    known = np.isfinite(values) & np.isfinite(component)
    values, component = values[known], component[known]
    if len(values) < LEAST or not varies(values):
        return Slope(float("nan"), float("nan"))
    away = values - values.mean()
    slope = float((away * component).sum() / (away**2).sum())
    left = component - component.mean() - slope * away
    return Slope(slope, float(np.sqrt((left**2).sum() / (len(left) - 2) / (away**2).sum())))


def varies(values: Floats) -> bool:
    """Whether numbers differ by more than the rounding of what they were measured from."""
    return bool(len(values) and np.ptp(values) > 1e-6 * max(1.0, float(np.abs(values).max())))
