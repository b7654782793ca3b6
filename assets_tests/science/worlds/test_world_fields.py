"""Worlds: their shards, their groups of sources, their galaxies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deblend_assets.errors import CatalogError
from deblend_assets.science.simulation.galaxies import Morphology
from deblend_assets.science.simulation.sources import SkyCatalog, limit_in_i
from deblend_assets.science.skies.named import sample_sky
from deblend_assets.science.stamps.cutting import cut
from deblend_assets.science.worlds.cells import CELLS, cell_side
from deblend_assets.science.worlds.pairs import SEPARATION, sample_pairs, sample_singles
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.science.worlds.targets import Targets
from deblend_assets.science.worlds.world_fields import WorldFields
from deblend_assets.science.worlds.worlds import WORLDS, WorldShard, morphologies, shards_of_world
from deblend_assets.settings import (
    CatalogSettings,
    FieldSettings,
    FieldSkySettings,
    Profile,
    WorldsSettings,
    load_profile,
)


@pytest.fixture(scope="module")
def catalog(table: pd.DataFrame) -> SkyCatalog:
    return sky_catalog(table, CatalogSettings(), "test", "training")


@pytest.fixture(scope="module")
def profile() -> Profile:
    profile = load_profile("smoke")
    field = profile.field.model_copy(update={"pixels": 96, "margin": 3.0, "psf_cells": 1})
    return profile.model_copy(update={"field": field})


def test_shards_hold_all_targets_of_a_world_once() -> None:
    settings = WorldsSettings(pairs=1_250, shard_targets=500)
    shards = shards_of_world(WORLDS["pairs"], settings)
    assert [shard.scenes for shard in shards] == [500, 500, 250]
    assert [shard.key for shard in shards] == ["pairs_000", "pairs_001", "pairs_002"]


def test_each_population_holds_test_galaxies_of_its_morphologies_alone(table: pd.DataFrame) -> None:
    test = set(table.loc[table["split"] == "test", "galtileid"])
    for population, number in (("report", 1), ("training", 2), ("new", 2)):
        galaxies = sky_catalog(table, CatalogSettings(), "test", population).galaxies
        assert set(galaxies.id) <= test
        kinds = {Morphology(kind) for kind in np.unique(galaxies.morphology)}
        assert kinds <= set(morphologies(population))
        assert len(kinds) == number
    assert not set(morphologies("training")) & set(morphologies("new")) - {Morphology.COSMOS}


def test_a_split_without_galaxies_is_named(table: pd.DataFrame) -> None:
    with pytest.raises(CatalogError, match="no galaxy of the split test"):
        sky_catalog(table[table["split"] != "test"], CatalogSettings(), "test", "training")


def test_pairs_are_pairs(catalog: SkyCatalog) -> None:
    settings = FieldSettings()
    distances, dmags, sizes, stars = [], [], [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        side = CELLS * cell_side(33, SEPARATION[1], 0.2)
        sky = sample_sky(FieldSkySettings(bands=("r", "i"), psf_varies=False), (side, side), rng)
        sources = sample_pairs(catalog, sky, settings, rng)
        mag, limit = sources.bodies.magnitudes()[:, 3], limit_in_i(sky)
        for cell in range(CELLS**2):
            rows = np.flatnonzero(sources.cluster == cell)
            sizes.append(len(rows))
            first = rows[0]
            assert mag[first] < limit
            offset = np.hypot(sources.x[rows] - sources.x[first], sources.y[rows] - sources.y[first]) * sky.pixel_scale
            distances += offset[1:].tolist()
            dmags += (mag[rows[1:]] - mag[first]).tolist()
            stars.append(sources.star[rows].sum())
            apart = np.hypot(sources.x - sources.x[first], sources.y - sources.y[first])
            assert apart[sources.cluster != cell].min() > 33 / 2  # no stamp holds a source of another cell
    number = len(sizes)
    assert set(sizes) <= {2, 3}
    for share in (np.mean(np.array(sizes) == 3), np.mean(stars)):
        assert share == pytest.approx(0.1, abs=3 * (0.09 / number) ** 0.5)
    assert min(distances) >= SEPARATION[0]
    assert max(distances) <= SEPARATION[1]
    assert np.mean(distances) == pytest.approx(np.mean(SEPARATION), abs=4 * 0.98 / number**0.5)
    assert np.abs(np.median(dmags)) < 0.3
    assert np.percentile(np.abs(dmags), 98) < 2.3


def test_singles_are_alone_and_as_bright_and_large_as_close_pairs(catalog: SkyCatalog) -> None:
    rng = np.random.default_rng(1)
    side = CELLS * cell_side(33, SEPARATION[1], 0.2)
    sky = sample_sky(FieldSkySettings(bands=("i",), psf_varies=False), (side, side), rng)
    settings = FieldSettings()
    singles = [sample_singles(catalog, sky, settings, np.random.default_rng(k)) for k in range(4)]
    pairs = [sample_pairs(catalog, sky, settings, np.random.default_rng(k)) for k in range(4)]
    mag = np.concatenate([s.bodies.magnitudes()[:, 3] for s in singles])
    assert all(np.array_equal(np.sort(s.cluster), np.arange(CELLS**2)) for s in singles)
    total = []
    for sources in pairs:
        flux = 10 ** (-0.4 * sources.bodies.magnitudes()[:, 3])
        for cell in range(CELLS**2):
            rows = np.flatnonzero(sources.cluster == cell)[:2]
            total.append(-2.5 * np.log10(flux[rows].sum()))
    error = (np.var(mag) / len(mag) + np.var(total) / len(total)) ** 0.5
    assert np.mean(mag) == pytest.approx(np.mean(total), abs=4 * error)
    size = np.concatenate([s.shapes.hlr for s in singles])
    alone = np.median(catalog.shapes.hlr[catalog.galaxies.magnitudes()[:, 3] < limit_in_i(sky)])
    assert np.median(size) > 1.2 * alone  # wider than a galaxy of their kind


@pytest.fixture(scope="module")
def fields(profile: Profile, table: pd.DataFrame) -> dict[str, WorldFields]:
    catalog = sky_catalog(table, profile.catalog, "test", "training")
    return {name: WorldFields(WORLDS[name], profile, catalog) for name in ("sky_des", "pairs")}


@pytest.mark.slow
def test_a_shard_is_the_same_again_and_another_one_is_not(fields: dict[str, WorldFields]) -> None:
    for name, world in fields.items():
        first, again, other = (world.shard(WorldShard(name, index, 12)) for index in (0, 0, 1))
        assert len(first) == 12
        assert first.truth.equals(again.truth)
        for part, values in first.stamps.arrays().items():
            np.testing.assert_array_equal(values, again.stamps.arrays()[part])
        assert not first.truth["x"].isin(other.truth["x"]).any()


def test_pairs_take_the_surveys_in_turn(fields: dict[str, WorldFields]) -> None:
    names = [fields["pairs"].field(number).sky.name for number in (0, 1, 2, 1000)]
    assert names == ["LSST", "DES", "HSC", "DES"]
    assert fields["sky_des"].field(3).sky.name == "DES"


def test_a_field_without_a_target_is_passed_over(
    fields: dict[str, WorldFields], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fields["sky_des"]
    full = world.targets(1)
    found = {0: full.rows(slice(0, 0)), 1: full}
    # A field's own cut of no detection has a PSF of one pixel.
    nothing = cut(world.field(0).observed_image(world.observed(0).seen, 31), [], [], world.profile.stamps.side)
    found[0] = Targets(nothing.in_bands(full.stamps.bands), found[0].truth)
    monkeypatch.setattr(WorldFields, "targets", lambda self, number: found[number])
    shard = world.shard(WorldShard("sky_des", 0, 3))
    assert len(shard) == 3
    assert (shard.truth["field"] == 1).all()
