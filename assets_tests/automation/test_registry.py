"""Adding, listing and retiring tiles on a real instance with SQLite on disk."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from assets_tests.automation.stand_ins import CATALOG, EVALUATION, Storage, stand_in_assets
from assets_tests.dagster_internals import (
    AssetBackfillData,
    PartitionBackfill,
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from deblend_assets.automation.dagster_internals import BulkActionStatus
from deblend_assets.automation.registries import TILE_REGISTRY
from deblend_assets.automation.registry_rows import evaluations, list_rows
from deblend_assets.errors import BusyError, CorruptDataError, SettingsError
from deblend_assets.partitions import TILES
from deblend_assets.stores.files import exclusive_lock

A, B, C = "DES0433-5331", "DES0000+0015", "DES2359-6000"
# a queued run must say where its job comes from
ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("nowhere"), "nothing"), "nothing")


@dg.job
def nothing() -> None:
    """A job whose runs are fabricated."""


def fabricate(instance: dg.DagsterInstance, status: str, **tags: str) -> str:
    tags = {f"dagster/{key}": value for key, value in tags.items()}
    status_ = dg.DagsterRunStatus(status)
    return instance.create_run_for_job(nothing, status=status_, tags=tags, remote_job_origin=ORIGIN).run_id


def evaluate(instance: dg.DagsterInstance, tile: str, model_version: str) -> None:
    event = dg.AssetMaterialization(EVALUATION, partition=tile, metadata={"model_version": model_version})
    instance.report_runless_asset_event(event)


def test_adding_is_idempotent_and_keeps_the_order(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    assert TILE_REGISTRY.add(instance, tmp_path, [B, A, B]) == [B, A]
    assert TILE_REGISTRY.add(instance, tmp_path, [A, C]) == [C]
    assert TILE_REGISTRY.registered(instance) == [B, A, C]
    assert TILES.get_partition_keys(dynamic_partitions_store=instance) == [B, A, C]


@pytest.mark.parametrize("name", ["../../etc", "DES2400+0000", "des0433-5331", "", f"{A}\n", f"{A} "])
def test_what_is_no_tile_is_refused_and_nothing_is_registered(
    instance: dg.DagsterInstance, tmp_path: Path, name: str
) -> None:
    with pytest.raises(SettingsError, match="not a tile's name"):
        TILE_REGISTRY.add(instance, tmp_path, [A, name])
    assert TILE_REGISTRY.registered(instance) == []
    assert list(tmp_path.glob("tiles/*.json")) == []


def test_a_retired_tile_is_remembered_until_it_is_added_again(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    TILE_REGISTRY.add(instance, tmp_path, [A, B])
    evaluate(instance, A, "first")
    assert TILE_REGISTRY.retire(instance, tmp_path, [A]) == [A]
    assert TILE_REGISTRY.registered(instance) == [B]
    assert TILE_REGISTRY.retired(tmp_path) == {A}
    assert evaluations(instance, EVALUATION)[A].model_version == "first", "history stays"
    assert TILE_REGISTRY.add(instance, tmp_path, [A]) == [A]
    assert TILE_REGISTRY.retired(tmp_path) == set()
    assert TILE_REGISTRY.registered(instance) == [B, A]


def test_an_unknown_tile_is_one_clear_line_and_nothing_is_retired(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    TILE_REGISTRY.add(instance, tmp_path, [A])
    with pytest.raises(SettingsError) as caught:
        TILE_REGISTRY.retire(instance, tmp_path, [A, C])
    assert str(caught.value).startswith(f"{C}: not registered [tiles retire]: ")
    assert TILE_REGISTRY.registered(instance) == [A]


@pytest.mark.parametrize("name", ["../../etc", "tile of mine", "x" * 300])
def test_a_bad_name_that_the_ui_took_is_retired_and_not_remembered(
    instance: dg.DagsterInstance, tmp_path: Path, name: str
) -> None:
    instance.add_dynamic_partitions(str(TILES.name), [name, A])
    assert TILE_REGISTRY.retire(instance, tmp_path, [name, A]) == [name, A]
    assert TILE_REGISTRY.registered(instance) == []
    assert TILE_REGISTRY.retired(tmp_path) == {A}
    with pytest.raises(SettingsError, match="not registered") as caught:
        TILE_REGISTRY.retire(instance, tmp_path, [name])
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("status", ["NOT_STARTED", "QUEUED", "STARTING", "STARTED", "CANCELING"])
def test_a_tile_with_a_run_under_way_is_not_retired(instance: dg.DagsterInstance, tmp_path: Path, status: str) -> None:
    TILE_REGISTRY.add(instance, tmp_path, [A, B])
    run_id = fabricate(instance, status, partition=A)
    with pytest.raises(BusyError, match=f"{A} has a run {run_id} under way"):
        TILE_REGISTRY.retire(instance, tmp_path, [B, A])
    assert TILE_REGISTRY.registered(instance) == [A, B]
    assert TILE_REGISTRY.retired(tmp_path) == set()
    assert TILE_REGISTRY.retire(instance, tmp_path, [B]) == [B], "the other tile is free"


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "CANCELED"])
def test_a_run_that_ended_is_no_hindrance(instance: dg.DagsterInstance, tmp_path: Path, status: str) -> None:
    TILE_REGISTRY.add(instance, tmp_path, [A])
    fabricate(instance, status, partition=A)
    assert TILE_REGISTRY.retire(instance, tmp_path, [A]) == [A]


def test_a_run_of_several_tiles_holds_all_of_them(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    TILE_REGISTRY.add(instance, tmp_path, [A, B, C])
    run_id = fabricate(instance, "STARTED", asset_partition_range_start=A, asset_partition_range_end=B)
    fabricate(instance, "STARTED", partition="train_000")
    assert TILE_REGISTRY.under_way(instance) == {A: f"run {run_id}", B: f"run {run_id}"}


def test_a_backfill_that_has_no_run_yet_holds_its_tiles(
    instance: dg.DagsterInstance, tmp_path: Path, storage: Storage
) -> None:
    TILE_REGISTRY.add(instance, tmp_path, [A, B])
    graph = dg.Definitions(assets=stand_in_assets(), resources={"storage": storage}).resolve_asset_graph()
    for tile, status in ((A, BulkActionStatus.REQUESTED), (B, BulkActionStatus.COMPLETED_SUCCESS)):
        instance.add_backfill(
            PartitionBackfill.from_asset_partitions(
                backfill_id=f"of_{tile}",
                asset_graph=graph,
                partition_names=[tile],
                asset_selection=[CATALOG],
                backfill_timestamp=0.0,
                tags={},
                dynamic_partitions_store=instance,
                all_partitions=False,
                title=None,
                description=None,
                run_config=None,
            ).with_status(status)
        )
    (stored,) = instance.get_backfills(status=BulkActionStatus.REQUESTED)
    assert isinstance(stored.asset_backfill_data, AssetBackfillData)
    assert TILE_REGISTRY.under_way(instance) == {A: f"backfill of_{A}"}


def test_the_list_says_when_with_which_model_and_what_is_to_do(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    TILE_REGISTRY.add(instance, tmp_path, [A, B, C])
    for tile, version in ((A, "first"), (B, "first"), (A, "second")):
        evaluate(instance, tile, version)
    TILE_REGISTRY.retire(instance, tmp_path, [C])
    rows = {row.name: row for row in list_rows(TILE_REGISTRY, instance, tmp_path, EVALUATION, "second")}
    assert list(rows) == sorted([A, B, C])
    assert {name: row.state for name, row in rows.items()} == {A: "evaluated", B: "stale", C: "retired"}
    assert [rows[C].registered, rows[C].evaluation] == [False, None]
    assert rows[A].evaluation.model_version == "second", "the latest one"
    assert rows[A].evaluation.at >= rows[B].evaluation.at > 1.7e9
    TILE_REGISTRY.add(instance, tmp_path, [C])
    fabricate(instance, "STARTED", partition=B)
    states = {row.name: row.state for row in list_rows(TILE_REGISTRY, instance, tmp_path, EVALUATION, None)}
    assert states == {A: "evaluated", B: "under way", C: "waiting"}
    for status, state in (("FAILURE", "failed"), ("SUCCESS", "waiting")):
        fabricate(instance, status, partition=C)
        assert list_rows(TILE_REGISTRY, instance, tmp_path, EVALUATION, None)[-1].state == state


def test_two_changes_at_once_are_one_clear_line(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    with (
        exclusive_lock(tmp_path / "tiles" / "retired.lock", "the list"),
        pytest.raises(BusyError, match="the list of retired tiles is being written by process"),
    ):
        TILE_REGISTRY.add(instance, tmp_path, [A])
    assert TILE_REGISTRY.registered(instance) == []


@pytest.mark.parametrize("text", ["{", '{"a": 1}', "[1]"])
def test_a_damaged_list_of_retired_tiles_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "retired.json").write_text(text)
    with pytest.raises(CorruptDataError, match=r"retired\.json"):
        TILE_REGISTRY.retired(tmp_path)
