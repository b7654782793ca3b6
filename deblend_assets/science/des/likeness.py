"""How unlike a tile is what the model was trained on: noise, PSF width and fluxes against the training scenes.

A network says nothing of an image unlike those it learnt from. Three things of a tile can be compared without a truth;
each has a limit beyond which the tile is called unlike, and a warning that says by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from deblend_assets.science.statistics.accuracy import MINIMUM_ROWS
from deblend_assets.science.statistics.metrics import Floats

# A quarter more or less of noise is a quarter of a magnitude more or less of depth.
NOISE_LIMIT = 0.25
# The PSF's share of an observed distortion goes with its area: a tenth in width is a fifth of it.
PSF_LIMIT = 0.10
# 2 % of the training fluxes lie outside their own 1-99 % range; five times as many are another population.
FLUX_LIMIT = 0.10
FLUX_RANGE = (0.01, 0.99)
APERTURE_ARCSEC = 2.0
LIKE, UNLIKE, UNKNOWN = "like", "unlike", "unknown"
COLUMNS = ("quantity", "tile", "training", "ratio", "limit", "verdict")


@dataclass(frozen=True)
class Sample:
    """What of a tile, or of the training scenes, is compared.

    Attributes:
        noise: standard deviation of a sky pixel, one a band [electron]: of a tile the median over its stamps, of the
            training √sky. NaN makes the verdict "unknown".
        psf_fwhm: one a band [arcsec]; a tile's is known in the bands that im3shape measured.
        flux: (N,), light within `APERTURE_ARCSEC` of the stamps' centres, label band [electron]; the training's of
            blended, noisy scenes with the tile's S/N cut, so that like meets like.
    """

    noise: Mapping[str, float]
    psf_fwhm: Mapping[str, float]
    flux: Floats


@dataclass(frozen=True)
class Likeness:
    """The comparison.

    Attributes:
        table: one row a quantity: `quantity` (with unit), `tile`, `training`, `ratio` (tile over training; of fluxes
            the share outside), `limit`, `verdict` (like, unlike or unknown).
        warnings: one line for each quantity that is unlike.
        ks_distance, ks_p: two-sample Kolmogorov-Smirnov test of the fluxes; None below 10 fluxes on either side.
    """

    table: pd.DataFrame
    warnings: list[str]
    ks_distance: float | None
    ks_p: float | None


def aperture_flux(images: np.ndarray, pixel_scale: float) -> Floats:
    """Light within `APERTURE_ARCSEC` of the centre of stamps (N, y, x), in their unit, whole pixels: (N,)."""
    y, x = (np.arange(side) - (side - 1) / 2 for side in images.shape[-2:])
    inside = pixel_scale * np.hypot(*np.meshgrid(x, y)) <= APERTURE_ARCSEC
    return np.asarray(images[..., inside].sum(axis=-1, dtype=np.float64))


def outside_training(flux: Floats, training: Floats) -> np.ndarray:
    """Whether each flux lies outside the training's 1-99 % range, (N,); a flux that is not a number does."""
    low, high = np.quantile(training, FLUX_RANGE)
    return np.asarray(~((flux >= low) & (flux <= high)))


def compare(tile: Sample, training: Sample, label_band: str) -> Likeness:
    """A tile held against what the model was trained on.

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
                    f"{what} in band {band} is {ratio:.2f} times the training's "
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
                f"{100 * share:.0f} % of the fluxes in band {label_band} lie outside the training's 1–99 % range "
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
