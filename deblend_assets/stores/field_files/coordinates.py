"""The WCS of an image's header, as a WCS of GalSim."""

from __future__ import annotations

from collections.abc import Callable

import galsim

from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.images.header_wcs import celestial_wcs, is_celestial, middle
from deblend_assets.stores.field_files.planes import FitsImage

# What GalSim writes into GS_WCS for images without a sky. Its own reader evaluates that text as Python: a file from
# elsewhere must not choose what is run.
_LINEAR = ("PixelScale", "OffsetWCS", "ShearWCS", "OffsetShearWCS", "JacobianWCS", "AffineTransform")
# Largest relative difference between a given pixel scale and the header's.
_SAME_SCALE = 0.01


def wcs_of(image: FitsImage, pixel_scale: float | None, log: Callable[[str], None]) -> galsim.BaseWCS:
    """From pixels that count from 1 to the sky (`celestial_wcs`), or to arcsec with u west and v north.

    Args:
        image: whose header is read.
        pixel_scale: of an image without WCS [arcsec]; of others it must agree with the header.
        log: receives a line about terms that are not applied.

    Raises:
        MissingDataError: no WCS that can be read and no pixel scale, or coordinates that are not ICRS or FK5 at J2000.
        MismatchError: another pixel scale than the header's.
    """
    if image.header.get("GS_WCS") in _LINEAR:
        wcs, origin = galsim.wcs.readFromFitsHeader(galsim.FitsHeader(image.header))
        wcs = wcs.shiftOrigin(galsim.PositionD(1 - origin.x, 1 - origin.y))
    elif is_celestial(image.header):
        wcs = celestial_wcs(image.header, image.plane.shape, image.where, log, image.get)
    elif pixel_scale is not None:
        return galsim.PixelScale(pixel_scale)
    else:
        raise MissingDataError(
            "has no celestial coordinates",
            where=image.where,
            remedy="write its WCS into the header, or give pixel_scale in arcsec",
        )
    _require_scale(wcs, image, pixel_scale)
    return wcs


def _require_scale(wcs: galsim.BaseWCS, image: FitsImage, pixel_scale: float | None) -> None:
    area = wcs.pixelArea(middle(image.plane.shape))
    if pixel_scale is not None and not abs(area**0.5 / pixel_scale - 1) < _SAME_SCALE:
        raise MismatchError(
            f"pixel_scale is {pixel_scale:g} arcsec, that of the header {area**0.5:.4g}",
            where=image.where,
            remedy="leave pixel_scale out",
        )
