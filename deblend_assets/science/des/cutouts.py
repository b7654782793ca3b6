"""Images of one galaxy: which to ask for, what must hold before one counts, and which galaxies are kept.

Stamps are cut around the pixel nearest to the galaxy's position, never interpolated; what is left of the position
(half a pixel at most) is kept as an offset.
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

# Gaussian sigma, below that of the PSF (FWHM 3 to 4 pixels): a single pixel's noise no longer makes it the brightest.
_SMOOTHING_PIXELS = 1.0


@dataclass(frozen=True)
class ImageRecord:
    """One row of an SIA answer: a stacked image, or the weight map of one.

    Attributes:
        url: of the FITS cutout.
        band: g, r, i, z or Y.
        product: which of the two it is.
        exposure_s: exposure time [s].
        title: the archive's own.
    """

    url: str
    band: str
    product: Literal["image", "weight"]
    exposure_s: float
    title: str


def choose_images(
    records: Sequence[ImageRecord], bands: Sequence[str]
) -> dict[str, tuple[ImageRecord, ImageRecord | None]]:
    """The longest exposure of each band, and its weight map where there is one.

    A weight map belongs to an image if both were made from one file (`siaRef` in their URLs) or, where URLs do not
    say, if it has the image's exposure time. Equal exposures are told apart by title and URL, so that the order of the
    archive's rows does not matter.

    Returns:
        Band to (image, weight map), in the order of `bands`; a band without an image is left out.
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


def _source(record: ImageRecord) -> str | None:
    return next(iter(parse_qs(urlsplit(record.url).query).get("siaRef", ())), None)


@dataclass(frozen=True)
class BandStamp:
    """One band of one galaxy as the archive gave it, north up and east left.

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
    """A stamp from the bytes of a FITS image, once all that can be checked has been.

    Args:
        data: the whole file.
        band: asked for; compared with the header's BAND or FILTER where it has one.
        ra, dec: of the galaxy, J2000 [deg].
        pixels: side of the stamp.
        default_zero_point: AB magnitude of one count where the header has no MAGZERO.
        where: names the image in an error.

    Returns:
        The stamp; None where it runs over the edge of the image, or of what was exposed (all pixels equal).

    Raises:
        ArchiveError: not a whole FITS image in two dimensions; another band; another part of the sky; not north up and
            east left (1°) with square pixels (1 %); a pixel of the stamp is not finite.
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
    """The same pixels of a weight map: inverse variance [count⁻²], (y, x) float32, 0 where nothing is known.

    Checked as an image is; see `read_band` for arguments, None and errors. A negative weight is an ArchiveError too.
    """
    image = open_image(data, where)
    image.require_band(band)
    piece = cut(image, ra, dec, pixels)
    if piece is None:
        return None
    if piece.values.min() < 0:
        raise ArchiveError("a weight is negative", where=where, remedy="this is not a map of inverse variances")
    return piece.values.astype(np.float32)


def rejection(stamps: Mapping[str, BandStamp | None], label_band: str, centre_radius_px: float = 4.0) -> str | None:
    """Why a galaxy is not used, or None for one that is kept.

    The report keeps galaxies that are the brightest thing in their stamp. The label band alone decides; a galaxy that
    lacks another band is kept, and the band masked.

    Args:
        stamps: a band to its stamp, or to None where `read_band` gave None; no entry where there is no image.
        label_band: the one shapes are measured in.
        centre_radius_px: the brightest pixel, lightly smoothed, lies within it of the position; 4 are 1.05 arcsec.
    """
    if label_band not in stamps:
        return NO_LABEL_IMAGE
    stamp = stamps[label_band]
    if stamp is None:
        return OVER_THE_EDGE
    smooth = gaussian_filter(stamp.counts.astype(np.float64), _SMOOTHING_PIXELS, mode="nearest")
    y, x = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    ny, nx = smooth.shape
    distance = np.hypot(x - (nx - 1) / 2 - stamp.offset_x, y - (ny - 1) / 2 - stamp.offset_y)
    return NOT_CENTRAL if distance > centre_radius_px else None


def pixel_sigma(counts: NDArray[np.float32], weight: NDArray[np.float32] | None) -> float:
    """Noise of a pixel [count]: from the median of the weights that are not 0, else from the stamp's border.

    The border (five pixels of a 45-pixel stamp) is measured by its median absolute deviation, which a neighbour there
    hardly changes.
    """
    if weight is not None and (known := weight[weight > 0]).size:
        return float(1.0 / np.sqrt(np.median(known)))
    width = max(1, min(counts.shape) // 9)
    border = np.ones(counts.shape, dtype=bool)
    border[width:-width, width:-width] = False
    return float(robust_sigma(counts[border].astype(np.float64)))
