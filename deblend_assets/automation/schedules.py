"""The weekly schedules that evaluate tiles and fields again whose evaluation used an older model, some at a time.

The daily one is in `missing_tiles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from deblend_assets.automation.dagster_internals import PARTITION_NAME_TAG
from deblend_assets.automation.missing_tiles import build_missing_tiles
from deblend_assets.automation.registries import FIELD_REGISTRY, TILE_REGISTRY
from deblend_assets.automation.registry import Registry
from deblend_assets.automation.registry_rows import evaluations
from deblend_assets.errors import DeblendError
from deblend_assets.settings import Profile

STALE_TILES, STALE_FIELDS = "reevaluate_stale_tiles", "remeasure_stale_fields"
# Which model a run evaluates for. Dagster compares a schedule's run keys within one tick only.
MODEL_TAG = "deblend/reevaluated_for_model"


@dataclass(frozen=True)
class Renewal:
    """What a schedule makes again.

    Attributes:
        registry: of the partitions.
        schedule: its name.
        job: name of the job.
        cron: when, UTC.
        assets: that depend on the model, the last one evaluates.
        most: partitions at a time.
    """

    registry: Registry
    schedule: str
    job: str
    cron: str
    assets: tuple[dg.AssetKey, ...]
    most: int

    def stale(self, instance: dg.DagsterInstance, model_version: str) -> list[str]:
        """Registered names whose evaluation used another model, the oldest evaluation first.

        Excluded are those without an evaluation (`conditions` requests them), with a run under way, and those that
        this schedule has requested for this model already: one whose run failed would otherwise be first in every
        batch.

        Args:
            instance: that has the partitions and the history.
            model_version: of the present model.
        """
        excluded = {*self._requested(instance, model_version), *self.registry.under_way(instance)}
        latest = evaluations(instance, self.assets[-1])
        stale = [
            name
            for name in self.registry.registered(instance)
            if name in latest and latest[name].model_version != model_version and name not in excluded
        ]
        return sorted(stale, key=lambda name: latest[name].at)

    def _requested(self, instance: dg.DagsterInstance, model_version: str) -> set[str | None]:
        wanted = dg.RunsFilter(job_name=self.job, tags={MODEL_TAG: model_version})
        return {run.tags.get(PARTITION_NAME_TAG) for run in instance.get_runs(wanted)}


def build_schedules(
    profile: Profile, tile_assets: Mapping[str, dg.AssetKey], field_assets: Mapping[str, dg.AssetKey]
) -> Sequence[dg.ScheduleDefinition]:
    """The weekly schedules, and the daily one of tiles.

    Args:
        profile: whose model, tiles and fields.
        tile_assets, field_assets: the assets with a partition a tile, or a field, by noun.
    """
    tiles = Renewal(
        TILE_REGISTRY,
        STALE_TILES,
        "reevaluate_tiles",
        "0 3 * * MON",
        (tile_assets["shape_catalog"], tile_assets["des_evaluation"]),
        profile.des.tiles.reevaluations_per_week,
    )
    fields = Renewal(
        FIELD_REGISTRY,
        STALE_FIELDS,
        "remeasure_fields",
        "0 4 * * MON",
        (field_assets["field_catalog"], field_assets["field_quality"]),
        profile.fields.remeasured_per_week,
    )
    return [_schedule(profile, tiles), _schedule(profile, fields), build_missing_tiles(profile, tile_assets)]


def _schedule(profile: Profile, renewal: Renewal) -> dg.ScheduleDefinition:
    noun, assets = renewal.registry.noun, list(renewal.assets)

    @dg.schedule(
        name=renewal.schedule,
        cron_schedule=renewal.cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        required_resource_keys={"storage"},
        job=dg.define_asset_job(
            renewal.job,
            dg.AssetSelection.assets(*assets),
            description=f"Catalogue and evaluation of the chosen {noun}s with the present model.",
        ),
        description=f"Every Monday: evaluates {noun}s again whose evaluation used an older model, the oldest first.",
    )
    def evaluate_again(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        try:
            model_version = context.resources.storage.open(profile).sky_model_version()
        except DeblendError as error:
            yield dg.SkipReason(str(error))
            return
        stale = renewal.stale(context.instance, model_version)
        if not stale:
            yield dg.SkipReason(f"no {noun} left to evaluate with model {model_version}")
        for name in stale[: renewal.most]:
            yield dg.RunRequest(
                run_key=f"{name}:{model_version}",
                partition_key=name,
                asset_selection=assets,
                tags={MODEL_TAG: model_version},
            )

    return evaluate_again
