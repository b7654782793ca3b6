"""The names of Dagster that are not public, and why each is needed. No other module imports `dagster._core`.

Checked with Dagster 1.13; a version that moves one fails when this module is imported, not in the middle of a run.
"""

from __future__ import annotations

# An event of a run that carries the pid of a process. `recovery` reads it to see which runs are dead; Dagster reports
# such events itself for its own executors alone.
from dagster._core.events import EngineEventData

# `DagsterInstance.get_backfills` is public, the filter that it takes is not.
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

# Types of the arguments of `dagster.Executor.execute`, which is public: for annotations.
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode

# Names of the tags with which Dagster marks the partitions of a run.
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

__all__ = [
    "ASSET_PARTITION_RANGE_END_TAG",
    "ASSET_PARTITION_RANGE_START_TAG",
    "PARTITION_NAME_TAG",
    "BulkActionStatus",
    "BulkActionsFilter",
    "EngineEventData",
    "ExecutionPlan",
    "PlanOrchestrationContext",
    "RetryMode",
]
