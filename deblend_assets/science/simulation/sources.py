"""The sources of a field: galaxies and stars with their positions and truth, and how a lens or a turn moves them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import CatalogError
from deblend_assets.science.simulation.counts import thin_to_measured
from deblend_assets.science.simulation.galaxies import Galaxies, Morphology, concatenate, nanojansky
from deblend_assets.science.simulation.intrinsic import IntrinsicShapes, ShapesOnDemand
from deblend_assets.science.simulation.placement import place_galaxies
from deblend_assets.science.simulation.stars import SightLine
from deblend_assets.science.skies.sky import Sky
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.settings import FieldSettings

_I = CATSIM_BANDS.index("i")
# Of the band that stands for i in a sky without it, by distance in wavelength.
_NEAREST_TO_I = ("i", "z", "r", "y", "g", "u")
_LIMIT_SNR = 10.0

Floats = NDArray[np.float64]

TRUTH_COLUMNS = {
    "id": ("", "of the galaxy in its catalogue; negative for a star"),
    "star": ("", "whether it is a star"),
    "morphology": ("", "`Morphology`"),
    "redshift": ("", "0 for a star"),
    "cluster": ("", "number of its cluster or pair in the field; -1 outside clusters, and for their stars"),
    "x": ("pixel", "position along a row, from 0 at the centre of the first pixel; may lie outside the image"),
    "y": ("pixel", "position along a column"),
    "g1": ("", "shear-type shape before the PSF, pixel frame; NaN for a star"),
    "g2": ("", "the same"),
    "hlr_arcsec": ("arcsec", "half-light radius before the PSF; 0 for a star"),
    "concentration": ("", "5 log10(r80 / r20); NaN for a star"),
    "mag_i": ("mag", "AB magnitude in i"),
    "flux_{band}": ("image unit", "whole flux in a band"),
}
"""Unit and meaning of the columns of `Sources.truth`; {band} once a band."""


@dataclass(frozen=True)
class SkyCatalog:
    """Galaxies that fields are filled with.

    Attributes:
        galaxies: of the catalogue, or of one of its splits.
        area: of the sky on which so many galaxies lie [arcmin²]; of a split, its share of the catalogue's area.
    """

    galaxies: Galaxies
    area: float

    def __post_init__(self) -> None:
        if not self.area > 0:
            raise CatalogError(
                f"{len(self.galaxies)} galaxies on {self.area:g} square arcmin",
                where="SkyCatalog",
                remedy="give the area that they cover",
            )

    @cached_property
    def shapes(self) -> ShapesOnDemand:
        """Truth of the galaxies."""
        return ShapesOnDemand(self.galaxies)

    def with_measured_counts(self, rng: np.random.Generator) -> SkyCatalog:
        """A part of the galaxies whose numbers by magnitude are those of COSMOS2020; see `counts`."""
        rows, area = thin_to_measured(self.galaxies.magnitudes()[:, _I], self.area, rng)
        return SkyCatalog(self.galaxies[rows], area)


@dataclass(frozen=True)
class Sources:
    """Galaxies and stars of a field, N rows, the galaxies first.

    Attributes:
        bodies: what is rendered; a star is a point (`Morphology.STAR`).
        shapes: truth of the galaxies before any PSF; NaN for stars, their size 0.
        x, y: position [pixel], from 0 at the centre of the first pixel, (N,); also outside the image.
        cluster: see `TRUTH_COLUMNS`, (N,).
    """

    bodies: Galaxies
    shapes: IntrinsicShapes
    x: Floats
    y: Floats
    cluster: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)

    @property
    def star(self) -> NDArray[np.bool_]:
        """Which are stars, (N,)."""
        return np.asarray(self.bodies.morphology == Morphology.STAR)

    def sheared(
        self, shear: complex, centre: tuple[float, float], redshifts: tuple[float, float] | None = None
    ) -> Sources:
        """The field behind a lens: shapes and positions of galaxies are sheared, stars are not.

        Args:
            shear: reduced shear g1 + i g2 at unit magnification.
            centre: (x, y) that stays where it is [pixel].
            redshifts: galaxies from the first up to the second are sheared, the others are not; none: all.
        """
        lensed = ~self.star
        if redshifts is not None:
            lensed &= (self.bodies.redshift >= redshifts[0]) & (self.bodies.redshift < redshifts[1])
        gamma = np.where(lensed, shear, 0.0)
        offset = (self.x - centre[0]) + 1j * (self.y - centre[1])
        moved = (offset + gamma * offset.conj()) / np.sqrt(1 - np.abs(gamma) ** 2)
        with np.errstate(invalid="ignore"):  # stars have no shape
            shapes = self.shapes.sheared(gamma)
        return replace(
            self,
            bodies=self.bodies.sheared(gamma),
            shapes=shapes,
            x=np.where(lensed, centre[0] + moved.real, self.x),
            y=np.where(lensed, centre[1] + moved.imag, self.y),
        )

    def turned(self, quarter_turns: int, centre: tuple[float, float]) -> Sources:
        """All sources after turns by 90° from +x to +y about a point (x, y) [pixel]."""
        offset = ((self.x - centre[0]) + 1j * (self.y - centre[1])) * 1j ** (quarter_turns % 4)
        angle = quarter_turns * np.pi / 2
        return replace(
            self,
            bodies=self.bodies.turned(angle),
            shapes=self.shapes.turned(angle),
            x=centre[0] + offset.real,
            y=centre[1] + offset.imag,
        )

    def truth(self, sky: Sky) -> pd.DataFrame:
        """One row a source, `TRUTH_COLUMNS`, fluxes in the units of the sky's images."""
        flux = self.bodies.flux_in(sky.names, sky.column("zero_point")).sum(axis=2)
        table = pd.DataFrame(
            {
                "id": self.bodies.id,
                "star": self.star,
                "morphology": self.bodies.morphology,
                "redshift": self.bodies.redshift,
                "cluster": self.cluster,
                "x": self.x,
                "y": self.y,
                "g1": self.shapes.g.real,
                "g2": self.shapes.g.imag,
                "hlr_arcsec": self.shapes.hlr,
                "concentration": self.shapes.concentration,
                "mag_i": self.bodies.magnitudes()[:, _I],
            }
        )
        return table.assign(**{f"flux_{band}": flux[:, k] for k, band in enumerate(sky.names)})


def limit_in_i(sky: Sky) -> float:
    """AB magnitude of a star of S/N 10 in the band nearest to i which a sky has."""
    return sky.depth(next(name for name in _NEAREST_TO_I if name in sky.bands), _LIMIT_SNR)


def faintest_magnitude(sky: Sky, settings: FieldSettings) -> float:
    """AB magnitude in i of a field's faintest sources: `beyond_limit` below `limit_in_i`, or `faintest`."""
    return min(limit_in_i(sky) + settings.beyond_limit, settings.faintest)


def sample_sources(catalog: SkyCatalog, sky: Sky, settings: FieldSettings, rng: np.random.Generator) -> Sources:
    """Random sources of a field: galaxies at the catalogue's density, clustered, randomly turned; and stars.

    Args:
        catalog: galaxies; each may appear in many fields.
        sky: shape, pixel scale and depth of the images.
        settings: margin, limits, direction of the stars.
        rng: random numbers; the same give the same sources.
    """
    places, turns, milky_way = rng.spawn(3)
    limit = faintest_magnitude(sky, settings)
    i_mag = catalog.galaxies.magnitudes()[:, _I]
    bright = np.flatnonzero(i_mag < limit)
    width, height = (side * sky.pixel_scale for side in sky.shape[::-1])
    placed = place_galaxies(i_mag[bright], len(bright) / catalog.area, width, height, settings.margin, places)
    rows, angle = bright[placed.row], turns.uniform(0.0, 2 * np.pi, len(placed))
    half = np.array([width, height]) / 2 + settings.margin
    line = SightLine(settings.latitude, settings.longitude)
    stars = line.sample(4 * float(half.prod()) / 3600, settings.brightest_star, limit, milky_way)
    at = milky_way.uniform(-half, half, (len(stars), 2))
    offset = np.concatenate([np.stack([placed.x, placed.y], axis=1), at]) / sky.pixel_scale
    points = Galaxies.of_stars(-1 - np.arange(len(stars)), nanojansky(stars.magnitudes))
    return Sources(
        bodies=concatenate([catalog.galaxies[rows].turned(angle), points]),
        shapes=joined_shapes(catalog.shapes[rows].turned(angle), len(stars)),
        x=sky.centre[0] + offset[:, 0],
        y=sky.centre[1] + offset[:, 1],
        cluster=np.concatenate([placed.cluster, np.full(len(stars), -1, np.int64)]),
    )


def joined_shapes(shapes: IntrinsicShapes, stars: int) -> IntrinsicShapes:
    """Shapes of galaxies followed by those of stars."""

    def with_stars(values: NDArray, value: ArrayLike) -> NDArray:
        return np.concatenate([values, np.full(stars, value, values.dtype)])

    return IntrinsicShapes(
        g=with_stars(shapes.g, complex(np.nan, np.nan)),
        hlr=with_stars(shapes.hlr, 0.0),
        concentration=with_stars(shapes.concentration, np.nan),
        centroid=with_stars(shapes.centroid, 0.0),
    )
