"""Images of one galaxy: selects the files to fetch, validates them, and decides which galaxies are kept.

Stamps are cut around the pixel nearest to the galaxy's position and are not interpolated. The remaining offset (half a
pixel at most) is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from deblend_assets.errors import ArchiveError
from deblend_assets.science.des.fits_image import cut, open_image
from deblend_assets.science.statistics.metrics import robust_sigma

NO_LABEL_IMAGE = "no image in the label band"
OVER_THE_EDGE = "stamp over the image's edge"
NOT_CENTRAL = "brightest pixel not in the centre"

# Gaussian sigma, below that of the PSF (FWHM 3 to 4 pixels): prevents a noise spike from being the brightest pixel.
_SMOOTHING_PIXELS = 1.0
# Of the report's stamps, whose brightest source a galaxy has to be [pixel].
_REPORT_PIXELS = 45


@dataclass(frozen=True)
class ImageRecord:
    """One row of an SIA response: a stacked image, its weight map or its PSF.

    Attributes:
        url: of the FITS cutout; of a PSF, of the whole file.
        band: g, r, i, z or Y.
        product: image, weight map, or a PSFEx model of the image's PSF.
        exposure_s: exposure time [s].
        title: as given by the archive.
    """

    url: str
    band: str
    product: Literal["image", "weight", "psf"]
    exposure_s: float
    title: str


def choose_images(
    records: Sequence[ImageRecord], bands: Sequence[str]
) -> dict[str, tuple[ImageRecord, ImageRecord | None]]:
    """The longest exposure of each band, and its weight map where there is one.

    A weight map belongs to an image if both have the same `siaRef` in their URLs or, without one, the same exposure
    time. Equal exposure times are ordered by title and URL, so that the order of the rows does not matter.

    Returns:
        Band to (image, weight map), in the order of `bands`; a band without an image is omitted.
    """
    chosen: dict[str, tuple[ImageRecord, ImageRecord | None]] = {}
    for band in bands:
        ordered = sorted((r for r in records if r.band == band), key=lambda r: (-r.exposure_s, r.title, r.url))
        image = next((r for r in ordered if r.product == "image"), None)
        if image is None:
            continue
        weights = [r for r in ordered if r.product == "weight"]
        source = _source(image)
        same_file = [r for r in weights if source is not None and _source(r) == source]
        same_exposure = [r for r in weights if r.exposure_s == image.exposure_s]
        chosen[band] = (image, next(iter(same_file or same_exposure), None))
    return chosen


def psf_of(records: Sequence[ImageRecord], image: ImageRecord) -> ImageRecord | None:
    """The PSF of an image, of the same file; none: the archive has none."""
    return next((r for r in records if r.product == "psf" and source_of(r) == source_of(image)), None)


def source_of(record: ImageRecord) -> str:
    """What an archive calls the file that a cutout is of: `siaRef` of its URL or, without one, the title."""
    return _source(record) or record.title


def _source(record: ImageRecord) -> str | None:
    return next(iter(parse_qs(urlsplit(record.url).query).get("siaRef", ())), None)


@dataclass(frozen=True)
class BandStamp:
    """One band of one galaxy in the archive's counts, north up and east left.

    Attributes:
        counts: (y, x) float32.
        zero_point: AB magnitude of one count.
        pixel_scale: [arcsec / pixel].
        offset_x, offset_y: the galaxy's position minus the stamp's centre [pixel], within ±0.5.
    """

    counts: NDArray[np.float32]
    zero_point: float
    pixel_scale: float
    offset_x: float
    offset_y: float


def read_band(
    data: bytes, *, band: str, ra: float, dec: float, pixels: int, default_zero_point: float, where: str
) -> BandStamp | None:
    """Validate a FITS image and cut a stamp from it.

    Args:
        data: the whole file.
        band: expected; compared with BAND or FILTER of the header if present.
        ra, dec: of the galaxy, J2000 [deg].
        pixels: side of the stamp.
        default_zero_point: AB magnitude of one count, used if the header has no MAGZERO.
        where: names the image in an error.

    Returns:
        The stamp; None if it extends beyond the image, or beyond the exposed area (all pixels equal).

    Raises:
        ArchiveError: not a complete two-dimensional FITS image; another band; another part of the sky; not north up and
            east left (1°) with square pixels (1 %); a non-finite pixel in the stamp.
    """
    image = open_image(data, where)
    image.require_band(band)
    piece = cut(image, ra, dec, pixels)
    if piece is None or float(np.ptp(piece.values)) == 0.0:
        return None
    return BandStamp(
        counts=piece.values.astype(np.float32),
        zero_point=image.number("MAGZERO", default_zero_point),
        pixel_scale=piece.pixel_scale,
        offset_x=piece.offset_x,
        offset_y=piece.offset_y,
    )


def read_weight(
    data: bytes, *, band: str, ra: float, dec: float, pixels: int, where: str
) -> NDArray[np.float32] | None:
    """Validate a weight map and cut a stamp: inverse variance [count⁻²], (y, x) float32, 0 where unknown.

    Arguments, None and errors as for `read_band`; a negative weight also raises ArchiveError.
    """
    image = open_image(data, where)
    image.require_band(band)
    piece = cut(image, ra, dec, pixels)
    if piece is None:
        return None
    if piece.values.min() < 0:
        raise ArchiveError("a weight is negative", where=where, remedy="use a map of inverse variances")
    return piece.values.astype(np.float32)


def rejection(stamps: Mapping[str, BandStamp | None], label_band: str, centre_radius_px: float = 4.0) -> str | None:
    """Reason for rejecting a galaxy, or None if it is kept.

    As in the report, a galaxy is kept if it is the brightest source within the 45 pixels of the report's stamps. Only
    the label band is tested; other missing bands are masked.

    Args:
        stamps: by band, as `read_band` returns them; no entry for a band without an image.
        label_band: band in which shapes are measured.
        centre_radius_px: largest distance of the smoothed stamp's brightest pixel from the position; 4 are 1.05 arcsec.
    """
    if label_band not in stamps:
        return NO_LABEL_IMAGE
    stamp = stamps[label_band]
    if stamp is None:
        return OVER_THE_EDGE
    edge = max(0, (min(stamp.counts.shape) - _REPORT_PIXELS) // 2)
    inner = stamp.counts[edge : stamp.counts.shape[0] - edge, edge : stamp.counts.shape[1] - edge]
    smooth = gaussian_filter(inner.astype(np.float64), _SMOOTHING_PIXELS, mode="nearest")
    y, x = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    ny, nx = smooth.shape
    distance = np.hypot(x - (nx - 1) / 2 - stamp.offset_x, y - (ny - 1) / 2 - stamp.offset_y)
    return NOT_CENTRAL if distance > centre_radius_px else None


def pixel_sigma(counts: NDArray[np.float32], weight: NDArray[np.float32] | None) -> float:
    """Noise of a pixel [count], from the median of the non-zero weights or else from the stamp's border.

    For the border (five pixels of a 45-pixel stamp) the median absolute deviation is used: it is robust to a neighbour.
    """
    if weight is not None and (known := weight[weight > 0]).size:
        return float(1.0 / np.sqrt(np.median(known)))
    width = max(1, min(counts.shape) // 9)
    border = np.ones(counts.shape, dtype=bool)
    border[width:-width, width:-width] = False
    return float(robust_sigma(counts[border].astype(np.float64)))
