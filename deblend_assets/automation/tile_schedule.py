"""The weekly schedule that evaluates tiles again whose evaluation used an older model, some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from deblend_assets.automation.dagster_internals import PARTITION_NAME_TAG
from deblend_assets.automation.tile_registry import evaluations, registered_tiles, tiles_under_way
from deblend_assets.errors import DeblendError
from deblend_assets.settings import Profile

SCHEDULE = "reevaluate_stale_tiles"
JOB = "reevaluate_tiles"
CRON = "0 3 * * MON"
# Which model a run evaluates for. Dagster compares a schedule's run keys within one tick only.
MODEL_TAG = "deblend/reevaluated_for_model"


def stale_tiles(instance: dg.DagsterInstance, evaluation: dg.AssetKey, model_version: str) -> list[str]:
    """Registered tiles whose evaluation used another model, the oldest evaluation first.

    Excluded are tiles without an evaluation (`conditions` requests those), tiles with a run under way, and tiles that
    this schedule has requested for this model already: a tile whose run failed would otherwise be first in every batch.

    Args:
        instance: that has the partitions and the history.
        evaluation: the asset `des_evaluation`.
        model_version: of the present model.
    """
    requested = {
        run.tags.get(PARTITION_NAME_TAG) for run in instance.get_runs(dg.RunsFilter(tags={MODEL_TAG: model_version}))
    }
    excluded = requested | tiles_under_way(instance).keys()
    latest = evaluations(instance, evaluation)
    stale = [
        name
        for name in registered_tiles(instance)
        if name in latest and latest[name].model_version != model_version and name not in excluded
    ]
    return sorted(stale, key=lambda name: latest[name].at)


def build_schedules(profile: Profile, tile_assets: Mapping[str, dg.AssetKey]) -> Sequence[dg.ScheduleDefinition]:
    """The weekly schedule.

    Args:
        profile: whose model and tiles.
        tile_assets: the assets with a partition a tile, by noun.
    """
    renewed = [tile_assets["shape_catalog"], tile_assets["des_evaluation"]]

    @dg.schedule(
        name=SCHEDULE,
        cron_schedule=CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        required_resource_keys={"storage"},
        job=dg.define_asset_job(
            JOB,
            dg.AssetSelection.assets(*renewed),
            description="Shape catalogue and evaluation of the chosen tiles with the present model.",
        ),
        description="Every Monday: evaluates tiles again whose evaluation used an older model, the oldest first.",
    )
    def reevaluate_stale_tiles(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        try:
            model_version = context.resources.storage.open(profile).sky_model_version()
        except DeblendError as error:
            yield dg.SkipReason(str(error))
            return
        stale = stale_tiles(context.instance, tile_assets["des_evaluation"], model_version)
        if not stale:
            yield dg.SkipReason(f"no tile left to evaluate with model {model_version}")
        for name in stale[: profile.des.tiles.reevaluations_per_week]:
            yield dg.RunRequest(
                run_key=f"{name}:{model_version}",
                partition_key=name,
                asset_selection=renewed,
                tags={MODEL_TAG: model_version},
            )

    return [reevaluate_stale_tiles]
