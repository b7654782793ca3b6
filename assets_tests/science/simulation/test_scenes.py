"""Scenes: who may meet whom, and where."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deblend_assets.errors import CatalogError
from deblend_assets.science.simulation.scenes import SceneSampler, all_shards, scene_seed
from deblend_assets.settings import Profile, SimulationSettings


def draw(catalog: pd.DataFrame, settings: SimulationSettings, n: int = 400) -> pd.DataFrame:
    sampler = SceneSampler(catalog, settings, 0.2)
    shards = all_shards(settings)
    tables = []
    for k in range(n):
        shard = shards[k % len(shards)]
        scene = k // len(shards)
        rng = np.random.default_rng(scene_seed(settings, shard, scene))
        tables.append(
            sampler.sample(shard.split, rng.random((1, sampler.numbers_per_scene))).assign(split=shard.split, number=k)
        )
    return pd.concat(tables, ignore_index=True).merge(
        catalog.reset_index(names="row")[["row", "i_ab", "split"]].rename(columns={"split": "home"}), on="row"
    )


def test_every_galaxy_stays_in_its_split(catalog: pd.DataFrame, profile: Profile) -> None:
    scenes = draw(catalog, profile.simulation)
    assert (scenes["split"] == scenes["home"]).all()
    assert set(scenes["split"]) == {"train", "validation", "test"}


def test_the_target_is_bright_first_and_near_the_centre(catalog: pd.DataFrame, profile: Profile) -> None:
    settings = profile.simulation
    scenes = draw(catalog, settings)
    targets, neighbours = scenes[scenes["member"] == 0], scenes[scenes["member"] > 0]
    assert (targets["i_ab"] <= settings.target_i_max).all()
    assert neighbours["i_ab"].between(settings.neighbour_i_min, settings.neighbour_i_max).all()
    limit = settings.dither_pixels * 0.2
    assert targets[["x_arcsec", "y_arcsec"]].abs().to_numpy().max() <= limit
    assert targets["x_arcsec"].std() == pytest.approx(2 * limit / 12**0.5, rel=0.15)
    distance = np.hypot(neighbours["x_arcsec"], neighbours["y_arcsec"])
    assert distance.max() <= settings.neighbour_radius_arcsec + 2**0.5 * limit
    # Uniform over the disc: half of them beyond radius / sqrt(2).
    assert (distance > settings.neighbour_radius_arcsec / 2**0.5).mean() == pytest.approx(0.5, abs=0.1)


def test_one_to_three_galaxies_equally_often(catalog: pd.DataFrame, profile: Profile) -> None:
    counts = draw(catalog, profile.simulation).groupby("number").size().value_counts()
    assert set(counts.index) == {1, 2, 3}
    assert counts.min() > 0.25 * counts.sum()


def test_a_neighbour_is_fainter_than_its_target_wherever_the_limits_lie(
    catalog: pd.DataFrame, profile: Profile
) -> None:
    settings = profile.simulation.model_copy(update={"neighbour_i_min": 19.0, "target_i_max": 25.0})
    scenes = draw(catalog, settings)
    target = scenes[scenes["member"] == 0].set_index("number")["i_ab"]
    neighbours = scenes[scenes["member"] > 0]
    assert (neighbours["i_ab"].to_numpy() > target.loc[neighbours["number"]].to_numpy()).all()
    assert (neighbours["i_ab"] < 24.3).any()


def test_shear_moves_the_neighbours_as_a_lens_does(catalog: pd.DataFrame, profile: Profile) -> None:
    sheared = profile.simulation.model_copy(update={"shear_g1": 0.1, "shear_g2": -0.05})
    plain_scenes, sheared_scenes = (
        draw(catalog, s.model_copy(update={"dither_pixels": 0.0}), 60) for s in (profile.simulation, sheared)
    )
    matrix = np.array([[1.1, -0.05], [-0.05, 0.9]]) / (1 - 0.1**2 - 0.05**2) ** 0.5
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    expected = plain_scenes[["x_arcsec", "y_arcsec"]].to_numpy() @ matrix.T
    np.testing.assert_allclose(sheared_scenes[["x_arcsec", "y_arcsec"]].to_numpy(), expected, atol=1e-12)


def test_a_catalogue_without_targets_is_refused(catalog: pd.DataFrame, profile: Profile) -> None:
    faint = catalog[catalog["i_ab"] > 25]
    with pytest.raises(CatalogError, match="train split can be a target"):
        SceneSampler(faint, profile.simulation, 0.2)


def test_shards_tile_the_arrays_without_gap(profile: Profile) -> None:
    shards = all_shards(profile.simulation)
    assert [s.start for s in shards] == [k * profile.simulation.shard_scenes for k in range(len(shards))]
    assert [s.key for s in shards] == ["train_000", "train_001", "train_002", "train_003", "validation_000",
                                       "test_000", "test_001"]  # fmt: skip
