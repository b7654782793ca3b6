"""The numbers of a PSF that an observation needs, measured once: no profile is rendered again for them."""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np

from deblend_assets.errors import MismatchError
from deblend_assets.science.skies.noise import WHITE, NoiseCorrelation
from deblend_assets.science.skies.psf_shape import PSFShape, measure_psf

# The stamp of the flux error, in FWHM: light beyond it is below 2 % for a Moffat profile of beta 2.5.
_STAMP_FWHM = 12.0


@dataclass(frozen=True)
class MeasuredPSF:
    """A PSF as it was measured in the centre of an image; a `PSF` for skies whose light is already rendered.

    Attributes:
        shape: size, ellipticity and centre.
        peak: share of a star's light in the pixel that it is centred on.
        flux_error: see `flux_error`.
    """

    shape: PSFShape
    peak: float
    flux_error: float

    @classmethod
    def of(cls, psf: galsim.GSObject, pixel_scale: float, correlation: NoiseCorrelation = WHITE) -> MeasuredPSF:
        """Measure a PSF.

        Args:
            psf: before the pixel [arcsec].
            pixel_scale: [arcsec].
            correlation: of the image's noise.
        """
        shape = measure_psf(psf)
        peak = float(psf.drawImage(nx=1, ny=1, scale=pixel_scale).array[0, 0])
        return cls(shape, peak, _flux_error(psf, shape, pixel_scale, correlation))

    def at(self, x: float, y: float) -> galsim.GSObject:
        """See `PSF`; MismatchError, since there is no profile."""
        raise MismatchError(
            "a measured PSF has no profile", where="MeasuredPSF", remedy="sample the sky again to render with it"
        )


def flux_error(psf: galsim.GSObject, pixel_scale: float, correlation: NoiseCorrelation = WHITE) -> float:
    """Error of a star's flux, over σ of a pixel, when fitted with the PSF as weights.

    Args:
        psf: before the pixel [arcsec].
        pixel_scale: [arcsec].
        correlation: of the noise.
    """
    return _flux_error(psf, measure_psf(psf), pixel_scale, correlation)


def _flux_error(psf: galsim.GSObject, shape: PSFShape, pixel_scale: float, correlation: NoiseCorrelation) -> float:
    side = int(np.ceil(_STAMP_FWHM * shape.fwhm / pixel_scale)) | 1
    offset = (-shape.x / pixel_scale, -shape.y / pixel_scale)
    p = psf.drawImage(nx=side, ny=side, scale=pixel_scale, offset=offset, dtype=float).array
    return float(np.sqrt(correlation.variance_of_sum(p)) / (p * p).sum())
