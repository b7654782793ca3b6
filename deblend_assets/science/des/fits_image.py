"""A FITS image that came over a network: checked before its pixels are touched, then cut.

A header can claim any size, and astropy only warns of a file that ends early; both are measured against the bytes at
hand before any array is made. Tile-compressed images are not read: their headers claim sizes that nothing vouches for.
"""

from __future__ import annotations

import io
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
_AGAIN = "fetch it again; if it stays so, leave this galaxy or tile out"


@dataclass(frozen=True)
class FitsImage:
    """A whole two-dimensional image with a celestial WCS.

    Attributes:
        values: (y, x), any real type.
        header: of its HDU.
        wcs: celestial.
        where: names it in an error.
    """

    values: np.ndarray
    header: fits.Header
    wcs: WCS
    where: str

    def require_band(self, band: str) -> None:
        """ArchiveError where the header names another band: first word of BAND, or FILTER; silence is accepted."""
        for keyword in ("BAND", "FILTER"):
            words = str(self.header.get(keyword, "")).split()
            if words and words[0] != band:
                raise _error(f"an image in {words[0]!r} came where {band!r} was asked for", self.where)

    def number(self, keyword: str, default: float) -> float:
        """A number of the header, or the default where it has none; ArchiveError where it is no finite number."""
        value = self.header.get(keyword, default)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not np.isfinite(number):
            raise _error(f"{keyword} is {value!r}, not a number", self.where)
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
        ArchiveError: not FITS, shorter than its header says, no image, not two-dimensional, or no celestial WCS.
    """
    if not data.startswith(FITS_MAGIC):
        raise _error(f"not FITS: it starts with {data[:20]!r}", where)
    with warnings.catch_warnings():
        # Of what astropy mends; what it cannot is checked below. (With several threads this may outlast the block.)
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            with fits.open(io.BytesIO(data), memmap=False, disable_image_compression=True) as hdus:
                index = next((i for i, hdu in enumerate(hdus) if hdu.is_image and hdu.header["NAXIS"] > 0), None)
                if index is None:
                    raise _error("a FITS file without an image", where)
                header = hdus[index].header
                shape = [int(header[f"NAXIS{axis + 1}"]) for axis in range(int(header["NAXIS"]))]
                if len(shape) != 2 or min(shape) < 1:
                    raise _error(f"an image of {' x '.join(map(str, shape))}, where two dimensions are needed", where)
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
        raise _error("an image without celestial coordinates", where)
    return FitsImage(values, header, wcs, where)


def cut(image: FitsImage, ra: float, dec: float, pixels: int) -> Piece | None:
    """The pixels x pixels around the pixel nearest to a position (J2000 [deg]); None where they run over the edge.

    Raises:
        ArchiveError: no pixel of the stamp is on the image; not north up and east left; a pixel is not finite.
    """
    half = (pixels - 1) / 2
    try:
        x, y = (float(v) for v in image.wcs.all_world2pix(ra, dec, 0))
    except Exception:  # no convergence far outside a distorted image, a singular matrix, ...
        x = y = float("nan")
    ny, nx = image.values.shape
    # Services clip a cutout where a coadd ends, so the position itself may lie beside an image that is the right one.
    if not (-half - 0.5 <= x < nx + half - 0.5 and -half - 0.5 <= y < ny + half - 0.5):
        raise _error(f"it shows nothing near RA {ra:.5f}, Dec {dec:+.5f}: another part of the sky came", image.where)
    scale = _pixel_scale(image, x, y)
    left, low = first_pixel(x, y, pixels)
    if left < 0 or low < 0 or left + pixels > nx or low + pixels > ny:
        return None
    values = image.values[low : low + pixels, left : left + pixels].astype(np.float64)
    if not np.isfinite(values).all():
        raise _error(f"{int((~np.isfinite(values)).sum())} pixels of the stamp are not finite", image.where)
    return Piece(values, scale, x - left - half, y - low - half)


def first_pixel(x: float, y: float, pixels: int) -> tuple[int, int]:
    """Column and row at which the stamp around the pixel nearest to a place begins; below 0 beyond the edge.

    Args:
        x, y: the place [pixel, 0-based], finite.
        pixels: side of the stamp.
    """
    half = (pixels - 1) / 2
    return int(np.floor(x - half + 0.5)), int(np.floor(y - half + 0.5))


def _pixel_scale(image: FitsImage, x: float, y: float) -> float:
    """[arcsec / pixel] at a pixel; ArchiveError unless north is up, east is left and pixels are square.

    From finite differences over one pixel, so that any projection and distortion is evaluated where the galaxy is.
    """
    step = np.array([0.5, -0.5, 0.0, 0.0]), np.array([0.0, 0.0, 0.5, -0.5])
    ra, dec = image.wcs.all_pix2world(x + step[0], y + step[1], 0)
    cosine = np.cos(np.radians(dec.mean()))
    east_x, east_y = (3600 * signed_degrees(ra[k] - ra[k + 1]) * cosine for k in (0, 2))
    north_x, north_y = (3600 * (dec[k] - dec[k + 1]) for k in (0, 2))
    along_x, along_y = np.hypot(east_x, north_x), np.hypot(east_y, north_y)
    scale = float(np.sqrt(along_x * along_y))
    if not (np.isfinite(scale) and _SCALES_ARCSEC[0] <= scale <= _SCALES_ARCSEC[1]):
        raise _error(f"pixels of {scale:.3g} arcsec", image.where)
    up = float(np.degrees(np.arctan2(east_y, north_y)))
    left = float(np.degrees(np.arctan2(north_x, -east_x)))
    if max(abs(up), abs(left)) > _ANGLE_LIMIT_DEG or abs(along_x / along_y - 1) > _SCALE_LIMIT:
        raise _error(
            f"not north up, east left: +y is {up:.1f}° from north (towards east), +x is {left:.1f}° from west "
            f"(towards north), pixels are {along_x:.4f} x {along_y:.4f} arcsec",
            image.where,
            "shapes would be turned or mirrored; use images in the survey's standard orientation",
        )
    return scale


def _error(what: str, where: str, remedy: str = _AGAIN) -> ArchiveError:
    return ArchiveError(what, where=where, remedy=remedy)
