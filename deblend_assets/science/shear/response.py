"""The response of an estimate to shear, from the images alone, without truth or simulation.

Metacalibration (Huff & Mandelbaum 2017; Sheldon & Huff 2017) in the limit of small shear. Light that has come through
a PSF of transform P changes with a shear of the galaxies by

    d I(k) / d g = D I(k) - I(k) D ln P(k),    D1 = kx d/dkx - ky d/dky,    D2 = kx d/dky + ky d/dkx,

which needs no division by P: nothing is deconvolved, and the PSF of the images does not change. A stamp contains noise
as well, which the formula shears as if it were light. That part of the derivative is known with noise z of the same
variance: with the estimate f taken at I + sqrt(a) z,

    R = < grad f . (A I - A z / sqrt(a)) >,

where A is the linear operator above: the mean of the second term is that of the first one's noise (Gaussian integration
by parts; a = 1 is the doubled noise of AnaCal, Li et al. 2023). With small `a` the estimate hardly changes. The part of
grad f that does not depend on z contributes with opposite signs for z and -z: R is averaged over both, where this part
cancels (antithetic variates), which halves the scatter of R over galaxies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.simulation.surveys import SurveyModel

Floats = NDArray[np.float64]
# From stamps (N, band, y, x) [electron] to estimates (N, 2), whose components respond to g1 and g2.
Estimator = Callable[[NDArray[np.float32]], Floats]

# Where the PSF transmits less than this, there is no light to shear, and D ln P would only amplify noise.
_PASSED = 1e-3
# Applied shear of the finite difference, metacalibration's usual one.
STEP = 0.01
# Variance of the added noise, in units of the stamp's own.
ADDED = 0.25


@dataclass(frozen=True)
class ShearOperator:
    """The operator A: from stamps to their derivatives with respect to shear.

    Attributes:
        steepness: D1 and D2 of ln(PSF × pixel), tapered, and the taper; (3, band, ky, kx).
        pixels: side of a stamp.
    """

    steepness: Floats
    pixels: int

    @classmethod
    def of(cls, survey: SurveyModel, pixels: int) -> ShearOperator:
        """For a survey's PSFs."""
        psfs = [survey.btk_survey.get_filter(band).psf for band in survey.bands]
        return cls.of_psfs(psfs, survey.pixel_scale, pixels)

    @classmethod
    def of_psfs(cls, psfs: Sequence[galsim.GSObject], scale: float, pixels: int) -> ShearOperator:
        """For PSFs without the pixel, one for each band; scale [arcsec / pixel]."""
        pixel = galsim.Pixel(scale)
        k = 2 * np.pi * np.fft.fftfreq(pixels, scale)
        ky, kx = np.meshgrid(k, k, indexing="ij")
        return cls(np.stack([_steepness(galsim.Convolve(p, pixel), kx, ky) for p in psfs], axis=1), pixels)

    def __call__(self, images: NDArray) -> tuple[Floats, Floats]:
        """Derivatives of stamps (N, band, y, x) with respect to g1 and g2, in the same shape and unit.

        The shear is about the stamp's centre. The stamp is continued periodically, so that its noise stays white.
        """
        k = 2 * np.pi * np.fft.fftfreq(self.pixels)
        at = np.arange(self.pixels) - (self.pixels - 1) / 2
        d1, d2, taper = self.steepness
        transform = np.fft.fft2(images)
        smooth = transform * taper
        along_x, along_y = (np.fft.ifft2(1j * smooth * v).real for v in (k, k[:, None]))
        x, y = at, at[:, None]
        spread = [np.fft.ifft2(transform * d).real for d in (d1, d2)]
        return -(x * along_x - y * along_y) - spread[0], -(y * along_x + x * along_y) - spread[1]


def _steepness(psf: galsim.GSObject, kx: Floats, ky: Floats) -> Floats:
    def values(x: Floats, y: Floats) -> Floats:
        found = [psf.kValue(float(a), float(b)) for a, b in zip(x.ravel(), y.ravel(), strict=True)]
        return np.abs(np.array(found)).reshape(x.shape)

    centre, small = values(kx, ky), 1e-4
    taper = np.clip(np.log(np.maximum(centre, 1e-30) / (0.1 * _PASSED)) / np.log(10.0), 0.0, 1.0)

    def along(dx: Floats, dy: Floats) -> Floats:
        ahead, behind = values(kx + small * dx, ky + small * dy), values(kx - small * dx, ky - small * dy)
        slope = (np.log(np.maximum(ahead, 1e-30)) - np.log(np.maximum(behind, 1e-30))) / (2 * small)
        return np.where(taper > 0, slope * taper, 0.0)

    return np.stack([along(kx, -ky), along(ky, kx), taper])


def image_response(
    estimate: Estimator, electrons: NDArray[np.float32], sky: Floats, operator: ShearOperator, seed: int
) -> Floats:
    """R of each galaxy; its mean over a sample is the response of the sample's mean estimate.

    Args:
        estimate: the estimator.
        electrons: (N, band, y, x) [electron], sky subtracted; finite.
        sky: (band,) or (N, band), variance of a sky pixel [electron²].
        operator: of the PSFs of these stamps.
        seed: of the added noise.

    Returns:
        (N, 2, 2), d estimate_i / d g_j. For a single galaxy it is mostly noise.
    """
    images = electrons.astype(np.float64)
    sigma = np.sqrt(sky[..., None, None] + np.maximum(images, 0.0))
    added = sigma * np.random.default_rng(seed).standard_normal(images.shape)
    response = np.zeros((len(images), 2, 2))
    for noise in (added, -added):
        begun = images + np.sqrt(ADDED) * noise
        for j, tangent in enumerate(operator(images - noise / np.sqrt(ADDED))):
            ahead, behind = (estimate((begun + sign * STEP * tangent).astype(np.float32)) for sign in (1, -1))
            response[:, :, j] += (ahead - behind) / (4 * STEP)
    return response
