"""What the lineage, group and job pages of Dagster's UI ask and send, read from its own script (dagster 1.13).

"Materialize all" (`LaunchAssetChoosePartitionsDialog`) over assets of which some are partitioned asks for partitions.
Several of them it launches by `launchPartitionBackfill`: from the lineage page an asset backfill (a run each for the
catalogue, the shards, and all that follows), from a job's page one that names the job, of which Dagster makes one run.
One of them, or several "as a single run", it launches by `launchPipelineExecution` with tags.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from typing import Any

from assets_tests.ui.dagster_dev import DagsterDev

LINEAGE_SECONDS = 900.0
REPOSITORY = {"repositoryLocationName": "deblend_assets.definitions", "repositoryName": "__repository__"}

NODES = """{ assetNodes {
  assetKey { path } groupName jobNames kinds description partitionKeys opVersion pools
  owners { ... on TeamAssetOwner { team } }
  assetMaterializations(limit: 100) {
    partition
    metadataEntries {
      label
      ... on IntMetadataEntry { intRepr } ... on FloatMetadataEntry { floatValue }
      ... on MarkdownMetadataEntry { mdStr } ... on TextMetadataEntry { text } ... on PathMetadataEntry { path }
    }
  }
  assetPartitionStatuses { ... on DefaultPartitionStatuses {
    materializedPartitions failedPartitions unmaterializedPartitions
  } }
  assetChecksOrError { ... on AssetChecks { checks {
    name description
    executionForLatestMaterialization { status evaluation { severity description } }
  } } }
} }"""
READY = """{
  workspaceOrError { ... on Workspace { locationEntries {
    name loadStatus locationOrLoadError {
      __typename ... on PythonError { message errorChain { error { message } } }
    }
  } } }
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
}"""
LAUNCH = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  ... on PartitionSetNotFoundError { message } ... on PartitionKeysNotFoundError { message }
} }"""
BACKFILL = """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
  status error { message } runs { runId status assetSelection { path } tags { key value } }
} } }"""
TAGS_OF_PARTITION = """query($job: String!, $partition: String!, $assets: [AssetKeyInput!]!) {
  pipelineOrError(params: {
    pipelineName: $job, repositoryName: "__repository__", repositoryLocationName: "deblend_assets.definitions"
  }) { ... on Pipeline { partition(partitionName: $partition, selectedAssetKeys: $assets) {
    tagsOrError { ... on PartitionTags { results { key value } } }
  } } }
}"""
LAUNCH_RUN = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message }
  ... on PipelineNotFoundError { message } ... on RunConfigValidationInvalid { errors { message } }
} }"""
RUNS = "{ runsOrError { ... on Runs { results { runId status assetSelection { path } tags { key value } } } } }"
ADD_PARTITION = """mutation($name: String!, $key: String!, $repository: RepositorySelector!) {
  addDynamicPartition(partitionsDefName: $name, partitionKey: $key, repositorySelector: $repository) {
    __typename ... on PythonError { message } ... on DuplicateDynamicPartitionError { partitionName }
  }
}"""
SENSORS = """query($repository: RepositorySelector!) {
  sensorsOrError(repositorySelector: $repository) { ... on Sensors { results {
    name sensorState { id status ticks(limit: 100) { status runIds error { message } } }
  } } }
  schedulesOrError(repositorySelector: $repository) { ... on Schedules { results {
    name scheduleState { status }
  } } }
}"""
STOP_SENSOR = """mutation($id: String!) { stopSensor(id: $id) {
  __typename ... on StopSensorMutationResult { instigationState { status } } ... on PythonError { message }
} }"""
FAILURES = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  ... on ExecutionStepFailureEvent { stepKey error { message stack errorChain { error { message stack } } } }
  ... on RunFailureEvent { message }
} } } }"""


def nodes(dev: DagsterDev, groups: Collection[str] = ()) -> dict[str, Any]:
    """The assets of some groups (none: of all), by key."""
    found = dev.ask(NODES)["assetNodes"]
    return {"/".join(node["assetKey"]["path"]): node for node in found if not groups or node["groupName"] in groups}


def common_job(chosen: Collection[dict[str, Any]], preferred: str | None = None) -> str:
    """The job that the UI takes for assets: that of the page, or the first that holds them all."""
    first, *others = chosen
    shared = [name for name in first["jobNames"] if all(name in node["jobNames"] for node in others)]
    assert shared, "no job holds all the assets: the UI would offer no choice of partitions"
    return str(preferred if preferred in shared else shared[0])


def materialize_all(dev: DagsterDev, groups: Collection[str], page_of_job: str | None = None) -> str:
    """Press "Materialize all", choose all partitions, launch.

    Args:
        dev: the servers.
        groups: that the filter leaves in the graph.
        page_of_job: the job on whose page the button is; none: the lineage page.

    Returns:
        The id of the backfill.
    """
    chosen = list(nodes(dev, groups).values())
    job = common_job(chosen, page_of_job)
    params: dict[str, Any] = {
        "tags": [],
        "assetSelection": [node["assetKey"] for node in chosen],
        "partitionNames": next(node["partitionKeys"] for node in chosen if node["partitionKeys"]),
        "fromFailure": False,
    }
    if not job.startswith("__ASSET_JOB"):
        params["selector"] = {"partitionSetName": f"{job}_partition_set", "repositorySelector": REPOSITORY}
    launched = dev.ask(LAUNCH, params=params)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    return launched["backfillId"]


def materialize_in_one_run(dev: DagsterDev, groups: Collection[str], first: str, last: str) -> str:
    """Press "Materialize all", choose one partition, or a range "as a single run"; launch.

    Args:
        dev: the servers.
        groups: that the filter leaves in the graph.
        first, last: the partition, twice, or the ends of the range.

    Returns:
        The id of the run.
    """
    chosen = list(nodes(dev, groups).values())
    job, keys = common_job(chosen), [node["assetKey"] for node in chosen]
    answer = dev.ask(TAGS_OF_PARTITION, job=job, partition=first, assets=keys)["pipelineOrError"]
    tags = answer["partition"]["tagsOrError"]["results"]
    if first != last:
        tags = [tag for tag in tags if not tag["key"].startswith("dagster/partition")]
        tags += [
            {"key": "dagster/asset_partition_range_start", "value": first},
            {"key": "dagster/asset_partition_range_end", "value": last},
        ]
    params = {
        "mode": "default",
        "executionMetadata": {"tags": tags},
        "runConfigData": "{}",
        "selector": {**REPOSITORY, "pipelineName": job, "assetSelection": keys},
    }
    launched = dev.ask(LAUNCH_RUN, params=params)["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return launched["run"]["id"]


def add_partition(dev: DagsterDev, name: str, key: str) -> None:
    """Press "Add a partition" in the dialog."""
    added = dev.ask(ADD_PARTITION, name=name, key=key, repository=REPOSITORY)["addDynamicPartition"]
    assert added["__typename"] == "AddDynamicPartitionSuccess", added


def instigators(dev: DagsterDev) -> dict[str, Any]:
    """The states of the sensors and schedules, by name."""
    answer = dev.ask(SENSORS, repository=REPOSITORY)
    sensors = {found["name"]: found["sensorState"] for found in answer["sensorsOrError"]["results"]}
    schedules = {found["name"]: found["scheduleState"] for found in answer["schedulesOrError"]["results"]}
    return sensors | schedules


def stop_sensor(dev: DagsterDev, name: str) -> None:
    """Turn a sensor's switch off."""
    stopped = dev.ask(STOP_SENSOR, id=instigators(dev)[name]["id"])["stopSensor"]
    assert stopped["instigationState"]["status"] == "STOPPED", stopped


def runs(dev: DagsterDev) -> dict[str, Any]:
    """Every run, by id."""
    return {run["runId"]: run for run in dev.ask(RUNS)["runsOrError"]["results"]}


def finished_run(dev: DagsterDev, run_id: str) -> dict[str, Any]:
    """A run once it has succeeded; AssertionError with the steps' own errors where it has not."""

    def ended() -> dict[str, Any] | None:
        run: dict[str, Any] = runs(dev)[run_id]
        _require_no_failure(dev, run)
        return run if run["status"] == "SUCCESS" else None

    found: dict[str, Any] = dev.until(ended, LINEAGE_SECONDS, f"run {run_id}")
    return found


def _require_no_failure(dev: DagsterDev, run: dict[str, Any]) -> None:
    if run["status"] in ("FAILURE", "CANCELED"):
        events = [e for e in dev.ask(FAILURES, id=run["runId"])["logsForRun"]["events"] if e]
        raise AssertionError(f"run {run['runId']} {run['status']}\n{events}\n{dev.log()}")


def finished(dev: DagsterDev, backfill: str) -> dict[str, Any]:
    """A backfill once it has ended; AssertionError with the steps' own errors as soon as one of its runs has failed."""

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = dev.ask(BACKFILL, id=backfill)["partitionBackfillOrError"]
        for run in found["runs"]:
            _require_no_failure(dev, run)
        assert not found["error"], found["error"]
        return found if found["status"] not in ("REQUESTED", "COMPLETING") else None

    found: dict[str, Any] = dev.until(ended, LINEAGE_SECONDS, f"backfill {backfill}")
    assert found["status"] == "COMPLETED_SUCCESS", f"{found}\n{dev.log()}"
    return found


def numbers(node: dict[str, Any]) -> dict[str, float]:
    """The figures of an asset's latest materialisation."""
    entries = node["assetMaterializations"][0]["metadataEntries"]
    return {
        entry["label"]: float(entry.get("intRepr") or entry["floatValue"])
        for entry in entries
        if "intRepr" in entry or "floatValue" in entry
    }


def plots(node: dict[str, Any]) -> dict[str, bytes]:
    """The pictures of an asset's latest materialisation, as PNG."""
    entries = node["assetMaterializations"][0]["metadataEntries"]
    found = {e["label"]: re.fullmatch(r"!\[.*\]\(data:image/png;base64,(.*)\)", e.get("mdStr") or "") for e in entries}
    return {label: base64.b64decode(match[1], validate=True) for label, match in found.items() if match}
