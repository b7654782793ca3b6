"""Published relations of the faint galaxy population: counts, redshifts, types, sizes, shapes, bulges.

Each function names its source. "shear g" is (a-b)/(a+b) = (1-q)/(1+q), the ellipticity of Miller et al.
(2013); q = b/a. Functions that sample take a numpy Generator and are vectorised over galaxies.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy import special

from deblend_assets.science.simulation.seds import TYPE_MAX, Z_MAX

Floats = NDArray[np.float64]

COUNT_SLOPE = 0.31
COUNT_AT_25 = 46.0
# Middles of bins in i, and galaxies per square degree and magnitude, log10; see `observed_density`.
OBSERVED_I = np.arange(18.25, 26.5, 0.5)
OBSERVED_LOG = np.array(
    [2.53, 2.79, 3.01, 3.23, 3.44, 3.64, 3.85, 4.03, 4.21, 4.38, 4.54, 4.71, 4.86, 4.97, 5.08, 5.20, 5.29]
)
I_BRIGHTEST = 18.0
"""The relations do not constrain brighter galaxies, which are one in a thousand."""

# Ilbert et al. (2006): alpha, z0, k of p(z|T,i) and f, k of p(T|i), for E, Sbc, Scd, Im.
_ILBERT_Z = np.array([[3.331, 0.452, 0.137], [1.428, 0.166, 0.130], [1.583, 0.211, 0.140], [1.345, 0.204, 0.138]])
_ILBERT_F = np.array([[0.432, 0.471], [0.080, 0.306], [0.312, 0.127]])
# The continuous types (see seds) that a class stands for in the faintest galaxies: half-way to its neighbours, and for
# Im up to the dust-free end. `type_edges` moves those beyond E.
_TYPE_EDGES = np.array([0.0, 0.5, 1.5, 2.5, TYPE_MAX])
# Width of the classes beyond E at i = 23 over that in `_TYPE_EDGES`, and its change with i; see `type_edges`.
_TYPE_WIDTH, _TYPE_WIDENING = 0.85, 0.06

HALF_LIGHT_PER_SCALELENGTH = 1.67834699
"""Half-light radius of an exponential disc in scalelengths."""
SIZE_FAINTEST = 25.5
# Median of p(x) ~ x exp(-x^(4/3)): x^(4/3) follows a Gamma distribution of shape 3/2.
_SIZE_MEDIAN = float(special.gammaincinv(1.5, 0.5)) ** 0.75

DISC_MAX_SHEAR, _DISC_CORE, _DISC_WIDTH = 0.804, 0.0256, 0.2539
_BULGE_LINEAR, _BULGE_SQUARE = 2.368, 6.691
BULGE_FRACTION_SIGMA = 0.1
BULGE_FRACTION_MIN = 0.1
_SHEAR_GRID = 4001


def count_density(i_mag: ArrayLike) -> Floats:
    """Galaxies per square arcminute brighter than i: 46 x 10^(0.31 (i - 25)).

    LSST Science Book (LSST Science Collaboration 2009, 0912.0201), Eq. 3.7, from CFHTLS Deep counts.
    """
    return COUNT_AT_25 * 10.0 ** (COUNT_SLOPE * (np.asarray(i_mag, dtype=np.float64) - 25.0))


def observed_density(i_mag: ArrayLike) -> Floats:
    """Galaxies per square arcminute and magnitude at i, as counted.

    From i = 19.25 to 26.25 the counts of COSMOS2020 (Weaver et al. 2022, ApJS 258, 11; 2110.13923, Table 2, The
    Farmer), brighter those of HSC as DESCQA has them (Mao et al. 2018, ApJS 234, 36; 1709.09665), which agree with
    COSMOS2020 to 8 % from i = 19 to 24.5. Between the bins log N is linear; beyond 26.25, where COSMOS2020 is
    incomplete, it goes on with the slope of the last magnitude. The power law of `count_density` is within 20 % of it
    from i = 21 to 25.5, but 1.9 times as high at i = 19.25, and 1.5 times at 26.25.
    """
    i = np.asarray(i_mag, dtype=np.float64)
    inside = np.interp(i, OBSERVED_I, OBSERVED_LOG)
    first, last = (OBSERVED_LOG[1] - OBSERVED_LOG[0]) / 0.5, OBSERVED_LOG[-1] - OBSERVED_LOG[-3]
    below, above = np.minimum(i - OBSERVED_I[0], 0.0), np.maximum(i - OBSERVED_I[-1], 0.0)
    return np.asarray(10.0 ** (inside + first * below + last * above) / 3600.0)


def observed_count(i_min: float, i_max: float) -> float:
    """Galaxies per square arcminute between two magnitudes in i, by `observed_density`."""
    grid, cumulative = _observed_cumulative()
    low, high = np.interp([i_min, i_max], grid, cumulative)
    return float(high - low)


def sample_observed_magnitudes(rng: Generator, n: int, i_min: float, i_max: float) -> Floats:
    """n AB magnitudes in i between i_min and i_max, distributed as `observed_density`."""
    grid, cumulative = _observed_cumulative()
    low, high = np.interp([i_min, i_max], grid, cumulative)
    return np.asarray(np.interp(low + rng.random(n) * (high - low), cumulative, grid))


@lru_cache(maxsize=1)
def _observed_cumulative() -> tuple[Floats, Floats]:
    """Magnitudes, and galaxies per square arcminute between the first and each."""
    grid = np.linspace(I_BRIGHTEST, 30.0, 12_001)
    density = observed_density(grid)
    steps = 0.5 * (density[1:] + density[:-1]) * (grid[1] - grid[0])
    return grid, np.concatenate([[0.0], np.cumsum(steps)])


def sample_magnitudes(rng: Generator, n: int, i_min: float, i_max: float) -> Floats:
    """n AB magnitudes in i between i_min and i_max, distributed as `count_density` rises."""
    slope = COUNT_SLOPE * math.log(10.0)
    return i_min + np.log1p(rng.random(n) * math.expm1(slope * (i_max - i_min))) / slope


def _redshift_shape(i_mag: ArrayLike) -> tuple[Floats, Floats]:
    """Scale z0 and weight w of p(z|i) = (1 - w) Gamma(3, z0) + w Gamma(4, z0); see `redshift_pdf`."""
    z0 = 0.0417 * np.maximum(np.asarray(i_mag, dtype=np.float64), 19.0) - 0.744
    return z0, np.minimum(3.0 * 0.0417 / (z0 * COUNT_SLOPE * math.log(10.0)), 1.0)


def redshift_pdf(z: ArrayLike, i_mag: ArrayLike) -> Floats:
    """p(z|i) of galaxies *at* magnitude i, from the LSST Science Book's p(z) of samples *limited* at i.

    Eq. 3.8 there is cumulative: a sample brighter than i has P(z|<i) = z^2 exp(-z/z0) / (2 z0^3), with
    z0 = 0.0417 i - 0.744. So p(z|i) = d/di [N(<i) P(z|<i)] / (dN/di), which is exactly a mixture of two Gamma
    densities of scale z0 and shapes 3 and 4, the latter with weight w = 3 (dz0/di) / (z0 0.31 ln 10). For
    i < 22.04 the fit gives w > 1, a negative density at low z; w is held at 1 there, and z0 at its value at
    i = 19, below which the fit reaches zero.

    Args:
        z: redshift, broadcast against `i_mag`.
        i_mag: AB magnitude in i.

    Returns:
        Density per unit redshift.
    """
    z0, w = _redshift_shape(i_mag)
    x = np.asarray(z, dtype=np.float64) / z0
    return x**2 * np.exp(-x) / z0 * ((1.0 - w) / 2.0 + w * x / 6.0)


def redshift_cdf(z: ArrayLike, i_mag: ArrayLike) -> Floats:
    """Share of the galaxies at magnitude i below redshift z: the integral of `redshift_pdf`."""
    z0, w = _redshift_shape(i_mag)
    x = np.asarray(z, dtype=np.float64) / z0
    return (1.0 - w) * special.gammainc(3.0, x) + w * special.gammainc(4.0, x)


def sample_redshifts(rng: Generator, i_mag: Floats) -> Floats:
    """One redshift a galaxy from `redshift_pdf`, cut at `Z_MAX` (which costs 3e-4 of i = 28)."""
    z0, w = _redshift_shape(i_mag)
    shape = np.where(rng.random(i_mag.size) < w, 4.0, 3.0)
    below = rng.random(i_mag.size) * special.gammainc(shape, Z_MAX / z0)
    return special.gammaincinv(shape, below) * z0


def type_fractions(i_mag: ArrayLike) -> Floats:
    """Shares of the classes E, Sbc, Scd, Im at magnitude i: f_T exp(-k_T (i - 20)), Im taking the rest.

    The form is that of Benitez (2000, ApJ 536, 571), the numbers, for these very templates, those of
    Ilbert et al. (2006, A&A 457, 841) from the VVDS; held at i = 20 for brighter galaxies and extrapolated
    beyond i = 24.

    Returns:
        Shape (..., 4), summing to 1.
    """
    faint = np.maximum(np.asarray(i_mag, dtype=np.float64) - 20.0, 0.0)[..., None]
    early = _ILBERT_F[:, 0] * np.exp(-_ILBERT_F[:, 1] * faint)
    return np.concatenate([early, 1.0 - early.sum(axis=-1, keepdims=True)], axis=-1)


def type_edges(i_mag: ArrayLike) -> Floats:
    """Limits of the continuous types that the classes E, Sbc, Scd, Im stand for at magnitude i.

    E is 0 to 0.5 at any i. The limits beyond it are 0.5 + w (1, 2, 3.5), w = min(0.85 + 0.06 (i - 23), 1), held at
    i = 20 for brighter galaxies. From i = 25.5 classes reach half-way to their neighbours (w = 1), and Im to the
    dust-free end; brighter galaxies of a class are redder.

    The two numbers are a fit, not a published relation: to the medians of g - i, g - r, r - i and i - z in nine bins
    of half a magnitude, 20 <= i < 24.5, of 4,594 galaxies of VVDS-Deep with secure redshifts above 0.01 (Le Fevre et
    al. 2013, A&A 559, A14; 1307.0545) in ugriz of CFHTLS, and to those of g - i of 97 COSMOS galaxies in HSC at
    i = 24.8 and 25.6; 1 December 2026. Neither the filters' differences nor the Galaxy's dust are corrected.

    Args:
        i_mag: AB magnitude in i, any shape.

    Returns:
        Shape (..., 5), rising along the last axis.
    """
    faint = np.maximum(np.asarray(i_mag, dtype=np.float64), 20.0)
    width = np.minimum(_TYPE_WIDTH + _TYPE_WIDENING * (faint - 23.0), 1.0)[..., None]
    early = _TYPE_EDGES[1]
    return np.minimum(_TYPE_EDGES, early) + width * np.maximum(_TYPE_EDGES - early, 0.0)


def sample_types(rng: Generator, i_mag: Floats, redshift: Floats) -> Floats:
    """A continuous spectral type a galaxy (0 E ... 3 Im ... 4 Im without dust), given its i and redshift.

    See `types_at`.
    """
    return types_at(rng.random(i_mag.size), rng.random(i_mag.size), i_mag, redshift)


def types_at(share: Floats, within: Floats, i_mag: Floats, redshift: Floats) -> Floats:
    """The spectral type below which a share of the galaxies of one i and redshift lies, but for the order in a class.

    p(T|z,i) ~ p(T|i) p(z|T,i) with p(z|T,i) ~ z^alpha exp(-(z/zm)^alpha), zm = z0 + k (i - 20), of Ilbert et
    al. (2006); within a class the type is uniform between the limits of `type_edges`.

    Args:
        share: of the galaxies of an earlier class, (n,) in [0, 1): it chooses the class.
        within: place in the class, (n,) in [0, 1).
        i_mag, redshift: (n,).
    """
    alpha, z0, k = _ILBERT_Z.T
    zm = z0 + k * np.maximum(i_mag - 20.0, 0.0)[:, None]
    z = np.maximum(redshift, 1e-4)[:, None]
    norm = special.gamma(1.0 + 1.0 / alpha) * zm ** (alpha + 1.0) / alpha
    weight = type_fractions(i_mag) * z**alpha * np.exp(-((z / zm) ** alpha)) / norm
    cumulative = np.cumsum(weight, axis=1)
    chosen = (share[:, None] * cumulative[:, -1:] > cumulative[:, :-1]).sum(axis=1)
    edges = np.take_along_axis(type_edges(i_mag), chosen[:, None] + np.array([0, 1]), axis=1)
    return edges[:, 0] + within * (edges[:, 1] - edges[:, 0])


def scalelength_median(i_mag: ArrayLike) -> Floats:
    """Median semi-major scalelength of discs, arcsec: ln r = -1.145 - 0.269 (i - 23).

    Miller et al. (2013, MNRAS 429, 2858; 1210.8201), Appendix B, from HST fits of Simard et al. (2002). Held
    at i = 25.5 for fainter galaxies, where that sample ends; CatSim's sizes level off there too.
    """
    return np.exp(-1.145 - 0.269 * (np.minimum(np.asarray(i_mag, dtype=np.float64), SIZE_FAINTEST) - 23.0))


def sample_scalelengths(rng: Generator, i_mag: Floats) -> Floats:
    """Semi-major scalelengths, arcsec: p(r) ~ r exp(-(r/A)^(4/3)), A set by `scalelength_median`.

    Miller et al. (2013), Appendix B.
    """
    x = special.gammaincinv(1.5, rng.random(i_mag.size)) ** 0.75
    return scalelength_median(i_mag) * x / _SIZE_MEDIAN


def disc_shear_pdf(g: Floats) -> Floats:
    """Density of abs(shear g) of discs, not normalised, on [0, 0.804]: Miller et al. (2013), Appendix B.

    g [1 - exp((g - g_max)/a)] / [(1 + g) sqrt(g^2 + g0^2)], fitted to SDSS discs; g_max is the edge-on disc.
    """
    inside = -np.expm1((g - DISC_MAX_SHEAR) / _DISC_WIDTH)
    return np.maximum(g * inside, 0.0) / ((1.0 + g) * np.hypot(g, _DISC_CORE))


def bulge_shear_pdf(g: Floats) -> Floats:
    """Density of abs(shear g) of bulge-dominated galaxies, not normalised: g exp(-2.368 g - 6.691 g^2).

    Miller et al. (2013), Appendix B.
    """
    return g * np.exp(-_BULGE_LINEAR * g - _BULGE_SQUARE * g**2)


def shear_quantile(density: Floats, share: ArrayLike) -> Floats:
    """Quantiles of abs(shear g) for a density tabulated on `shear_grid`."""
    cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2.0)])
    shares = np.asarray(share, dtype=np.float64)
    return np.interp(shares, cumulative / cumulative[-1], shear_grid())


def shear_grid() -> Floats:
    """The values of abs(shear g) on which the two densities are tabulated: [0, 0.804]."""
    return np.linspace(0.0, DISC_MAX_SHEAR, _SHEAR_GRID)


def sample_bulge_fractions(rng: Generator, spectral_type: Floats) -> Floats:
    """Bulge-to-total flux: 1 for class E; for discs a half normal of width 0.1, Miller et al. (2013), App. B.

    Miller's bulge-dominated tenth is the E class here (9 % at i = 23.5), so that bulge and colour belong
    together. A bulge below a tenth of the light is left to the disc: 68 % of the disc galaxies have none,
    as 70 % of CatSim's.
    """
    fraction = np.abs(rng.normal(0.0, BULGE_FRACTION_SIGMA, spectral_type.size))
    fraction = np.where(fraction < BULGE_FRACTION_MIN, 0.0, np.minimum(fraction, 1.0))
    return np.where(spectral_type < _TYPE_EDGES[1], 1.0, fraction)
