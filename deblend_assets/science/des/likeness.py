"""Compares a tile with the training scenes: noise, PSF width and fluxes.

The model is not validated on images that differ from its training set. These three quantities can be compared without
a truth. Each has a limit; beyond it the verdict is "unlike", with a warning that states the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from deblend_assets.science.statistics.accuracy import MINIMUM_ROWS
from deblend_assets.science.statistics.metrics import Floats

# A change of 25 % in noise is about 0.25 mag in depth.
NOISE_LIMIT = 0.25
# The PSF's effect on an observed distortion scales with its area: 10 % in width is 20 % in area.
PSF_LIMIT = 0.10
# 2 % of the training fluxes lie outside their own 1-99 % range; the limit is five times that.
FLUX_LIMIT = 0.10
FLUX_RANGE = (0.01, 0.99)
APERTURE_ARCSEC = 2.0
LIKE, UNLIKE, UNKNOWN = "like", "unlike", "unknown"
COLUMNS = ("quantity", "tile", "training", "ratio", "limit", "verdict")


@dataclass(frozen=True)
class Sample:
    """Quantities of a tile, or of the training scenes, that are compared.

    Attributes:
        noise: standard deviation of a sky pixel, by band [electron]; for a tile the median over its stamps, for the
            training scenes √sky. NaN gives the verdict "unknown".
        psf_fwhm: by band [arcsec]; for a tile only in the bands that im3shape measured.
        flux: (N,), light within `APERTURE_ARCSEC` of the stamps' centres, label band [electron]; for the
            training, of blended, noisy scenes with the tile's S/N cut.
    """

    noise: Mapping[str, float]
    psf_fwhm: Mapping[str, float]
    flux: Floats


@dataclass(frozen=True)
class Likeness:
    """Result of the comparison.

    Attributes:
        table: one row per quantity: `quantity` (with unit), `tile`, `training`, `ratio` (tile over training; for fluxes
            the fraction outside), `limit`, `verdict` (like, unlike or unknown).
        warnings: one line for each "unlike" quantity.
        ks_distance, ks_p: two-sample Kolmogorov-Smirnov test of the fluxes; None with fewer than 10 fluxes
            in either sample.
    """

    table: pd.DataFrame
    warnings: list[str]
    ks_distance: float | None
    ks_p: float | None


def aperture_flux(images: np.ndarray, pixel_scale: float) -> Floats:
    """Light within `APERTURE_ARCSEC` of the centres of stamps (N, y, x), whole pixels: (N,), same unit."""
    y, x = (np.arange(side) - (side - 1) / 2 for side in images.shape[-2:])
    inside = pixel_scale * np.hypot(*np.meshgrid(x, y)) <= APERTURE_ARCSEC
    return np.asarray(images[..., inside].sum(axis=-1, dtype=np.float64))


def outside_training(flux: Floats, training: Floats) -> np.ndarray:
    """Whether each flux lies outside the training scenes' 1-99 % range, (N,); true for NaN."""
    low, high = np.quantile(training, FLUX_RANGE)
    return np.asarray(~((flux >= low) & (flux <= high)))


def compare(tile: Sample, training: Sample, label_band: str) -> Likeness:
    """Compare a tile with the training scenes.

    Args:
        tile, training: in the same units.
        label_band: the band of the fluxes.
    """
    rows, warnings = [], []
    for what, unit, here, there, limit in (
        ("noise", "electron/pixel", tile.noise, training.noise, NOISE_LIMIT),
        ("PSF FWHM", "arcsec", tile.psf_fwhm, training.psf_fwhm, PSF_LIMIT),
    ):
        for band in here:
            if band not in there:
                continue
            ratio = here[band] / there[band]
            verdict = _verdict(abs(ratio - 1.0), limit)
            rows.append((f"{what}, {band} [{unit}]", here[band], there[band], ratio, limit, verdict))
            if verdict == UNLIKE:
                warnings.append(
                    f"{what} in band {band} is {ratio:.2f} times the training value "
                    f"({here[band]:.3g} against {there[band]:.3g} {unit}; limit ±{100 * limit:.0f} %)"
                )
    finite, learnt = tile.flux[np.isfinite(tile.flux)], training.flux[np.isfinite(training.flux)]
    distance = p = None
    if len(finite) and len(learnt):
        share = float(outside_training(finite, learnt).mean())
        verdict = _verdict(share, FLUX_LIMIT)
        medians = float(np.median(finite)), float(np.median(learnt))
        rows.append(
            (f"share of fluxes outside 1–99 %, {label_band} (medians [electron])", *medians, share, FLUX_LIMIT, verdict)
        )
        if verdict == UNLIKE:
            warnings.append(
                f"{100 * share:.0f} % of the fluxes in band {label_band} lie outside the training scenes' 1–99 % range "
                f"(limit {100 * FLUX_LIMIT:.0f} %)"
            )
    if min(len(finite), len(learnt)) >= MINIMUM_ROWS:
        test = ks_2samp(finite, learnt, method="asymp")
        distance, p = float(test.statistic), float(test.pvalue)
    return Likeness(pd.DataFrame(rows, columns=list(COLUMNS)), warnings, distance, p)


def _verdict(off: float, limit: float) -> str:
    if not np.isfinite(off):
        return UNKNOWN
    return LIKE if off <= limit else UNLIKE
