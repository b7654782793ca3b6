"""The Sérsic profile I(r) ~ exp(-b (r/r_e)^(1/n)), r_e the half-light radius: light within a radius, transform, extent.

Formulae of Graham & Driver (2005, PASA 22, 118; astro-ph/0503176), Eq. 1 to 5. Radii are in half-light radii, fluxes in
the whole light. The exponential disc is n = 1, the de Vaucouleurs bulge n = 4.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, special
from scipy.interpolate import CubicSpline

N_MIN, N_MAX = 0.3, 6.2
"""Indices that GalSim can render, which are those of all profiles here."""

# FFTLog's grid, uniform in the logarithms of r and k over 40 e-folds; of k, those of `TRANSFORM_LN_K` are kept.
_POINTS, _RANGE = 8192, 40.0
_ROWS = 156  # steps of 2 %: linear interpolation over n errs by 5e-6
TRANSFORM_LN_K = (np.log(1e-4), np.log(1e4))
FOLDED = 0.005
"""Share of the light beyond the radius that sets a Fourier grid's step: GalSim's `folding_threshold`."""

Floats = NDArray[np.float64]


def b_of(n: ArrayLike) -> Floats:
    """The b of index n, which makes r_e the half-light radius: P(2n, b) = 1/2."""
    return np.asarray(special.gammaincinv(2.0 * np.asarray(n, np.float64), 0.5))


def light_within(radius: ArrayLike, n: ArrayLike) -> Floats:
    """Share of the light of a round profile within a radius [half-light radii]; broadcasts."""
    index = np.asarray(n, np.float64)
    return np.asarray(special.gammainc(2.0 * index, b_of(index) * np.asarray(radius, np.float64) ** (1.0 / index)))


def radius_holding(share: ArrayLike, n: ArrayLike) -> Floats:
    """Radius [half-light radii] that holds a share of the light; the inverse of `light_within`."""
    index = np.asarray(n, np.float64)
    return np.asarray((special.gammaincinv(2.0 * index, share) / b_of(index)) ** index)


def concentration(n: ArrayLike) -> Floats:
    """5 log10(r80 / r20) of index n, radii of ellipses of the profile's own shape; broadcasts."""
    return np.asarray(5.0 * np.log10(radius_holding(0.8, n) / radius_holding(0.2, n)))


@lru_cache(maxsize=1)
def _indices_by_concentration() -> CubicSpline:
    """ln n as a function of the concentration, which rises with it."""
    ln_n = np.linspace(np.log(N_MIN), np.log(N_MAX), _ROWS)
    return CubicSpline(concentration(np.exp(ln_n)), ln_n)


def index_of_concentration(values: ArrayLike) -> tuple[Floats, Floats]:
    """Index n of a concentration, and its derivative by it; the inverse of `concentration` to 1e-6.

    A concentration that no index between `N_MIN` and `N_MAX` has gives the nearest index, and the derivative there.
    """
    spline = _indices_by_concentration()
    within = np.clip(np.asarray(values, np.float64), spline.x[0], spline.x[-1])
    n = np.exp(spline(within))
    return n, n * spline(within, 1)


def surface_brightness(radius: ArrayLike, n: ArrayLike) -> Floats:
    """Light per area [1 / half-light radius²] at a radius of a round profile of unit light; broadcasts."""
    index = np.asarray(n, np.float64)
    b = b_of(index)
    norm = b ** (2.0 * index) / (2.0 * np.pi * index * special.gamma(2.0 * index))
    return np.asarray(norm * np.exp(-b * np.asarray(radius, np.float64) ** (1.0 / index)))


def step_in_k(n: ArrayLike) -> Floats:
    """GalSim's `stepk` of a profile of half-light radius 1: π / R, R holding all but `FOLDED` of the light.

    R is at least five scale radii (r_e / bⁿ), as in GalSim, whose parameter `stepk_minimum_hlr` counts in those.
    """
    index = np.asarray(n, np.float64)
    return np.pi / np.maximum(radius_holding(1.0 - FOLDED, index), 5.0 / b_of(index) ** index)


@lru_cache(maxsize=1)
def transform_table() -> tuple[Floats, Floats, NDArray[np.float32]]:
    """Transforms of round profiles of half-light radius 1 and unit light, over n and the wave number.

    The Hankel transform of order 0 by FFTLog (Hamilton 2000, MNRAS 312, 257; astro-ph/9905191). It agrees with the
    closed forms of n = 1/2 and n = 1 to 1e-13.

    Returns:
        ln n, (rows,), and ln k, (nodes,), both evenly spaced and rising; transforms, (rows, nodes) float32.
    """
    ln_n = np.linspace(np.log(N_MIN), np.log(N_MAX), _ROWS)
    step = _RANGE / _POINTS
    ln_r = (np.arange(_POINTS) - (_POINTS - 1) / 2) * step
    offset = fft.fhtoffset(step, mu=0.0)
    ln_k = ln_r + offset
    kept = (ln_k > TRANSFORM_LN_K[0]) & (ln_k < TRANSFORM_LN_K[1])
    rows = []
    for n in np.exp(ln_n):
        r = np.exp(ln_r)
        hankel = fft.fht(r * surface_brightness(r, n), step, mu=0.0, offset=offset)
        rows.append((2.0 * np.pi * hankel / np.exp(ln_k))[kept].astype(np.float32))
    return ln_n, ln_k[kept], np.stack(rows)


LIGHT_LN_R = np.linspace(-16.0, 8.0, 3001)
"""ln radius [half-light radii] of the columns of `light_table`."""


@lru_cache(maxsize=1)
def _light_table() -> Floats:
    return light_within(np.exp(LIGHT_LN_R), np.exp(transform_table()[0])[:, None])


def light_table(n: ArrayLike) -> Floats:
    """`light_within` of some indices at the radii of `LIGHT_LN_R`, (..., 3001), interpolated over n to 1e-5."""
    place = (np.log(np.asarray(n, np.float64)) - np.log(N_MIN)) / (np.log(N_MAX / N_MIN) / (_ROWS - 1))
    row = np.clip(place.astype(np.int64), 0, _ROWS - 2)
    table, part = _light_table(), (place - row)[..., None]
    return np.asarray((1.0 - part) * table[row] + part * table[row + 1])
