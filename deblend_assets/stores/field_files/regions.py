"""Pixels that regions and maps of the sky mask: DS9 files and HealSparse maps, as planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, MissingDataError, first_line
from deblend_assets.science.images.observation import Plane
from deblend_assets.stores.field_files.planes import Window
from deblend_assets.stores.field_files.region_text import Region, read_regions

# Regions farther from the image than so many of its diagonals are not looked at: their projection may not exist.
_FAR = 2.0


@dataclass(frozen=True, eq=False)
class Outline:
    """A region on the pixels of an image, from 0.

    Attributes:
        centre: (x, y).
        scaled: a pixel's offset from the centre times this matrix is within the unit circle, or the unit square.
        corners: of a polygon instead, (N, 2).
        circle: whether it is a circle or ellipse.
        reach: half width and half height around the centre.
        lost: see `Region`.
    """

    centre: tuple[float, float]
    scaled: NDArray[np.float64] | None
    corners: NDArray[np.float64] | None
    circle: bool
    reach: tuple[float, float]
    lost: bool

    def inside(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which pixels of a grid, x (1, N) and y (M, 1), have their centre in it, (M, N)."""
        if self.corners is not None:
            return _in_polygon(self.corners, x, y)
        assert self.scaled is not None
        dx, dy = x - self.centre[0], y - self.centre[1]
        u, v = (row[0] * dx + row[1] * dy for row in self.scaled)
        return np.asarray(u**2 + v**2 <= 1 if self.circle else np.maximum(np.abs(u), np.abs(v)) <= 1)


@dataclass(frozen=True, eq=False)
class RegionPlane:
    """0 where a region loses a pixel, else 1.

    Attributes:
        outlines: of the regions.
        shape: of the image, (y, x).
    """

    outlines: tuple[Outline, ...]
    shape: tuple[int, int]

    def __getitem__(self, window: Window) -> NDArray[np.bool_]:
        """The pixels of a window (y, x)."""
        (y0, y1, _), (x0, x1, _) = (part.indices(side) for part, side in zip(window, self.shape, strict=True))
        lost, kept = np.zeros((2, y1 - y0, x1 - x0), bool)
        for outline in self.outlines:
            (x, y), (wide, high) = outline.centre, outline.reach
            left, right = max(int(np.ceil(x - wide)), x0), min(int(np.floor(x + wide)) + 1, x1)
            low, top = max(int(np.ceil(y - high)), y0), min(int(np.floor(y + high)) + 1, y1)
            if left < right and low < top:
                grid = np.arange(left, right, dtype=float)[None, :], np.arange(low, top, dtype=float)[:, None]
                part = (slice(low - y0, top - y0), slice(left - x0, right - x0))
                (lost if outline.lost else kept)[part] |= outline.inside(*grid)
        return ~lost | kept


@dataclass(frozen=True, eq=False)
class SkyMapPlane:
    """0 where a HealSparse map has a positive or true value at a pixel's centre, else 1.

    Attributes:
        path: of the map.
        wcs: of the image, celestial, from pixels that count from 1.
        shape: of the image, (y, x).
    """

    path: str
    wcs: galsim.BaseWCS
    shape: tuple[int, int]

    def __getitem__(self, window: Window) -> NDArray[np.bool_]:
        """The pixels of a window (y, x)."""
        (y0, y1, _), (x0, x1, _) = (part.indices(side) for part, side in zip(window, self.shape, strict=True))
        return _known_in_map(self, y0, y1, x0, x1)


# The bands of a field share one plane and read the same window one after the other.
@lru_cache(maxsize=4)
def _known_in_map(plane: SkyMapPlane, y0: int, y1: int, x0: int, x1: int) -> NDArray[np.bool_]:
    x, y = np.meshgrid(np.arange(x0, x1) + 1.0, np.arange(y0, y1) + 1.0)
    ra, dec = plane.wcs.xyToradec(x.ravel(), y.ravel(), units="degrees")
    sky_map = _sky_map(plane.path)
    values = sky_map.get_values_pos(np.asarray(ra) % 360, dec, lonlat=True)
    lost = values.any(axis=-1) if sky_map.is_wide_mask_map else (values > 0) & (values != sky_map.sentinel)
    return np.asarray(~lost.reshape(x.shape))


def region_planes(paths: Sequence[str], wcs: galsim.BaseWCS, shape: tuple[int, int]) -> list[Plane]:
    """Planes of 1 and 0 (lost), one a file.

    Args:
        paths: DS9 files (`.reg`) and HealSparse maps (other names).
        wcs: of the image, from pixels that count from 1.
        shape: of the image, (y, x).

    Raises:
        MissingDataError: no such file, regions on the sky and an image without celestial coordinates, or no package
            `healsparse`.
        CorruptDataError: a file cannot be read.
    """
    planes: list[Plane] = []
    for path in paths:
        if not Path(path).is_file():
            raise MissingDataError("is not a file", where=path, remedy="name a .reg file of DS9 or a HealSparse map")
        regions = read_regions(Path(path)) if path.lower().endswith(".reg") else None
        if (regions is None or any(region.sky for region in regions)) and not wcs.isCelestial():
            raise MissingDataError(
                "is on the sky, but the image has no celestial coordinates",
                where=path,
                remedy="give regions in image coordinates",
            )
        if regions is None:
            _sky_map(path)
            planes.append(SkyMapPlane(path, wcs, shape))
        else:
            near = [region for region in regions if not region.sky or _is_near(region, wcs, shape)]
            planes.append(RegionPlane(tuple(_outline(region, wcs) for region in near), shape))
    return planes


@lru_cache(maxsize=8)
def _sky_map(path: str) -> Any:
    try:
        from healsparse import HealSparseMap
    except ModuleNotFoundError as error:
        raise MissingDataError(
            "is no .reg file, and HealSparse maps need the package healsparse",
            where=path,
            remedy="pip install 'deblend_assets[masks]'",
        ) from error
    try:
        return HealSparseMap.read(path)
    # The package raises all kinds of exceptions.
    except Exception as error:
        raise CorruptDataError(
            f"is not a readable HealSparse map ({first_line(error)})", where=path, remedy="write it again"
        ) from error


def _is_near(region: Region, wcs: galsim.BaseWCS, shape: tuple[int, int]) -> bool:
    height, width = shape
    middle = galsim.PositionD((width + 1) / 2, (height + 1) / 2)
    diagonal = wcs.toWorld(middle).distanceTo(wcs.toWorld(galsim.PositionD(1, 1))) / galsim.arcsec
    apart = min(wcs.toWorld(middle).distanceTo(_coordinate(*point)) / galsim.arcsec for point in region.points)
    return bool(apart < _FAR * diagonal + sum(region.sizes))


def _coordinate(ra: float, dec: float) -> galsim.CelestialCoord:
    return galsim.CelestialCoord(ra * galsim.degrees, dec * galsim.degrees)


def _outline(region: Region, wcs: galsim.BaseWCS) -> Outline:
    points = [wcs.toImage(_coordinate(*point)) if region.sky else galsim.PositionD(*point) for point in region.points]
    places = np.array([(point.x - 1, point.y - 1) for point in points])
    if region.shape == "polygon":
        centre, reach = (places.max(axis=0) + places.min(axis=0)) / 2, np.ptp(places, axis=0) / 2
        return Outline((centre[0], centre[1]), None, places, False, (reach[0], reach[1]), region.lost)
    angle = np.deg2rad(region.angle)
    turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    scaled = turned / np.array(region.sizes if len(region.sizes) == 2 else region.sizes * 2)[:, None]
    if region.sky:
        scaled = scaled @ wcs.jacobian(points[0]).getMatrix()
    back, circle = np.linalg.inv(scaled), region.shape != "box"
    reach = np.hypot(back[:, 0], back[:, 1]) if circle else np.abs(back).sum(axis=1)
    return Outline((places[0, 0], places[0, 1]), scaled, None, circle, (reach[0], reach[1]), region.lost)


def _in_polygon(corners: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """By the number of edges that a ray to the right crosses."""
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            inside ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside
