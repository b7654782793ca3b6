"""Whether a row can be believed: one bit for each reason why not. Thresholds and how well they work: docs/trust.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntFlag
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.measuring.psf_range import psf_distance
from deblend_assets.science.measuring.sky_scene import SkyScene
from deblend_assets.science.measuring.stamp_checks import StampChecks
from deblend_assets.science.measuring.straight_light import is_crossed
from deblend_assets.science.measuring.two_sources import LEAST_APART, MOST_EVIDENCE, evidence_of_two
from deblend_assets.science.sky_shapes.inputs import Floats
from deblend_assets.science.sky_shapes.quantities import QUANTITIES, units_of
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import ObservedStamps


class RowFlag(IntFlag):
    """Why a row is not to be trusted."""

    NO_DATA = 1
    NO_SIGNAL = 2
    MASKED = 4
    SATURATED = 8
    EDGE = 16
    SKY = 32
    NOISE = 64
    FILLED = 128
    NEGATIVE = 256
    SHARP = 512
    OFF_CENTRE = 1024
    LARGE = 2048
    BRIGHT = 4096
    COLOR = 8192
    BAD_FIT = 16384
    STAR = 32768
    CROWDED = 65536
    PSF = 131072
    BLENDED = 262144
    UNLIKE_TRAINING = LARGE | BRIGHT | COLOR | PSF


# Thresholds; docs/trust.md has the share of undamaged rows beyond each.
LEAST_SNR = 5.0
MOST_MASKED = 0.2
# Of the level of the source-free pixels [sky σ], in one band and in the mean of all.
LEVEL, MEAN_LEVEL = (-3.0, 2.5), 0.6
NOISE = (0.77, 1.3)
MOST_FILLED = 0.001
LOWEST = -6.5
MOST_SHARP = 5.5
MOST_OFFSET = 2.5
"""Distance of the target from the detection [pixel]."""
MOST_SIZE = 0.15
"""Half-light radius over the stamp's side."""
BRIGHTEST = 9.0
"""ln of the flux over the error of a faint point source's, reference band."""
FAINTER_RED, FAINTER_BLUE = 1.0, 2.5
"""Of a galaxy in a redder or bluer band than the one of its highest S/N, at most [AB mag]; see `lack_of_light`."""
MOST_LACK = 9.0
MOST_MISFIT = 4.0

REASONS: Mapping[RowFlag, str] = MappingProxyType(
    {
        RowFlag.NO_DATA: "the stamp has no pixel of weight: nothing is measured",
        RowFlag.NO_SIGNAL: f"S/N of the target over all bands below {LEAST_SNR:g}",
        RowFlag.MASKED: f"more than {MOST_MASKED:.0%} of the target's light lies on lost pixels",
        RowFlag.SATURATED: "a saturated pixel within one FWHM of the target",
        RowFlag.EDGE: "the image ends within 1.5 FWHM of the target",
        RowFlag.SKY: f"level of the sky outside of {LEVEL[0]:g} to {LEVEL[1]:g} sigma in a band, or above "
        f"{MEAN_LEVEL:g} sigma in the mean",
        RowFlag.NOISE: f"noise of the pixels {NOISE[0]:g} times or {NOISE[1]:g} times the stated one",
        RowFlag.FILLED: f"more than {100 * MOST_FILLED:g}% of neighbouring pixels are equal",
        RowFlag.NEGATIVE: f"a pixel below {LOWEST:g} sigma, or a flux below -5 of its errors",
        RowFlag.SHARP: f"structure near the target sharper than the PSF, above {MOST_SHARP:g} times its noise",
        RowFlag.OFF_CENTRE: f"the target lies more than {MOST_OFFSET:g} pixels from the position, or, of ready stamps, "
        "nothing is detected there but something is within 3 FWHM",
        RowFlag.LARGE: f"half-light radius above {MOST_SIZE:g} of the stamp's side",
        RowFlag.BRIGHT: "brighter than any galaxy of the training, in units of its sky's noise",
        RowFlag.COLOR: "other bands lack the light that any galaxy has, by 3 sigma",
        RowFlag.BAD_FIT: "the scene does not describe the pixels under the target, or a line of light passes there",
        RowFlag.STAR: "more probably a star than a galaxy (not in catalogues of tiles)",
        RowFlag.CROWDED: "one of so many detections that touch each other that they were not told apart one by one "
        "(catalogues of fields alone)",
        RowFlag.PSF: "pixel scale, or FWHM or ellipticity of the PSF of a band, out of the training's range",
        RowFlag.BLENDED: "probably two sources in one detection; few of those closer than 0.7 FWHM, below S/N 30 or of "
        "unequal light are found",
    }
)
"""One line for each flag."""

GOOD_SHAPE = ~RowFlag(0)
"""Flags of which a row that is good for shapes has none: all."""
GOOD_FLUX = GOOD_SHAPE & ~(RowFlag.STAR | RowFlag.LARGE)
"""Flags of which a row that is good for fluxes has none: a star, and a galaxy that its stamp hardly holds, may be."""


class Trust(NamedTuple):
    """Of N targets.

    Attributes:
        flags: `RowFlag`, (N,) int32.
        snr: of the scene's flux over the error of the noise alone, (N, band), signed; NaN in an absent band.
        snr_total: over all bands, (N,).
        masked: share of the target's light on lost pixels, mean of the bands present, (N,).
        offset: of the target from the detection, (N,) [pixel].
        misfit: see `misfit_of`, (N, band).
        training_distance: the largest of what the flags of `UNLIKE_TRAINING` are from, each over its limit, (N,): above
            1 one of them is set; NaN without data.
        checks: what the stamps alone show.
    """

    flags: NDArray[np.int32]
    snr: Floats
    snr_total: Floats
    masked: Floats
    offset: Floats
    misfit: Floats
    training_distance: Floats
    checks: StampChecks


def trust_of(stamps: ObservedStamps, scene: SkyScene) -> Trust:
    """Flags of N targets and the numbers that they are from.

    Args:
        stamps: of the targets.
        scene: what is measured of them.
    """
    checks, units = scene.checks, units_of(stamps)
    squared, present = stamps.squared_distance, stamps.present
    mean = scene.targets.posterior.mean.numpy()
    flux, noise = scene.fluxes.flux[:, 0], scene.fluxes.noise_error[:, 0]
    snr = flux / noise
    total = np.sqrt(np.nansum(np.clip(snr, 0, None) ** 2, axis=1))
    hlr = np.exp(mean[:, QUANTITIES.index("ln_size")]) / stamps.pixel_scale
    offset = np.hypot(*(mean[:, QUANTITIES.index(name)] for name in ("dx", "dy")))
    # Of a round Gaussian as wide as the target behind its PSF.
    masked = _masked(stamps, present, squared, (units.fwhm / FWHM_OVER_SIGMA) ** 2 + hlr**2 / (2 * np.log(2)))
    misfit = misfit_of(scene)
    level = checks.level
    concentration = mean[:, QUANTITIES.index("concentration")]
    ln_flux = mean[:, QUANTITIES.index("ln_flux")] - np.log(units.flux)
    # Each over its limit.
    unlike = {
        RowFlag.LARGE: hlr / (MOST_SIZE * stamps.side),
        RowFlag.BRIGHT: ln_flux / BRIGHTEST,
        RowFlag.COLOR: np.sqrt(lack_of_light(stamps.bands, flux, noise, stamps.zero_point) / MOST_LACK),
        RowFlag.PSF: np.where(present, psf_distance(stamps), 0).max(axis=1),
    }
    distance = np.where(np.isfinite(units.flux), np.max(list(unlike.values()), axis=0), np.nan)
    with np.errstate(invalid="ignore"):
        reasons = {
            RowFlag.NO_DATA: ~np.isfinite(units.flux),
            RowFlag.NO_SIGNAL: total < LEAST_SNR,
            RowFlag.MASKED: masked > MOST_MASKED,
            RowFlag.SATURATED: _has(stamps, present, squared < units.fwhm[:, None, None] ** 2, MaskBit.SATURATED),
            RowFlag.EDGE: _has(stamps, present, squared < (1.5 * units.fwhm[:, None, None]) ** 2, MaskBit.NO_DATA),
            RowFlag.SKY: _outside(level, LEVEL) | (_mean(level) > MEAN_LEVEL),
            RowFlag.NOISE: _outside(checks.noise, NOISE),
            RowFlag.FILLED: (checks.filled > MOST_FILLED).any(axis=1),
            RowFlag.NEGATIVE: (checks.lowest < LOWEST).any(axis=1) | (snr < -5).any(axis=1),
            RowFlag.SHARP: (checks.sharp > MOST_SHARP).any(axis=1),
            RowFlag.OFF_CENTRE: offset > MOST_OFFSET,
            RowFlag.BAD_FIT: (misfit > MOST_MISFIT).any(axis=1) | is_crossed(stamps, scene.sources, scene.fluxes),
            RowFlag.BLENDED: (
                evidence_of_two(scene.targets.blend, total, concentration, present.sum(axis=1)) > MOST_EVIDENCE
            )
            & (stamps.nearest_other() >= LEAST_APART * units.fwhm),
            **{flag: values > 1 for flag, values in unlike.items()},
        }
    flags = np.zeros(len(stamps), dtype=np.int32)
    for flag, where in reasons.items():
        flags |= np.where(where, np.int32(flag), np.int32(0))
    return Trust(flags, snr, total, masked, offset, misfit, distance, checks)


def misfit_of(scene: SkyScene) -> Floats:
    """χ² under the target beyond what noise and the errors of the profiles allow, (N, band).

    An error of the profiles by a share s of the light leaves residuals of that share, so that the reduced χ² of a
    source of S/N ν in so many pixels grows as (s ν)². s is the error of the flux that the profiles make.
    """
    fluxes = scene.fluxes
    flux, noise, error = (part[:, 0] for part in (fluxes.flux, fluxes.noise_error, fluxes.error))
    of_profiles = np.clip(error**2 - noise**2, 0, None) / noise**2
    return np.asarray(fluxes.chi2[:, 0] / (1 + 0.05 * of_profiles + (0.003 * flux / noise) ** 2))


def _outside(values: Floats, limits: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray(((values < limits[0]) | (values > limits[1])).any(axis=1))


def _mean(values: Floats) -> Floats:
    """Over the bands that have a number; 0 without one."""
    there = np.isfinite(values)
    return np.asarray(np.where(there, values, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1))


def _has(
    stamps: ObservedStamps, present: NDArray[np.bool_], near: NDArray[np.bool_], bit: MaskBit
) -> NDArray[np.bool_]:
    """Whether a pixel of a present band among those that are near, (N, y, x), has a mask's bit."""
    has = ((stamps.mask & int(bit)) > 0) & present[:, :, None, None]
    return np.asarray((has & near[:, None]).any(axis=(1, 2, 3)))


def _masked(stamps: ObservedStamps, present: NDArray[np.bool_], squared: Floats, variance: Floats) -> Floats:
    """Share of a round Gaussian of some variance [pixel²] on lost pixels; mean of the present bands."""
    weight = np.exp(-0.5 * squared / variance[:, None, None])
    weight /= 2 * np.pi * variance[:, None, None]
    seen = np.einsum("nbyx,nyx->nb", (stamps.inverse_variance > 0).astype(np.float64), weight)
    whole = np.minimum(weight.sum(axis=(1, 2)), 1)
    lost = np.where(present, 1 - seen / whole[:, None], 0)
    return np.asarray(lost.sum(axis=1) / np.maximum(present.sum(axis=1), 1))


def lack_of_light(bands: Sequence[str], flux: Floats, noise: Floats, zero_point: Floats) -> Floats:
    """χ² of the light that other bands lack for the color of a galaxy, (N,).

    Next to the band of the highest S/N a redder one is at most `FAINTER_RED` mag fainter, and a bluer one at most
    `FAINTER_BLUE`; u and g, which high redshifts darken, may have none.

    Args:
        bands: from blue to red, as u g r i z y.
        flux, noise: with its error, (N, band) [image unit]; NaN in an absent band.
        zero_point: (N, band) [mag].
    """
    unit = 10 ** (-0.4 * zero_point)
    light, error = flux * unit, noise * unit
    rows = np.arange(len(flux))
    best = np.nan_to_num(flux / noise, nan=-np.inf).argmax(axis=1)
    place = np.arange(len(bands))
    redder = place > best[:, None]
    least = np.where(redder, 10 ** (-0.4 * FAINTER_RED), 10 ** (-0.4 * FAINTER_BLUE))
    dark = np.array([band.lower() in "ug" for band in bands])
    least = np.where((place == best[:, None]) | (dark & ~redder), 0.0, least)
    lacking = np.clip(least * light[rows, best][:, None] - light, 0, None)
    scatter = np.hypot(error, least * error[rows, best][:, None])
    return np.asarray(np.nansum(np.where(least > 0, (lacking / scatter) ** 2, 0), axis=1))
