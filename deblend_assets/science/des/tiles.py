"""Tiles: the pieces of sky by which DES coadds, and this leg's partitions, are named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import SettingsError

A = TypeVar("A", float, NDArray[np.float64])

_NAME = re.compile(r"DES(\d{2})(\d{2})[+-](\d{2})(\d{2})", re.ASCII)


def tile_name(text: str) -> str:
    """The name itself, once it is known to be a tile's: `DESHHMM+DDMM` or `DESHHMM-DDMM`, its centre in J2000.

    Whatever becomes part of a query, a path or a URL passes here first, so nothing but the name's own characters may.

    Raises:
        SettingsError: anything else, surrounding blanks included.
    """
    match = _NAME.fullmatch(text)
    if match is not None:
        hours, minutes, degrees, arcminutes = map(int, match.groups())
        if hours < 24 and minutes < 60 and arcminutes < 60 and 60 * degrees + arcminutes <= 90 * 60:
            return text
    shown = text if len(text) <= 40 else text[:37] + "..."
    raise SettingsError(
        f"{shown!r} is not a tile's name", where="tile", remedy="give DESHHMM+DDMM or DESHHMM-DDMM, as in DES0433-5331"
    )


def signed_degrees(angle: A) -> A:
    """An angle, or an array of them, in [-180, 180) [deg], so that RA 0 is no seam between two that are near."""
    return (angle + 180.0) % 360.0 - 180.0


@dataclass(frozen=True)
class TileArea:
    """The part of the sky that belongs to one tile alone, so that no galaxy is in two.

    Attributes:
        name: of the tile.
        ra, dec: its centre, J2000 [deg].
        ra_min, ra_max: right ascensions from (included) and to (excluded) [deg]; ra_min > ra_max: it straddles RA 0.
        dec_min, dec_max: the same in declination.
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

    def contains(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether positions [deg], (N,), lie in the area."""
        after, before = ra >= self.ra_min, ra < self.ra_max
        within = after | before if self.straddles_zero else after & before
        return np.asarray(within & (dec >= self.dec_min) & (dec < self.dec_max))
