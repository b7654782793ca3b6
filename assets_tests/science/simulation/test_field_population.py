"""Galaxies of fields against published counts and the sizes of COSMOS galaxies."""

from __future__ import annotations

import numpy as np
import pytest

from deblend_assets.science.simulation import relations
from deblend_assets.science.simulation.catalog import CATSIM_COLUMNS
from deblend_assets.science.simulation.galaxies import Galaxies, Morphology
from deblend_assets.science.simulation.morphologies import NEW_MIX, TRAINING_MIX, shaped_galaxies
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.population_checks import check_field_galaxies

N = 20_000
I_MAX = 26.5


@pytest.fixture(scope="module")
def catalog() -> dict[str, np.ndarray]:
    population = generate_population(N, 5, i_max=I_MAX, counts="observed")
    return {name: population[name].to_numpy() for name in CATSIM_COLUMNS}


@pytest.fixture(scope="module")
def area() -> float:
    return N / relations.observed_count(18.0, I_MAX)


def test_the_density_is_the_published_one() -> None:
    """log10 of galaxies a square degree and magnitude: COSMOS2020, Table 2; HSC between i = 20 and 20.5."""
    for i_mag, log_density in ((19.25, 3.01), (22.25, 4.21), (24.25, 4.86), (26.25, 5.29)):
        assert np.log10(3600 * relations.observed_density(i_mag)) == pytest.approx(log_density)
    assert 3600 * relations.observed_count(20.0, 20.5) == pytest.approx(3201.5 - 1921.0, rel=0.1)
    assert 3600 * relations.observed_count(24.0, 24.5) == pytest.approx(101_782 - 67_130, rel=0.06)
    assert relations.observed_count(20.0, 28.0) == pytest.approx(
        relations.observed_count(20.0, 24.0) + relations.observed_count(24.0, 28.0)
    )
    assert relations.observed_density(27.25) / relations.observed_density(26.25) == pytest.approx(10**0.21)


def test_magnitudes_follow_it(catalog: dict[str, np.ndarray]) -> None:
    i_mag = catalog["i_ab"]
    for limit in (21.0, 23.0, 25.0, 26.0):
        share = relations.observed_count(18.0, limit) / relations.observed_count(18.0, I_MAX)
        assert (i_mag < limit).mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / N))
    side = (catalog["ra"].max() - catalog["ra"].min()) * 60
    assert side**2 == pytest.approx(N / relations.observed_count(18.0, I_MAX), rel=0.01)


@pytest.mark.parametrize(
    "mix", [pytest.param(TRAINING_MIX, id="training"), pytest.param(NEW_MIX, id="new", marks=pytest.mark.slow)]
)
def test_counts_and_sizes_agree_with_what_is_published(
    catalog: dict[str, np.ndarray], area: float, mix: dict[Morphology, float]
) -> None:
    bright = catalog["i_ab"] < (24.5 if mix is TRAINING_MIX else 23.2)  # truth of knots takes its time
    galaxies = shaped_galaxies({name: values[bright] for name, values in catalog.items()}, mix, seed=2)
    checks = check_field_galaxies(galaxies, area)
    assert all(check.passed for check in checks), [check for check in checks if not check.passed]
    for kind in ("counts", "radius"):
        assert sum(kind in check.name for check in checks) >= 4
    assert all(abs(check.measured - 1) < 0.2 for check in checks), "also without the sampling error"


def test_other_galaxies_fail(catalog: dict[str, np.ndarray], area: float) -> None:
    """The report's are larger than COSMOS galaxies; a power law has too many bright ones."""
    some = catalog["i_ab"] < 24.5
    report = Galaxies.of_catsim({name: values[some] for name, values in catalog.items()})
    failed = [check.name for check in check_field_galaxies(report, area) if not check.passed]
    assert any("radius" in name for name in failed)
    assert not any("counts" in name for name in failed)
    population = generate_population(N, 5, i_max=I_MAX)
    power_law = Galaxies.of_catsim({name: population[name].to_numpy() for name in CATSIM_COLUMNS})
    area = N / float(relations.count_density(I_MAX) - relations.count_density(18.0))
    failed = [check.name for check in check_field_galaxies(power_law, area) if not check.passed]
    assert any("counts, 26.0" in name for name in failed)
