"""What the network is given of a stamp: pixels, which of them are lost, other detections, PSF, noise and pixel scale.

Pixels are in units of the sky's noise and lengths in pixels, so that a network knows no survey. What has a direction
turns with the stamp (`turned`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblend_assets.science.simulation.observed import REFERENCE_ORDER, reference_band
from deblend_assets.science.skies.psf_images import PSFNumbers, measure_psf_images
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.science.stamps.observed import ObservedStamps, sky_sigma
from deblend_assets.science.stamps.symmetries import transform_ellipticity, transform_images, transform_vectors

Floats = NDArray[np.float64]

SIDE = 45
"""Side of the network's stamps [pixel]."""
# Origins of the logarithms, in the middle of the range of skies (`skies.limits`).
FWHM_ORIGIN, _PIXEL_SCALE = 3.5, 0.2
BRIGHTEST = 6e4
"""Greatest pixel, within float16 [sky sigma]."""

SCALARS = {"ln_fwhm": 0.3, "wings": 0.05, "kurtosis": 0.05, "lag_1": 0.2, "lag_diagonal": 0.1, "lag_2": 0.05}
"""A band's numbers that do not turn, and their scatter over skies: ln(FWHM / 3.5 pixels); wings and kurtosis of
the PSF (`PSFNumbers`); the noise's correlation at lag 1 along an axis, along a diagonal, and at lag 2 along an axis."""
SPINS = {"psf": 0.04, "noise": 0.05}
"""A band's pairs that turn as spin 2, and their scatter: g of the PSF; half the difference of the noise's correlations
between the axes (first component) and between the diagonals (second)."""
VECTORS = {"position": 0.3}
"""Pairs that turn as a vector, and their scatter: the detection's position less the stamp's centre [pixel]."""


class GivenStamps(NamedTuple):
    """N stamps of P × P pixels as the network takes them; they travel as a plain tuple.

    Attributes:
        images: (N, band, P, P) float16: pixels over the band's sky sigma (`sky_sigma`), 0 where lost or absent.
        seen: (N, band, P, P) bool: pixels that have a weight.
        neighbours: (N, 1, P, P) float16: the sum over the other detections of round Gaussians of peak 1 and the
            reference band's FWHM.
        present: (N, band) bool: bands with a pixel that is seen.
        scalars: (N, band, S) float32, `SCALARS`; 0 in an absent band.
        spins: (N, band, 2, 2) float32, `SPINS`, the last axis is the pair's; 0 in an absent band.
        vectors: (N, 1, 2) float32, `VECTORS`.
        pixel_scale: (N,) float32 [arcsec / pixel].
    """

    images: Tensor
    seen: Tensor
    neighbours: Tensor
    present: Tensor
    scalars: Tensor
    spins: Tensor
    vectors: Tensor
    pixel_scale: Tensor

    @property
    def lost(self) -> Tensor:
        """Pixels without a weight in bands that are present, (N, band, P, P) bool."""
        return ~self.seen & self.present[:, :, None, None]


class Central(NamedTuple):
    """The pixels around each detection, whose own pixel is the middle one.

    Attributes:
        pixels, weight: (N, band, P, P) float32, as `ObservedStamps` has them; 0 off the stamp.
        first: x, y of the first pixel on the stamp, (N, 2).
    """

    pixels: NDArray[np.float32]
    weight: NDArray[np.float32]
    first: NDArray[np.int64]


def central(stamps: ObservedStamps) -> Central:
    """Cut the network's stamps."""
    first = np.floor(stamps.position - (SIDE - 1) / 2 + 0.5).astype(np.int64)
    shape = (len(stamps), len(stamps.bands), SIDE, SIDE)
    pixels, weight = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    for n, (left, low) in enumerate(first.tolist()):
        x0, x1 = max(left, 0), min(left + SIDE, stamps.side)
        y0, y1 = max(low, 0), min(low + SIDE, stamps.side)
        there = (slice(None), slice(y0 - low, y1 - low), slice(x0 - left, x1 - left))
        here = (slice(None), slice(y0, y1), slice(x0, x1))
        pixels[n][there], weight[n][there] = stamps.pixels[n][here], stamps.inverse_variance[n][here]
    return Central(pixels, weight, first)


def reference_of(stamps: ObservedStamps, present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of the reference band of each stamp, (N,); that of all bands where none is present."""
    return reference_band(stamps.bands, present | ~present.any(axis=1, keepdims=True))


def given(stamps: ObservedStamps) -> GivenStamps:
    """What the network is given of N stamps, on the host.

    Args:
        stamps: of any side; what lies off a stamp is lost.
    """
    cut = central(stamps)
    seen = cut.weight > 0
    present = np.asarray(seen.any(axis=(2, 3)))
    per_sigma = np.nan_to_num(1 / sky_sigma(cut.weight)).astype(np.float32)
    images = cut.pixels * per_sigma[:, :, None, None]
    psf = measured_psfs(stamps.psf, present)
    fwhm = psf.fwhm[np.arange(len(stamps)), reference_of(stamps, present)]
    offset = stamps.position - cut.first - (SIDE - 1) / 2
    absent = ~present[:, :, None]
    scalars = np.stack(
        [np.log(psf.fwhm / FWHM_ORIGIN), psf.wings, psf.kurtosis, *_lags(stamps.noise_correlation)], axis=2
    )
    pairs = np.stack([np.stack([psf.g1, psf.g2], axis=2), _directions(stamps.noise_correlation)], axis=2)
    return GivenStamps(
        images=torch.from_numpy(images).clamp(-BRIGHTEST, BRIGHTEST).half(),
        seen=torch.from_numpy(seen),
        neighbours=_single(_neighbours(stamps.others - cut.first[:, None], fwhm)).half(),
        present=torch.from_numpy(present),
        scalars=_single(np.where(absent, 0.0, scalars)),
        spins=_single(np.where(absent[..., None], 0.0, pairs)),
        vectors=_single(offset[:, None]),
        pixel_scale=_single(stamps.pixel_scale),
    )


def measured_psfs(psf: NDArray[np.float32], present: NDArray[np.bool_]) -> PSFNumbers:
    """Numbers of the PSFs of present bands; in absent ones those of a Gaussian of the usual FWHM.

    Args:
        psf: (N, band, psf_y, psf_x), pixel included.
        present: (N, band).
    """
    found = PSFNumbers(np.full(present.shape, FWHM_ORIGIN), *np.zeros((len(PSFNumbers._fields) - 1, *present.shape)))
    for into, values in zip(found, measure_psf_images(psf[present]), strict=True):
        into[present] = values
    return found


def turned(stamps: GivenStamps, elements: Tensor) -> GivenStamps:
    """Apply elements (N,) of the square's symmetries (`stamps.symmetries`) to all that has a direction."""
    return stamps._replace(
        images=transform_images(stamps.images, elements),
        seen=transform_images(stamps.seen, elements),
        neighbours=transform_images(stamps.neighbours, elements),
        spins=transform_ellipticity(stamps.spins.flatten(1), elements).view_as(stamps.spins),
        vectors=transform_vectors(stamps.vectors.flatten(1), elements).view_as(stamps.vectors),
    )


def reference_mask(bands: Sequence[str], present: Tensor) -> Tensor:
    """Which band is the reference band of each stamp, for present bands (N, band): (N, band) bool."""
    order = torch.tensor([REFERENCE_ORDER.index(band.lower()) for band in bands], device=present.device)
    rank = torch.where(present, order, len(REFERENCE_ORDER))
    return present & (rank == rank.amin(dim=1, keepdim=True))


def reference_values(values: Tensor, reference: Tensor) -> Tensor:
    """Values (N, band, k) in the reference band of each stamp, (N, k); 0 where no band is present.

    Args:
        values: any number where a band is absent.
        reference: of `reference_mask`.
    """
    chosen = reference[:, :, None]
    return torch.where(chosen, values, torch.zeros_like(values)).sum(dim=1)


def reference_fwhm(bands: Sequence[str], given: GivenStamps) -> Tensor:
    """FWHM of the PSF before the pixel in the reference band, (N,) float32 [pixel]."""
    scalars = reference_values(given.scalars, reference_mask(bands, given.present))
    return FWHM_ORIGIN * scalars[:, list(SCALARS).index("ln_fwhm")].exp()


def band_fwhm(given: GivenStamps) -> Tensor:
    """FWHM of each band's PSF before the pixel, (N, band) float32 [pixel]; any number where a band is absent."""
    return FWHM_ORIGIN * given.scalars[:, :, list(SCALARS).index("ln_fwhm")].exp()


def numbers_of(stamps: GivenStamps) -> Tensor:
    """All that is not an image, as the network's embedding takes it: (N, `count_of_numbers`), of order 1."""
    there = stamps.present[:, :, None]
    by_band = torch.cat([_scaled(stamps.scalars, SCALARS), _scaled(stamps.spins.mT, SPINS).flatten(2)], dim=2)
    by_band = torch.where(there, by_band, torch.zeros_like(by_band))
    position = _scaled(stamps.vectors.mT, VECTORS).flatten(1)
    scale = (stamps.pixel_scale[:, None] / _PIXEL_SCALE).log()
    return torch.cat([by_band.flatten(1), position, scale, stamps.present.to(by_band.dtype)], dim=1)


def count_of_numbers(bands: int) -> int:
    """Number of columns of `numbers_of`."""
    return bands * (len(SCALARS) + 2 * len(SPINS) + 1) + 2 * len(VECTORS) + 1


def _scaled(values: Tensor, scatter: dict[str, float]) -> Tensor:
    """Values (..., K) in units of their scatter."""
    return torch.cat(
        [part / unit for part, unit in zip(values.split(1, dim=-1), scatter.values(), strict=True)], dim=-1
    )


def _neighbours(places: Floats, fwhm: Floats) -> Floats:
    """See `GivenStamps.neighbours`; places x, y on the cut stamp, (N, other, 2), NaN where there is none."""
    apart = np.arange(SIDE) - places[..., None]
    light = np.nan_to_num(np.exp(-0.5 * (apart * (FWHM_OVER_SIGMA / fwhm)[:, None, None, None]) ** 2))
    return np.asarray(light[:, :, 1].swapaxes(1, 2) @ light[:, :, 0])[:, None]


def _lags(correlation: NDArray[np.float32]) -> list[NDArray]:
    """Correlation (N, band, lag_y, lag_x), averaged over directions: at lag 1, at the diagonal one, at lag 2."""
    along_x, along_y, rising, falling = (_at(correlation, *lag) for lag in ((0, 1), (1, 0), (1, 1), (1, -1)))
    second = (_at(correlation, 0, 2) + _at(correlation, 2, 0)) / 2
    return [(along_x + along_y) / 2, (rising + falling) / 2, second]


def _directions(correlation: NDArray[np.float32]) -> NDArray:
    """See `SPINS`, (N, band, 2)."""
    along_x, along_y, rising, falling = (_at(correlation, *lag) for lag in ((0, 1), (1, 0), (1, 1), (1, -1)))
    return np.stack([along_x - along_y, rising - falling], axis=2) / 2


def _at(correlation: NDArray[np.float32], dy: int, dx: int) -> NDArray[np.float32]:
    """At one lag; 0 beyond those that are given."""
    middle = correlation.shape[-1] // 2
    if max(abs(dy), abs(dx)) > middle:
        return np.zeros(correlation.shape[:2], dtype=np.float32)
    return correlation[:, :, middle + dy, middle + dx]


def _single(values: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
