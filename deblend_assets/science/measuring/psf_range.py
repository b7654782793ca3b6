"""How far PSFs and pixels lie from those that the network is trained with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.skies.limits import PIXEL_SCALE, PSF_SHEAR, fwhm_limits
from deblend_assets.science.sky_shapes.inputs import Floats, measured_psfs
from deblend_assets.science.stamps.observed import ObservedStamps

# Pixel scale, FWHM and g are known to this: what is at a limit is not beyond it.
_SHARE, _G_ERROR = 0.02, 0.005


def outside_training(stamps: ObservedStamps) -> NDArray[np.bool_]:
    """Whether the PSF of a present band, or the pixels, are out of the training's range, (N, band).

    Args:
        stamps: of N targets.
    """
    return np.asarray(psf_distance(stamps) > 1)


def psf_distance(stamps: ObservedStamps) -> Floats:
    """Distance of PSF and pixels from the middle of the training's range, (N, band): 1 at its ends.

    The largest of abs(g) over its limit and, for the FWHM and the pixel scale, the distance of the logarithm from the
    middle over half of the range. NaN in an absent band, infinite for a PSF that cannot be measured.

    Args:
        stamps: of N targets.
    """
    present = stamps.present
    psf = measured_psfs(stamps.psf, present)
    scale = stamps.pixel_scale[:, None]
    limits = [fwhm_limits(one) for one in stamps.pixel_scale.tolist()]
    low, high = (np.array([getattr(limit, end) for limit in limits]).reshape(-1, 1) for end in ("low", "high"))
    found = np.hypot(psf.g1, psf.g2) / (PSF_SHEAR.high + _G_ERROR)
    for values, least, most in ((psf.fwhm * scale, low, high), (scale, PIXEL_SCALE.low, PIXEL_SCALE.high)):
        first, last = np.log(least * (1 - _SHARE)), np.log(most * (1 + _SHARE))
        with np.errstate(divide="ignore", invalid="ignore"):  # of a PSF without a width
            found = np.maximum(found, np.abs(np.log(values) - (first + last) / 2) / ((last - first) / 2))
    return np.where(present, np.nan_to_num(found, nan=np.inf, posinf=np.inf), np.nan)
