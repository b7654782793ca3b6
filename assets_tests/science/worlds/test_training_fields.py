"""Training fields: of their own galaxies and random numbers, observed as the worlds are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deblend_assets.science.worlds.kept_fields import KeptField, kept_field
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.science.worlds.training_fields import (
    TRAINING_WORLDS,
    TrainingField,
    observe_kept,
    training_arrays,
    training_fields,
)
from deblend_assets.science.worlds.world_fields import WorldFields
from deblend_assets.science.worlds.worlds import WORLDS
from deblend_assets.settings import CatalogSettings, Profile, TrainingFieldsSettings, load_profile


@pytest.fixture(scope="module")
def profile() -> Profile:
    profile = load_profile("smoke")
    return profile.model_copy(update={"field": profile.field.model_copy(update={"pixels": 80, "margin": 2.0})})


def fields_of(name: str, profile: Profile, table: pd.DataFrame) -> WorldFields:
    world, split = TRAINING_WORLDS[name], name.partition("_")[0]
    return WorldFields(world, profile, sky_catalog(table, CatalogSettings(), split, world.population))


def test_training_worlds_have_names_of_their_own_and_the_worlds_kinds() -> None:
    assert set(TRAINING_WORLDS) == {f"{s}_{k}" for s in ("train", "validation") for k in ("sky", "pairs", "report")}
    assert not TRAINING_WORLDS.keys() & WORLDS.keys()
    assert all(name == world.name and name.endswith(world.kind) for name, world in TRAINING_WORLDS.items())
    assert TRAINING_WORLDS["train_sky"].surveys == ("LSST", "DES", "HSC", "wide")
    assert {world.population for world in TRAINING_WORLDS.values()} == {"training", "report"}


def test_all_fields_of_a_split_are_listed_once_with_the_kinds_in_turn() -> None:
    settings = TrainingFieldsSettings(sky=5, pairs=2, report=1, validation=0.4)
    fields = training_fields(settings, "train")
    assert len(fields) == len(set(fields)) == 8
    assert [field.key for field in fields[:5]] == [
        "train_sky_0000",
        "train_pairs_0000",
        "train_report_0000",
        "train_sky_0001",
        "train_pairs_0001",
    ]
    validation = training_fields(settings, "validation")
    assert [field.world for field in validation].count("validation_sky") == 2
    assert [field.world for field in validation].count("validation_report") == 1
    assert {field.split for field in validation} == {"validation"}


def test_surveys_come_in_turn_and_fields_differ_from_those_of_the_worlds(profile: Profile, table: pd.DataFrame) -> None:
    train = fields_of("train_sky", profile, table)
    assert [train.field(number).sky.name for number in (0, 1, 2, 3, 5)] == ["LSST", "DES", "HSC", "wide", "DES"]
    catalog = sky_catalog(table, CatalogSettings(), "test", "training")
    world = WorldFields(WORLDS["sky_lsst"], profile, catalog).field(0)
    field, again = train.field(0), train.field(0)
    assert field.sky["r"].sigma != world.sky["r"].sigma
    assert field.truth.equals(again.truth)
    of_train = set(table.loc[table["split"] == "train", "galtileid"])
    assert set(field.truth.loc[~field.truth["star"], "id"]) <= of_train


@pytest.fixture(scope="module")
def kept_sky(profile: Profile, table: pd.DataFrame) -> KeptField:
    return kept_field(training_arrays(fields_of("train_sky", profile, table), 1))


def test_a_field_of_sky_has_masks_and_new_noise_with_each_seed(kept_sky: KeptField, profile: Profile) -> None:
    field = TrainingField("train_sky", 1)
    masked = profile.model_copy(update={"masks": profile.masks.model_copy(update={"missing": 1.0})})
    first, again, other = (observe_kept(kept_sky, field, seed, masked) for seed in (0, 0, 1))
    assert len(first) > 0
    assert (first.truth["snr"] >= profile.worlds.least_snr).all()
    assert (first.truth["field"] == 1).all()
    assert first.truth.equals(again.truth)
    np.testing.assert_array_equal(first.stamps.pixels, again.stamps.pixels)
    assert not np.isin(first.truth["snr"], other.truth["snr"]).any()
    assert (first.stamps.mask[:, 1:] != 0).any()


@pytest.mark.slow
def test_pairs_have_no_mask_and_the_reports_scenes_give_their_targets_alone(
    profile: Profile, table: pd.DataFrame
) -> None:
    pairs = kept_field(training_arrays(fields_of("train_pairs", profile, table), 1))
    assert len(pairs.truth) == len(fields_of("train_pairs", profile, table).field(1).truth)
    found = observe_kept(pairs, TrainingField("train_pairs", 1), 0, profile)
    assert (found.truth["survey"] == "DES").all()
    report = kept_field(training_arrays(fields_of("train_report", profile, table), 0))
    first = report.truth.groupby("cluster").head(1).index
    found = observe_kept(report, TrainingField("train_report", 0), 0, profile)
    assert 32 < len(found) <= 64
    assert found.truth["source"].isin(first).all()
    assert found.truth["source"].is_unique
    assert not found.truth["correlated"].any()
