"""The WCS of an image's header, as a WCS of GalSim."""

from __future__ import annotations

import warnings

import galsim

from deblend_assets.errors import MissingDataError
from deblend_assets.stores.field_files.planes import FitsImage

# What GalSim writes into GS_WCS for images without a sky. Its own reader evaluates that text as Python: a file from
# elsewhere must not choose what is run.
_LINEAR = ("PixelScale", "OffsetWCS", "ShearWCS", "OffsetShearWCS", "JacobianWCS", "AffineTransform")


def wcs_of(image: FitsImage, pixel_scale: float | None) -> galsim.BaseWCS:
    """From pixels that count from 1 to the sky, or to arcsec with u west and v north.

    Args:
        image: whose header is read.
        pixel_scale: of an image without WCS [arcsec].

    Raises:
        MissingDataError: no WCS that can be read, and no pixel scale.
    """
    header = galsim.FitsHeader(image.header)
    if header.get("GS_WCS") in _LINEAR:
        wcs, origin = galsim.wcs.readFromFitsHeader(header)
        return wcs.shiftOrigin(galsim.PositionD(1 - origin.x, 1 - origin.y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs = galsim.FitsWCS(header=header, suppress_warning=True)
    if wcs.isCelestial():
        return wcs
    if pixel_scale is None:
        raise MissingDataError(
            "has no celestial coordinates",
            where=image.where,
            remedy="write its WCS into the header, or give pixel_scale",
        )
    return galsim.PixelScale(pixel_scale)
