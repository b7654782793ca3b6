"""Noise behind the shear operator: what is added to make it isotropic, its variance, and its correlation.

A shear operator makes round noise elliptical, which is measured as a shear. Noise is added whose power is that of the
sheared image's noise turned by 90 degrees, as if it had come through the opposite shear (Sheldon & Huff 2017): the
sum's power is unchanged by a turn of 90 degrees. The variance doubles.

Gaussian noise is all that its power is. The added noise is therefore made before the resampling, of one white noise for
all shears, and moves with the light: the sheared images differ by the shear and hardly by their noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft

from deblend_assets.science.metadetection.kernels import shear_filter
from deblend_assets.science.stamps.correlation import on_torus
from deblend_assets.science.stamps.resampling import sheared_images

Floats = NDArray[np.float64]

# Least side of the torus on which covariances are computed [pixel].
_TORUS = 96
# Of the seeds of the noise that is added.
_ADDED = 77
_QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])


def white_noise(bands: int, shape: tuple[int, int], seed: Sequence[int]) -> NDArray[np.float32]:
    """White noise of unit variance, (band, y, x).

    Args:
        bands: number of them.
        shape: (y, x) of the image.
        seed: of all bands.
    """
    # Apart from what else has this seed, such as the noise of the image: with that it would not add in quadrature.
    children = np.random.SeedSequence(seed, spawn_key=(_ADDED,)).spawn(bands)
    return np.stack([np.random.default_rng(child).standard_normal(shape, dtype=np.float32) for child in children])


def covariance_before(correlation: Floats, psf: NDArray[np.floating], covariance: Floats, inverse: Floats) -> Floats:
    """Covariance of a band's own noise behind the filter and before the resampling, lag 0 in the middle, (y, x), odd.

    Args:
        correlation: of the image's noise, (lag_y, lag_x), 1 in the middle; its variance is taken as 1.
        psf, covariance, inverse: see `shear_filter`.
    """
    shape = _torus(psf)
    power = fft.fft2(on_torus(np.asarray(correlation, np.float64), shape)).real
    power = np.maximum(power, 0.0) * np.abs(shear_filter(psf, covariance, inverse, shape)) ** 2
    return np.asarray(fft.fftshift(fft.ifft2(power).real)[1:, 1:])


def noise_filter(before: Floats, inverse: Floats, shape: tuple[int, int]) -> Floats:
    """What makes of white noise the noise that is added, before the resampling, (y, x // 2 + 1) real.

    Args:
        before: of `covariance_before`.
        inverse: of the shear's matrix, (2, 2).
        shape: (y, x) of the grid.
    """
    # Behind the shear M the added noise has the covariance that the own noise has at lags turned by R:
    # before it, at a lag d, that of the own noise at M^-1 R M d.
    turn = _QUARTER.T @ inverse @ _QUARTER @ np.linalg.inv(inverse)
    turned = sheared_images(torch.from_numpy(np.rot90(before).copy()), turn).numpy()
    reach = min(len(turned) // 2, (min(shape) - 1) // 2)
    middle = len(turned) // 2
    part = turned[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
    power = fft.rfft2(on_torus(part, shape)).real
    return np.asarray(np.sqrt(np.maximum(power, 0.0)))


def noise_behind(before: Floats, inverse: Floats, lags: int) -> tuple[float, Floats]:
    """Variance and correlation of a band's noise in the sheared image, with the noise that is added.

    Args:
        before: of `covariance_before`.
        inverse: of the shear's matrix, (2, 2).
        lags: largest lag along an axis of the result [pixel].

    Returns:
        Variance over that of a pixel before, and the correlation (2 lags + 1, 2 lags + 1), 1 in the middle.
    """
    own = sheared_images(torch.from_numpy(before), inverse).numpy()
    middle = len(own) // 2
    own = own[middle - lags : middle + lags + 1, middle - lags : middle + lags + 1]
    both = own + np.rot90(own)
    variance = float(both[lags, lags])
    return variance, both / variance


def kernel_squared(psf: NDArray[np.floating], covariance: Floats, inverse: Floats) -> Floats:
    """Square of the filter in real space, of sum 1, its middle at the first pixel of a torus, (y, x)."""
    kernel = fft.ifft2(shear_filter(psf, covariance, inverse, _torus(psf))).real
    return np.asarray(kernel**2 / (kernel**2).sum())


def _torus(psf: NDArray[np.floating]) -> tuple[int, int]:
    side = fft.next_fast_len(max(_TORUS, *psf.shape))
    return side + side % 2, side + side % 2
