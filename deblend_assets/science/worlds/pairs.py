"""Sources of the worlds `pairs` and `singles`: groups of one to three sources in the cells of a grid."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import CatalogError
from deblend_assets.science.simulation.galaxies import Galaxies, concatenate, nanojansky
from deblend_assets.science.simulation.sources import SkyCatalog, Sources, joined_shapes, limit_in_i
from deblend_assets.science.simulation.stars import SightLine
from deblend_assets.science.skies.psf_shape import measure_psf
from deblend_assets.science.skies.sky import Sky
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.worlds.cells import cell_centres
from deblend_assets.settings import FieldSettings

_I = CATSIM_BANDS.index("i")
SEPARATION = (0.6, 4.0)
"""Of two sources of a pair, uniform [arcsec]."""
MAGNITUDES = (-2.0, 2.0)
"""Second source less the first, uniform, in i [mag]."""
TRIPLES, WITH_STAR = 0.1, 0.1
"""Shares of the pairs."""
MERGED_FWHM = 1.2
"""Closer pairs are those that singles look like [FWHM]."""
_NEAREST = 10  # galaxies, or stars, of which one of the wanted magnitude is chosen
_STARS_AREA = 1_000.0  # arcmin²: some seven thousand stars to take colours from


def sample_pairs(catalog: SkyCatalog, sky: Sky, settings: FieldSettings, rng: np.random.Generator) -> Sources:
    """One pair or triple in each of the `CELLS`² cells of a square image; nothing else is in the field.

    The first source is a galaxy brighter in i than a star of S/N 10, in proportion to counts. The second and third lie
    at a uniform distance and angle from it, uniform in Δmag; the second is a star in a tenth of the pairs.

    Args:
        catalog: galaxies.
        sky: of the field.
        settings: direction and brightness of the stars.
        rng: random numbers; the same give the same sources.
    """
    return _Sampler(catalog, sky, settings, rng).pairs()


def sample_singles(catalog: SkyCatalog, sky: Sky, settings: FieldSettings, rng: np.random.Generator) -> Sources:
    """One galaxy in each cell, of the magnitude and size that a pair closer than 1.2 FWHM has as a whole.

    Of the galaxies nearest in magnitude, the one nearest in ln size is taken; the size of a pair is its half-light
    radii and distance added in quadrature, weighted by flux.

    Args:
        catalog, sky, settings, rng: see `sample_pairs`.
    """
    return _Sampler(catalog, sky, settings, rng).singles()


class _Sampler:
    def __init__(self, catalog: SkyCatalog, sky: Sky, settings: FieldSettings, rng: np.random.Generator) -> None:
        self.catalog, self.sky, self.settings, self.rng = catalog, sky, settings, rng
        self.mag = catalog.galaxies.magnitudes()[:, _I]
        self.order = np.argsort(self.mag, kind="stable")
        limit = limit_in_i(sky)
        self.bright = np.flatnonzero(self.mag < limit)
        if not self.bright.size:
            raise CatalogError(
                f"has no galaxy brighter than {limit:.1f} in i", where="sample_pairs", remedy="use a larger catalogue"
            )

    def _near(self, magnitude: NDArray[np.float64]) -> NDArray[np.int64]:
        """A galaxy near each magnitude."""
        place = np.searchsorted(self.mag[self.order], magnitude)
        place = place + self.rng.integers(-_NEAREST // 2, _NEAREST // 2, len(magnitude))
        return np.asarray(self.order[np.clip(place, 0, len(self.order) - 1)])

    def _offsets(self, count: int, most: float) -> NDArray[np.complex128]:
        """From the first source, x + i y [pixel]."""
        low, high = SEPARATION
        distance = self.rng.uniform(low, min(high, max(most, low)), count) / self.sky.pixel_scale
        return np.asarray(distance * np.exp(2j * np.pi * self.rng.random(count)))

    def pairs(self) -> Sources:
        x, y = cell_centres(self.sky.shape, self.rng)
        count = len(x)
        first = self.rng.choice(self.bright, count)
        stars, triples = self.rng.random((2, count)) < np.array([[WITH_STAR], [TRIPLES]])
        mag = self.mag[first] + self.rng.uniform(*MAGNITUDES, count)
        second = self._near(mag)
        third = self._near(self.mag[first] + self.rng.uniform(*MAGNITUDES, count))
        offset, offset3 = self._offsets(count, np.inf), self._offsets(count, np.inf)
        rows = np.concatenate([first, second[~stars], third[triples]])
        galaxies = np.concatenate([np.zeros(count), offset[~stars], offset3[triples]])
        cells = np.concatenate([np.arange(count), np.flatnonzero(~stars), np.flatnonzero(triples)])
        return self._sources(rows, cells, galaxies, np.flatnonzero(stars), offset[stars], mag[stars], x, y)

    def singles(self) -> Sources:
        x, y = cell_centres(self.sky.shape, self.rng)
        count = len(x)
        first = self.rng.choice(self.bright, count)
        second = self._near(self.mag[first] + self.rng.uniform(*MAGNITUDES, count))
        fwhm = max(measure_psf(psf).fwhm for psf in self.sky.psfs(*self.sky.centre))
        distance = np.abs(self._offsets(count, MERGED_FWHM * fwhm)) * self.sky.pixel_scale
        flux = 10 ** (-0.4 * self.mag[np.stack([first, second])])
        total = -2.5 * np.log10(flux.sum(axis=0))
        share = flux[1] / flux.sum(axis=0)
        hlr = np.nan_to_num(self.catalog.shapes.hlr)
        size2 = (1 - share) * hlr[first] ** 2 + share * hlr[second] ** 2 + share * (1 - share) * distance**2
        place = np.searchsorted(self.mag[self.order], total)[:, None] + np.arange(-4 * _NEAREST, 4 * _NEAREST)
        near = self.order[np.clip(place, 0, len(self.order) - 1)]
        unlike = np.abs(np.log(np.maximum(hlr[near], 1e-3)) - 0.5 * np.log(size2)[:, None])
        rows = near[np.arange(count), unlike.argmin(axis=1)]
        none = np.zeros(0)
        nowhere = none.astype(np.complex128)
        cells = np.arange(count)
        return self._sources(rows, cells, np.zeros(count, complex), none.astype(int), nowhere, none, x, y)

    def _star_light(self, mag: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fluxes of stars of these magnitudes in i [nJy], (N, 6), with the colours of one of like magnitude."""
        given = self.settings
        stars = _stars(given.latitude, given.longitude, given.brightest_star, given.faintest)
        order = np.argsort(stars[:, _I], kind="stable")
        place = np.searchsorted(stars[order, _I], mag) + self.rng.integers(-_NEAREST // 2, _NEAREST // 2, len(mag))
        like = stars[order[np.clip(place, 0, len(order) - 1)]]
        return nanojansky(like + (mag - like[:, _I])[:, None])

    def _sources(
        self,
        rows: NDArray[np.int64],
        cells: NDArray[np.int64],
        offset: NDArray[np.complex128],
        star_cells: NDArray[np.int64],
        star_offset: NDArray[np.complex128],
        star_mag: NDArray[np.float64],
        x: NDArray[np.float64],
        y: NDArray[np.float64],
    ) -> Sources:
        """Galaxies of the catalogue, each turned at random, and stars, at offsets from the centres of their cells."""
        angle = self.rng.uniform(0.0, 2 * np.pi, len(rows))
        galaxies = self.catalog.galaxies[rows].turned(angle)
        points = Galaxies.of_stars(-1 - np.arange(len(star_mag)), self._star_light(star_mag))
        where = np.concatenate([cells, star_cells])
        moved = np.concatenate([offset, star_offset])
        return Sources(
            bodies=concatenate([galaxies, points]),
            shapes=joined_shapes(self.catalog.shapes[rows].turned(angle), len(star_mag)),
            x=x[where] + moved.real,
            y=y[where] + moved.imag,
            cluster=where,
        )


@functools.lru_cache(maxsize=1)
def _stars(latitude: float, longitude: float, brightest: float, faintest: float) -> NDArray[np.float64]:
    """Magnitudes of stars in a direction, (N, 6): the same in every field, of which a few are taken."""
    return SightLine(latitude, longitude).sample(_STARS_AREA, brightest, faintest, np.random.default_rng(0)).magnitudes
