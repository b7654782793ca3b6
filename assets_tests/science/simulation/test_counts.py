"""Catalogues thinned to measured counts."""

from __future__ import annotations

import numpy as np
import pytest

from deblend_assets.errors import CatalogError
from deblend_assets.science.simulation import relations
from deblend_assets.science.simulation.counts import measured_density, thin_to_measured


def science_book(i_max: float, n: int) -> tuple[np.ndarray, float]:
    """Magnitudes of the LSST Science Book's power law, and the area that so many galaxies cover [arcmin²]."""
    i_mag = relations.sample_magnitudes(np.random.default_rng(1), n, 18.0, i_max)
    return i_mag, n / float(relations.count_density(i_max) - relations.count_density(18.0))


def test_measured_density_is_the_table_and_goes_on_smoothly() -> None:
    # 10^4.54 a square degree and magnitude at i = 23.25.
    assert measured_density(23.25) == pytest.approx(10**4.54 / 3600)
    assert measured_density(18.25) / measured_density(19.25) == pytest.approx(10**-0.44)
    assert measured_density(27.25) / measured_density(26.25) == pytest.approx(10**0.2)
    fine = measured_density(np.arange(18, 28, 0.01))
    assert (np.diff(np.log10(fine)) > 0).all()


def test_science_book_agrees_where_it_was_fitted() -> None:
    i = np.arange(21.25, 25.0, 0.5)
    power_law = (relations.count_density(i + 0.25) - relations.count_density(i - 0.25)) / 0.5
    assert power_law / measured_density(i) == pytest.approx(1.0, abs=0.17)


@pytest.mark.parametrize(("i_max", "n"), [(28.0, 60_000), (24.7, 20_000)])
def test_a_thinned_catalogue_has_the_measured_counts(i_max: float, n: int) -> None:
    """Within 20 % in every bin of at least 100 galaxies, from a catalogue that is off by up to a factor of two."""
    i_mag, area = science_book(i_max, n)
    rows, covered = thin_to_measured(i_mag, area, np.random.default_rng(2))
    assert 0.5 * n < len(rows) < n
    edges = np.arange(18.0, i_max - 0.4, 0.5)
    middle = 0.5 * (edges[1:] + edges[:-1])
    found = np.histogram(i_mag[rows], edges)[0]
    expected = covered * 0.5 * measured_density(middle)
    full = found >= 100
    assert full.sum() > 8
    assert (np.abs(found / expected - 1)[full] < 0.05 + 4 / np.sqrt(found[full])).all()
    assert (np.abs(found / expected - 1)[found >= 1000] < 0.1).all()


def test_too_few_galaxies_are_refused() -> None:
    with pytest.raises(CatalogError, match="too few"):
        thin_to_measured(np.linspace(18, 28, 30), 1.0, np.random.default_rng(1))
