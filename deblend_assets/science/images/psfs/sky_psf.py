"""A PSF that is the same profile all over the sky, on the pixels of an image."""

from __future__ import annotations

from dataclasses import dataclass

import galsim

from deblend_assets.errors import SettingsError
from deblend_assets.science.skies.limits import FWHM_ARCSEC
from deblend_assets.science.skies.psf_shape import measure_psf


@dataclass(frozen=True)
class SkyPSF:
    """A profile of the sky, in the pixels of the local WCS.

    Attributes:
        profile: of unit flux, before the pixel, centred; u west, v north [arcsec], as GalSim draws it with a WCS.
        wcs: of the image, from pixels that count from 1.
        pixel_scale: of the image: `at` has pixels of this side [arcsec].
    """

    profile: galsim.GSObject
    wcs: galsim.BaseWCS
    pixel_scale: float

    @classmethod
    def of(cls, profile: galsim.GSObject, wcs: galsim.BaseWCS, pixel_scale: float, where: str) -> SkyPSF:
        """Centre and normalise a profile.

        Raises:
            SettingsError: it has no light, or no adaptive moments, as one that is far too narrow.
        """
        if not isinstance(profile, galsim.GSObject) or not profile.flux > 0:
            raise SettingsError(
                f"is {profile!r}"[:200], where=where, remedy="give a galsim.GSObject of positive flux, before the pixel"
            )
        unit = profile.withFlux(1.0)
        try:
            shape = measure_psf(unit)
        except (ArithmeticError, SettingsError) as error:
            # A point, or a width in radians.
            raise SettingsError(
                "no width and shape can be measured of it",
                where=f"{where} = {profile!r}"[:200],
                remedy="give the PSF before the pixel, one peak without noise, of a FWHM of some "
                f"{FWHM_ARCSEC.low:g} to {FWHM_ARCSEC.high:g} arcsec",
            ) from error
        return cls(unit.shift(-shape.x, -shape.y), wcs, pixel_scale)

    def at(self, x: float, y: float) -> galsim.GSObject:
        """See `PSF`."""
        local = self.wcs.local(image_pos=galsim.PositionD(x + 1.0, y + 1.0))
        return local.profileToImage(self.profile).dilate(self.pixel_scale).withFlux(1.0)
