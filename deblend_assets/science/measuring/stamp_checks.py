"""What a stamp alone shows of damage: its sky, its noise, and structure that no telescope makes.

Nothing here needs a model of the galaxies. Light has no structure at frequencies at which the PSF has no power: what is
seen there beyond the noise was not in front of the telescope (a cosmic ray, an edge that was filled, a clipped core).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.stats import norm

from deblend_assets.science.sky_shapes.inputs import FWHM_OVER_SIGMA, Floats, measured_psfs
from deblend_assets.science.stamps.observed import ObservedStamps, sky_sigma

# Pixels nearer to a detection than this are not source-free [FWHM]; least number of source-free pixels or pairs.
_FREE, _FEWEST = 2.0, 100
# The share of source-free pixels below which the sky's level is read off, and where Gaussian noise has it.
_FAINTEST = 0.1
_OF_NOISE = float(norm.ppf(_FAINTEST))
# A frequency is beyond the PSF where its transform is below the first, and seen where the noise has a share of the
# power of white noise above the second; least share of such frequencies. What light may leave there, of its value.
_BEYOND, _SEEN, _LEAST_SHARE, _LEAKAGE = 0.01, 0.02, 0.05, 0.02
# Structure is looked for within this distance of the target [FWHM], and not within so many pixels of a lost one.
_NEAR, _FROM_LOST = 2.5, 3
# Width of the border in which a stamp fades out [pixel], and stamps at a time.
_FADE, _AT_ONCE = 6, 256
_MAD = 1.4826


class StampChecks(NamedTuple):
    """Of N stamps in each band, (N, band); NaN in an absent band and where too few pixels can be used.

    Attributes:
        level: of the sky, by the faintest tenth of the source-free pixels, which wings hardly reach [sky σ].
        noise: their standard deviation, of differences between neighbours, over the stated one.
        filled: share of neighbours along x and y that are equal.
        lowest: the least pixel [sky σ].
        sharp: the greatest structure near the target that is sharper than the PSF, over its noise.
    """

    level: Floats
    noise: Floats
    filled: Floats
    lowest: Floats
    sharp: Floats


def check_stamps(stamps: ObservedStamps) -> StampChecks:
    """Measure what the stamps show.

    Args:
        stamps: of N detections, noise and PSF as they are said to be.
    """
    if not len(stamps):
        return StampChecks(*np.zeros((len(StampChecks._fields), 0, len(stamps.bands))))
    parts = [_checked(stamps.rows(slice(first, first + _AT_ONCE))) for first in range(0, len(stamps), _AT_ONCE)]
    return StampChecks(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _checked(stamps: ObservedStamps) -> StampChecks:
    seen = stamps.inverse_variance > 0
    present = np.asarray(seen.any(axis=(2, 3)))
    per_sigma = np.nan_to_num(1 / sky_sigma(stamps.inverse_variance)).astype(np.float32)
    images = stamps.pixels * per_sigma[:, :, None, None]
    fwhm = measured_psfs(stamps.psf, present).fwhm
    squared = _squared_distances(stamps)
    scatter = [np.sqrt(2 * np.maximum(1 - along, 1e-3)) for along in _next_ones(stamps.noise_correlation)]
    level, noise, filled, lowest = (np.full(present.shape, np.nan) for _ in range(4))
    for n, band in np.argwhere(present):
        image, there = images[n, band], seen[n, band]
        lowest[n, band] = image[there].min()
        free = there & (squared[n] > (_FREE * fwhm[n, band]) ** 2)
        changes: list[NDArray[np.float32]] = []
        free_changes: list[NDArray[np.float32]] = []
        for axis in (0, 1):
            change = np.abs(np.diff(image, axis=axis)) / scatter[axis][n, band]
            for where, into in ((there, changes), (free, free_changes)):
                first, second = (np.delete(where, end, axis=axis) for end in (0, -1))
                into.append(change[first & second])
        if sum(len(part) for part in changes) >= _FEWEST:
            filled[n, band] = (np.concatenate(changes) == 0).mean()
        if sum(len(part) for part in free_changes) >= _FEWEST:
            level[n, band] = np.quantile(image[free], _FAINTEST) - _OF_NOISE
            noise[n, band] = _MAD * np.median(np.concatenate(free_changes))
    return StampChecks(level, noise, filled, lowest, _sharp(images, seen, present, fwhm, stamps))


def _next_ones(correlation: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Correlation (N, band, lag_y, lag_x) of neighbours along y and along x, each (N, band)."""
    middle = correlation.shape[-1] // 2
    if not middle:
        return np.zeros(correlation.shape[:2]), np.zeros(correlation.shape[:2])
    lags = correlation.astype(np.float64)
    return lags[:, :, middle + 1, middle], lags[:, :, middle, middle + 1]


def _sharp(
    images: NDArray[np.float32],
    seen: NDArray[np.bool_],
    present: NDArray[np.bool_],
    fwhm: Floats,
    stamps: ObservedStamps,
) -> Floats:
    """See `StampChecks.sharp`; images in sky σ."""
    side = stamps.side
    power = np.maximum(_transform(stamps.noise_correlation, side).real, 0)
    beyond = (np.abs(_transform(stamps.psf, side)) < _BEYOND * np.abs(stamps.psf.sum(axis=(2, 3)))[..., None, None]) & (
        power > _SEEN
    )
    # The half plane of frequencies that rfft2 gives stands for the whole one.
    twice = np.full(side // 2 + 1, 2.0)
    twice[0] = 1
    if side % 2 == 0:
        twice[-1] = 1
    share = (beyond * twice).sum(axis=(2, 3)) / side**2
    expected = np.sqrt((beyond * power * twice).sum(axis=(2, 3)) / side**2)
    whole = _without_holes(images, seen, present, fwhm) * _fading(side)
    structure = fft.irfft2(fft.rfft2(whole) * beyond, s=(side, side))
    found = np.abs(structure) / np.hypot(expected[..., None, None], _LEAKAGE * np.maximum(whole, 0))
    x, y = np.arange(side) - stamps.position[:, :1], np.arange(side) - stamps.position[:, 1:]
    squared = y[:, :, None] ** 2 + x[:, None, :] ** 2
    near = squared[:, None] < (_NEAR * fwhm[..., None, None]) ** 2
    near &= ~_near_lost(seen)
    usable = present & (share >= _LEAST_SHARE) & near.any(axis=(2, 3))
    return np.where(usable, np.where(near, found, 0).max(axis=(2, 3)), np.nan)


def _transform(kernels: NDArray[np.floating], side: int) -> NDArray[np.complexfloating]:
    """Of kernels (N, band, y, x) of odd sides about their middle, on the torus of a stamp."""
    own = kernels.shape[-1]
    if own > side:
        cut = (own - side + 1) // 2
        kernels = kernels[:, :, cut : own - cut, cut : own - cut]
        own = kernels.shape[-1]
    torus = np.zeros((*kernels.shape[:2], side, side), dtype=np.float32)
    torus[:, :, :own, :own] = kernels
    return np.asarray(fft.rfft2(np.roll(torus, (-(own // 2), -(own // 2)), axis=(2, 3))))


def _without_holes(
    images: NDArray[np.float32], seen: NDArray[np.bool_], present: NDArray[np.bool_], fwhm: Floats
) -> NDArray[np.float32]:
    """Images whose lost pixels have the mean of those around, weighted with a Gaussian of the PSF's FWHM."""
    filled = images
    for n, band in np.argwhere(present & ~seen.all(axis=(2, 3))):
        sigma = fwhm[n, band] / FWHM_OVER_SIGMA
        weight = ndimage.gaussian_filter(seen[n, band].astype(np.float32), sigma, mode="constant")
        light = ndimage.gaussian_filter(images[n, band], sigma, mode="constant")
        if filled is images:
            filled = images.copy()
        lost = ~seen[n, band]
        filled[n, band][lost] = (light / np.maximum(weight, 1e-3))[lost]
    return filled


def _near_lost(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found = np.zeros_like(seen)
    for n, band in np.argwhere(seen.any(axis=(2, 3)) & ~seen.all(axis=(2, 3))):
        found[n, band] = ndimage.binary_dilation(~seen[n, band], iterations=_FROM_LOST)
    return found


def _fading(side: int) -> NDArray[np.float32]:
    """1 within a stamp, smoothly 0 towards its border, (y, x)."""
    from_border = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    line = np.sin(0.5 * np.pi * np.clip(from_border / _FADE, 0, 1)) ** 2
    return np.outer(line, line).astype(np.float32)


def _squared_distances(stamps: ObservedStamps) -> Floats:
    """Of each pixel from the nearest detection, (N, y, x) [pixel²]."""
    places = np.concatenate([stamps.position[:, None], stamps.others], axis=1)
    places = np.where(np.isfinite(places), places, 1e6)
    axis = np.arange(stamps.side)
    x, y = axis - places[..., :1], axis - places[..., 1:]
    nearest = np.full((len(stamps), stamps.side, stamps.side), np.inf)
    for number in range(places.shape[1]):
        np.minimum(nearest, y[:, number, :, None] ** 2 + x[:, number, None, :] ** 2, out=nearest)
    return nearest
