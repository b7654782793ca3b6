"""Small images of known content for the tests of detection."""

from __future__ import annotations

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA

FWHM = 4.0
SIGMA = FWHM / FWHM_OVER_SIGMA


def sources(
    side: int, x: list[float], y: list[float], flux: list[float], fwhm: float = FWHM, half_light: float = 0.0
) -> NDArray[np.float32]:
    """Noiseless (side, side) image of Gaussian stars, or of round exponentials behind a Gaussian PSF."""
    image = galsim.ImageF(side, side, scale=1.0)
    psf = galsim.Gaussian(fwhm=fwhm)
    for i, j, total in zip(x, y, flux, strict=True):
        profile = galsim.Convolve(psf, galsim.Exponential(half_light_radius=half_light)) if half_light else psf
        offset = (i - (side - 1) / 2, j - (side - 1) / 2)
        profile.withFlux(total).drawImage(image, offset=offset, method="no_pixel", add_to_image=True)
    return np.asarray(image.array)


def grid(side: int, step: int, rng: np.random.Generator) -> tuple[list[float], list[float]]:
    """Positions on a grid, each shifted by up to half a pixel."""
    places = np.arange(step // 2 + 2, side - step // 2, step)
    y, x = np.meshgrid(places, places)
    shifts = rng.uniform(-0.5, 0.5, (2, x.size))
    return (x.ravel() + shifts[0]).tolist(), (y.ravel() + shifts[1]).tolist()


def correlated_noise(
    shape: tuple[int, ...], smoothing: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """White noise smoothed by a Gaussian of σ `smoothing` [pixel], of unit variance, and its correlation (13, 13)."""
    noise = gaussian_filter(rng.normal(size=shape), smoothing, mode="wrap", axes=(-2, -1))
    kernel = gaussian_filter(np.pad([[1.0]], 20), smoothing, mode="constant")
    variance = np.square(kernel).sum()
    correlation = np.fft.fftshift(np.fft.ifft2(np.abs(np.fft.fft2(kernel)) ** 2).real)[14:27, 14:27] / variance
    correlation[6, 6] = 1.0
    return (noise / np.sqrt(variance)).astype(np.float32), correlation
