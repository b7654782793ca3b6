"""The weekly schedule under Dagster's own scheduler, whose clock the test sets, with runs that really take place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.automation import stand_ins
from assets_tests.automation.daemons import Scheduler, scheduler_over
from assets_tests.automation.stand_ins import (
    CATALOG,
    CUTOUTS,
    EVALUATION,
    MEASURED,
    QUALITY,
    SHAPES,
    Storage,
    stand_in_definitions,
)
from assets_tests.dagster_internals import partition_loading_context
from deblend_assets.assets.keys import FIELD_ASSETS, TILE_ASSETS
from deblend_assets.automation.missing_tiles import MISSING_TILES, MISSING_TILES_JOB
from deblend_assets.automation.schedules import STALE_FIELDS, STALE_TILES, build_schedules
from deblend_assets.partitions import FIELDS, TILES
from deblend_assets.settings import PROFILE_FOLDER, Profile

A, B, C, D, E, F = (f"DES000{n}+0000" for n in range(6))


@pytest.fixture
def scheduler(home: Path, code_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scheduler]:
    """Two tiles a week."""
    few = tmp_path / "few.toml"
    section, smoke = "[des.tiles]\n", (PROFILE_FOLDER / "smoke.toml").read_text()
    assert section in smoke
    few.write_text(smoke.replace(section, f"{section}reevaluations_per_week = 2\n"))
    monkeypatch.setenv("DEBLEND_PROFILE", str(few))
    with (home / "dagster.yaml").open("a") as settings:
        settings.write("run_coordinator: {module: dagster.core.run_coordinator, class: QueuedRunCoordinator}\n")
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        scheduler_over(stand_ins.__name__, instance) as opened,
    ):
        yield opened


def evaluate(instance: dg.DagsterInstance, tile: str, model_version: str) -> None:
    """Report an evaluation, and the cutouts that it is of."""
    instance.report_runless_asset_event(dg.AssetMaterialization(CUTOUTS, partition=tile))
    event = dg.AssetMaterialization(EVALUATION, partition=tile, metadata={"model_version": model_version})
    instance.report_runless_asset_event(event)


def tiles(runs: list[dg.DagsterRun]) -> list[str]:
    return [run.tags["dagster/partition"] for run in runs]


def test_stale_tiles_are_evaluated_again_in_batches_the_oldest_first_and_none_twice(
    scheduler: Scheduler, storage: Storage
) -> None:
    instance, model = scheduler.instance, Path(storage.model)
    instance.add_dynamic_partitions(TILES.name, [A, B, C, D, E])  # E is not evaluated, F is retired
    for tile, version in ((C, "first"), (A, "first"), (F, "first"), (B, "first"), (D, "second")):
        evaluate(instance, tile, version)
    model.unlink()
    assert scheduler.next_monday() == []
    assert scheduler.reason.startswith("no model")

    model.write_text("second")
    (Path(storage.root) / f"{C}.des_evaluation.fails").touch()
    runs = scheduler.next_monday()
    assert tiles(runs) == [C, A]
    assert {run.asset_selection for run in runs} == {frozenset({SHAPES, EVALUATION})}
    assert [run.tags["dagster/run_key"] for run in runs] == [f"{C}:second", f"{A}:second"]
    assert scheduler.run(*runs) == ["FAILURE", "SUCCESS"]
    assert tiles(scheduler.next_monday()) == [B], "not the one that failed"
    assert scheduler.next_monday() == [], "B's run has been requested"
    assert scheduler.reason == "no tile left to evaluate with model second"

    # The next model: C has the oldest evaluation still, D's is older than A's; B's run waits in the queue.
    model.write_text("third")
    assert tiles(scheduler.next_monday()) == [C, D]
    assert tiles(scheduler.next_monday()) == [A]
    assert scheduler.next_monday() == []


def test_fields_that_an_older_model_measured_are_measured_again(
    profile: Profile, instance: dg.DagsterInstance, storage: Storage
) -> None:
    """The same schedule over fields: catalogue and page, not images and detections."""
    instance.add_dynamic_partitions(str(FIELDS.name), ["a", "b", "c"])
    for name, version in (("a", "first"), ("b", "second")):
        event = dg.AssetMaterialization(QUALITY, partition=name, metadata={"model_version": version})
        instance.report_runless_asset_event(event)
    Path(storage.model).write_text("second")
    definitions = stand_in_definitions(profile, storage)
    schedule = definitions.get_repository_def().get_schedule_def(STALE_FIELDS)
    context = dg.build_schedule_context(
        instance, resources={"storage": storage}, repository_def=definitions.get_repository_def()
    )
    with partition_loading_context(dynamic_partitions_store=instance):
        (request,) = schedule.evaluate_tick(context).run_requests or ()
    assert (request.partition_key, request.run_key) == ("a", "a:second")
    assert set(request.asset_selection or ()) == {MEASURED, QUALITY}


def test_a_tile_that_the_archive_does_not_have_yet_is_requested_again_a_bounded_number_of_times(
    profile: Profile, instance: dg.DagsterInstance, storage: Storage
) -> None:
    instance.add_dynamic_partitions(str(TILES.name), [A, B, C, D, "no tile"])  # C has its cutouts, D waits
    instance.report_runless_asset_event(dg.AssetMaterialization(CUTOUTS, partition=C))
    twice = profile.model_copy(deep=True)
    twice.des.tiles.__dict__["daily_retries"] = 2
    definitions = stand_in_definitions(twice, storage)
    repository = definitions.get_repository_def()
    schedule = repository.get_schedule_def(MISSING_TILES)

    def run(job: str, tile: str) -> None:
        instance.add_run(dg.DagsterRun(job, tags={"dagster/partition": tile}, status=dg.DagsterRunStatus.FAILURE))

    def tick() -> tuple[list[str], str]:
        context = dg.build_schedule_context(instance, resources={"storage": storage}, repository_def=repository)
        with partition_loading_context(dynamic_partitions_store=instance):
            done = schedule.evaluate_tick(context)
        requests = list(done.run_requests or ())
        assert all(set(request.asset_selection or ()) == {CATALOG, CUTOUTS} for request in requests)
        return [str(request.partition_key) for request in requests], done.skip_message or ""

    assert tick() == ([], "no tile to request again")
    for tile in (B, A, C, "no tile"):
        run("__ASSET_JOB", tile)
    assert tick()[0] == [B, A], "the one that failed longest ago is first"
    run(MISSING_TILES_JOB, B)
    assert tick()[0] == [A, B]
    run(MISSING_TILES_JOB, B)
    assert tick()[0] == [A]
    run(MISSING_TILES_JOB, A)
    run(MISSING_TILES_JOB, A)
    assert tick() == ([], "no tile to request again; 2 were requested 2 times (des.tiles.daily_retries)")


def test_they_run_by_default_on_mondays_and_every_day(profile: Profile) -> None:
    schedules = build_schedules(profile, TILE_ASSETS, FIELD_ASSETS)
    assert [schedule.name for schedule in schedules] == [STALE_TILES, STALE_FIELDS, MISSING_TILES]
    assert {schedule.default_status for schedule in schedules} == {dg.DefaultScheduleStatus.RUNNING}
    assert [schedule.cron_schedule for schedule in schedules] == ["0 3 * * MON", "0 4 * * MON", "0 5 * * *"]
    assert {schedule.execution_timezone for schedule in schedules} == {"UTC"}
