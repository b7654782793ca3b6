"""What several tests share: a table of estimates, the survey and its renderer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from deblend_assets.science.simulation.catalog import assign_split
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.rendering import ShardRenderer
from deblend_assets.science.simulation.surveys import SurveyModel, load_survey
from deblend_assets.settings import CatalogSettings, Profile

BANDS = ("u", "g", "r", "i", "z", "y")


def synthetic_estimates(
    scenes: int = 2000, *, slope: float = 0.8, noise: float = 0.06, offset: float = 0.0, seed: int = 11
) -> pd.DataFrame:
    """A table as the evaluation makes it: labels of scatter 0.13 a component, estimates on a known line with noise.

    The regressor has the line asked for; moments of the reconstruction have slope 0.6 and noise 0.08, one in a
    hundred fails. Similarities, fluxes, S/N and blendedness are of a realistic size.
    """
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"galtileid": rng.integers(0, scenes, scenes), "member": 0})
    for component in ("e1", "e2"):
        table[component] = np.clip(rng.normal(0, 0.13, scenes), -0.65, 0.65)
        table[f"{component}_regressor"] = slope * table[component] + offset + rng.normal(0, noise, scenes)
        table[f"{component}_regressor_err"] = noise
        table[f"{component}_reconstruction"] = 0.6 * table[component] + rng.normal(0, 0.08, scenes)
        for band in BANDS:
            # Withheld, a band costs some accuracy; taken for dark, more.
            table[f"{component}_masked_{band}"] = table[f"{component}_regressor"] + rng.normal(0, 0.02, scenes)
            table[f"{component}_dark_{band}"] = table[f"{component}_regressor"] + rng.normal(0, 0.08, scenes)
    for component in ("g1", "g2"):
        table[component] = np.clip(rng.normal(0, 0.25, scenes), -0.65, 0.65)
        table[f"{component}_regressor"] = 0.7 * table[component] + rng.normal(0, 0.1, scenes)
        table[f"{component}_regressor_err"] = 0.1
    table.loc[::100, ["e1_reconstruction", "e2_reconstruction"]] = np.nan
    table["snr"] = 10 ** rng.normal(1.8, 0.4, scenes)
    table["blendedness"] = np.where(rng.random(scenes) < 0.33, 0.0, 10 ** rng.normal(-2.0, 0.8, scenes).clip(max=-0.2))
    for kind, means in (("ssim", (0.6, 0.93, 0.895, 0.94)), ("cosine", (0.85, 0.985, 0.975, 0.988))):
        for name, mean in zip(("blend", "stage1_noisy", "stage1_blended", "stage2"), means, strict=True):
            table[f"{kind}_{name}"] = 1 - (1 - mean) * rng.gamma(4.0, 0.25, scenes)
        for band in BANDS:
            table[f"{kind}_stage2_{band}"] = table[f"{kind}_stage2"] + rng.normal(0, 0.002, scenes)
    for k, band in enumerate(BANDS):
        table[f"flux_isolated_{band}"] = 10 ** rng.normal(4 + 0.2 * k, 0.4, scenes)
        error = rng.normal(-0.02, 0.05 + 0.02 * abs(k - 2), scenes)
        table[f"flux_reconstruction_{band}"] = table[f"flux_isolated_{band}"] * (1 + error)
    return table


@pytest.fixture
def make_estimates() -> Callable[..., pd.DataFrame]:
    return synthetic_estimates


@pytest.fixture(scope="module")
def lsst() -> SurveyModel:
    return load_survey("LSST")


@pytest.fixture(scope="module")
def renderer(catalog: pd.DataFrame, profile: Profile, lsst: SurveyModel) -> ShardRenderer:
    return ShardRenderer(catalog, profile.simulation, lsst)


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """Generated galaxies as deep as the fields of worlds, with their splits."""
    population = generate_population(20_000, seed=4, i_max=27.0)
    ids = population["galtileid"].to_numpy()
    return population.assign(split=assign_split(ids, CatalogSettings().fractions, salt="1"))
