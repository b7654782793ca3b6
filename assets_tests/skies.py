"""A simulated survey for tests: real scenes, small tiles."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from deblend_assets.science.simulated_survey.sky import TileSky, assemble_tile, sky_simulation, tile_shard
from deblend_assets.science.simulation.rendering import RenderedScenes, ShardRenderer
from deblend_assets.science.simulation.surveys import SurveyModel, load_survey
from deblend_assets.settings import DesSettings, Profile
from deblend_assets.stores.sky import SimulatedSky


def small_sky(profile: Profile, cells: int = 3) -> DesSettings:
    """The profile's DES leg with tiles of cells × cells scenes."""
    return profile.des.model_copy(update={"sky": profile.des.sky.model_copy(update={"cells": cells})})


def render_tile(catalog: pd.DataFrame, settings: DesSettings, survey: SurveyModel, name: str) -> RenderedScenes:
    shard = tile_shard(settings, name)
    return ShardRenderer(catalog, sky_simulation(settings), survey).render(shard, 0, shard.scenes)


def draw_tiles(catalog: pd.DataFrame, settings: DesSettings) -> list[TileSky]:
    survey = load_survey(settings.simulation.survey)
    return [
        assemble_tile(name, render_tile(catalog, settings, survey, name), survey, settings)
        for name in settings.sky.tiles
    ]


def draw_sky(catalog: pd.DataFrame, settings: DesSettings, folder: Path) -> SimulatedSky:
    """A finished survey on disk, with the identity "test"."""
    sky = SimulatedSky(folder)
    sky.write(draw_tiles(catalog, settings), "test", {})
    return sky
