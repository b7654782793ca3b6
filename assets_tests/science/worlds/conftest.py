"""What the tests of worlds share: a catalogue as deep as their fields."""

from __future__ import annotations

import pandas as pd
import pytest

from deblend_assets.science.simulation.catalog import assign_split
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.settings import CatalogSettings


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """Generated galaxies with their splits."""
    population = generate_population(20_000, seed=4, i_max=27.0)
    ids = population["galtileid"].to_numpy()
    return population.assign(split=assign_split(ids, CatalogSettings().fractions, salt="1"))
