"""A simulated survey for tests: small tiles, made once a test run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from assets_tests.shared import made_once
from deblend_assets.science.simulated_survey.sky import TileSky, observe_tile, sample_tile
from deblend_assets.science.simulation.fields import Field
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.settings import Profile
from deblend_assets.stores.sky import SimulatedSky

SIDE = 200


def small_sky(profile: Profile, **changes: object) -> Profile:
    """The profile with tiles of 200 pixels, or with other `changes` of [des.sky]."""
    sky = profile.des.sky.model_copy(update={"pixels": SIDE, **changes})
    return profile.model_copy(update={"des": profile.des.model_copy(update={"sky": sky})})


def tile_field(catalog: pd.DataFrame, profile: Profile, name: str) -> Field:
    """The field of one tile, of which nothing was rendered yet."""
    galaxies = sky_catalog(catalog, profile.catalog, "test", "training")
    return sample_tile(name, galaxies, load_survey("DES"), profile)


def draw_tiles(catalog: pd.DataFrame, profile: Profile) -> list[TileSky]:
    survey = load_survey("DES")
    return [observe_tile(n, tile_field(catalog, profile, n), survey, profile) for n in profile.des.sky.tiles]


def shared_tiles(
    factory: pytest.TempPathFactory, catalog: pd.DataFrame, profile: Profile
) -> tuple[Path, list[TileSky]]:
    """Both tiles of `small_sky`, and the folder of the finished survey, with the identity "test"; only read."""

    def make(root: Path) -> list[TileSky]:
        tiles = draw_tiles(catalog, small_sky(profile))
        SimulatedSky(root / "sky").write(tiles, "test", {})
        return tiles

    root, tiles = made_once(factory, "small_sky", make)
    return root / "sky", tiles


def shared_sky(factory: pytest.TempPathFactory, catalog: pd.DataFrame, profile: Profile) -> SimulatedSky:
    """The survey of `shared_tiles`."""
    return SimulatedSky(shared_tiles(factory, catalog, profile)[0])
