"""What the conditions request, tick by tick, on a real instance with runs that really end well or badly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets_tests.automation.stand_ins import (
    CATALOG,
    CUTOUTS,
    EVALUATION,
    MODEL,
    SHAPES,
    Storage,
    stand_in_assets,
)
from deblend_assets.assets.keys import SKY, TILE_ASSETS
from deblend_assets.partitions import TILES

TILE, OTHER = "DES0433-5331", "DES0436-5748"
ALL = set(TILE_ASSETS.values())


class Automation:
    """The sensor's ticks and the runs between them."""

    def __init__(self, storage: Storage) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.assets = stand_in_assets()
        self.defs = dg.Definitions(assets=self.assets, resources={"storage": storage})
        self._storage = storage
        self._cursor: Any = None

    def register(self, *tiles: str) -> None:
        self.instance.add_dynamic_partitions(TILES.name, tiles)

    def tick(self) -> set[tuple[str, dg.AssetKey]]:
        """(tile, asset) of everything requested."""
        result = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self._cursor)
        self._cursor = result.cursor
        return {(tile, key) for key in ALL for tile in result.get_requested_partitions(key)}

    def make(self, *keys: dg.AssetKey, tile: str | None = None) -> bool:
        """One run of these assets; whether it ended well."""
        return dg.materialize(
            self.assets,
            selection=list(keys),
            partition_key=tile,
            instance=self.instance,
            resources={"storage": self._storage},
            raise_on_error=False,
        ).success

    def begin(self, key: dg.AssetKey, tile: str) -> dg.DagsterRun:
        """A run of one asset that does not end by itself."""
        return self.instance.create_run_for_job(
            self.defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={key}),
            tags={"dagster/partition": tile},
            status=dg.DagsterRunStatus.STARTED,
            asset_selection=frozenset({key}),
        )


@pytest.fixture
def automation(storage: Storage) -> Automation:
    """Sky and model are there."""
    made = Automation(storage)
    made.make(SKY)
    made.make(MODEL)
    return made


def chain(tile: str, keys: set[dg.AssetKey] = ALL) -> set[tuple[str, dg.AssetKey]]:
    return {(tile, key) for key in keys}


def test_tiles_registered_before_and_after_the_first_tick_are_requested_whole_and_once(automation: Automation) -> None:
    automation.register(TILE)
    assert automation.tick() == chain(TILE), "registered before the first tick"
    automation.register(OTHER)
    assert automation.tick() == chain(OTHER)
    assert automation.make(*ALL, tile=TILE)
    assert automation.make(*ALL, tile=OTHER)
    assert [automation.tick() for _ in range(3)] == [set()] * 3


def test_a_tile_waits_for_the_sky_but_not_for_a_training(storage: Storage) -> None:
    """Where no model is trained the shipped one measures."""
    automation = Automation(storage)
    automation.register(TILE)
    assert automation.tick() == set(), "no sky to ask"
    automation.make(SKY)
    assert automation.tick() == chain(TILE)
    assert automation.make(*ALL, tile=TILE)
    assert automation.tick() == set()
    automation.make(MODEL)
    assert [automation.tick() for _ in range(2)] == [set()] * 2


def test_neither_a_retraining_nor_a_new_sky_requests_anything(automation: Automation) -> None:
    automation.register(TILE)
    automation.tick()
    automation.make(*ALL, tile=TILE)
    automation.tick()
    automation.make(MODEL)
    automation.make(SKY)
    assert [automation.tick() for _ in range(2)] == [set()] * 2


def test_new_data_of_a_tile_request_what_lies_downstream_of_it_alone(automation: Automation) -> None:
    automation.register(TILE, OTHER)
    automation.tick()
    for tile in (TILE, OTHER):
        automation.make(*ALL, tile=tile)
    automation.tick()
    automation.make(CUTOUTS, tile=TILE)
    assert automation.tick() == chain(TILE, {SHAPES, EVALUATION})
    automation.make(SHAPES, EVALUATION, tile=TILE)
    assert automation.tick() == set()


def test_the_weekly_run_of_shapes_and_evaluation_requests_nothing(automation: Automation) -> None:
    automation.register(TILE)
    automation.tick()
    automation.make(*ALL, tile=TILE)
    automation.tick()
    automation.make(SHAPES, EVALUATION, tile=TILE)
    assert [automation.tick() for _ in range(2)] == [set()] * 2


def test_a_failed_run_is_not_requested_again_until_someone_mends_it(automation: Automation, storage: Storage) -> None:
    fault = Path(storage.root) / f"{TILE}.im3shape_catalog.fails"
    fault.touch()
    automation.register(TILE)
    assert automation.tick() == chain(TILE)
    assert not automation.make(*ALL, tile=TILE)
    assert [automation.tick() for _ in range(3)] == [set()] * 3
    fault.unlink()
    assert automation.make(CATALOG, tile=TILE)
    assert automation.tick() == chain(TILE, ALL - {CATALOG})


def test_nothing_is_requested_while_a_run_of_the_tile_goes_on(automation: Automation) -> None:
    automation.register(TILE)
    run = automation.begin(CATALOG, TILE)
    assert automation.tick() == set(), "its own run"
    automation.instance.report_run_canceled(run)
    assert automation.tick() == chain(TILE)
    automation.make(*ALL, tile=TILE)
    automation.tick()
    run = automation.begin(CATALOG, TILE)
    automation.make(CUTOUTS, tile=TILE)
    assert automation.tick() == set(), "a run further upstream"
    automation.instance.report_run_canceled(run)
    assert automation.tick() == chain(TILE, {SHAPES, EVALUATION})


def test_a_tile_that_comes_back_is_requested_only_if_it_has_no_data(automation: Automation) -> None:
    automation.register(TILE, OTHER)
    automation.tick()
    automation.make(*ALL, tile=TILE)
    automation.tick()
    for tile in (TILE, OTHER):
        automation.instance.delete_dynamic_partition(TILES.name, tile)
    assert automation.tick() == set()
    automation.register(TILE, OTHER)
    assert automation.tick() == chain(OTHER)
