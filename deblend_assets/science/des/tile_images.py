"""The images of a whole tile, put together from an archive's cutouts of bounded size.

*Frame of a tile*: 0-based pixels of one reference cutout, continued beyond it. Cutouts of one coadd differ from it by
whole pixels, so that nothing is resampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from deblend_assets.errors import ArchiveError
from deblend_assets.science.des.fits_image import FitsImage
from deblend_assets.science.des.tiles import TileArea, signed_degrees

# A larger side [pixel] is an error of the archive's table: a DES tile has 10,000.
MOST_PIXELS = 20_000
# Requested around a cell [pixel] and as a share of its side: services cut along parallels, and round.
_MARGIN_PIXELS, _MARGIN_SHARE = 8, 0.015
# Share of the size limit that the pixels of a cutout may take; the rest is for headers and rounding.
_FILLED = 0.9
_PIXEL_BYTES = 4
# Largest distance [arcsec] between the positions that two cutouts give to one pixel.
_SAME_PLACE = 0.01
_EDGE_POINTS = 65


class GridBox(NamedTuple):
    """Pixels x0 ≤ x < x1, y0 ≤ y < y1 of a tile's frame."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x)."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def area(self) -> int:
        """In pixels; 0 where it is empty."""
        height, width = self.shape
        return max(0, height) * max(0, width)

    def common(self, other: GridBox) -> GridBox:
        """What lies in both; it may be empty."""
        return GridBox(max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1))

    def within(self, other: GridBox) -> tuple[slice, slice]:
        """Indices (y, x) of this box in an array that holds the other one."""
        return slice(self.y0 - other.y0, self.y1 - other.y0), slice(self.x0 - other.x0, self.x1 - other.x0)


def around(boxes: Sequence[GridBox]) -> GridBox:
    """The smallest box that holds all of some."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return GridBox(min(x0), min(y0), max(x1), max(y1))


@dataclass(frozen=True)
class TileFrame:
    """The pixels of a tile.

    Attributes:
        wcs: of the reference cutout.
        pixel_scale: [arcsec].
    """

    wcs: WCS
    pixel_scale: float

    @classmethod
    def of(cls, reference: FitsImage) -> TileFrame:
        """The frame of one cutout of the tile."""
        scale = float(np.sqrt(abs(np.linalg.det(reference.wcs.pixel_scale_matrix)))) * 3600
        return cls(reference.wcs, scale)

    def sky(self, x: float, y: float) -> tuple[float, float]:
        """Right ascension in [0, 360) and declination [deg] of a pixel position."""
        ra, dec = self.wcs.all_pix2world(x, y, 0)
        return float(ra) % 360.0, float(dec)

    def region(self, area: TileArea, margin: int) -> GridBox:
        """The pixels of a tile's unique area and a margin around it.

        Args:
            area: of the tile.
            margin: [pixel].

        Raises:
            ArchiveError: it has no bounded size.
        """
        width = (area.ra_max - area.ra_min) % 360.0
        along, ends = np.linspace(0, 1, _EDGE_POINTS), np.array([0.0, 1.0])
        u, v = np.concatenate([_grid(along, ends), _grid(ends, along)]).T
        ra, dec = area.ra_min + u * width, area.dec_min + v * (area.dec_max - area.dec_min)
        degrees = max(width * math.cos(math.radians(area.dec)), area.dec_max - area.dec_min)
        # Before the projection, which has no far hemisphere.
        if degrees * 3600 / self.pixel_scale > MOST_PIXELS:
            raise ArchiveError(
                f"the archive's area of {area.name} is {degrees:.2f}° wide, more than {MOST_PIXELS:,} pixels",
                where="tiles",
                remedy="check des.archive.tile_table and pixel_scale_arcsec",
            )
        x, y = self.wcs.all_world2pix(ra, dec, 0)
        low, high = (math.floor(x.min()), math.floor(y.min())), (math.ceil(x.max()), math.ceil(y.max()))
        return GridBox(low[0] - margin, low[1] - margin, high[0] + 1 + margin, high[1] + 1 + margin)

    def place(self, image: FitsImage) -> GridBox:
        """The pixels of the frame that a cutout of the tile holds.

        Raises:
            ArchiveError: its pixels are not those of the frame.
        """
        height, width = image.values.shape
        shift = self.wcs.wcs.crpix - image.wcs.wcs.crpix
        x0, y0 = (round(float(step)) for step in shift)
        corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], dtype=np.float64)
        found = image.wcs.all_pix2world(corners, 0)
        expected = self.wcs.all_pix2world(corners + np.array([x0, y0]), 0)
        off = found - expected
        off[:, 0] = signed_degrees(off[:, 0]) * np.cos(np.radians(expected[:, 1]))
        if not 3600 * np.abs(off).max() < _SAME_PLACE:
            raise ArchiveError(
                f"its pixels are {3600 * np.abs(off).max():.2f} arcsec off the tile's other images",
                where=image.where,
                remedy="such images have to be resampled to one grid: measure them with `deblend_assets fields add`",
            )
        return GridBox(x0, y0, x0 + width, y0 + height)


def _grid(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)


@dataclass(frozen=True)
class Cells:
    """A region in cells of bounded size.

    Attributes:
        boxes: of the cells, row by row from the bottom.
        margin: requested around a cell [pixel].
        widening: a service that takes the width as a difference of right ascension sends so much more.
    """

    boxes: tuple[GridBox, ...]
    margin: int
    widening: float

    @property
    def bytes(self) -> int:
        """That one image and all cells take at most."""
        m = 2 * self.margin
        return round(_PIXEL_BYTES * self.widening * sum((h + m) * (w + m) for h, w in (b.shape for b in self.boxes)))

    def request(self, box: GridBox, frame: TileFrame) -> tuple[float, float, float]:
        """Right ascension, declination [deg] and side [arcsec] of the square to ask for, for a cell."""
        side = (max(box.shape) + 2 * self.margin) * frame.pixel_scale
        return *frame.sky((box.x0 + box.x1 - 1) / 2, (box.y0 + box.y1 - 1) / 2), side


def cells_of(region: GridBox, dec: float, most_bytes: int) -> Cells:
    """Cells whose cutouts stay below a size.

    Args:
        region: to be covered.
        dec: of its middle [deg].
        most_bytes: of one cutout.
    """
    widening = 1 / max(math.cos(math.radians(abs(dec))), 0.01)
    whole = math.sqrt(_FILLED * most_bytes / _PIXEL_BYTES / widening)
    side = max(1, math.floor((whole - 2 * _MARGIN_PIXELS) / (1 + 2 * _MARGIN_SHARE)))
    ys, xs = (np.linspace(0, n, -(-n // side) + 1).round().astype(int).tolist() for n in region.shape)
    boxes = tuple(
        GridBox(region.x0 + x0, region.y0 + y0, region.x0 + x1, region.y0 + y1)
        for y0, y1 in pairwise(ys)
        for x0, x1 in pairwise(xs)
    )
    return Cells(boxes, _MARGIN_PIXELS + math.ceil(_MARGIN_SHARE * side), widening)


def require_whole(covered: Sequence[GridBox], where: str) -> GridBox:
    """The box that the cells of one image cover.

    Args:
        covered: what of each cell the archive sent, disjoint; empty ones are left out.
        where: names the image in an error.

    Raises:
        ArchiveError: there are gaps between them: a coadd is a rectangle.
    """
    whole = around(covered)
    missing = whole.area - sum(box.area for box in covered)
    if missing:
        raise ArchiveError(
            f"the archive's cutouts leave out {missing:,} pixels within the image",
            where=where,
            remedy="run the same command again later; valid cutouts are kept",
        )
    return whole
