"""Failed checks, from the history of a Dagster instance: those of the run that made an asset last."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import dagster as dg


def failed_checks(
    instance: dg.DagsterInstance, assets: Collection[dg.AssetKey], partition: str | None = None
) -> list[dg.AssetCheckEvaluation]:
    """Failed checks of the latest materialisations of some assets.

    Args:
        instance: whose history is read.
        assets: their keys.
        partition: of the assets, such as a tile; none: the latest materialisation of any.

    Returns:
        Those of severity WARN too, in the order of the assets.
    """
    runs: dict[str, list[dg.AssetCheckEvaluation]] = {}
    failed = []
    for asset in assets:
        run_id = _latest_run(instance, asset, partition)
        if not run_id:
            continue
        if run_id not in runs:
            runs[run_id] = _failed_of_run(instance, run_id)
        failed += [c for c in runs[run_id] if c.asset_key == asset and partition in (None, c.partition or partition)]
    return failed


def errors_among(checks: Collection[dg.AssetCheckEvaluation]) -> list[dg.AssetCheckEvaluation]:
    """Those of severity ERROR."""
    return [check for check in checks if check.severity == dg.AssetCheckSeverity.ERROR]


def _latest_run(instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str | None) -> str | None:
    if partition is None:
        event = instance.get_latest_materialization_event(asset)
        return event.run_id if event else None
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[partition])
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].run_id if records else None


def _failed_of_run(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetCheckEvaluation]:
    failed = []
    for entry in instance.all_logs(run_id, of_type={dg.DagsterEventType.ASSET_CHECK_EVALUATION}):
        check: Any = entry.get_dagster_event().event_specific_data
        if not check.passed:
            failed.append(check)
    return failed
