"""Which PSFs lie outside of those that the network is trained with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.skies.limits import PSF_SHEAR, fwhm_limits
from deblend_assets.science.sky_shapes.inputs import measured_psfs
from deblend_assets.science.stamps.observed import ObservedStamps

# The FWHM and g of an image of a PSF are measured to this: a PSF at a limit is not beyond it.
_FWHM_ERROR, _G_ERROR = 0.02, 0.005


def outside_training(stamps: ObservedStamps) -> NDArray[np.bool_]:
    """Whether the PSF of a present band is narrower, wider or more elliptical than any of the training, (N, band).

    Args:
        stamps: of N targets.
    """
    present = stamps.present
    psf = measured_psfs(stamps.psf, present)
    scale = stamps.pixel_scale
    limits = [fwhm_limits(one) for one in scale.tolist()]
    low, high = (np.array([getattr(limit, end) for limit in limits]).reshape(-1, 1) for end in ("low", "high"))
    fwhm, g = psf.fwhm * scale[:, None], np.hypot(psf.g1, psf.g2)
    inside = (fwhm >= low * (1 - _FWHM_ERROR)) & (fwhm <= high * (1 + _FWHM_ERROR)) & (g <= PSF_SHEAR.high + _G_ERROR)
    return np.asarray(present & ~inside)
