"""Where the galaxies of a field lie: a Poisson number at the counts' density, part of them in clusters.

**Clustering.** The angular correlation function asked for is that of galaxies brighter than a magnitude,
w(θ) = (θ / θ0)^-0.7 with θ0 = 10^(-0.4 (r - 21.5)) arcsec (Morganson & Blandford 2009, MNRAS 398, 769; 0805.4458, and
the surveys it sums up), from 1 to 30 arcsec. Its amplitude falls by 0.28 dex a magnitude, as that of others does
(0.27 dex: Villumsen, Freudling & da Costa 1997; astro-ph/9606084).

**How.** A share f(i) of the galaxies belongs to clusters, whose centres are a Poisson process (Neyman & Scott 1952).
Each member has a Gaussian offset of its own scale σ, p(σ) ~ σ^-0.35 up to `_LARGEST`, so that σ1² + σ2² of two members
gives a power law of pairs, θ^-0.7; a part of the members with the largest scale makes the scales above it good. As
members take their galaxies at random, any part of them has the same w; a sample with a share F of members has F² w.
F ~ 10^(-0.14 i) gives the fall with magnitude: all of the brightest galaxies are clustered, a few per cent of the
faintest. The redshifts of neighbours are not correlated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import CatalogError, SettingsError
from deblend_assets.science.simulation.relations import I_BRIGHTEST

_SLOPE = 0.7
_FALL = 0.28  # dex of w a magnitude
_UNITY = 21.5  # r at which θ0 is 1 arcsec
R_MINUS_I = 0.4
"""r - i of a typical galaxy: r limits of the published function as limits in i."""
_LARGEST = 60.0  # scale of a member's offset [arcsec]
_OUTER = 0.44  # share of the members that have it: w is then θ^-0.7 within 1.5 % from 1 to 30 arcsec
_REACH = 3.5  # in scales: no cluster centred farther from a field reaches it

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Placement:
    """Galaxies of one field, N rows.

    Attributes:
        row: in the catalogue, (N,).
        x, y: position relative to the field's centre [arcsec], (N,).
        cluster: number of the galaxy's cluster, -1 outside clusters, (N,).
    """

    row: NDArray[np.int64]
    x: Floats
    y: Floats
    cluster: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)


def correlation_asked(theta: Floats, i_limit: float) -> Floats:
    """w(θ) of galaxies brighter than `i_limit` by the published function; θ in arcsec, 1 to 30."""
    scale = 10.0 ** (-0.4 * (i_limit + R_MINUS_I - _UNITY))
    return np.asarray((np.asarray(theta, np.float64) / scale) ** -_SLOPE)


def member_share(i_mag: Floats) -> Floats:
    """Share f(i) of a catalogue's galaxies that belong to clusters, (N,).

    The share of those brighter than i is F = 10^(-0.14 (i - I)), with I = 18 the brightest. With n the number of those,
    f = F + n dF/dn = F (1 - 0.14 / s), s the slope of log10 n at i in the catalogue, which is smoothed over half a
    magnitude.

    Args:
        i_mag: of all galaxies of the catalogue, (N,).
    """
    fainter = np.maximum(i_mag - I_BRIGHTEST, 0.0)
    faintest = float(fainter.max())
    if not faintest > 0:
        return np.ones(len(i_mag))
    nodes = np.concatenate([[0.0], np.arange(0.25, faintest - 0.25, 0.5), [faintest]])
    number = np.maximum(np.searchsorted(np.sort(fainter), nodes, side="right"), 1)
    per_magnitude = np.gradient(number.astype(np.float64), nodes)
    steepness = per_magnitude / (number * np.log(10.0))
    slope = np.interp(fainter, nodes, np.maximum(steepness, 0.5 * _FALL))
    return np.asarray(10.0 ** (-0.5 * _FALL * fainter) * (1.0 - 0.5 * _FALL / slope))


def cluster_density() -> float:
    """Centres of clusters a square arcsec: the brightest galaxies are all members, and have the w asked for."""
    return _pair_amplitude() / float(correlation_asked(np.ones(1), I_BRIGHTEST)[0])


@lru_cache(maxsize=1)
def _pair_amplitude() -> float:
    """Density of a member's fellow members over their number, times θ^0.7, at 1 to 30 arcsec [arcsec^-1.3]."""
    edges = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 801)])
    weight = np.append((1 - _OUTER) * np.diff(edges ** (1 - 0.5 * _SLOPE)), _OUTER)
    scale = _LARGEST * np.append(0.5 * (edges[1:] + edges[:-1]), 1.0)
    square, weights = scale[:, None] ** 2 + scale**2, np.outer(weight, weight)
    theta = np.geomspace(1.0, 30.0, 7)
    pairs = np.array([(weights * np.exp(-0.5 * t**2 / square) / (2 * np.pi * square)).sum() for t in theta])
    return float((pairs * theta**_SLOPE).mean())


def _scales(rng: np.random.Generator, number: int) -> Floats:
    """Scales of members' offsets [arcsec], (number,)."""
    inner = _LARGEST * rng.random(number) ** (1.0 / (1.0 - 0.5 * _SLOPE))
    return np.where(rng.random(number) < _OUTER, _LARGEST, inner)


def place_galaxies(
    i_mag: Floats, density: float, width: float, height: float, margin: float, rng: np.random.Generator
) -> Placement:
    """Random galaxies of a catalogue on a field and around it.

    Args:
        i_mag: AB magnitudes in i of the catalogue's galaxies that may appear, (C,).
        density: of all of them on the sky [1/arcmin²].
        width, height: of the field along x and y [arcsec].
        margin: around the field, filled too: galaxies there are cut by the edge, or their light comes in [arcsec].
        rng: random numbers; the same give the same galaxies.

    Raises:
        CatalogError: no galaxies.
        SettingsError: a density or an area that is not positive.
    """
    if not len(i_mag):
        raise CatalogError("there are no galaxies to place", where="place_galaxies", remedy="use a larger catalogue")
    if not (density > 0 and width > 0 and height > 0 and margin >= 0):
        raise SettingsError(
            f"density {density:g}, field {width:g} × {height:g}, margin {margin:g}",
            where="place_galaxies",
            remedy="give a positive density and field, and a margin of at least 0",
        )
    half = np.array([0.5 * width + margin, 0.5 * height + margin])
    share = member_share(i_mag)
    per_area = density / 3600.0
    single = rng.poisson(per_area * float(1 - share.mean()) * 4 * half.prod())
    free = rng.uniform(-half, half, (single, 2))
    outer = half + _REACH * _LARGEST
    centres = rng.uniform(-outer, outer, (rng.poisson(cluster_density() * 4 * outer.prod()), 2))
    members = rng.poisson(per_area * float(share.mean()) / cluster_density(), len(centres))
    cluster = np.repeat(np.arange(len(centres)), members)
    offset = _scales(rng, len(cluster))[:, None] * rng.standard_normal((len(cluster), 2))
    clustered = centres[cluster] + offset
    inside = (np.abs(clustered) < half).all(axis=1)
    clustered, cluster = clustered[inside], cluster[inside]
    row = np.concatenate([_drawn(1 - share, single, rng), _drawn(share, len(cluster), rng)])
    x, y = np.concatenate([free, clustered]).T
    return Placement(row, x, y, np.concatenate([np.full(single, -1, np.int64), cluster]))


def _drawn(weight: Floats, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows at random, each with a probability that is proportional to its weight, (number,)."""
    cumulative = np.cumsum(weight)
    rows = np.searchsorted(cumulative, rng.random(number) * cumulative[-1], side="right")
    return np.minimum(rows, len(weight) - 1)
