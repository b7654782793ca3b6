"""Rows of imagined catalogues: galaxies of the population with the errors of measured ones, without images.

An image and its measurement cost a tenth of a second a galaxy; these rows cost microseconds. What they lack is
what a measurement does wrong: measured rows are trained on beside them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.stamps.conventions import CATSIM_BANDS

Floats = NDArray[np.float64]
# Scatter of ln noise about that of a measured galaxy, of all bands together and of each: for skies between theirs.
_DEPTH, _DEPTH_OF_BAND = 0.4, 0.15
# Share of the galaxies with light of others under their model, its mean, and how much of that light a fit leaves.
_BLENDED, _SHARED, _LEFT = 0.4, 0.1, 0.1
# Share with an unrecognised source, and how bright these are.
_UNRECOGNIZED, _BRIGHT = 0.06, (0.05, 0.5)
_AT_ONCE = 200_000


class MockRows(NamedTuple):
    """N galaxies; as `photometry.Photometry`, but for `flux`, which is without noise.

    Attributes:
        flux, noise: (N, 6) [nJy]; NaN in an absent band.
        common, shared: (N,).
        z: (N,).
    """

    flux: Floats
    noise: Floats
    common: Floats
    shared: Floats
    z: Floats


def mock_rows(
    flux: Floats, z: Floats, noise: Floats, common: Floats, number: int, least_snr: float, rng: np.random.Generator
) -> MockRows:
    """Galaxies that would be detected, with their true fluxes and the errors of a measurement.

    Args:
        flux: of galaxies, as many at each magnitude as on the sky, (G, 6) [nJy].
        z: their redshifts, (G,).
        noise, common: of measured galaxies, (K, 6) and (K,): each row takes those of a random one.
        number: of rows.
        least_snr: of the flux over all bands.
        rng: random numbers.
    """
    parts: list[MockRows] = []
    missing = number
    while missing > 0:
        chosen, measured = rng.integers(len(flux), size=_AT_ONCE), rng.integers(len(noise), size=_AT_ONCE)
        depth = _DEPTH * rng.standard_normal((_AT_ONCE, 1)) + _DEPTH_OF_BAND * rng.standard_normal((_AT_ONCE, 6))
        errors = noise[measured] * np.exp(depth)
        signal = flux[chosen] / errors + rng.standard_normal(errors.shape)
        seen = np.flatnonzero(np.sqrt(np.nansum(np.clip(signal, 0, None) ** 2, axis=1)) >= least_snr)[:missing]
        chosen, errors = chosen[seen], errors[seen]
        shared, light = _with_others(flux[chosen], flux[rng.permutation(chosen)], rng)
        light = np.where(np.isfinite(errors), light, np.nan)
        parts.append(MockRows(light, errors, common[measured[seen]], shared, z[chosen]))
        missing -= len(seen)
    return MockRows(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _with_others(flux: Floats, others: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Share of other detections' light, and fluxes with what is left of it and of unrecognised sources."""
    number, i = len(flux), CATSIM_BANDS.index("i")
    alike = others * (flux[:, i] / np.maximum(others[:, i], 1e-30))[:, None]
    shared = np.where(rng.random(number) < _BLENDED, np.clip(rng.exponential(_SHARED, number), 0, 0.9), 0.0)
    left = _LEFT * rng.standard_normal(number) * shared / (1 - shared)
    added = np.where(rng.random(number) < _UNRECOGNIZED, rng.uniform(*_BRIGHT, number), 0.0)
    return shared, flux + (left + added)[:, None] * alike
