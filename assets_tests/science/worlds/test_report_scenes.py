"""The world of the report's scenes: its light is that of the report's renderer, and its targets are its scenes'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from deblend_assets.science.simulation.field_light import FieldRenderer
from deblend_assets.science.simulation.rendering import ShardRenderer
from deblend_assets.science.simulation.scenes import Shard, scene_seed
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.worlds.cells import CELLS, cell_side
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.science.worlds.report_scenes import nominal_sky, sample_report_scenes
from deblend_assets.science.worlds.world_fields import WorldFields
from deblend_assets.science.worlds.worlds import WORLDS
from deblend_assets.settings import Profile

_PIXELS = 45


class _Given(np.random.Generator):
    """Random numbers of the report's scenes; cells are not moved."""

    def __init__(self, given: Any) -> None:
        super().__init__(np.random.PCG64(0))
        self._given = given

    def random(self, size: Any = None) -> Any:  # type: ignore[override]
        assert size == self._given.shape
        return self._given

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return np.zeros(size)


@pytest.mark.parametrize("shear", [0.0, 0.05])
def test_the_light_is_that_of_the_reports_own_renderer(profile: Profile, catalog: pd.DataFrame, shear: float) -> None:
    settings = profile.simulation.model_copy(
        update={"shear_g1": shear, "shear_g2": -shear / 2, "stamp_pixels": _PIXELS}
    )
    survey = load_survey(settings.survey)
    renderer = ShardRenderer(catalog, settings, survey)
    shard = Shard("test", 0, 0, CELLS**2)
    light = renderer.light(shard, 0, shard.scenes)
    seeds = [scene_seed(settings, shard, k).spawn(3)[0] for k in range(shard.scenes)]
    uniform = np.stack([np.random.default_rng(seed).random(renderer.sampler.numbers_per_scene) for seed in seeds])

    side = cell_side(2 * _PIXELS + 1, 0.0, survey.pixel_scale)
    sky = nominal_sky(survey, CELLS * side)
    galaxies = sky_catalog(catalog, profile.catalog, "test", "report")
    sources = sample_report_scenes(galaxies, sky, settings, _Given(uniform))
    np.testing.assert_array_equal(sources.bodies.id, light.truth["galtileid"])
    field = FieldRenderer(sky)
    np.testing.assert_allclose(sky.column("sigma"), survey.frame(settings).sky_sigma)
    for scene in range(0, shard.scenes, 7):
        row, column = (k * side + side // 2 for k in divmod(scene, CELLS))
        half = _PIXELS // 2
        own = sources.cluster == scene  # the wings of a bright galaxy reach other cells
        cut = field.light(sources.bodies[own], sources.x[own], sources.y[own])[
            :, row - half : row + half + 1, column - half : column + half + 1
        ]
        # Sources of a field are cut off where they fall below a hundredth of the sky's scatter.
        limit = 1e-3 * light.together[scene].max(axis=(1, 2)) + 0.05 * sky.column("sigma")
        assert (np.abs(cut - light.together[scene]).max(axis=(1, 2)) < limit).all()


def test_each_target_is_that_of_a_scene(profile: Profile, catalog: pd.DataFrame) -> None:
    galaxies = sky_catalog(catalog, profile.catalog, "test", "report")
    fields = WorldFields(WORLDS["report"], profile, galaxies)
    found, sources = fields.targets(0), fields.field(0).sources
    source = found.truth["source"].to_numpy()
    assert len(np.unique(source)) == len(source) > 0.9 * CELLS**2
    first = np.unique(sources.cluster, return_index=True)[1]
    assert np.isin(source, first).all()
    magnitudes = sources.bodies.magnitudes()[:, 3]
    beside = ~np.isin(np.arange(len(sources)), first)
    assert magnitudes[first].max() < magnitudes[beside].min()
    assert not found.truth["correlated"].any()
    assert not found.stamps.mask.any()
    assert found.truth["fwhm_arcsec"].nunique() == 1
