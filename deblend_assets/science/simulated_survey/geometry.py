"""World coordinates of a simulated tile's pixels: north up, east left, about the point that its name encodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from deblend_assets.science.des.tiles import signed_degrees, tile_name


def tile_centre(name: str) -> tuple[float, float]:
    """Right ascension and declination [deg] that a tile's name encodes, to the minute.

    Raises:
        SettingsError: not the name of a tile.
    """
    digits = tile_name(name).removeprefix("DES")
    hours, minutes, sign, degrees, arcminutes = digits[:2], digits[2:4], digits[4], digits[5:7], digits[7:9]
    dec = int(degrees) + int(arcminutes) / 60
    return 15 * (int(hours) + int(minutes) / 60), -dec if sign == "-" else dec


@dataclass(frozen=True)
class TileGeometry:
    """Gnomonic (TAN) projection about a tile's centre, which is the middle of the image.

    Attributes:
        ra, dec: of the centre [deg].
        pixels: side of the image [pixel].
        pixel_scale: [arcsec / pixel].
    """

    ra: float
    dec: float
    pixels: int
    pixel_scale: float

    @classmethod
    def of_tile(cls, name: str, pixels: int, pixel_scale: float) -> TileGeometry:
        return cls(*tile_centre(name), pixels, pixel_scale)

    def cards(self) -> dict[str, float | str]:
        """The FITS header's WCS. East is left: right ascension grows against the column."""
        degrees = self.pixel_scale / 3600
        middle = (self.pixels + 1) / 2  # FITS counts pixels from 1
        return {
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            "CRVAL1": self.ra,
            "CRVAL2": self.dec,
            "CRPIX1": middle,
            "CRPIX2": middle,
            "CD1_1": -degrees,
            "CD1_2": 0.0,
            "CD2_1": 0.0,
            "CD2_2": degrees,
            "RADESYS": "ICRS",
            "EQUINOX": 2000.0,
        }

    def wcs(self) -> WCS:
        return WCS(self.cards())

    def sky(self, x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
        """RA in [0, 360) and Dec [deg] of 0-based pixel positions."""
        ra, dec = self.wcs().all_pix2world(np.asarray(x, dtype=float), np.asarray(y, dtype=float), 0)
        return np.mod(ra, 360.0), dec

    def bounds(self, inset: int = 0) -> tuple[float, float, float, float]:
        """(RA min, RA max, Dec min, Dec max) [deg] of the image's outline; RA min > RA max straddles RA 0.

        Args:
            inset: of the outline from the image's edge [pixel].
        """
        edge = np.linspace(inset - 0.5, self.pixels - inset - 0.5, 65)
        low, high = np.full_like(edge, edge[0]), np.full_like(edge, edge[-1])
        ra, dec = self.sky(np.concatenate([edge, edge, low, high]), np.concatenate([low, high, edge, edge]))
        away = signed_degrees(ra - self.ra)
        return (
            float(np.mod(self.ra + away.min(), 360.0)),
            float(np.mod(self.ra + away.max(), 360.0)),
            float(dec.min()),
            float(dec.max()),
        )
