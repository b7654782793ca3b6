"""Which detections are stars, by their sizes alone, and the mean of their numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.images.field_checks.sources import BandSources
from deblend_assets.science.skies.psf import MAX_SHEAR_CHANGE
from deblend_assets.science.statistics.metrics import robust_sigma

STAR_SNR = 50.0
"""S/N in the band from which on a star is used."""
MOST_SMALLER = 0.5
"""Sources that are smaller than stars, over the number of stars: among more of them they are galaxies."""
LEAST_STARS = 12
"""Number of usable stars below which a PSF is not testable; of 20 stars some 15 are isolated and on good pixels."""
# Of ln size: what stars scatter by beside noise, and the widest kernel of the density.
_SCATTER, _WIDEST = 0.01, 0.03
# Stars lie within so many of their own errors of the locus.
_WITHIN = 2.5
# A peak of the density is the locus from this share of the highest one on: galaxies lie on its far side.
_PEAK = 0.6
# Scatter of the shapes of stars over their errors; small galaxies behind a PSF have 4 and more.
_MOST_SCATTER = 3.0
_GRID = np.arange(-0.6, 1.0, 0.002)
# Steps of the mean's clipping, and where it clips [robust sigma].
_STEPS, _CLIP = 5, 3.0

Floats = NDArray[np.float64]


class Mean(NamedTuple):
    """A clipped mean and its standard error."""

    value: float
    error: float


def size_error(snr: Floats) -> Floats:
    """Standard error of ln size of a star, its intrinsic scatter included, (N,)."""
    return np.asarray(np.hypot(1.0 / snr, _SCATTER))


def stellar_locus(sources: BandSources) -> float:
    """ln size of stars over that of the given PSF: the first high peak of the density of isolated bright sources.

    Every source counts as a Gaussian of its own error: bright stars, whose sizes agree, make a narrow peak; galaxies
    spread to larger sizes. NaN without a source.
    """
    used = sources.isolated & (sources.snr >= STAR_SNR) & np.isfinite(sources.ln_size)
    if not used.any():
        return float("nan")
    width = np.minimum(size_error(sources.snr[used]), _WIDEST)
    density = (np.exp(-0.5 * ((_GRID[:, None] - sources.ln_size[used]) / width) ** 2) / width).sum(axis=1)
    middle = density[1:-1]
    peaks = np.flatnonzero((middle >= density[:-2]) & (middle > density[2:]) & (middle >= _PEAK * density.max())) + 1
    return float(_GRID[peaks[0]]) if len(peaks) else float("nan")


def choose_stars(sources: BandSources) -> NDArray[np.int64]:
    """Isolated sources of S/N ≥ `STAR_SNR` on the stellar locus, their numbers; none where they are galaxies.

    Where there are few stars, the first high peak of the density is one of galaxies. Stars are the smallest sources and
    have the PSF's shape: little is smaller, and their shapes scatter by no more than noise and the PSF's change.
    """
    off = (sources.ln_size - stellar_locus(sources)) / size_error(sources.snr)
    with np.errstate(invalid="ignore"):
        usable = sources.isolated & (sources.snr >= STAR_SNR) & np.isfinite(sources.ln_concentration)
        chosen = np.flatnonzero(usable & (np.abs(off) < _WITHIN))
        smaller = int((usable & (off <= -_WITHIN)).sum())
    if smaller > MOST_SMALLER * len(chosen) or not len(chosen):
        return chosen[:0]
    shape = sources.shape[chosen]
    pull = (shape - complex(np.median(shape.real), np.median(shape.imag))) / np.hypot(
        1.0 / sources.snr[chosen], MAX_SHEAR_CHANGE
    )
    scatter = float(robust_sigma(np.concatenate([pull.real, pull.imag])))
    return chosen if scatter < _MOST_SCATTER else chosen[:0]


def clipped_mean(values: Floats, errors: Floats) -> Mean:
    """Weighted mean without outliers; its error is that of the scatter which is found.

    Args:
        values, errors: (N,).
    """
    weight = 1.0 / errors**2
    kept = np.ones(len(values), bool)
    mean = float("nan")
    for _ in range(_STEPS):
        mean = float(np.average(values[kept], weights=weight[kept]))
        pull = (values - mean) / errors
        scale = max(float(robust_sigma(pull[kept])), 0.5)
        kept = np.abs(pull - np.median(pull[kept])) < _CLIP * scale
    mean = float(np.average(values[kept], weights=weight[kept]))
    square = (weight[kept] ** 2 * (values[kept] - mean) ** 2).sum() / weight[kept].sum() ** 2
    return Mean(mean, float(np.sqrt(square * kept.sum() / max(kept.sum() - 1, 1))))
