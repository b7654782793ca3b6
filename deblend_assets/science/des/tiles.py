"""Tiles: names and areas of the DES coadds, which are the partitions of the DES assets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import SettingsError
from deblend_assets.settings import is_tile_name

A = TypeVar("A", float, NDArray[np.float64])


def tile_name(text: str) -> str:
    """Validate and return a tile's name: `DESHHMM+DDMM` or `DESHHMM-DDMM`, its centre in J2000.

    Names are validated before they are used in a query, a path or a URL.

    Raises:
        SettingsError: not a tile's name; surrounding blanks are not allowed.
    """
    if is_tile_name(text):
        return text
    shown = text if len(text) <= 40 else text[:37] + "..."
    raise SettingsError(
        f"{shown!r} is not a tile's name", where="tile", remedy="give DESHHMM+DDMM or DESHHMM-DDMM, as in DES0433-5331"
    )


def signed_degrees(angle: A) -> A:
    """Wrap angles [deg] to [-180, 180), so that differences across RA 0 are small."""
    return (angle + 180.0) % 360.0 - 180.0


@dataclass(frozen=True)
class TileArea:
    """The unique area of a tile; the areas of two tiles do not overlap.

    Attributes:
        name: of the tile.
        ra, dec: its centre, J2000 [deg].
        ra_min, ra_max: right ascension, [ra_min, ra_max) [deg]; the area straddles RA 0 if ra_min > ra_max.
        dec_min, dec_max: declination, [dec_min, dec_max) [deg].
    """

    name: str
    ra: float
    dec: float
    ra_min: float
    ra_max: float
    dec_min: float
    dec_max: float

    @property
    def straddles_zero(self) -> bool:
        return self.ra_min > self.ra_max

    def halves(self) -> tuple[TileArea, TileArea]:
        """The area's lower and upper half in declination."""
        middle = (self.dec_min + self.dec_max) / 2
        return replace(self, dec_max=middle), replace(self, dec_min=middle)

    def contains(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether positions [deg], (N,), lie in the area."""
        after, before = ra >= self.ra_min, ra < self.ra_max
        within = after | before if self.straddles_zero else after & before
        return np.asarray(within & (dec >= self.dec_min) & (dec < self.dec_max))
