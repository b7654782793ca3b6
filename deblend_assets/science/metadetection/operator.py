"""Shears the images of one field: deconvolved, sheared, reconvolved, their noise made isotropic.

The sheared images are behind round Gaussians (`kernels`), the same all over the field, and have a new noise (`noise`):
both are given to whatever detects and measures on them. A position on a sheared image belongs to the place on the sky
that `unsheared` gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft

from deblend_assets.science.metadetection.filling import fill, holes_of
from deblend_assets.science.metadetection.kernels import (
    gaussian_covariance,
    gaussian_images,
    gaussian_sigma,
    shear_filter,
)
from deblend_assets.science.metadetection.maps import Tile, continued, convolved, grown, moved, tiles_of
from deblend_assets.science.metadetection.noise import (
    covariance_before,
    kernel_squared,
    noise_behind,
    noise_filter,
    white_noise,
)
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.resampling import shear_matrix, sheared_images, sheared_map

Floats = NDArray[np.float64]

STEP = 0.01
"""Shear of the sheared images."""
SHEARS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"noshear": (0.0, 0.0), "1p": (STEP, 0.0), "1m": (-STEP, 0.0), "2p": (0.0, STEP), "2m": (0.0, -STEP)}
)
"""Reduced shear of each sheared image, sky frame (u west, v north)."""
# The filter reaches as far [pixel].
_REACH = 32
# Lags of the noise correlation that are given with a sheared image, where the image has fewer.
_LEAST_LAGS = 6


@dataclass(frozen=True, eq=False)
class Sheared:
    """A sheared image.

    Attributes:
        image: with its new PSF and noise.
        fwhm: of each band's PSF, pixel included [pixel].
        inverse: of the shear's matrix on pixels, (2, 2).
    """

    image: ObservedImage
    fwhm: tuple[float, ...]
    inverse: Floats

    def unsheared(self, x: NDArray, y: NDArray) -> tuple[Floats, Floats]:
        """Where positions on the sheared image lie on the image as it was, (N,) each [pixel]."""
        return moved(self.inverse, self.image.pixels.shape[1:], x, y)


class ShearOperator:
    """Shears one image as often as it is wanted; each time the same noise is added.

    Args:
        image: of a field or a window of it, (band, y, x). Its PSFs, pixel included, may have any odd side: what lies
            beyond is not deconvolved (m of 41 and of 65 pixels differ by less than 1e-5).
        seed: of the noise that is added.
        noise: white noise of unit variance, from which the added noise is made, (band, y, x); None: of the seed.
        sigma: of the Gaussians, (band,) [pixel]; None: as this image needs.
    """

    def __init__(
        self,
        image: ObservedImage,
        seed: int | Sequence[int] = 0,
        *,
        noise: NDArray[np.floating] | None = None,
        sigma: Floats | None = None,
    ) -> None:
        height, width = image.pixels.shape[1:]
        self.image = image
        self._tiles = tiles_of(image)
        psfs = np.stack([tile.psf for tile in self._tiles])
        self.sigma = gaussian_sigma(psfs) if sigma is None else np.asarray(sigma, np.float64)
        self._jacobian = image.jacobian((width - 1) / 2, (height - 1) / 2)
        self._lost = image.inverse_variance <= 0
        self.holes = [holes_of(lost) for lost in self._lost]
        variance = np.where(self._lost, 0.0, 1 / np.where(self._lost, 1.0, image.inverse_variance.astype(np.float64)))
        self._variance = np.stack([continued(band, lost) for band, lost in zip(variance, self._lost, strict=True)])
        seeds = [seed] if isinstance(seed, int) else list(seed)
        white = white_noise(len(image.bands), (height, width), seeds) if noise is None else noise
        both = [
            fill(np.stack([pixels, own]), holes)
            for pixels, own, holes in zip(
                image.pixels.astype(np.float64), white * np.sqrt(self._variance), self.holes, strict=True
            )
        ]
        self._light, self._noise = (np.stack([pair[k] for pair in both]) for k in (0, 1))

    @property
    def fwhm(self) -> tuple[float, ...]:
        """Of the sheared images' PSFs, pixel included [pixel]."""
        return tuple((FWHM_OVER_SIGMA * self.sigma).tolist())

    def sheared(self, g1: float, g2: float) -> Sheared:
        """The image under a shear on the sky, about its middle.

        Args:
            g1, g2: reduced shear, sky frame (u west, v north).
        """
        image = self.image
        inverse = shear_matrix(-g1, -g2, self._jacobian)  # of unit determinant: its inverse
        covariances = [gaussian_covariance(sigma, self._jacobian) for sigma in self.sigma]
        pixels = sheared_images(self._filtered(covariances, inverse), inverse)
        lost, variance, correlation = self._noise_behind(covariances, inverse)
        weight = np.where(lost, 0.0, 1 / np.where(lost, 1.0, variance)).astype(np.float32)
        mask = np.where(lost, sheared_map(image.mask, inverse) | np.uint16(MaskBit.NO_DATA), np.uint16(0))
        psf = gaussian_images(covariances, self._tiles[0].psf.shape[-1])
        jacobian, sky_position, shape = self._jacobian, image.sky_position, image.pixels.shape[1:]

        def on_sky(x: float, y: float) -> tuple[float, float]:
            assert sky_position is not None
            there = moved(inverse, shape, np.array([x]), np.array([y]))
            return sky_position(float(there[0][0]), float(there[1][0]))

        found = ObservedImage(
            bands=image.bands,
            pixels=np.where(lost, np.float32(0), pixels.numpy().astype(np.float32)),
            inverse_variance=weight,
            mask=mask,
            psf=lambda x, y: psf,
            noise_correlation=correlation,
            zero_point=image.zero_point,
            jacobian=lambda x, y: jacobian,
            sky_position=None if sky_position is None else on_sky,
        )
        return Sheared(found, self.fwhm, inverse)

    def _filtered(self, covariances: Sequence[Floats], inverse: Floats) -> torch.Tensor:
        """Light and noise as they are before the resampling, (band, y, x) float32."""
        width = ((0, 0), (0, 0), (_REACH, _REACH), (_REACH, _REACH))
        padded = np.pad(np.stack([self._light, self._noise]), width)
        result = torch.empty(self._light.shape, dtype=torch.float32)
        for tile in self._tiles:
            height, wide = tile.y1 - tile.y0, tile.x1 - tile.x0
            part = torch.from_numpy(padded[..., tile.y0 : tile.y1 + 2 * _REACH, tile.x0 : tile.x1 + 2 * _REACH].copy())
            shape = fft.next_fast_len(part.shape[-2]), fft.next_fast_len(part.shape[-1])
            filters = torch.from_numpy(self._filters(tile, covariances, inverse, shape))
            back = torch.fft.irfft2((torch.fft.rfft2(part, s=shape) * filters).sum(dim=0), s=shape)
            inner = back[:, _REACH : _REACH + height, _REACH : _REACH + wide]
            result[:, tile.y0 : tile.y1, tile.x0 : tile.x1] = inner.float()
        return result

    def _filters(
        self, tile: Tile, covariances: Sequence[Floats], inverse: Floats, shape: tuple[int, int]
    ) -> NDArray[np.complex128]:
        """Filters of light and of the white noise that is added, (2, band, y, x // 2 + 1)."""
        light, noise = [], []
        for psf, covariance, correlation in zip(tile.psf, covariances, self.image.noise_correlation, strict=True):
            light.append(shear_filter(psf, covariance, inverse, shape)[:, : shape[1] // 2 + 1])
            before = covariance_before(correlation, psf, covariance, inverse)
            noise.append(noise_filter(before, inverse, shape))
        return np.stack([np.stack(light), np.stack(noise)])

    def _noise_behind(self, covariances: Sequence[Floats], inverse: Floats) -> tuple[NDArray[np.bool_], Floats, Floats]:
        """Lost pixels, variance of the others, both (band, y, x), and correlation (band, lag_y, lag_x)."""
        psf = self._tiles[len(self._tiles) // 2].psf
        lags = self.image.noise_correlation.shape[1] // 2
        lost, variances, correlations = [], [], []
        for k, covariance in enumerate(covariances):
            before = covariance_before(self.image.noise_correlation[k], psf[k], covariance, inverse)
            factor, correlation = noise_behind(before, inverse, max(lags, _LEAST_LAGS))
            squared = kernel_squared(psf[k], covariance, inverse)
            smooth = convolved(self._variance[k], squared)
            lost.append(sheared_map(grown(self.holes[k], squared), inverse))
            variances.append(factor * sheared_map(smooth, inverse))
            correlations.append(correlation)
        return np.stack(lost), np.stack(variances), np.stack(correlations)
