"""Opens a user's FITS image of any size; pixels are read from disk on access.

An archive's responses are read by `science.des.fits_image`, which validates headers and reads small files whole.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from deblend_assets.errors import CorruptDataError, DeblendError, MismatchError, MissingDataError
from deblend_assets.science.des.fits_image import FitsImage
from deblend_assets.science.des.frames import SAME_SCALE
from deblend_assets.stores.stamps import first_line

_ZERO_POINTS = ("MAGZERO", "MAGZPT", "ZEROPOINT")
# Zero points within it are equal [mag]: headers round them.
_SAME_MAGNITUDE = 1e-3
# Limit on a plausible magnitude of one count, in any unit of flux [mag].
_LARGEST_MAGNITUDE = 100.0


def open_user_image(name: str) -> FitsImage:
    """Open the first two-dimensional image of a file, or that of a named extension.

    Args:
        name: PATH or PATH[EXT]; EXT is a number (the primary is 0) or a name.

    Raises:
        MissingDataError: the file, extension or image is missing, or has neither celestial coordinates nor a linear WCS
            in arcsec as GalSim writes it.
        CorruptDataError: the file cannot be read.
    """
    path, extension = split_name(name)
    if not path.is_file():
        raise MissingDataError("is not a file", where=str(path), remedy="name a FITS image, as BAND=PATH")
    try:
        with warnings.catch_warnings():
            # Astropy warns of defects that it corrects.
            warnings.simplefilter("ignore", AstropyWarning)
            # Pixels without BSCALE are memory-mapped, also after the file is closed.
            with fits.open(path) as hdus:
                hdu = _choose(hdus, extension, name)
                values, header, wcs = np.asarray(hdu.data), hdu.header, WCS(hdu.header, hdus)
    except DeblendError:
        raise
    # A damaged file makes astropy and wcslib raise all kinds of exceptions.
    except Exception as error:
        raise CorruptDataError(
            f"is not a readable FITS image ({first_line(error)})", where=name, remedy="write it again"
        ) from error
    if not wcs.has_celestial and _is_galsim_grid(header):
        return FitsImage(values, header, wcs, name)
    # With latitude first, astropy's celestial part would swap columns and rows.
    if not wcs.has_celestial or (wcs.wcs.lng, wcs.wcs.lat) != (0, 1):
        raise MissingDataError(
            "has no celestial coordinates, longitude first", where=name, remedy="write its WCS into the header"
        )
    return FitsImage(values, header, wcs.celestial, name)


def _is_galsim_grid(header: fits.Header) -> bool:
    """Whether GalSim wrote the image with a linear WCS, whose world coordinates are in arcsec."""
    return "GS_WCS" in header and all(header.get(f"CTYPE{axis}") == "LINEAR" for axis in (1, 2))


def split_name(name: str) -> tuple[Path, str | int | None]:
    """Path and extension of PATH or PATH[EXT]; a file whose own name ends so is no extension."""
    bracketed = re.fullmatch(r"(.+)\[([^\[\]]+)\]", name)
    if bracketed is None or Path(name).exists():
        return Path(name), None
    path, extension = bracketed.groups()
    return Path(path), int(extension) if extension.isdecimal() else extension


def _choose(hdus: fits.HDUList, extension: str | int | None, name: str) -> Any:
    if extension is None:
        hdu = next((h for h in hdus if _is_flat(h)), None)
    else:
        try:
            hdu = hdus[extension]
        except (KeyError, IndexError) as error:
            names = ", ".join(f"{k} {h.name}".strip() for k, h in enumerate(hdus))
            raise MissingDataError(f"no extension {extension}", where=name, remedy=f"name one of {names}") from error
    if hdu is None or not _is_flat(hdu):
        raise MissingDataError("has no two-dimensional image", where=name, remedy="name an image, or PATH[EXT]")
    return hdu


def _is_flat(hdu: Any) -> bool:
    return bool(hdu.is_image and hdu.header["NAXIS"] == 2)


def require_scale(image: FitsImage, pixel_scale: float) -> None:
    """Raise MismatchError unless the pixels are square with the scale [arcsec / pixel]."""
    scales = proj_plane_pixel_scales(image.wcs) * (3600 if image.wcs.has_celestial else 1)
    if not (np.abs(scales / pixel_scale - 1) <= SAME_SCALE).all():
        raise MismatchError(
            f'the pixels are {scales[0]:.4f}" x {scales[1]:.4f}", those of the model {pixel_scale:.4f}"',
            where=image.where,
            remedy="resample the images, or use the model of their survey (--recipe)",
        )


def zero_point(image: FitsImage) -> float:
    """AB magnitude of one count, from the image's header.

    Raises:
        MissingDataError: no keyword, or its value is not a magnitude.
        MismatchError: two keywords have different values.
    """
    given = {keyword: image.header[keyword] for keyword in _ZERO_POINTS if keyword in image.header}
    found = ", ".join(f"{keyword} is {value!r}" for keyword, value in given.items())
    plain = (v for v in given.values() if isinstance(v, int | float) and not isinstance(v, bool))
    numbers = [v for v in plain if abs(v) <= _LARGEST_MAGNITUDE]
    if not given or len(numbers) < len(given):
        raise MissingDataError(
            f"has no zero point ({found})" if found else "has no zero point",
            where=image.where,
            remedy=f"write the AB magnitude of one count into one of {', '.join(_ZERO_POINTS)}",
        )
    if np.ptp(numbers) > _SAME_MAGNITUDE:
        raise MismatchError(found, where=image.where, remedy="keep the one that is the AB magnitude of one count")
    return float(numbers[0])
