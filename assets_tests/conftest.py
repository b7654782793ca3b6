"""Fixtures shared by all tests: a smoke profile, its catalogue, and one small simulation drawn once."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from deblend_assets.science.simulation.catalog import assign_split
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.settings import Profile, load_profile


@pytest.fixture(scope="session")
def profile() -> Profile:
    return load_profile("smoke")


@pytest.fixture(scope="session")
def catalog(profile: Profile) -> pd.DataFrame:
    """A small generated catalogue with its splits."""
    galaxies = generate_population(profile.catalog.galaxies, profile.catalog.seed)
    ids = galaxies["galtileid"].to_numpy()
    return galaxies.assign(split=assign_split(ids, profile.catalog.fractions, salt=str(profile.catalog.seed)))


@pytest.fixture(autouse=True)
def _own_storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test writes into the checkout's storage folder, and none depends on the caller's profile."""
    monkeypatch.setenv("DEBLEND_STORAGE", str(tmp_path / "storage"))
    monkeypatch.delenv("DEBLEND_PROFILE", raising=False)
