"""Stars of the Milky Way along a line of sight: counts and colours of a published model.

Density: thin disc, thick disc and halo of Jurić et al. (2008, ApJ 673, 864; astro-ph/0510520), Table 10, before the
correction for binaries: an image does not resolve them either. Luminosity function and colours: see `stellar_tables`.
Metallicities: Ivezić et al. (2008, ApJ 684, 287; 0804.3850). u - g: Covey et al. (2007, AJ 134, 2398; 0707.4473).

Not contained: white dwarfs, young stars' smaller scale height (at V < 16 the model has a third too many stars), dust,
binaries' colours, variability, the bluer u - g of metal-poor stars.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import SettingsError
from deblend_assets.science.simulation.stellar_tables import (
    COLOURS,
    LUMINOSITY,
    LUMINOSITY_STEP,
    MAGNITUDES,
    METALLICITIES,
)

THIN_DISC, THICK_DISC, HALO = 0, 1, 2
# Of the Sun: distance from the Galaxy's centre, and from its plane [pc].
_SUN_R, _SUN_Z = 8000.0, 25.0
# Scale height and length of thin and thick disc [pc].
_HEIGHT, _LENGTH = (245.0, 743.0), (2150.0, 3261.0)
_HALO_FLATTENING, _HALO_SLOPE, _FARTHEST = 0.64, -2.77, 1e5
# Local density of each component over the thin disc's.
_LOCAL = np.array([1.0, 0.13, 0.0051])
# [Fe/H]: mean and scatter. That of the discs changes with height: here one value each, near the Sun and at 1 kpc.
_METALLICITY = np.array([[-0.3, 0.2], [-0.75, 0.2], [-1.46, 0.3]])
# Nodes of absolute magnitude M_r and of ln distance.
_M_EDGES = np.arange(-1.0, 20.01, 0.1)
_LN_D_EDGES = np.linspace(np.log(10.0), np.log(_FARTHEST), 301)
_SPARE = 0.5  # mag: stars of other than the mean metallicity that are brighter in i by this are not missed
# g, i of SDSS less those of Pan-STARRS1, polynomials in the latter's g - i (Finkbeiner et al. 2016, ApJ 822, 66).
_SDSS_G, _SDSS_I = (0.01808, 0.13595, -0.01941, 0.00183), (-0.01170, 0.00400, -0.00066, 0.00058)
# u - g of the stellar locus, a polynomial in g - i, both SDSS: Covey et al. (2007).
_COVEY_UG = (1.0636113, -1.6267818, 4.9389572, -3.2809081, 0.8725109, -0.0828035)
_COVEY_RANGE = (0.1, 4.2)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stars:
    """A sample of stars, N rows.

    Attributes:
        magnitudes: AB in u, g, r, i, z, y, (N, 6).
        component: `THIN_DISC`, `THICK_DISC` or `HALO`, (N,) int8.
        distance: (N,) [pc].
    """

    magnitudes: Floats
    component: NDArray[np.int8]
    distance: Floats

    def __len__(self) -> int:
        return len(self.component)


@dataclass(frozen=True)
class SightLine:
    """A direction of the sky.

    Attributes:
        latitude: galactic, -90 to 90 [deg]. Below 25 degrees dust, which the model does not have, matters.
        longitude: galactic [deg].
    """

    latitude: float = 60.0
    longitude: float = 90.0

    def __post_init__(self) -> None:
        if not -90 <= self.latitude <= 90 or not np.isfinite(self.longitude):
            raise SettingsError(
                f"galactic latitude {self.latitude:g}, longitude {self.longitude:g}",
                where="SightLine",
                remedy="give a latitude of -90 to 90 and a longitude in degrees",
            )

    @cached_property
    def _cells(self) -> Floats:
        """Stars a square arcmin in each cell of component, M_r and distance, (3, M, D)."""
        m = 0.5 * (_M_EDGES[1:] + _M_EDGES[:-1])
        distance = np.exp(0.5 * (_LN_D_EDGES[1:] + _LN_D_EDGES[:-1]))
        phi = luminosity_function(m) * np.diff(_M_EDGES)
        volume = np.diff(_LN_D_EDGES) * distance**3 * (np.pi / 180 / 60) ** 2
        return np.asarray(phi[:, None] * (densities(distance, self.latitude, self.longitude) * volume)[:, None, :])

    def density(self, magnitude: ArrayLike, band: str = "i") -> Floats:
        """Expected number of stars brighter than a magnitude [1/arcmin²], of the shape of `magnitude`.

        Args:
            magnitude: AB.
            band: of u, g, r, i, z, y.
        """
        limits = np.asarray(magnitude, np.float64)
        apparent = self._apparent("ugrizy".index(band))
        order = np.argsort(apparent, axis=None)
        cumulative = np.concatenate([[0.0], np.cumsum(self._cells.ravel()[order])])
        return np.asarray(cumulative[np.searchsorted(apparent.ravel()[order], limits)])

    def _apparent(self, band: int) -> Floats:
        """Magnitude in a band at the middle of each cell, at the component's mean metallicity, (3, M, D)."""
        m = 0.5 * (_M_EDGES[1:] + _M_EDGES[:-1])
        modulus = 5 * (0.5 * (_LN_D_EDGES[1:] + _LN_D_EDGES[:-1]) / np.log(10.0) - 1)
        absolute = np.stack([absolute_magnitudes(m, np.full(m.shape, mean))[:, band] for mean in _METALLICITY[:, 0]])
        return np.asarray(absolute[:, :, None] + modulus)

    def sample(self, area: float, i_min: float, i_max: float, rng: np.random.Generator) -> Stars:
        """Stars in an area of the sky, a Poisson number of them.

        Args:
            area: [arcmin²].
            i_min, i_max: AB magnitudes in i that they lie between.
            rng: random numbers; the same give the same stars.

        Raises:
            SettingsError: an empty range of magnitudes, or a negative area.
        """
        if not (i_min < i_max and area >= 0):
            raise SettingsError(
                f"area {area:g}, magnitudes {i_min:g} to {i_max:g}",
                where="SightLine.sample",
                remedy="give an area of at least 0 and i_min < i_max",
            )
        apparent = self._apparent(3)
        cells = np.where((apparent > i_min - _SPARE) & (apparent < i_max + _SPARE), self._cells, 0.0)
        cumulative = np.cumsum(cells)
        number = rng.poisson(area * cumulative[-1])
        cell = np.searchsorted(cumulative, rng.random(number) * cumulative[-1], side="right")
        component, m_cell, d_cell = np.unravel_index(np.minimum(cell, cells.size - 1), cells.shape)
        m = _M_EDGES[m_cell] + rng.random(number) * np.diff(_M_EDGES)[m_cell]
        ln_distance = _LN_D_EDGES[d_cell] + rng.random(number) * np.diff(_LN_D_EDGES)[d_cell]
        metallicity = _METALLICITY[component, 0] + _METALLICITY[component, 1] * rng.standard_normal(number)
        modulus = 5 * (ln_distance / np.log(10.0) - 1)
        magnitudes = absolute_magnitudes(m, metallicity) + modulus[:, None]
        kept = (magnitudes[:, 3] > i_min) & (magnitudes[:, 3] < i_max)
        return Stars(magnitudes[kept], component[kept].astype(np.int8), np.exp(ln_distance[kept]))


def luminosity_function(m_r: ArrayLike) -> Floats:
    """Systems of stars near the Sun of all components [1/pc³/mag] at an absolute magnitude in r; 0 beyond -1 to 20."""
    m = np.asarray(m_r, np.float64)
    nodes = -1.0 + LUMINOSITY_STEP * np.arange(len(LUMINOSITY))
    values = np.exp(np.interp(m, nodes, np.log(LUMINOSITY)))
    return np.asarray(np.where((m >= nodes[0]) & (m <= nodes[-1]), values, 0.0))


def densities(distance: Floats, latitude: float, longitude: float) -> Floats:
    """Density of thin disc, thick disc and halo over that of all three near the Sun, (3, N).

    Two exponential discs and an oblate power law.

    Args:
        distance: from the Sun, (N,) [pc].
        latitude, longitude: galactic [deg].
    """
    b, longitude = np.radians(latitude), np.radians(longitude)
    along = distance * np.cos(b)
    radius = np.sqrt(_SUN_R**2 + along**2 - 2 * _SUN_R * along * np.cos(longitude))
    z = distance * np.sin(b) + _SUN_Z
    discs = [
        np.exp(-(radius - _SUN_R) / length - (np.abs(z) - _SUN_Z) / height)
        for height, length in zip(_HEIGHT, _LENGTH, strict=True)
    ]
    halo = (np.hypot(radius, z / _HALO_FLATTENING) / np.hypot(_SUN_R, _SUN_Z / _HALO_FLATTENING)) ** _HALO_SLOPE
    return np.stack([*discs, halo]) * (_LOCAL / _LOCAL.sum())[:, None]


def absolute_magnitudes(m_r: Floats, metallicity: Floats) -> Floats:
    """Absolute AB magnitudes in u, g, r, i, z, y, (N, 6).

    Args:
        m_r: absolute magnitude in r, (N,).
        metallicity: [Fe/H], (N,), held within -2 and 0.
    """
    by_metallicity = np.stack(
        [np.stack([np.interp(m_r, MAGNITUDES, block[:, k]) for k in range(4)], axis=-1) for block in COLOURS]
    )
    place = np.clip((metallicity - METALLICITIES[0]) / np.diff(METALLICITIES)[0], 0.0, len(METALLICITIES) - 1)
    block = np.minimum(place.astype(np.int64), len(METALLICITIES) - 2)
    part, star = (place - block)[:, None], np.arange(len(m_r))
    gr, ri, iz, zy = ((1 - part) * by_metallicity[block, star] + part * by_metallicity[block + 1, star]).T
    i = m_r - ri
    g = m_r + gr
    return np.stack([g + u_minus_g(g - i), g, m_r, i, i - iz, i - iz - zy], axis=-1)


def u_minus_g(g_minus_i: Floats) -> Floats:
    """u of SDSS less g of Pan-STARRS1 on the stellar locus, of the shape of its g - i (Pan-STARRS1)."""
    polynomial = np.polynomial.polynomial.polyval
    g_step = polynomial(g_minus_i, _SDSS_G)
    sdss = g_minus_i + g_step - polynomial(g_minus_i, _SDSS_I)
    return np.asarray(polynomial(np.clip(sdss, *_COVEY_RANGE), _COVEY_UG) + g_step)
