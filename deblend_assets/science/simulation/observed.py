"""The observed distortion e: adaptive moments of a noiseless galaxy behind its PSF, and the band of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.stamps.conventions import CATSIM_BANDS

REFERENCE_ORDER = ("r", "i", "g", "z", "u", "y")
"""Bands by the distance of their effective wavelength from r's (LSST: 622 nm; 754, 482, 869, 371 and 974)."""

Floats = NDArray[np.float64]


class Observed(NamedTuple):
    """Adaptive moments of images, (N,) each; NaN where they did not converge.

    Attributes:
        e1, e2: distortion of the matched elliptical Gaussian.
        sigma: its size, the fourth root of the determinant of its covariance [pixel].
        x, y: its centre, from 0 at the centre of the first pixel [pixel].
    """

    e1: Floats
    e2: Floats
    sigma: Floats
    x: Floats
    y: Floats


def reference_band(bands: tuple[str, ...], present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Position among the bands of the present one nearest to r in wavelength, (N,): that of e and of ln flux.

    Args:
        bands: of the images, in either case; (band,).
        present: (N, band).

    Raises:
        MismatchError: a band that is not of u, g, r, i, z, y; an image without any.
    """
    unknown = [band for band in bands if band.lower() not in CATSIM_BANDS]
    if unknown or not present.any(axis=1).all():
        raise MismatchError(
            f"unknown bands {', '.join(unknown)}" if unknown else "an image without any band",
            where="reference_band",
            remedy="give bands of u, g, r, i, z, y, and drop images without light",
        )
    place = np.array([REFERENCE_ORDER.index(band.lower()) for band in bands])
    return np.asarray(np.argmin(np.where(present, place, len(REFERENCE_ORDER)), axis=1))


def adaptive_moments(images: NDArray, x: NDArray, y: NDArray, sigma: NDArray | float) -> Observed:
    """Adaptive moments of noiseless images (Bernstein & Jarvis 2002; Hirata & Seljak 2003), by GalSim's HSM.

    Args:
        images: each galaxy alone, without noise, (N, y, x), any flux unit.
        x, y: where the galaxy is, from 0 at the centre of the first pixel, (N,) [pixel].
        sigma: a guess of its size behind the PSF, one for all or (N,) [pixel].
    """
    import galsim  # slow to import

    found = np.full((5, len(images)), np.nan)
    for k, (image, centre_x, centre_y, guess) in enumerate(
        zip(images, x, y, np.broadcast_to(sigma, len(images)), strict=True)
    ):
        peak = float(image.max())
        if not peak > 0:
            continue
        scaled = galsim.Image(np.ascontiguousarray(image / peak, dtype=np.float64), xmin=0, ymin=0)
        centre = galsim.PositionD(float(centre_x), float(centre_y))
        result = galsim.hsm.FindAdaptiveMom(scaled, guess_sig=float(guess), guess_centroid=centre, strict=False)
        if result.error_message == "" and result.moments_status == 0:
            shape, at = result.observed_shape, result.moments_centroid
            found[:, k] = shape.e1, shape.e2, result.moments_sigma, at.x, at.y
    return Observed(*found)
