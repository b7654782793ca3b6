"""Shears the images of one field: deconvolved, sheared, reconvolved, their noise made isotropic.

The sheared images are behind round Gaussians (`kernels`), the same all over the field, and have a new noise (`noise`):
both are given to whatever detects and measures on them. A position on a sheared image belongs to the place on the sky
that `unsheared` gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage

from deblend_assets.errors import MismatchError
from deblend_assets.science.metadetection.filling import Holes, fill, holes_of
from deblend_assets.science.metadetection.kernels import (
    gaussian_covariance,
    gaussian_sigma,
    shear_filter,
)
from deblend_assets.science.metadetection.noise import (
    covariance_before,
    kernel_squared,
    noise_behind,
    noise_filter,
    white_noise,
)
from deblend_assets.science.metadetection.resampling import shear_matrix, sheared_images, sheared_map
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.science.stamps.mask_bits import MaskBit

Floats = NDArray[np.float64]

STEP = 0.01
"""Shear of the sheared images."""
SHEARS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"noshear": (0.0, 0.0), "1p": (STEP, 0.0), "1m": (-STEP, 0.0), "2p": (0.0, STEP), "2m": (0.0, -STEP)}
)
"""Reduced shear of each sheared image, sky frame (u west, v north)."""
# The PSF is taken at the middle of squares of this side; the filter reaches as far [pixel].
_TILE, _REACH = 128, 32
# Of the filter's squared values, what may lie on a wide hole: so far these grow.
_SPREAD = 0.01
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
        return _moved(self.inverse, self.image.pixels.shape[1:], x, y)


class ShearOperator:
    """Shears one image as often as it is wanted; each time the same noise is added.

    Args:
        image: of a field or a window of it, (band, y, x). Its PSFs, pixel included, may have any odd side: what lies
            beyond is not deconvolved (65 pixels and more leave m below 1e-4).
        seed: of the noise that is added.
        quarter_turns: of a field that was turned, with its noise, by 90 degrees from +x to +y: the added noise turns
            with it.
        sigma: of the Gaussians, (band,) [pixel]; None: as this image needs.

    Raises:
        MismatchError: an odd number of turns of an image that is not square.
    """

    def __init__(
        self,
        image: ObservedImage,
        seed: int | Sequence[int] = 0,
        *,
        quarter_turns: int = 0,
        sigma: Floats | None = None,
    ) -> None:
        height, width = image.pixels.shape[1:]
        if quarter_turns % 2 and height != width:
            raise MismatchError(
                f"an image of {height} × {width} pixels that was turned by 90 degrees",
                where="ShearOperator",
                remedy="use square fields",
            )
        self.image = image
        self._tiles = _tiles(image)
        psfs = np.stack([tile.psf for tile in self._tiles])
        self.sigma = gaussian_sigma(psfs) if sigma is None else np.asarray(sigma, np.float64)
        self._jacobian = image.jacobian((width - 1) / 2, (height - 1) / 2)
        self._lost = image.inverse_variance <= 0
        self.holes = [holes_of(lost) for lost in self._lost]
        variance = np.where(self._lost, 0.0, 1 / np.where(self._lost, 1.0, image.inverse_variance.astype(np.float64)))
        self._variance = np.stack([_continued(band, lost) for band, lost in zip(variance, self._lost, strict=True)])
        seeds = [seed] if isinstance(seed, int) else list(seed)
        noise = white_noise(len(image.bands), (height, width), seeds, quarter_turns)
        both = [
            fill(np.stack([pixels, own]), holes)
            for pixels, own, holes in zip(
                image.pixels.astype(np.float64), noise * np.sqrt(self._variance), self.holes, strict=True
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
        inverse = np.linalg.inv(shear_matrix(g1, g2, self._jacobian))
        covariances = [gaussian_covariance(sigma, self._jacobian) for sigma in self.sigma]
        pixels = sheared_images(self._filtered(covariances, inverse), inverse)
        lost, variance, correlation = self._noise_behind(covariances, inverse)
        weight = np.where(lost, 0.0, 1 / np.where(lost, 1.0, variance)).astype(np.float32)
        mask = np.where(lost, sheared_map(image.mask, inverse) | np.uint16(MaskBit.NO_DATA), np.uint16(0))
        psf = self._psf(covariances)
        jacobian, sky_position, shape = self._jacobian, image.sky_position, image.pixels.shape[1:]

        def on_sky(x: float, y: float) -> tuple[float, float]:
            assert sky_position is not None
            there = _moved(inverse, shape, np.array([x]), np.array([y]))
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
        self, tile: _Tile, covariances: Sequence[Floats], inverse: Floats, shape: tuple[int, int]
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
            smooth = _convolved(self._variance[k], squared)
            lost.append(sheared_map(_grown(self.holes[k], squared), inverse))
            variances.append(factor * sheared_map(smooth, inverse))
            correlations.append(correlation)
        return np.stack(lost), np.stack(variances), np.stack(correlations)

    def _psf(self, covariances: Sequence[Floats]) -> NDArray[np.float32]:
        """The Gaussians' images, (band, y, x), of sum 1."""
        side = self._tiles[0].psf.shape[-1]
        line = np.arange(side) - (side - 1) / 2
        place = np.stack(np.meshgrid(line, line), axis=-1)
        drawn = []
        for covariance in covariances:
            image = np.exp(-0.5 * np.einsum("yxi,ij,yxj->yx", place, np.linalg.inv(covariance), place))
            drawn.append(image / image.sum())
        return np.stack(drawn).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Tile:
    """Pixels x0 ≤ x < x1, y0 ≤ y < y1 and the PSF there, (band, y, x)."""

    x0: int
    y0: int
    x1: int
    y1: int
    psf: NDArray[np.floating]


def _tiles(image: ObservedImage) -> list[_Tile]:
    """Tiles of the image, row by row; one alone where the PSF is the same everywhere."""
    height, width = image.pixels.shape[1:]
    rows, columns = (
        np.linspace(0, side, max(round(side / _TILE), 1) + 1).round().astype(int).tolist() for side in (height, width)
    )
    found = []
    for y0, y1 in pairwise(rows):
        for x0, x1 in pairwise(columns):
            found.append(_Tile(x0, y0, x1, y1, image.psf((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2)))
    if all(np.array_equal(tile.psf, found[0].psf) for tile in found):
        return [_Tile(0, 0, width, height, found[0].psf)]
    return found


def _moved(matrix: Floats, shape: tuple[int, ...], x: NDArray, y: NDArray) -> tuple[Floats, Floats]:
    """Positions multiplied by a matrix about an image's middle."""
    centre = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    moved = (np.stack([x, y], axis=-1).astype(np.float64) - centre) @ matrix.T + centre
    return moved[..., 0], moved[..., 1]


def _continued(variance: Floats, lost: NDArray[np.bool_]) -> Floats:
    """The variance of a band with that of the nearest known pixel where it is lost; 1 where nothing is known."""
    if lost.all():
        return np.ones_like(variance)
    if not lost.any():
        return variance
    nearest = ndimage.distance_transform_edt(lost, return_distances=False, return_indices=True)
    return np.asarray(variance[tuple(nearest)])


def _convolved(values: Floats, kernel: Floats) -> Floats:
    """Values convolved with a kernel of sum 1 on a torus, the image continued by its edge."""
    if np.ptp(values) == 0:
        return values
    reach = len(kernel) // 2
    padded = np.pad(values, reach, mode="edge")
    shape = tuple(fft.next_fast_len(side, real=True) for side in padded.shape)
    torus = np.zeros(shape)
    torus[: len(kernel), : len(kernel)] = np.roll(kernel, (reach, reach), axis=(0, 1))
    spread = fft.irfft2(fft.rfft2(padded, s=shape) * fft.rfft2(torus), s=shape)
    height, width = values.shape
    # The kernel's middle lies `reach` pixels from the torus's first one.
    return np.asarray(spread[2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width])


def _grown(holes: Holes, squared: Floats) -> NDArray[np.bool_]:
    """Wide holes, grown by the filter's reach; and what lies as near to the image's end."""
    reach = len(squared) // 2
    y, x = np.ogrid[-reach:reach, -reach:reach]
    radius = np.hypot(x, y)
    profile = np.roll(squared, (reach, reach), axis=(0, 1))
    sums = np.array([profile[radius > r].sum() for r in range(reach)])
    grow = int(np.argmax(sums < _SPREAD))
    padded = np.pad(holes.wide, 1, constant_values=True)
    away = ndimage.distance_transform_edt(~padded)[1:-1, 1:-1]
    return np.asarray(away <= grow)
