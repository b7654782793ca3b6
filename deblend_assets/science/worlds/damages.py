"""Damage that one stamp can show, done to observed stamps on purpose: to see whether a measurement flags it.

Each function takes stamps and the truth of their targets, and gives damaged stamps, nothing else changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import fft

from deblend_assets.science.stamps.correlation import on_torus
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import ObservedStamps, sky_sigma

Floats = NDArray[np.float64]
Damaging = Callable[[ObservedStamps, pd.DataFrame, np.random.Generator], ObservedStamps]

# AB mag / arcsec² of the dark sky at zenith of Cerro Pachón (SMTN-002, table of the LSST sky).
DARK_SKY = MappingProxyType({"u": 22.95, "g": 22.24, "r": 21.20, "i": 20.47, "z": 19.60, "y": 18.63})
# Light that a cosmic ray or a trail adds: the greater of a share of the target's and of a multiple of a pixel's noise.
_SHARE, _NOISES = 0.2, 10.0
_FILL = -9999.0


def _sigma(stamps: ObservedStamps) -> Floats:
    """Noise of each band, (N, band) [image unit]; 0 in an absent band."""
    return np.nan_to_num(sky_sigma(stamps.inverse_variance))


def _with_pixels(stamps: ObservedStamps, pixels: NDArray[np.floating]) -> ObservedStamps:
    return replace(stamps, pixels=pixels.astype(np.float32))


def noise_alone(stamps: ObservedStamps, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise as the stamps say that it is, (N, band, y, x) [image unit].

    Correlation beyond the lags that a stamp keeps is cut off; what is negative of its power is left out.
    """
    sigma = _sigma(stamps)
    side = stamps.side + stamps.noise_correlation.shape[-1]
    found = np.zeros_like(stamps.pixels)
    for n, band in np.argwhere(stamps.present):
        lags = stamps.noise_correlation[n, band].astype(np.float64)
        power = np.maximum(fft.fft2(on_torus(lags, (side, side))).real, 0)
        noise = fft.ifft2(fft.fft2(rng.standard_normal((side, side))) * np.sqrt(power / power.mean())).real
        found[n, band] = sigma[n, band] * noise[: stamps.side, : stamps.side]
    return found


def blank_sky(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
    """No light, noise alone."""
    return _with_pixels(stamps, noise_alone(stamps, rng))


def sky_left_in(share: float) -> Damaging:
    """A share of the dark sky's light in every pixel (`DARK_SKY`)."""

    def damaged(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
        sky = np.array([DARK_SKY[band.lower()] for band in stamps.bands])
        level = 10 ** (0.4 * (np.nan_to_num(stamps.zero_point) - sky)) * stamps.pixel_scale[:, None] ** 2
        return _with_pixels(stamps, stamps.pixels + (share * level)[:, :, None, None])

    return damaged


def constant(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
    """Every pixel ten σ."""
    return _with_pixels(stamps, np.broadcast_to(10 * _sigma(stamps)[:, :, None, None], stamps.pixels.shape))


def zero(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
    """Every pixel 0, with its weight."""
    return _with_pixels(stamps, np.zeros_like(stamps.pixels))


def negated(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
    """The image times -1."""
    return _with_pixels(stamps, -stamps.pixels)


def cosmic_ray(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
    """A track of three pixels within two pixels of the target, one band, unmasked."""
    return _traced(stamps, truth, rng, length=1.0, width=0.4, within=2.0)


def trail(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
    """A satellite's trail through the stamp within two pixels of the target, one band, unmasked, as wide as a PSF.

    The light that it adds is that within five pixels of the target.
    """
    return _traced(stamps, truth, rng, length=np.inf, width=1.3, within=2.0)


def _traced(
    stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator, length: float, width: float, within: float
) -> ObservedStamps:
    pixels, sigma = stamps.pixels.copy(), _sigma(stamps)
    for n in range(len(stamps)):
        band = int(rng.choice(np.flatnonzero(stamps.present[n])))
        angle, turn = rng.uniform(0, 2 * np.pi, 2)
        middle = stamps.position[n] + rng.uniform(0, within) * np.array([np.cos(turn), np.sin(turn)])
        y, x = np.mgrid[: stamps.side, : stamps.side]
        dx, dy = x - middle[0], y - middle[1]
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        beyond = np.maximum(np.abs(along) - length, 0)
        track = np.exp(-0.5 * (across**2 + beyond**2) / width**2)
        near = (x - stamps.position[n, 0]) ** 2 + (y - stamps.position[n, 1]) ** 2 < 25
        flux = np.nan_to_num(truth[f"flux_{stamps.bands[band]}"].to_numpy()[n])
        light = max(_SHARE * flux, _NOISES * sigma[n, band])
        pixels[n, band] += (light * track / track[near].sum()).astype(np.float32)
    return _with_pixels(stamps, pixels)


def saturated_core(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
    """The target's core lost in every band, and said so: SATURATED where it is above half of its peak."""
    mask, weight, pixels = stamps.mask.copy(), stamps.inverse_variance.copy(), stamps.pixels.copy()
    y, x = np.mgrid[: stamps.side, : stamps.side]
    for n in range(len(stamps)):
        near = (x - stamps.position[n, 0]) ** 2 + (y - stamps.position[n, 1]) ** 2 < 9
        for band in np.flatnonzero(stamps.present[n]):
            core = near & (pixels[n, band] > 0.5 * pixels[n, band][near].max())
            mask[n, band][core] |= int(MaskBit.SATURATED)
            weight[n, band][core] = 0
            pixels[n, band][core] = 0
    return replace(stamps, mask=mask, inverse_variance=weight, pixels=pixels)


def clipped_core(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
    """Every band clipped at half of the target's peak, and not said so."""
    pixels = stamps.pixels.copy()
    y, x = np.mgrid[: stamps.side, : stamps.side]
    for n in range(len(stamps)):
        near = (x - stamps.position[n, 0]) ** 2 + (y - stamps.position[n, 1]) ** 2 < 9
        for band in np.flatnonzero(stamps.present[n]):
            np.minimum(pixels[n, band], 0.5 * pixels[n, band][near].max(), out=pixels[n, band])
    return _with_pixels(stamps, pixels)


def off_centre(pixels: float) -> Damaging:
    """The position that is given is so far from the detection's, in a random direction."""

    def damaged(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
        angle = rng.uniform(0, 2 * np.pi, len(stamps))
        return replace(stamps, position=stamps.position + pixels * np.stack([np.cos(angle), np.sin(angle)], axis=1))

    return damaged


def larger_than_the_stamp(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
    """An exponential disc as large as the stamp (scale length a third of its side) that is 20 σ in its middle."""
    y, x = np.mgrid[: stamps.side, : stamps.side]
    pixels = noise_alone(stamps, rng)
    sigma = _sigma(stamps)
    for n in range(len(stamps)):
        radius = np.hypot(x - stamps.position[n, 0], y - stamps.position[n, 1])
        pixels[n] += (20 * sigma[n, :, None, None] * np.exp(-3 * radius / stamps.side)).astype(np.float32)
    return _with_pixels(stamps, np.where(stamps.present[:, :, None, None], pixels, 0))


def brighter(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
    """Brought to a total of 10^7 σ a band, weights as they were."""
    flux = np.nan_to_num(truth[[f"flux_{band}" for band in stamps.bands]].to_numpy(np.float64))
    factor = 1e7 * _sigma(stamps) / np.maximum(flux, _sigma(stamps))
    return _with_pixels(stamps, stamps.pixels * np.where(stamps.present, factor, 1)[:, :, None, None])


def noise_stated(factor: float) -> Damaging:
    """Standard deviations said to be the true ones times a factor."""

    def damaged(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
        return replace(stamps, inverse_variance=(stamps.inverse_variance / factor**2).astype(np.float32))

    return damaged


def one_band(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
    """Light in the brightest band alone, the others noise; stamps of one band stay as they are."""
    pixels = noise_alone(stamps, rng)
    flux = np.nan_to_num(truth[[f"flux_{band}" for band in stamps.bands]].to_numpy(np.float64))
    signal = np.where(stamps.present, flux / np.maximum(_sigma(stamps), 1e-30), -np.inf)
    rows, brightest = np.arange(len(stamps)), signal.argmax(axis=1)
    pixels[rows, brightest] = stamps.pixels[rows, brightest]
    return _with_pixels(stamps, np.where(stamps.present[:, :, None, None], pixels, 0))


def filled_edge(value: float) -> Damaging:
    """Columns from two pixels right of the target on hold a value, with their weights."""

    def damaged(stamps: ObservedStamps, truth: pd.DataFrame, rng: np.random.Generator) -> ObservedStamps:
        beyond = np.arange(stamps.side) > stamps.position[:, :1] + 2
        return _with_pixels(stamps, np.where(beyond[:, None, None], np.float32(value), stamps.pixels))

    return damaged


DAMAGES: Mapping[str, Damaging] = MappingProxyType(
    {
        "blank sky": blank_sky,
        "sky left in, 0.3 %": sky_left_in(0.003),
        "sky left in, 1 %": sky_left_in(0.01),
        "sky left in": sky_left_in(1.0),
        "constant": constant,
        "zero": zero,
        "negated": negated,
        "cosmic ray": cosmic_ray,
        "trail": trail,
        "saturated core, masked": saturated_core,
        "core clipped": clipped_core,
        "3 pixels off centre": off_centre(3.0),
        "larger than the stamp": larger_than_the_stamp,
        "brighter than any": brighter,
        "noise stated 1.5 times too low": noise_stated(1 / 1.5),
        "noise stated 1.5 times too high": noise_stated(1.5),
        "light in one band alone": one_band,
        "edge filled with 0": filled_edge(0.0),
        "edge filled with -9999": filled_edge(_FILL),
    }
)
"""By name; each is to be flagged, or measured right (docs/trust.md)."""
SLIGHT: Mapping[str, Damaging] = MappingProxyType(
    {"1 pixel off centre": off_centre(1.0), "2 pixels off centre": off_centre(2.0)}
)
"""By name; to be measured right, without a flag."""
