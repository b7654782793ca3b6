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
from scipy import fft, ndimage

from deblend_assets.errors import MismatchError
from deblend_assets.science.metadetection.filling import Holes, fill, holes_of
from deblend_assets.science.metadetection.kernels import (
    gaussian_covariance,
    gaussian_sigma,
    shear_filter,
)
from deblend_assets.science.metadetection.noise import added_noise, kernel_squared, noise_behind
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
_QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])


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
        noise = added_noise(image.noise_correlation, (height, width), seeds, quarter_turns)
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
        turned = _QUARTER @ inverse @ _QUARTER.T
        light = self._filtered(self._light, covariances, inverse, turns=0)
        opposite = self._filtered(
            self._noise, [_QUARTER @ covariance @ _QUARTER.T for covariance in covariances], turned, turns=1
        )
        pixels = sheared_images(light, inverse) + sheared_images(opposite, turned)
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

    def _filtered(self, images: Floats, covariances: Sequence[Floats], inverse: Floats, turns: int) -> torch.Tensor:
        """Deconvolved and reconvolved, before the shear, (band, y, x) float32; PSFs turned by 90 degrees as often."""
        height, width = images.shape[1:]
        padded = np.pad(images, ((0, 0), (_REACH, _REACH), (_REACH, _REACH)))
        result = torch.empty(images.shape, dtype=torch.float32)
        for tile in self._tiles:
            rows, columns = slice(tile.y0, tile.y1), slice(tile.x0, tile.x1)
            part = torch.from_numpy(padded[:, tile.y0 : tile.y1 + 2 * _REACH, tile.x0 : tile.x1 + 2 * _REACH].copy())
            shape = tuple(fft.next_fast_len(side) for side in part.shape[1:])
            psf = np.rot90(tile.psf, turns, axes=(1, 2))
            both = [shear_filter(p, c, inverse, shape) for p, c in zip(psf, covariances, strict=True)]
            filters = torch.from_numpy(np.stack(both)[..., : shape[1] // 2 + 1])
            back = torch.fft.irfft2(torch.fft.rfft2(part, s=shape) * filters, s=shape)
            inner = back[:, _REACH : _REACH + tile.y1 - tile.y0, _REACH : _REACH + tile.x1 - tile.x0]
            result[:, rows, columns] = inner.float()
        return result

    def _noise_behind(
        self, covariances: Sequence[Floats], inverse: Floats
    ) -> tuple[NDArray[np.bool_], Floats, Floats]:
        """Lost pixels, variance of the others, both (band, y, x), and correlation (band, lag_y, lag_x)."""
        psf = self._tiles[len(self._tiles) // 2].psf
        lags = self.image.noise_correlation.shape[1] // 2
        lost, variances, correlations = [], [], []
        for k, covariance in enumerate(covariances):
            factor, correlation = noise_behind(
                self.image.noise_correlation[k], psf[k], covariance, inverse, max(lags, _LEAST_LAGS)
            )
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


_LEAST_LAGS = 6


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
    for y0, y1 in zip(rows[:-1], rows[1:], strict=True):
        for x0, x1 in zip(columns[:-1], columns[1:], strict=True):
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
