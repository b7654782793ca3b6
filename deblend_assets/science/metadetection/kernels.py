"""What brings the image behind a PSF to a round Gaussian behind a shear, in Fourier space.

The image of a source f behind a PSF P has the transform f(k) P(k). Sheared by M behind the Gaussian G it is wanted:
f(Mᵀk) G(k). The filter G(M⁻ᵀk) / P(k) makes of the first what, resampled by M, is the second.

The Gaussian follows the rule of metadetection's codes (Sheldon & Huff 2017; Sheldon et al. 2020, 2023): at the least
wave number where the PSF, pixel included, has fallen to `_PSF_FALLS_TO` it has fallen to `_GAUSSIAN_FALLS_TO`, so that
no wave number beyond is amplified. Each band has its own: that of the widest PSF that the band has in the field.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float64]

_PSF_FALLS_TO, _GAUSSIAN_FALLS_TO = 1e-2, 3e-3
# A narrower Gaussian than this lets power through that the resampling does not hold [pixel].
_LEAST_SIGMA = 1.5
# Grid of the PSFs' transforms, and directions, in which the wave number is sought.
_GRID, _DIRECTIONS = 256, 32
# Where the PSF passes less, the filter does not divide by it: the Gaussian is below 1e-5 there.
_FLOOR = 3e-4


def gaussian_sigma(psfs: NDArray[np.floating]) -> Floats:
    """Sigma of the Gaussian for each band, (band,) [pixel]: the largest that one of the places needs.

    Args:
        psfs: at some places, pixel included, (place, band, y, x), of an odd side.
    """
    places = np.unique(psfs.reshape(len(psfs), -1), axis=0).reshape(-1, *psfs.shape[1:])
    return np.array([[_sigma(image) for image in bands] for bands in places]).max(axis=0)


def _sigma(psf: NDArray[np.floating]) -> float:
    step = 2 * np.pi / _GRID
    passed = np.abs(transform(psf, (_GRID, _GRID)))
    radius = np.arange(_GRID // 2 + 1)
    angle = np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS
    rows, columns = (np.rint(np.outer(radius, f(angle))).astype(int) % _GRID for f in (np.sin, np.cos))
    fallen = passed[rows, columns] < _PSF_FALLS_TO
    first = np.where(fallen.any(axis=0), fallen.argmax(axis=0), _GRID // 2).min()
    return max(float(np.sqrt(-2 * np.log(_GAUSSIAN_FALLS_TO)) / (first * step)), _LEAST_SIGMA)


def transform(psf: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.complex128]:
    """Transform of a PSF of unit light on a grid, (y, x), of all frequencies of `numpy.fft.fft2`.

    Args:
        psf: (..., y, x), of odd sides; its middle pixel is the origin.
        shape: (y, x) of the grid, no smaller.
    """
    side = np.array(psf.shape[-2:])
    grid = np.zeros((*psf.shape[:-2], *shape))
    grid[..., : side[0], : side[1]] = psf / psf.sum(axis=(-2, -1), keepdims=True)
    return np.asarray(fft.fft2(np.roll(grid, tuple(-(side // 2)), axis=(-2, -1))))


def wave_vectors(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """kx and ky of a grid's frequencies, (y, x) each [radian / pixel]."""
    ky, kx = (2 * np.pi * fft.fftfreq(side) for side in shape)
    return np.meshgrid(kx, ky)


def gaussian_covariance(sigma: float, jacobian: Floats) -> Floats:
    """Of a Gaussian that is round on the sky, (2, 2) [pixel²], x first.

    Args:
        sigma: [pixel], of the square of a pixel's area.
        jacobian: d(u, v)/d(x, y), (2, 2).
    """
    metric = jacobian.T @ jacobian / abs(np.linalg.det(jacobian))
    return np.asarray(sigma**2 * np.linalg.inv(metric))


def gaussian_images(covariances: Sequence[Floats], side: int) -> NDArray[np.float32]:
    """Gaussians of sum 1 in the middle of stamps, (band, y, x).

    Args:
        covariances: of each band, (2, 2) [pixel²].
        side: of the stamps, odd [pixel].
    """
    line = np.arange(side) - (side - 1) / 2
    place = np.stack(np.meshgrid(line, line), axis=-1)
    images = [np.exp(-0.5 * np.einsum("yxi,ij,yxj->yx", place, np.linalg.inv(c), place)) for c in covariances]
    return np.stack([image / image.sum() for image in images]).astype(np.float32)


def shear_filter(psf: NDArray[np.floating], covariance: Floats, inverse: Floats, shape: tuple[int, int]) -> NDArray:
    """The filter of a band on a grid, (..., y, x) complex: unsheared Gaussian over PSF.

    Args:
        psf: pixel included, (..., y, x), of odd sides.
        covariance: of the Gaussian behind the shear, (2, 2) [pixel²].
        inverse: of the shear's matrix, (2, 2).
        shape: (y, x) of the grid.
    """
    before = inverse @ covariance @ inverse.T
    kx, ky = wave_vectors(shape)
    gaussian = np.exp(-0.5 * (before[0, 0] * kx**2 + 2 * before[0, 1] * kx * ky + before[1, 1] * ky**2))
    passed = transform(psf, shape)
    return np.asarray(gaussian * np.conj(passed) / np.maximum(np.abs(passed) ** 2, _FLOOR**2))
