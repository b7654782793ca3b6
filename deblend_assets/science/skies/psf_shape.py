"""Size, shape and centre of any PSF, measured on its noiseless image."""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import SettingsError

_SAMPLES = 20.0  # pixels a FWHM: the half-maximum contour is then good to 1e-3
_SIDE = 129


@dataclass(frozen=True)
class PSFShape:
    """Size, shape and centre of a PSF before the pixel.

    Attributes:
        fwhm: diameter of the circle whose area is that inside the half-maximum contour [arcsec]: the usual FWHM of a
            round PSF. A shear does not change it.
        sigma: of the adaptive moments, det(Q)^(1/4) [arcsec]; for a Gaussian, FWHM / 2.3548.
        g1, g2: shear-type ellipticity of the adaptive moments.
        x, y: their centroid, from the origin [arcsec].
    """

    fwhm: float
    sigma: float
    g1: float
    g2: float
    x: float
    y: float

    @property
    def g(self) -> complex:
        """The ellipticity as g1 + i g2."""
        return complex(self.g1, self.g2)


def measure_psf(psf: galsim.GSObject, guess: float = 0.8) -> PSFShape:
    """Size, shape and centre of a PSF, by adaptive moments and the half-maximum contour.

    Adaptive moments have an elliptical Gaussian weight of the PSF's own shape (Bernstein & Jarvis 2002; Hirata &
    Seljak 2003; `galsim.hsm`). Under a shear γ the g of the PSF becomes (g + γ)/(1 + γ* g), sigma and fwhm stay.

    Args:
        psf: any GalSim profile [arcsec].
        guess: of its FWHM [arcsec], to save time.

    Raises:
        SettingsError: the profile has no adaptive moments, as one of noise or of several peaks.
    """
    fwhm, x, y, scale = guess, 0.0, 0.0, 0.0
    for _ in range(4):
        scale = fwhm / _SAMPLES
        image = psf.drawImage(
            nx=_SIDE, ny=_SIDE, scale=scale, method="no_pixel", offset=(-x / scale, -y / scale), dtype=float
        )
        peak, error = image.array.max(), "no light"
        if peak > 0:
            rows, columns = np.nonzero(image.array >= 0.5 * peak)
            start = galsim.PositionD(columns.mean() + image.xmin, rows.mean() + image.ymin)
            moments = galsim.hsm.FindAdaptiveMom(image, guess_sig=0.42 * _SAMPLES, guess_centroid=start, strict=False)
            error = moments.error_message
        if error:
            raise SettingsError(
                f"the PSF has no adaptive moments ({error})",
                where=f"PSF {psf!r}"[:200],
                remedy="give a PSF with one peak, without noise, whose stamp is centred on it",
            )
        x += (moments.moments_centroid.x - image.true_center.x) * scale
        y += (moments.moments_centroid.y - image.true_center.y) * scale
        fwhm = _half_maximum_diameter(image.array) * scale
        if abs(fwhm / scale / _SAMPLES - 1) < 0.3:
            break
    shape = moments.observed_shape
    return PSFShape(fwhm, moments.moments_sigma * scale, shape.g1, shape.g2, x, y)


def _half_maximum_diameter(image: NDArray[np.float64]) -> float:
    """2 √(A / π) of the area above half the peak [pixel], to a thousandth of a pixel by linear interpolation."""
    at = np.unravel_index(int(image.argmax()), image.shape)
    row, column = (int(np.clip(v, 1, n - 2)) for v, n in zip(at, image.shape, strict=True))
    peak = image[row, column]
    for before, after in (
        (image[row - 1, column], image[row + 1, column]),
        (image[row, column - 1], image[row, column + 1]),
    ):
        curvature = before - 2 * image[row, column] + after
        if curvature < 0:
            peak -= (after - before) ** 2 / (8 * curvature)
    down, right = np.gradient(image)
    slope = np.hypot(down, right)
    excess = (image - 0.5 * peak) / np.maximum(slope, 1e-3 * peak)
    # A pixel counts by the share of it that lies inside the contour, a straight line at its scale.
    return float(2 * np.sqrt(np.clip(excess + 0.5, 0.0, 1.0).sum() / np.pi))
