"""Planes of FITS files: windows are read when they are asked for, in whatever process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, MissingDataError
from deblend_assets.stores.field_files.files import opened
from deblend_assets.stores.field_files.names import ImageName
from deblend_assets.stores.stamps import first_line


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

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[Any]:
        """The pixels of a window (y, x), of the file's dtype in this machine's byte order.

        Raises:
            CorruptDataError: the file is damaged.
        """
        with opened(self.path) as hdus:
            try:
                values = np.asarray(hdus[self.hdu].section[(*self.leading, *window)])
            except Exception as error:
                raise CorruptDataError(
                    f"has pixels that cannot be read ({first_line(error)})", where=self.where, remedy="write it again"
                ) from error
        return values.astype(values.dtype.newbyteorder("="), copy=False)


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
        """A keyword's value in the image's header, else in the primary's; None where neither has it, or it is blank."""
        for header in (self.header, self.primary):
            value = header.get(keyword)
            if value is not None and not isinstance(value, fits.card.Undefined) and value != "":
                return value
        return None


def open_image(name: ImageName) -> FitsImage:
    """Find an image by its name; no pixel is read.

    Raises:
        MissingDataError: no such file, extension or plane, or no image in it.
        CorruptDataError: the file cannot be read.
    """
    name.require_file()
    with opened(name.path) as hdus:
        number = _choose(hdus, name)
        header = hdus[number].header.copy()
        primary = hdus[0].header.copy()
    axes = tuple(int(header[f"NAXIS{k}"]) for k in range(header["NAXIS"], 0, -1))
    plane = FitsPlane(str(name.path), number, _leading(axes, name), (axes[-2], axes[-1]), name.text)
    return FitsImage(plane, header, primary)


def _choose(hdus: fits.HDUList, name: ImageName) -> int:
    if name.extension is None:
        numbers = [k for k, hdu in enumerate(hdus) if _is_image(hdu)]
        if not numbers:
            raise MissingDataError("has no image", where=name.text, remedy="name a FITS file with an image")
        return numbers[0]
    try:
        number = hdus.index_of(name.extension)
        hdu = hdus[number]
    except (KeyError, IndexError) as error:
        raise MissingDataError(
            f"has no extension {name.extension}", where=name.text, remedy=f"name one of {_listed(hdus)}"
        ) from error
    if not _is_image(hdu):
        raise MissingDataError(
            f"extension {name.extension} holds no image", where=name.text, remedy=f"name another of {_listed(hdus)}"
        )
    return int(number)


def _is_image(hdu: Any) -> bool:
    return bool(hdu.is_image and hdu.header["NAXIS"] >= 2)


def _listed(hdus: fits.HDUList) -> str:
    return ", ".join(f"{k} {hdu.name}".strip() for k, hdu in enumerate(hdus))


def _leading(axes: tuple[int, ...], name: ImageName) -> tuple[int, ...]:
    """Indices before (y, x): of a cube the plane that the name says."""
    longer = [length for length in axes[:-2] if length > 1]
    if not longer and name.plane in (None, 0):
        return (0,) * len(axes[:-2])
    if len(longer) == 1 and name.plane is not None and name.plane < longer[0]:
        return tuple(name.plane if length > 1 else 0 for length in axes[:-2])
    raise MissingDataError(
        f"has axes of {' × '.join(map(str, axes[::-1]))} pixels"
        + (f", no plane {name.plane}" if name.plane is not None else ""),
        where=name.text,
        remedy="name one plane of it, from 0, as PATH[EXT][PLANE]",
    )
