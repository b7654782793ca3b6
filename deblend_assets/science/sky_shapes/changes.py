"""How what is given of a stamp changes, to first order, when the light is sheared or its PSF gets another shape.

Light that has come through a PSF of transform P (pixel included) changes with a shear of the sky by

    d I(k) / d g_j = D_j I(k) - I(k) D_j ln P(k),    D1 = kx d/dkx - ky d/dky,    D2 = kx d/dky + ky d/dkx,

and with a shear of the PSF before the pixel, whose transform is W, by

    d I(k) / d p_j = I(k) (D_j ln P(k) - D_j ln W(k)).

Neither divides by P: nothing is deconvolved (`shear.response` has the first for the PSFs of one survey). P and its
derivative are sums over the PSF's own image. The shear is about the detection, and moves the other detections.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from deblend_assets.science.sky_shapes.inputs import (
    SIDE,
    SPINS,
    GivenStamps,
    band_fwhm,
    central,
    reference_fwhm,
)
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.science.stamps.observed import ObservedStamps, sky_sigma

# D ln P fades out where |P| falls from the first to the second: there is no light to shear, but noise.
_PASSED, _LOST = 1e-2, 1e-3
# What a filled pixel needs to see of its neighbours, as a share of the weight of the filling Gaussian.
_ENOUGH = 1e-3


LIGHT = 4
"""Number of directions along which the images change: g1 and g2 of a shear of the sky, and of one of the PSF."""


class Changes(NamedTuple):
    """Derivatives of `GivenStamps` along K directions; all else does not change.

    Attributes:
        images: (K, N, band, P, P) float32 [sky sigma].
        neighbours: (K, N, 1, P, P) float32.
        spins: (K, N, band, 2, 2) float32.
    """

    images: Tensor
    neighbours: Tensor
    spins: Tensor

    @staticmethod
    def joined(parts: list[Changes]) -> Changes:
        """The directions of all parts, one after the other."""
        return Changes(*(torch.cat(values) for values in zip(*parts, strict=True)))


class StampChanges:
    """The operators of N stamps.

    Args:
        stamps: of any side, in the bands of the network.
        given: the same as the network takes them.
    """

    def __init__(self, stamps: ObservedStamps, given: GivenStamps) -> None:
        self.bands, self.given, side = stamps.bands, given, stamps.side
        cut = central(stamps)
        self._first = torch.from_numpy(cut.first)
        per_sigma = np.nan_to_num(1 / sky_sigma(cut.weight))
        self._images = _single(stamps.pixels * per_sigma[:, :, None, None])
        weight = stamps.inverse_variance * np.square(1 / np.where(per_sigma > 0, per_sigma, np.inf))[:, :, None, None]
        self._sigma = _single(np.where(weight > 0, 1 / np.sqrt(np.where(weight > 0, weight, 1)), 0))
        self._seen = self._sigma > 0
        self._correlation = _single(stamps.noise_correlation)
        k = 2 * np.pi * torch.fft.fftfreq(side)
        self._kx, self._ky = k[: side // 2 + 1].abs(), k[:, None]
        offset = torch.arange(side) - torch.from_numpy(stamps.position)[:, :, None]
        self._x, self._y = offset[:, 0, None, None, :].float(), offset[:, 1, None, :, None].float()
        self._steepness(_single(np.where(stamps.present[:, :, None, None], stamps.psf, 0)))
        fill = (band_fwhm(given) / FWHM_OVER_SIGMA)[:, :, None, None]
        self._fill = torch.exp(-0.5 * (self._kx.square() + self._ky.square()) * fill.square())
        self._others = torch.from_numpy(stamps.others - stamps.position[:, None])
        self._places = torch.from_numpy(stamps.others - cut.first[:, None])

    def _steepness(self, psf: Tensor) -> None:
        """Set D_j ln P, tapered, with the pixel and without; (2, N, band, ky, kx) complex64 each; and the taper."""
        at = (torch.arange(psf.shape[-1]) - (psf.shape[-1] - 1) / 2).float()
        waves_y, waves_x = (torch.exp(-1j * k.reshape(-1, 1) * at) for k in (self._ky, self._kx))
        light = psf.to(waves_x.dtype)
        transform, along_x, along_y = (
            waves_y @ (light * factor) @ waves_x.T for factor in (torch.ones(()), -1j * at, -1j * at[:, None])
        )
        passed = transform.abs() / transform.abs()[..., :1, :1].clamp(min=1e-30)
        self._taper = ((passed / _LOST).clamp(min=1e-30).log() / np.log(_PASSED / _LOST)).clamp(0, 1)
        inverse = self._taper * transform.conj() / transform.abs().square().clamp(min=1e-30)
        kx, ky = self._kx, self._ky
        self._whole = torch.stack([kx * along_x - ky * along_y, ky * along_x + kx * along_y]) * inverse
        # d ln sinc(k / 2 pi) / dk = cot(k / 2) / 2 - 1 / k.
        slope_x, slope_y = (
            torch.where(k == 0, torch.zeros_like(k), 0.5 / torch.tan(k / 2) - 1 / torch.where(k == 0, 1, k))
            for k in (kx, ky)
        )
        pixel = torch.stack([kx * slope_x - ky * slope_y, ky * slope_x + kx * slope_y])
        self._bare = self._whole - pixel[:, None, None] * self._taper

    def noise(self, generator: torch.Generator) -> Tensor:
        """Noise of the stamps' variance and correlation, (N, band, side, side) [sky sigma]; 0 on lost pixels."""
        shape, reach = self._images.shape, self._correlation.shape[-1]
        torus = shape[-1] + reach
        lags = torch.zeros(*shape[:2], torus, torus)
        lags[..., :reach, :reach] = self._correlation
        lags = torch.roll(lags, (-(reach // 2), -(reach // 2)), dims=(2, 3))
        amplitude = torch.fft.rfft2(lags).real.clamp(min=0).sqrt()
        white = torch.randn(lags.shape, generator=generator)
        coloured = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(torus, torus))
        return coloured[..., : shape[2], : shape[3]] * self._sigma

    def with_noise(self, noise: Tensor) -> GivenStamps:
        """What is given of the stamps with noise (N, band, side, side) added."""
        added = self.given.images.float() + self._central(noise)
        return self.given._replace(images=torch.where(self.given.seen, added, 0))

    def of_light(self, noise: Tensor | None = None) -> Changes:
        """Along a shear's g1, g2, then along the PSF's, as its images change: LIGHT directions.

        Args:
            noise: in the place of the stamps' own pixels, (N, band, side, side) [sky sigma]; the other detections then
                stay.
        """
        changed = self._central(self.of_images(self._images if noise is None else noise))
        changed = torch.where(self.given.seen, changed, 0)
        neighbours = torch.zeros(LIGHT, *self.given.neighbours.shape)
        if noise is None:
            neighbours[:2] = self._moved()
        return Changes(changed, neighbours, torch.zeros(LIGHT, *self.given.spins.shape))

    def of_images(self, images: Tensor) -> Tensor:
        """The same of whole stamps, (LIGHT, N, band, side, side), in their unit; lost pixels are filled.

        Args:
            images: light that has come through the PSF, (N, band, side, side).
        """
        transform = torch.fft.rfft2(self._filled(images))
        smooth = transform * self._taper
        along_x, along_y = (self._back(1j * k * smooth) for k in (self._kx, self._ky))
        whole, bare = (self._back(transform * steepness) for steepness in (self._whole, self._bare))
        x, y = self._x, self._y
        turned = torch.stack([x * along_x - y * along_y, y * along_x + x * along_y])
        return torch.cat([-turned - whole, bare])

    def of_psf(self) -> Changes:
        """Along g1 and g2 of the given PSFs of all bands together, the pixels as they are: two directions."""
        spins = torch.zeros(2, *self.given.spins.shape)
        for j in (0, 1):
            spins[j, :, :, list(SPINS).index("psf"), j] = self.given.present.float()
        images, neighbours = (torch.zeros(2, *values.shape) for values in (self.given.images, self.given.neighbours))
        return Changes(images, neighbours, spins)

    def _filled(self, images: Tensor) -> Tensor:
        """Lost pixels replaced by what lies around them, under a Gaussian of the band's FWHM."""
        if bool(self._seen.all()):
            return images
        around, weight = (self._back(torch.fft.rfft2(values) * self._fill) for values in (images, self._seen.float()))
        return torch.where(self._seen, images, around / weight.clamp(min=_ENOUGH))

    def _moved(self) -> Tensor:
        """Change of the map of the other detections along g1 and g2, (2, N, 1, P, P)."""
        sigma = (reference_fwhm(self.bands, self.given) / FWHM_OVER_SIGMA).double()
        x, y = self._others.unbind(2)
        moved = torch.stack([torch.stack([x, -y], dim=2), torch.stack([y, x], dim=2)])
        apart = torch.arange(SIDE) - self._places[..., None]
        profile = torch.exp(-0.5 * (apart / sigma[:, None, None, None]).square()).nan_to_num()
        slope = (profile * apart / sigma[:, None, None, None].square()).nan_to_num()
        moved = moved.nan_to_num()
        by_x = torch.einsum("jno,noy,nox->jnyx", moved[..., 0], profile[:, :, 1], slope[:, :, 0])
        by_y = torch.einsum("jno,noy,nox->jnyx", moved[..., 1], slope[:, :, 1], profile[:, :, 0])
        return (by_x + by_y).float()[:, :, None]

    def _back(self, transform: Tensor) -> Tensor:
        side = self._images.shape[-1]
        return torch.fft.irfft2(transform, s=(side, side))

    def _central(self, images: Tensor) -> Tensor:
        """The network's pixels of (..., N, band, side, side); 0 off the stamp."""
        at = torch.arange(SIDE) + self._first[:, :, None]
        there = (at >= 0) & (at < images.shape[-1])
        at = at.clamp(0, images.shape[-1] - 1)
        rows = at[:, 1, None, :, None].expand(*images.shape[:-2], SIDE, images.shape[-1])
        columns = at[:, 0, None, None, :].expand(*images.shape[:-2], SIDE, SIDE)
        cut = images.gather(-2, rows).gather(-1, columns)
        return torch.where((there[:, 1, :, None] & there[:, 0, None, :])[:, None], cut, 0)


def _single(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
