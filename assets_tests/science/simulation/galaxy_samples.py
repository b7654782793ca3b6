"""Random galaxies of every analytic morphology, more extreme than any catalogue's, for the tests of this folder."""

from __future__ import annotations

import numpy as np

from deblend_assets.science.simulation.galaxies import BULGE, DISC, KNOTS, Galaxies, Morphology


def random_galaxies(kind: Morphology, count: int, seed: int = 1) -> Galaxies:
    """Galaxies of axis ratios 0.1 to 1 in all orientations, indices 0.3 to 6, bulges of 5 to 90 % of the light."""
    rng = np.random.default_rng(seed)
    total = rng.uniform(100.0, 1000.0, (count, 6))
    fraction = rng.uniform(0.05, 0.9, (count, 1)) * np.linspace(0.6, 1.1, 6)  # redder than the disc
    flux = np.zeros((count, 6, 3))
    flux[:, :, BULGE] = 0.0 if kind == Morphology.SERSIC else total * fraction
    flux[:, :, DISC] = total - flux[:, :, BULGE]
    index = np.stack([rng.uniform(0.3, 6.0, count), np.full(count, 4.0)], axis=1)
    if kind != Morphology.SERSIC:
        index[:, 0] = 1.0
    hlr = np.exp(rng.normal([-1.0, -1.6], 0.5, (count, 2)))
    q, angle = rng.uniform(0.1, 1.0, (count, 2)), rng.uniform(0.0, np.pi, (count, 2))
    if kind == Morphology.ALIGNED:
        angle[:, 1] = angle[:, 0]
    shape = (1 - q) / (1 + q) * np.exp(2j * angle)
    knots, number = None, None
    if kind == Morphology.KNOTTED:
        number = rng.integers(5, 30, count)
        knots = rng.normal(size=(count, 30, 2)) * 0.7 * hlr[:, :1, None]
        knots[np.arange(30) >= number[:, None]] = 0.0
        flux[:, :, KNOTS], flux[:, :, DISC] = 0.4 * flux[:, :, DISC], 0.6 * flux[:, :, DISC]
    ids, redshift = np.arange(count), rng.uniform(0, 2, count)
    return Galaxies.build(ids, kind, redshift, flux, index, hlr, shape, knots, number)
