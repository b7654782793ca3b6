"""The names of Dagster that are not public and that tests need. No other test imports them.

Those that the package needs are in `deblend_assets.automation.dagster_internals`.
"""

from __future__ import annotations

# The daemon evaluates sensors within it, so that partitions of what they request are found.
from dagster._core.definitions.partitions.context import partition_loading_context

# A backfill as the UI would have stored it: there is no public way to make one without a running UI.
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import PartitionBackfill

# A queued run must say where its job comes from.
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

# The scheduler under a clock that the test sets.
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import ModuleTarget
from dagster._scheduler.scheduler import launch_scheduled_runs

__all__ = [
    "AssetBackfillData",
    "ModuleTarget",
    "PartitionBackfill",
    "RegisteredCodeLocationOrigin",
    "RemoteJobOrigin",
    "RemoteRepositoryOrigin",
    "create_test_daemon_workspace_context",
    "launch_scheduled_runs",
    "partition_loading_context",
]
