"""Planes of FITS files: windows are read when they are asked for, in whatever process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, first_line
from deblend_assets.science.images.observation import Plane
from deblend_assets.stores.field_files.files import opened

Window = tuple[slice, slice]


@dataclass(frozen=True)
class FitsPlane:
    """Two-dimensional pixels of a FITS file; implements `science.images.observation.Plane`.

    Holds names only, so that it can be sent to other processes. Values are scaled by BSCALE and BZERO; BLANK is NaN.

    Attributes:
        path: of the file.
        hdu: number of the HDU.
        leading: indices on the axes before (y, x), slowest first.
        shape: (y, x).
        where: name in messages.
    """

    path: str
    hdu: int
    leading: tuple[int, ...]
    shape: tuple[int, int]
    where: str

    def __getitem__(self, window: Window) -> NDArray[Any]:
        """The pixels of a window (y, x), of the file's dtype in this machine's byte order; not to be written to.

        Raises:
            CorruptDataError: the file is damaged.
        """
        (y0, y1, rows), (x0, x1, columns) = (p.indices(side) for p, side in zip(window, self.shape, strict=True))
        with opened(self.path) as hdus:
            hdu = hdus[self.hdu]
            # Of a plain image astropy reads whole rows at once, parts of rows one by one in some 60 µs each.
            whole = not isinstance(hdu, fits.CompImageHDU)
            try:
                values = np.asarray(
                    hdu.section[(*self.leading, slice(y0, y1), slice(None) if whole else slice(x0, x1))]
                )
            except Exception as error:
                raise CorruptDataError(
                    f"has pixels that cannot be read ({first_line(error)})", where=self.where, remedy="write it again"
                ) from error
        values = values[::rows, slice(x0, x1, columns) if whole else slice(None, None, columns)]
        values = values.astype(values.dtype.newbyteorder("="), order="C")
        values.flags.writeable = False
        return values


@dataclass(frozen=True, eq=False)
class QuantisedPlane:
    """A noise map of a file whose compression rounds: what is below one step of its tile is 0.

    Attributes:
        plane: as the file gives it.
        tile: sides of a tile (y, x).
        steps: of each tile, (tile row, tile column) float32; 0 where a tile is not rounded.
    """

    plane: FitsPlane
    tile: tuple[int, int]
    steps: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x)."""
        return self.plane.shape

    def __getitem__(self, window: Window) -> NDArray[Any]:
        """The pixels of a window (y, x)."""
        values = self.plane[window]
        rows, columns = (
            np.arange(*part.indices(side)) // tile
            for part, side, tile in zip(window, self.shape, self.tile, strict=True)
        )
        return np.where(values > self.steps[np.ix_(rows, columns)], values, values.dtype.type(0))


@dataclass(frozen=True, eq=False)
class KnownPlane:
    """An image that is known only where a map is positive: NaN elsewhere.

    Attributes:
        image: the pixels.
        known: the map, of the same shape.
    """

    image: Plane
    known: Plane

    @property
    def shape(self) -> tuple[int, ...]:
        """(y, x)."""
        return self.image.shape

    def __getitem__(self, window: Window) -> NDArray[np.floating]:
        """The pixels of a window (y, x)."""
        values = np.asarray(self.image[window])
        if not np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float64)
        return np.where(np.asarray(self.known[window]) > 0, values, values.dtype.type(np.nan))


@dataclass(frozen=True)
class FitsImage:
    """A plane and what its headers say.

    Attributes:
        plane: the pixels.
        header: of the image's HDU.
        primary: header of the file's first HDU, whose keywords hold for its extensions too.
    """

    plane: FitsPlane
    header: fits.Header
    primary: fits.Header

    @property
    def where(self) -> str:
        """Its name in messages."""
        return self.plane.where

    def get(self, keyword: str) -> Any:
        """A keyword's value in the image's header, else in the primary's; None where it is blank or in neither."""
        for header in (self.header, self.primary):
            value = header.get(keyword)
            if value is not None and not isinstance(value, fits.card.Undefined) and value != "":
                return value
        return None
