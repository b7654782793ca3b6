"""Failed checks, from the history of a Dagster instance: those of the run that made an asset last."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    return _failed(instance, {asset: _latest_run(instance, asset, partition) for asset in assets}, partition)


def failed_checks_by_partition(
    instance: dg.DagsterInstance, assets: Collection[dg.AssetKey], partitions: Collection[str]
) -> dict[str, list[dg.AssetCheckEvaluation]]:
    """`failed_checks` of many partitions, with one query an asset instead of one a partition.

    Args:
        instance: whose history is read.
        assets: their keys.
        partitions: names.
    """
    runs = {
        asset: {name: record.run_id for name, record in latest_by_partition(instance, asset).items()}
        for asset in assets
    }
    return {name: _failed(instance, {asset: runs[asset].get(name) for asset in assets}, name) for name in partitions}


def latest_by_partition(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dict[str, dg.EventLogRecord]:
    """The latest materialisation of each partition that has one."""
    latest = instance.get_latest_storage_id_by_partition(asset, dg.DagsterEventType.ASSET_MATERIALIZATION)
    if not latest:
        return {}
    wanted = dg.AssetRecordsFilter(asset_key=asset, storage_ids=list(latest.values()))
    records = instance.fetch_materializations(wanted, limit=len(latest)).records
    return {record.partition_key: record for record in records if record.partition_key is not None}


def errors_among(checks: Collection[dg.AssetCheckEvaluation]) -> list[dg.AssetCheckEvaluation]:
    """Those of severity ERROR."""
    return [check for check in checks if check.severity == dg.AssetCheckSeverity.ERROR]


def _failed(
    instance: dg.DagsterInstance, latest: Mapping[dg.AssetKey, str | None], partition: str | None
) -> list[dg.AssetCheckEvaluation]:
    """Failed checks of the run of each asset that has one."""
    runs: dict[str, list[dg.AssetCheckEvaluation]] = {}
    failed = []
    for asset, run_id in latest.items():
        if not run_id:
            continue
        if run_id not in runs:
            runs[run_id] = _failed_of_run(instance, run_id)
        failed += [c for c in runs[run_id] if c.asset_key == asset and partition in (None, c.partition or partition)]
    return failed


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
