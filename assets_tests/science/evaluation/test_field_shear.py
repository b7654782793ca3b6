"""Mean shapes of a field: the sign of a lens as TreeCorr has it, slopes, and too few galaxies."""

from __future__ import annotations

import numpy as np
import pytest

from deblend_assets.science.evaluation.field_shear import LEAST, shear_around, shear_by, slope_of

SHEAR, SCATTER, N = 0.05, 0.2, 4000
EDGES = np.geomspace(5.0, 60.0, 5)


def lensed(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Places (u west, v north) around a lens at 0, and shapes of galaxies behind it."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-60, 60, (N, 2))
    phi = np.arctan2(places[:, 1], places[:, 0])
    g = rng.normal(0, SCATTER, (N, 2)) - SHEAR * np.stack([np.cos(2 * phi), np.sin(2 * phi)], axis=1)
    return places, g


def test_a_lens_of_known_shear_is_positive_and_has_no_cross_component() -> None:
    places, g = lensed()
    found = shear_around(np.zeros((1, 2)), places, g, EDGES)
    assert (found.number > 40).all()
    assert (np.abs(found.mean[:, 0] - SHEAR) < 4 * found.error[:, 0]).all()
    assert (np.abs(found.mean[:, 1]) < 4 * found.error[:, 1]).all()
    expected = np.repeat(SCATTER / np.sqrt(found.number)[:, None], 2, axis=1)
    np.testing.assert_allclose(found.error, expected, rtol=0.2)


def test_it_is_treecorr_s_without_a_flip() -> None:
    treecorr = pytest.importorskip("treecorr")
    places, g = lensed()
    # u is to the west: right ascension falls with it.
    ra, dec = 150 - places[:, 0] / 3600 / np.cos(np.radians(2 + places[:, 1] / 3600)), 2 + places[:, 1] / 3600
    units = {"ra_units": "deg", "dec_units": "deg"}
    lens = treecorr.Catalog(ra=[150.0], dec=[2.0], **units)
    ng = treecorr.NGCorrelation(
        min_sep=EDGES[0], max_sep=EDGES[-1], nbins=len(EDGES) - 1, sep_units="arcsec", brute=True
    )
    ng.process(lens, treecorr.Catalog(ra=ra, dec=dec, g1=g[:, 0], g2=g[:, 1], **units))
    found = shear_around(np.zeros((1, 2)), places, g, EDGES)
    assert (ng.xi > 0).all()
    # A galaxy at a ring's edge may be in the next ring of the sphere.
    assert (np.abs(found.mean[:, 0] - ng.xi) < 0.2 * found.error[:, 0]).all()
    assert (np.abs(found.mean[:, 1] - ng.xi_im) < 0.2 * found.error[:, 1]).all()


def test_rings_of_few_pairs_are_left_out() -> None:
    places, g = lensed()
    few = shear_around(np.zeros((1, 2)), places[: LEAST * 3], g[: LEAST * 3], np.array([5.0, 6.0, 59.0]))
    assert len(few.at) == 1
    assert not len(shear_around(np.zeros((0, 2)), places, g, EDGES).at)


def test_means_and_slopes_by_a_quantity() -> None:
    rng = np.random.default_rng(5)
    psf = rng.normal(0, 0.02, 3000)
    g = rng.normal(0, 0.2, (3000, 2)) + np.stack([0.5 * psf, 0 * psf], axis=1)
    found = shear_by(psf, g)
    assert len(found.at) == 8
    assert found.number.sum() == 3000
    np.testing.assert_allclose(found.error, 0.2 / np.sqrt(375), rtol=0.15)
    one, two = slope_of(psf, g[:, 0]), slope_of(psf, g[:, 1])
    assert one.error == pytest.approx(0.2 / 0.02 / np.sqrt(3000), rel=0.1)
    assert abs(one.value - 0.5) < 3 * one.error
    assert abs(two.value) < 3 * two.error
    assert np.polyfit(found.at, found.mean[:, 0], 1)[0] == pytest.approx(one.value, abs=2 * one.error)


def test_what_does_not_vary_and_what_is_few_has_no_bins() -> None:
    g = np.random.default_rng(1).normal(0, 0.2, (100, 2))
    assert not len(shear_by(np.full(100, 0.03) + 1e-9 * np.arange(100), g).at)
    assert np.isnan(slope_of(np.full(100, 0.03), g[:, 0]).value)
    assert not len(shear_by(np.arange(LEAST - 1.0), g[: LEAST - 1]).at)
    assert len(shear_by(np.arange(2.0 * LEAST), g[: 2 * LEAST]).at) == 2
    assert np.isnan(slope_of(np.arange(LEAST - 1.0), g[: LEAST - 1, 0]).value)
