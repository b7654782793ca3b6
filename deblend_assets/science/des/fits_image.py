"""Reads a FITS image from a network response: validates it before allocating arrays, then cuts stamps.

A header can declare any size, and astropy only warns of a truncated file. The declared size is therefore compared with
the received bytes first. Tile-compressed images are not read: their declared sizes cannot be verified.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from numpy.typing import NDArray

from deblend_assets.errors import ArchiveError
from deblend_assets.science.des.tiles import signed_degrees

FITS_MAGIC = b"SIMPLE  ="
_ANGLE_LIMIT_DEG = 1.0
_SCALE_LIMIT = 0.01
_SCALES_ARCSEC = (0.02, 10.0)
_AGAIN = "fetch it again; if the error persists, leave this galaxy or tile out"


@dataclass(frozen=True)
class FitsImage:
    """A whole two-dimensional image with a celestial WCS.

    Attributes:
        values: (y, x), any real type.
        header: of its HDU.
        wcs: celestial.
        where: name of the image for messages.
    """

    values: np.ndarray
    header: fits.Header
    wcs: WCS
    where: str

    def require_band(self, band: str) -> None:
        """Raise ArchiveError if the first word of BAND or FILTER is another band; absent keywords are accepted."""
        for keyword in ("BAND", "FILTER"):
            words = str(self.header.get(keyword, "")).split()
            if words and words[0] != band:
                raise _error(f"the image is in band {words[0]!r}, not {band!r}", self.where)

    def number(self, keyword: str, default: float) -> float:
        """A number of the header, or the default if the keyword is absent; ArchiveError if it is not finite."""
        value = self.header.get(keyword, default)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not np.isfinite(number):
            raise _error(f"{keyword} is {value!r}, not a finite number", self.where)
        return number


@dataclass(frozen=True)
class Piece:
    """Pixels around a position; attributes as those of `cutouts.BandStamp`, values (y, x) float64."""

    values: NDArray[np.float64]
    pixel_scale: float
    offset_x: float
    offset_y: float


def open_image(data: bytes, where: str) -> FitsImage:
    """The first image of a FITS file, primary or extension.

    Raises:
        ArchiveError: not FITS, truncated, no image, not two-dimensional, or no celestial WCS.
    """
    if not data.startswith(FITS_MAGIC):
        raise _error(f"not FITS: it starts with {data[:20]!r}", where)
    with warnings.catch_warnings():
        # Astropy warns of defects that it corrects; others are checked below. (With several threads the filter may
        # outlast the block.)
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            # Compressed images are passed over: a small file may hold a huge one. (Astropy's switch for it is one of
            # the whole process, and several threads read.)
            with fits.open(io.BytesIO(data), memmap=False) as hdus:
                images = (i for i, hdu in enumerate(hdus) if hdu.is_image and not isinstance(hdu, fits.CompImageHDU))
                index = next((i for i in images if hdus[i].header["NAXIS"] > 0), None)
                if index is None:
                    raise _error("the FITS file has no image, or only compressed ones", where)
                header = hdus[index].header
                shape = [int(header[f"NAXIS{axis + 1}"]) for axis in range(int(header["NAXIS"]))]
                if len(shape) != 2 or min(shape) < 1:
                    raise _error(f"the image has shape {' x '.join(map(str, shape))}, not two dimensions", where)
                needed = shape[0] * shape[1] * abs(int(header["BITPIX"])) // 8
                present = len(data) - int(hdus.fileinfo(index)["datLoc"])
                if needed > present:
                    raise _error(f"truncated: {needed} bytes of pixels in its header, {present} in the file", where)
                values, wcs = np.asarray(hdus[index].data), WCS(header)
        except ArchiveError:
            raise
        # A damaged header makes astropy and wcslib raise all kinds of exceptions.
        except Exception as error:
            raise _error(f"not a readable FITS image ({type(error).__name__}: {error})", where) from error
    if not wcs.has_celestial:
        raise _error("the image has no celestial coordinates", where)
    return FitsImage(values, header, wcs, where)


REQUEST_MARGIN = 4
"""Around the stamp [pixel], of what is asked for: tells an image's edge from a stamp that fits exactly."""


def cut(image: FitsImage, ra: float, dec: float, pixels: int) -> Piece | None:
    """Cut pixels x pixels around the pixel nearest to a position (J2000 [deg]); None if they cross the edge.

    Raises:
        ArchiveError: a cutout around the stamp does not overlap the image; not north up and east left; a pixel that is
            not finite.
    """
    half = (pixels - 1) / 2
    try:
        x, y = (float(v) for v in image.wcs.all_world2pix(ra, dec, 0))
    except Exception:  # no convergence far outside a distorted image, a singular matrix, ...
        x = y = float("nan")
    ny, nx = image.values.shape
    # Services clip a cutout at the edge of a coadd, so the position may lie outside the correct image. They round, and
    # widen cutouts along right ascension by 1 / cos(dec).
    up = half + REQUEST_MARGIN + 1
    across = up / max(math.cos(math.radians(dec)), 0.01)
    if not (-across <= x < nx + across - 1 and -up <= y < ny + up - 1):
        raise _error(
            f"the image does not cover RA {ra:.5f}, Dec {dec:+.5f}: it shows another part of the sky", image.where
        )
    scale = _pixel_scale(image, x, y)
    left, low = first_pixel(x, y, pixels)
    if left < 0 or low < 0 or left + pixels > nx or low + pixels > ny:
        return None
    values = image.values[low : low + pixels, left : left + pixels].astype(np.float64)
    if not np.isfinite(values).all():
        raise _error(f"{int((~np.isfinite(values)).sum())} pixels of the stamp are not finite", image.where)
    return Piece(values, scale, x - left - half, y - low - half)


def first_pixel(x: float, y: float, pixels: int) -> tuple[int, int]:
    """First column and row of the stamp centred on the pixel nearest to a position; negative beyond the edge.

    Args:
        x, y: position [pixel, 0-based], finite.
        pixels: side of the stamp.
    """
    half = (pixels - 1) / 2
    return int(np.floor(x - half + 0.5)), int(np.floor(y - half + 0.5))


def _pixel_scale(image: FitsImage, x: float, y: float) -> float:
    """Pixel scale at a pixel [arcsec / pixel]; ArchiveError unless north up, east left, and square pixels.

    Uses finite differences over one pixel, so that projection and distortion are evaluated at the galaxy.
    """
    step = np.array([0.5, -0.5, 0.0, 0.0]), np.array([0.0, 0.0, 0.5, -0.5])
    ra, dec = image.wcs.all_pix2world(x + step[0], y + step[1], 0)
    cosine = np.cos(np.radians(dec.mean()))
    east_x, east_y = (3600 * signed_degrees(ra[k] - ra[k + 1]) * cosine for k in (0, 2))
    north_x, north_y = (3600 * (dec[k] - dec[k + 1]) for k in (0, 2))
    along_x, along_y = np.hypot(east_x, north_x), np.hypot(east_y, north_y)
    scale = float(np.sqrt(along_x * along_y))
    if not (np.isfinite(scale) and _SCALES_ARCSEC[0] <= scale <= _SCALES_ARCSEC[1]):
        raise _error(f"the pixel scale of {scale:.3g} arcsec is not plausible", image.where)
    up = float(np.degrees(np.arctan2(east_y, north_y)))
    left = float(np.degrees(np.arctan2(north_x, -east_x)))
    if max(abs(up), abs(left)) > _ANGLE_LIMIT_DEG or abs(along_x / along_y - 1) > _SCALE_LIMIT:
        raise _error(
            f"not north up, east left: +y is {up:.1f}° from north (towards east), +x is {left:.1f}° from west "
            f"(towards north), pixels are {along_x:.4f} x {along_y:.4f} arcsec",
            image.where,
            "shapes would be rotated or mirrored; use images in the survey's standard orientation",
        )
    return scale


def _error(what: str, where: str, remedy: str = _AGAIN) -> ArchiveError:
    return ArchiveError(what, where=where, remedy=remedy)
