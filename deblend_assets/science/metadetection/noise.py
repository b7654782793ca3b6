"""Noise behind the shear operator: what is added to make it isotropic, its variance, and its correlation.

A shear operator makes round noise elliptical, which is measured as a shear. Noise of the same variance and correlation,
brought through the operator of the opposite shear (the same operator, PSF and noise turned by 90 degrees), is added:
the sum's power is unchanged by a turn of 90 degrees (Sheldon & Huff 2017). The variance doubles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from deblend_assets.science.metadetection.kernels import shear_filter, wave_vectors
from deblend_assets.science.stamps.correlation import on_torus

Floats = NDArray[np.float64]

# Least side of the torus on which correlations behind the operator are computed [pixel].
_TORUS = 96


def power_of(correlation: Floats, shape: tuple[int, int]) -> Floats:
    """Power spectrum of noise of unit variance on a torus, of mean 1, (y, x); what is negative in it is 0."""
    power = np.maximum(fft.fft2(on_torus(np.asarray(correlation, np.float64), shape)).real, 0.0)
    return np.asarray(power / power.mean())


def added_noise(
    correlation: Floats, shape: tuple[int, int], seed: Sequence[int], quarter_turns: int = 0
) -> NDArray[np.float32]:
    """Noise of unit variance a pixel whose correlation is that of each band turned by 90 degrees, (band, y, x).

    Args:
        correlation: of the image's noise, (band, lag_y, lag_x), 1 in the middle.
        shape: (y, x) of the image.
        seed: of all bands.
        quarter_turns: of an image that was turned by 90 degrees, from +x to +y, as often, whose noise turned with it.
    """
    found = []
    before = shape if quarter_turns % 2 == 0 else shape[::-1]
    for band, child in zip(correlation, np.random.SeedSequence(seed).spawn(len(correlation)), strict=True):
        turned = np.rot90(np.rot90(band, quarter_turns))
        side = fft.next_fast_len(max(before) + len(band))
        white = np.random.default_rng(child).standard_normal((side, side))
        noise = fft.ifft2(fft.fft2(white) * np.sqrt(power_of(turned, (side, side)))).real
        found.append(np.rot90(noise[: before[0], : before[1]], -quarter_turns).astype(np.float32))
    return np.stack(found)


def _torus(psf: NDArray[np.floating]) -> tuple[int, int]:
    side = fft.next_fast_len(max(_TORUS, *psf.shape))
    return side + side % 2, side + side % 2


def noise_behind(
    correlation: Floats, psf: NDArray[np.floating], covariance: Floats, inverse: Floats, lags: int
) -> tuple[float, Floats]:
    """Variance and correlation of a band's noise behind the operator, with the noise that is added.

    Args:
        correlation: before, (lag_y, lag_x).
        psf, covariance, inverse: see `shear_filter`.
        lags: largest lag along an axis of the result [pixel].

    Returns:
        Variance over that of a pixel before, and the correlation (2 lags + 1, 2 lags + 1), 1 in the middle.
    """
    shape = _torus(psf)
    power = power_of(correlation, shape) * np.abs(shear_filter(psf, covariance, inverse, shape)) ** 2
    kx, ky = wave_vectors(shape)
    line = np.arange(-lags, lags + 1)
    lag_x, lag_y = np.meshgrid(line, line)
    # A lag behind the shear is another one before it, between the pixels.
    at = np.tensordot(inverse, np.stack([lag_x, lag_y]), axes=1).reshape(2, -1)
    phase = np.tensordot(at, np.stack([kx, ky]).reshape(2, -1), axes=([0], [0]))
    own = (np.cos(phase) @ power.ravel()).reshape(lag_x.shape) / power.size
    both = own + np.rot90(own)
    variance = float(both[lags, lags])
    return variance, both / variance


def kernel_squared(psf: NDArray[np.floating], covariance: Floats, inverse: Floats) -> Floats:
    """Square of the filter in real space, of sum 1, its middle at the first pixel of a torus, (y, x)."""
    shape = _torus(psf)
    kernel = fft.ifft2(shear_filter(psf, covariance, inverse, shape)).real
    return np.asarray(kernel**2 / (kernel**2).sum())
