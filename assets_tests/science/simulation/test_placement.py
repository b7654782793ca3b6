"""Galaxies on the sky: their density, their correlation function as asked, and what lies beyond the edge."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial import cKDTree

from deblend_assets.errors import CatalogError, SettingsError
from deblend_assets.science.simulation import relations
from deblend_assets.science.simulation.counts import thin_to_measured
from deblend_assets.science.simulation.placement import correlation_asked, member_share, place_galaxies

EDGES = np.array([1.0, 2, 4, 8, 15, 30])
SIDE = 400.0


def catalogue(i_max: float, n: int = 50_000) -> tuple[np.ndarray, float]:
    """Magnitudes of the published counts, and their density [1/arcmin²]."""
    i_mag = relations.sample_magnitudes(np.random.default_rng(1), n, relations.I_BRIGHTEST, i_max)
    return i_mag, density(i_max)


def density(i_max: float) -> float:
    return float(relations.count_density(i_max) - relations.count_density(relations.I_BRIGHTEST))


def measured(i_max: float, limit: float, fields: int) -> tuple[np.ndarray, np.ndarray, float]:
    """w(θ) of galaxies brighter than a limit in the bins of `EDGES`, its error from field to field, their density."""
    i_mag, per_area = catalogue(i_max)
    rng = np.random.default_rng(2)
    random = (density(limit) / 3600) ** 2 * (SIDE - 60) ** 2 * np.pi * np.diff(EDGES**2)
    excess, number = [], 0
    for _ in range(fields):
        placed = place_galaxies(i_mag, per_area, SIDE, SIDE, 0.0, rng)
        bright = i_mag[placed.row] < limit
        points = np.stack([placed.x, placed.y], axis=1)[bright]
        # Every neighbour within 30 arcsec of a galaxy of the inner part is in the field.
        inner = points[(np.abs(points) < SIDE / 2 - 30).all(axis=1)]
        pairs = np.diff(cKDTree(inner).count_neighbors(cKDTree(points), EDGES)) if len(inner) else np.zeros(5)
        excess.append(pairs / random - 1)
        number += len(points)
    values = np.array(excess)
    return values.mean(axis=0), values.std(axis=0) / fields**0.5, number / fields / (SIDE / 60) ** 2


def asked(limit: float) -> np.ndarray:
    """The published function, averaged over each bin's area."""
    return np.array(
        [correlation_asked(np.sqrt(np.linspace(a * a, b * b, 99)), limit).mean() for a, b in itertools.pairwise(EDGES)]
    )


def test_the_published_function() -> None:
    # θ0 is 1 arcsec at r = 21.5, which is i = 21.1; w falls by 0.28 dex a magnitude.
    assert correlation_asked(np.array([1.0]), 21.1)[0] == pytest.approx(1.0)
    assert correlation_asked(np.array([10.0]), 22.1)[0] == pytest.approx(10 ** (-0.7 - 0.28))


def test_share_of_clustered_galaxies_adds_up() -> None:
    """The mean of f over the catalogue down to i is F, and w falls as F²; for other counts than the power law's too."""
    i_mag, per_area = catalogue(26.0, 200_000)
    thinned = i_mag[thin_to_measured(i_mag, len(i_mag) / per_area, np.random.default_rng(7))[0]]
    for magnitudes in (i_mag, thinned):
        share = member_share(magnitudes)
        assert 0 < share.min() < share.max() <= 1
        assert share.max() > 0.98
        for limit in (20.0, 23.0, 26.0):
            assert share[magnitudes < limit].mean() == pytest.approx(10 ** (-0.14 * (limit - 18)), rel=0.04)


@pytest.mark.parametrize(("i_max", "limit", "fields"), [(21.5, 21.5, 500), (23.5, 22.5, 300)])
def test_measured_correlation_is_the_one_asked_for(i_max: float, limit: float, fields: int) -> None:
    """Also of a part of the galaxies, brighter than the faintest."""
    w, error, per_area = measured(i_max, limit, fields)
    wanted = asked(limit)
    assert per_area == pytest.approx(density(limit), rel=0.03)
    assert (np.abs(w - wanted) < 3 * error + 0.02 * wanted).all(), (w, wanted, error)
    assert (error[:4] < 0.3 * wanted[:4]).all(), "the test could not see a wrong amplitude"


def test_places_fill_the_margin_and_nothing_beyond() -> None:
    i_mag, per_area = catalogue(26.0)
    placed = place_galaxies(i_mag, per_area, 60.0, 40.0, 10.0, np.random.default_rng(3))
    assert 38 < np.abs(placed.x).max() < 40
    assert 28 < np.abs(placed.y).max() < 30
    assert (placed.cluster == -1).mean() == pytest.approx(1 - 10 ** (-0.14 * 8), abs=0.06)
    assert len(np.unique(placed.row)) > 0.95 * len(placed)


def test_the_same_seed_gives_the_same_places() -> None:
    i_mag, per_area = catalogue(24.0)
    first, second, other = (
        place_galaxies(i_mag, per_area, 100.0, 100.0, 5.0, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first.x.tobytes() == second.x.tobytes()
    assert first.row.tobytes() == second.row.tobytes()
    assert first.x.tobytes() != other.x.tobytes()


def test_bad_input_is_one_clear_error() -> None:
    with pytest.raises(CatalogError, match="no galaxies"):
        place_galaxies(np.zeros(0), 1.0, 10.0, 10.0, 0.0, np.random.default_rng(1))
    with pytest.raises(SettingsError, match="density -1"):
        place_galaxies(np.ones(3), -1.0, 10.0, 10.0, 0.0, np.random.default_rng(1))
