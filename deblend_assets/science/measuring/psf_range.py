"""Which PSFs and pixels lie outside of those that the network is trained with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.skies.limits import PIXEL_SCALE, PSF_SHEAR, fwhm_limits
from deblend_assets.science.sky_shapes.inputs import measured_psfs
from deblend_assets.science.stamps.observed import ObservedStamps

# Pixel scale, FWHM and g are known to this: what is at a limit is not beyond it.
_SHARE, _G_ERROR = 0.02, 0.005


def outside_training(stamps: ObservedStamps) -> NDArray[np.bool_]:
    """Whether the PSF of a present band, or the pixels, are out of the training's range, (N, band).

    Args:
        stamps: of N targets.
    """
    present = stamps.present
    psf = measured_psfs(stamps.psf, present)
    scale = stamps.pixel_scale[:, None]
    limits = [fwhm_limits(one) for one in stamps.pixel_scale.tolist()]
    low, high = (np.array([getattr(limit, end) for limit in limits]).reshape(-1, 1) for end in ("low", "high"))
    inside = np.hypot(psf.g1, psf.g2) <= PSF_SHEAR.high + _G_ERROR
    for values, least, most in ((psf.fwhm * scale, low, high), (scale, PIXEL_SCALE.low, PIXEL_SCALE.high)):
        inside &= (values >= least * (1 - _SHARE)) & (values <= most * (1 + _SHARE))
    return np.asarray(present & ~inside)
