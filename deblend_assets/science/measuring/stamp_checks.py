"""What a stamp alone shows of damage: its sky, its noise, and structure that no telescope makes.

Nothing here needs a model of the galaxies. Light has no structure at frequencies at which the PSF has no power: what is
seen there beyond the noise was not in front of the telescope (a cosmic ray, an edge that was filled, a clipped core).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.stats import norm

from deblend_assets.science.sky_shapes.inputs import Floats, measured_psfs
from deblend_assets.science.stamps.batches import distinct
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.science.stamps.correlation import on_torus
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
# Width of the border in which a stamp fades out [pixel], reach of the Gaussian that fills holes [σ], stamps at a time.
_FADE, _GAUSSIAN, _AT_ONCE = 6, 4.0, 64
_MAD = 1.4826
# Excess of equal neighbours that chance has [its standard deviation].
_CHANCE = 4.0


class StampChecks(NamedTuple):
    """Of N stamps in each band, (N, band); NaN in an absent band and where too few pixels can be used.

    Attributes:
        level: of the sky, by the faintest tenth of the source-free pixels, which wings hardly reach [sky σ].
        noise: their standard deviation, of differences between neighbours, over the stated one.
        filled: share of neighbours along x and y that are equal, beyond what noise in whole numbers explains.
        lowest: the least pixel [sky σ].
        sharp: the greatest structure near the target that is sharper than the PSF, over its noise.
    """

    level: Floats
    noise: Floats
    filled: Floats
    lowest: Floats
    sharp: Floats

    @property
    def faint_level(self) -> Floats:
        """`level` if the noise is that of the pixels, not the stated one [stated sky σ]."""
        return np.asarray(self.level - _OF_NOISE * (self.noise - 1))


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
    fwhm = measured_psfs(stamps.psf, present).fwhm
    # From here on one row a band that is present.
    stamp, seen, fwhm = np.nonzero(present)[0], seen[present], fwhm[present]
    images = stamps.pixels[present] * per_sigma[present][:, None, None]
    free = seen & (_squared_distances(stamps)[stamp] > (_FREE * fwhm[:, None, None]) ** 2)
    scatter = [np.sqrt(2 * np.maximum(1 - along[present], 1e-3)) for along in _next_ones(stamps.noise_correlation)]
    # Neighbours along y and along x: how much they differ, which are seen, and which are source-free too.
    changes, pairs, free_pairs = (np.empty((len(images), 2 * (stamps.side - 1) * stamps.side), t) for t in "f??")
    half = changes.shape[1] // 2
    for axis, columns in ((1, slice(0, half)), (2, slice(half, None))):
        change = np.abs(np.diff(images, axis=axis)) / scatter[axis - 1].astype(np.float32)[:, None, None]
        first, second = ((slice(None),) * axis + (part,) for part in (slice(1, None), slice(None, -1)))
        changes[:, columns] = change.reshape(len(images), -1)
        for where, into in ((seen, pairs), (free, free_pairs)):
            into[:, columns] = (where[first] & where[second]).reshape(len(images), -1)
    number = pairs.sum(axis=1)
    # A file's compression rounds each row to steps of its own: neighbours along y differ by none of them.
    equal, chance = _equal(changes[:, :half], pairs[:, :half]) + _equal(changes[:, half:], pairs[:, half:])
    filled = np.maximum(equal - chance - _CHANCE * np.sqrt(chance), 0) / np.maximum(number, 1)
    filled = np.where(number >= _FEWEST, filled, np.nan)
    enough = free_pairs.sum(axis=1) >= _FEWEST
    level = np.where(enough, _quantiles(images, free, _FAINTEST) - _OF_NOISE, np.nan)
    noise = np.where(enough, _MAD * _quantiles(changes, free_pairs, 0.5), np.nan)
    lowest = np.where(seen, images, np.inf).min(axis=(1, 2))
    sharp = _sharp(images, seen, fwhm, stamp, _Kernels.of(stamps, present), stamps)
    found = np.full((len(StampChecks._fields), *present.shape), np.nan)
    found[:, present] = level, noise, filled, lowest, sharp
    return StampChecks(*found)


def _equal(changes: NDArray[np.float32], pairs: NDArray[np.bool_]) -> Floats:
    """Number of equal neighbours and that of chance, (2, K), of differences in units of their scatter, (K, pair).

    Gaussian differences that are rounded to steps s of their scatter are 0 in a share of s / sqrt(2 pi).

    Args:
        changes: of neighbours.
        pairs: which count.
    """
    step = np.where(pairs & (changes > 0), changes, np.float32(np.inf)).min(axis=1).astype(np.float64)
    chance = np.where(np.isfinite(step), np.minimum(step / np.sqrt(2 * np.pi), 1), 0)
    return np.stack([((changes == 0) & pairs).sum(axis=1), chance * pairs.sum(axis=1)])


def _quantiles(values: NDArray[np.float32], chosen: NDArray[np.bool_], share: float) -> Floats:
    """Quantile of the chosen ones of each row, (K, ...) to (K,); infinite without any."""
    rows = np.sort(np.where(chosen, values, np.float32(np.inf)).reshape(len(values), -1), axis=1)
    place = np.maximum(chosen.reshape(len(values), -1).sum(axis=1) - 1, 0) * share
    below = place.astype(np.int64)
    part, every = place - below, np.arange(len(rows))
    low, high = (rows[every, at].astype(np.float64) for at in (below, below + (part > 0)))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(part > 0, low * (1 - part) + high * part, low))


def _next_ones(correlation: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Correlation (N, band, lag_y, lag_x) of neighbours along y and along x, each (N, band)."""
    middle = correlation.shape[-1] // 2
    if not middle:
        return np.zeros(correlation.shape[:2]), np.zeros(correlation.shape[:2])
    lags = correlation.astype(np.float64)
    return lags[:, :, middle + 1, middle], lags[:, :, middle, middle + 1]


class _Kernels(NamedTuple):
    """Frequencies beyond the PSF of K images, once for each pair of a PSF and a noise correlation.

    Attributes:
        pair: number of each image's pair, (K,).
        beyond: whether a frequency is beyond the PSF and seen, (pair, ky, kx).
        share: of such frequencies, (pair,).
        expected: noise that they hold [sky σ], (pair,).
    """

    pair: NDArray[np.int64]
    beyond: NDArray[np.bool_]
    share: Floats
    expected: Floats

    @classmethod
    def of(cls, stamps: ObservedStamps, present: NDArray[np.bool_]) -> _Kernels:
        side = stamps.side
        psf, correlation = stamps.psf[present], stamps.noise_correlation[present]
        (first_psf, of_psf), (first_noise, of_noise) = distinct(psf), distinct(correlation)
        psf, correlation = psf[first_psf], correlation[first_noise]
        pairs, pair = np.unique(np.stack([of_psf, of_noise]), axis=1, return_inverse=True)
        power = np.maximum(_transform(correlation, side).real, 0)
        dark = np.abs(_transform(psf, side)) < _BEYOND * np.abs(psf.sum(axis=(1, 2)))[:, None, None]
        beyond = dark[pairs[0]] & (power > _SEEN)[pairs[1]]
        # The half plane of frequencies that rfft2 gives stands for the whole one.
        twice = np.full(side // 2 + 1, 2.0)
        twice[0] = 1
        if side % 2 == 0:
            twice[-1] = 1
        share = (beyond * twice).sum(axis=(1, 2)) / side**2
        expected = np.sqrt((beyond * power[pairs[1]] * twice).sum(axis=(1, 2)) / side**2)
        return cls(pair.reshape(-1), beyond, share, expected)


def _sharp(
    images: NDArray[np.float32],
    seen: NDArray[np.bool_],
    fwhm: Floats,
    stamp: NDArray[np.int64],
    kernels: _Kernels,
    stamps: ObservedStamps,
) -> Floats:
    """See `StampChecks.sharp`: of K images [sky σ] of some of the stamps, (K,)."""
    side, sharp = stamps.side, np.full(len(images), np.nan)
    x, y = (np.arange(side) - stamps.position[stamp, k, None] for k in (0, 1))
    near = y[:, :, None] ** 2 + x[:, None, :] ** 2 < (_NEAR * fwhm[:, None, None]) ** 2
    near &= ~_near_lost(seen)
    usable = (kernels.share[kernels.pair] >= _LEAST_SHARE) & near.any(axis=(1, 2))
    images, seen, near, pair = images[usable], seen[usable], near[usable], kernels.pair[usable]
    whole = _without_holes(images, seen, fwhm[usable]) * _fading(side)
    structure = fft.irfft2(fft.rfft2(whole) * kernels.beyond[pair], s=(side, side))
    expected = kernels.expected[pair].astype(np.float32)[:, None, None]
    found = np.abs(structure) / np.hypot(expected, _LEAKAGE * np.maximum(whole, 0))
    sharp[usable] = np.where(near, found, 0).max(axis=(1, 2))
    return sharp


def _transform(kernels: NDArray[np.float32], side: int) -> NDArray[np.complexfloating]:
    """Of kernels (K, y, x) of odd sides about their middle, on the torus of a stamp."""
    own = kernels.shape[-1]
    if own > side:
        cut = (own - side + 1) // 2
        kernels = kernels[:, cut : own - cut, cut : own - cut]
    return np.asarray(fft.rfft2(on_torus(kernels, (side, side))))


def _without_holes(images: NDArray[np.float32], seen: NDArray[np.bool_], fwhm: Floats) -> NDArray[np.float32]:
    """Images (K, y, x) whose lost pixels have the mean of those around, weighted with a Gaussian of the PSF's FWHM."""
    holed = np.flatnonzero(~seen.all(axis=(1, 2)))
    there, filled = seen[holed], images.copy()
    sigma = (fwhm[holed] / FWHM_OVER_SIGMA)[:, None, None]
    axis = np.arange(images.shape[-1])
    apart = np.abs(axis[:, None] - axis)
    line = np.where(apart <= np.floor(_GAUSSIAN * sigma + 0.5), np.exp(-0.5 * (apart / sigma) ** 2), 0).astype(
        np.float32
    )
    # The Gaussian's integral is 2π σ².
    weight = line @ there.astype(np.float32) @ line / (2 * np.pi * sigma**2)
    light = line @ images[holed] @ line / (2 * np.pi * sigma**2)
    filled[holed] = np.where(there, images[holed], light / np.maximum(weight, 1e-3))
    return filled


def _near_lost(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Within so many steps along the axes of a lost pixel, (K, y, x)."""
    found = ~seen
    for _ in range(_FROM_LOST):
        before = found.copy()
        found[:, 1:] |= before[:, :-1]
        found[:, :-1] |= before[:, 1:]
        found[:, :, 1:] |= before[:, :, :-1]
        found[:, :, :-1] |= before[:, :, 1:]
    return found


def _fading(side: int) -> NDArray[np.float32]:
    """1 within a stamp, smoothly 0 towards its border, (y, x)."""
    from_border = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    line = np.sin(0.5 * np.pi * np.clip(from_border / _FADE, 0, 1)) ** 2
    return np.outer(line, line).astype(np.float32)


def _squared_distances(stamps: ObservedStamps) -> NDArray[np.float32]:
    """Of each pixel from the nearest detection, (N, y, x) [pixel²]."""
    most = int(stamps.others_count.max(initial=0))
    places = np.concatenate([stamps.position[:, None], stamps.others[:, :most]], axis=1)
    places = np.where(np.isfinite(places), places, 1e6)
    axis = np.arange(stamps.side)
    x, y = (((axis - places[..., k, None]) ** 2).astype(np.float32) for k in (0, 1))
    nearest = np.full((len(stamps), stamps.side, stamps.side), np.float32(np.inf))
    for number in range(places.shape[1]):
        np.minimum(nearest, y[:, number, :, None] + x[:, number, None, :], out=nearest)
    return nearest
