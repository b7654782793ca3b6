"""The daily schedule that requests tiles again which the archive did not give: not there yet, or out of order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import dagster as dg

from deblend_assets.automation.checks import latest_by_partition
from deblend_assets.automation.dagster_internals import PARTITION_NAME_TAG
from deblend_assets.automation.registries import TILE_REGISTRY
from deblend_assets.settings import Profile

MISSING_TILES, MISSING_TILES_JOB = "request_missing_tiles", "fetch_tiles"
MOST_A_DAY = 50


def missing_tiles(instance: dg.DagsterInstance, cutouts: dg.AssetKey, retries: int) -> tuple[list[str], int]:
    """Registered tiles without cutouts whose last run failed, the longest ago first.

    Args:
        instance: that has the partitions and the history.
        cutouts: the last of the assets that the archive gives.
        retries: how often the schedule requests a tile.

    Returns:
        Those to request, and the number of those that were requested `retries` times already.
    """
    complete, under_way = latest_by_partition(instance, cutouts), TILE_REGISTRY.under_way(instance)
    failed: dict[str, float] = {}
    given_up = 0
    for name in TILE_REGISTRY.registered(instance):
        if name in complete or name in under_way or not TILE_REGISTRY.allows(name):
            continue
        last = instance.get_run_records(dg.RunsFilter(tags={PARTITION_NAME_TAG: name}), limit=1)
        if not last or last[0].dagster_run.status != dg.DagsterRunStatus.FAILURE:
            continue
        requested = dg.RunsFilter(job_name=MISSING_TILES_JOB, tags={PARTITION_NAME_TAG: name})
        if instance.get_runs_count(requested) < retries:
            failed[name] = last[0].create_timestamp.timestamp()
        else:
            given_up += 1
    return sorted(failed, key=failed.__getitem__), given_up


def build_missing_tiles(profile: Profile, tile_assets: Mapping[str, dg.AssetKey]) -> dg.ScheduleDefinition:
    """The schedule.

    Args:
        profile: whose tiles.
        tile_assets: the assets with a partition a tile, by noun.
    """
    fetched = [tile_assets["im3shape_catalog"], tile_assets["des_cutouts"]]

    @dg.schedule(
        name=MISSING_TILES,
        cron_schedule="0 5 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        job=dg.define_asset_job(
            MISSING_TILES_JOB,
            dg.AssetSelection.assets(*fetched),
            description="Catalogue and cutouts of the chosen tiles from the archive.",
        ),
        description="Every day: requests tiles again that failed before the archive had given their cutouts.",
    )
    def request_again(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        retries = profile.des.tiles.daily_retries
        names, given_up = missing_tiles(context.instance, fetched[-1], retries)
        if not names:
            told = f"; {given_up} were requested {retries} times (des.tiles.daily_retries)" if given_up else ""
            yield dg.SkipReason(f"no tile to request again{told}")
        for name in names[:MOST_A_DAY]:
            # The automatic conditions request what is made from these. Run keys are compared within one tick only.
            yield dg.RunRequest(run_key=name, partition_key=name, asset_selection=fetched)

    return request_again
