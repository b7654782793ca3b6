"""The real webserver and daemon: the whole lineage is launched and read back as the UI does it.

What is sent was read from the UI's own script (dagster 1.13, `ChoosePartitionsDialog`): "Materialize all" over assets
of which some are partitioned asks for partitions, and then sends `launchPartitionBackfill`. On the lineage page that
is an asset backfill (a run each for the catalogue, the shards, and all that follows); on a job's page it names the
job, and Dagster makes one run of it.
"""

from __future__ import annotations

import base64
import math
import re
import socket
import struct
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from assets_tests.ui.dagster_dev import CHECKOUT, DagsterDev
from deblend_assets.lineage import LINEAGE
from deblend_assets.partitions import shard_partitions
from deblend_assets.settings import SPLITS, load_profile
from deblend_assets.stores.project import CODE_VERSIONS

# Most of it is waiting for the daemon, which looks at backfills every half minute.
pytestmark = pytest.mark.slow

PROFILE = "smoke"
START_SECONDS, LINEAGE_SECONDS, STOP_SECONDS = 120.0, 360.0, 90.0

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
FAILURES = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  ... on ExecutionStepFailureEvent { stepKey error { message stack errorChain { error { message stack } } } }
  ... on RunFailureEvent { message }
} } } }"""


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterDev]:
    """The servers, ready for "Materialize all"; whatever a test does, nothing of them is left."""
    served = DagsterDev(tmp_path_factory.mktemp("ui"), PROFILE)
    try:
        served.until(lambda: ready(served), START_SECONDS, "code location loaded and daemons healthy")
        yield served
    finally:
        served.kill()


def ready(dev: DagsterDev) -> bool:
    answer = dev.ask(READY)
    for entry in answer["workspaceOrError"]["locationEntries"]:
        loaded = entry["locationOrLoadError"]
        assert not loaded or loaded["__typename"] != "PythonError", loaded
        if entry["loadStatus"] != "LOADED":
            return False
    daemons = {d["daemonType"]: d["healthy"] for d in answer["instance"]["daemonHealth"]["allDaemonStatuses"]}
    return bool(daemons["BACKFILL"] and daemons["QUEUED_RUN_COORDINATOR"])


@pytest.fixture(scope="module")
def lineage(dev: DagsterDev) -> dict[str, Any]:
    """The backfill of everything but the baseline, launched from the lineage page, when it has ended."""
    return finished(dev, materialize_all(dev, unwanted="baseline"))


@pytest.fixture(scope="module")
def assets(dev: DagsterDev, lineage: dict[str, Any]) -> dict[str, Any]:
    """What the UI then shows of each asset, by key."""
    return nodes(dev, unwanted="baseline")


def nodes(dev: DagsterDev, unwanted: str) -> dict[str, Any]:
    found = dev.ask(NODES)["assetNodes"]
    return {"/".join(node["assetKey"]["path"]): node for node in found if node["groupName"] != unwanted}


def materialize_all(dev: DagsterDev, unwanted: str, page_of_job: str | None = None) -> str:
    """Press "Materialize all", choose all partitions, launch.

    Args:
        dev: the servers.
        unwanted: the group that the filter takes out of the graph.
        page_of_job: the job on whose page the button is; none: the lineage page.

    Returns:
        The id of the backfill.
    """
    chosen = list(nodes(dev, unwanted).values())
    shared = [name for name in chosen[0]["jobNames"] if all(name in node["jobNames"] for node in chosen)]
    assert shared, "no job holds all the assets: the UI would offer no choice of partitions"
    job = page_of_job if page_of_job in shared else shared[0]
    params: dict[str, Any] = {
        "tags": [],
        "assetSelection": [node["assetKey"] for node in chosen],
        "partitionNames": next(node["partitionKeys"] for node in chosen if node["partitionKeys"]),
        "fromFailure": False,
    }
    if not job.startswith("__ASSET_JOB"):
        params["selector"] = {
            "partitionSetName": f"{job}_partition_set",
            "repositorySelector": {
                "repositoryLocationName": "deblend_assets.definitions",
                "repositoryName": "__repository__",
            },
        }
    launched = dev.ask(LAUNCH, params=params)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    return launched["backfillId"]


def finished(dev: DagsterDev, backfill: str) -> dict[str, Any]:
    """A backfill once it has ended; AssertionError with the steps' own errors as soon as one of its runs has failed."""

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = dev.ask(BACKFILL, id=backfill)["partitionBackfillOrError"]
        for run in found["runs"]:
            if run["status"] in ("FAILURE", "CANCELED"):
                events = [e for e in dev.ask(FAILURES, id=run["runId"])["logsForRun"]["events"] if e]
                raise AssertionError(f"run {run['runId']} {run['status']}\n{events}\n{dev.log()}")
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


def test_the_pages_are_served(dev):
    for path in ("/", "/asset-groups", "/assets/training/stage1_vae", "/assets/training/stage1_vae?view=checks"):
        assert "/_next/static/" in dev.page(path)


def test_every_asset_says_what_it_is(dev):
    described = nodes(dev, unwanted="")
    assert {node["groupName"] for node in described.values()} == {group for group, _ in LINEAGE}
    for key, node in described.items():
        assert 40 < len(node["description"]) < 600, key
        assert re.search(r"Eq\. \d|[Ss]ection \d|Fig\. \d", node["description"]), f"{key} names no source"
        assert node["kinds"], key
        assert [owner["team"] for owner in node["owners"]] == ["deblend"], key
        assert node["opVersion"] in CODE_VERSIONS.values(), key
        assert all(check["description"] for check in node["assetChecksOrError"]["checks"]), key
    for stage in ("stage1_vae", "stage2_deblender", "stage3_regressor"):
        for recipe in ("training", "baseline"):
            node = described[f"{recipe}/{stage}"]
            assert re.search(r"section 3\.2", node["description"]), node["description"]
            assert re.search(r"Eq\. \d", node["description"]), node["description"]
            assert (node["opVersion"], node["pools"]) == (CODE_VERSIONS["training"], ["training"])


def test_the_lineage_takes_one_run_a_leg(lineage, assets):
    runs = [(run["status"], {"/".join(key["path"]) for key in run["assetSelection"]}) for run in lineage["runs"]]
    assert {status for status, _ in runs} == {"SUCCESS"}
    assert sorted(len(keys) for _, keys in runs) == [1, 4, len(assets) - 5], runs
    assert set.union(*(keys for _, keys in runs)) == set(assets)
    (shards,) = [run for run in lineage["runs"] if len(run["assetSelection"]) == 4]
    tags = {tag["key"]: tag["value"] for tag in shards["tags"]}
    keys = shard_partitions(load_profile(PROFILE)).get_partition_keys()
    assert tags["dagster/asset_partition_range_start"] == keys[0]
    assert tags["dagster/asset_partition_range_end"] == keys[-1]


def test_every_shard_is_materialised(assets):
    keys = set(shard_partitions(load_profile(PROFILE)).get_partition_keys())
    for name in ("truth", "isolated", "noisy", "blended"):
        node = assets[f"simulated/{name}"]
        assert set(node["partitionKeys"]) == keys
        status = node["assetPartitionStatuses"]
        assert set(status["materializedPartitions"]) == keys
        assert status["failedPartitions"] == status["unmaterializedPartitions"] == []
        assert {m["partition"] for m in node["assetMaterializations"]} == keys


def test_numbers_are_the_profiles(assets):
    profile = load_profile(PROFILE)
    scenes = profile.simulation.scenes
    found = {key: numbers(node) for key, node in assets.items()}
    assert found["simulation/galaxy_catalog"]["galaxies"] == profile.catalog.galaxies
    for name in ("truth", "isolated", "noisy", "blended"):
        assert found[f"simulated/{name}"]["scenes"] == sum(getattr(scenes, split) for split in SPLITS)
        assert found[f"simulated/{name}"]["scenes_rendered_now"] == found[f"simulated/{name}"]["scenes"]
    assert found["normalization/normalization_statistics"]["stamps"] == scenes.train
    for number, stage in enumerate(("stage1_vae", "stage2_deblender", "stage3_regressor"), start=1):
        figures = found[f"training/{stage}"]
        assert figures["epochs"] == getattr(profile.recipes.training, f"stage{number}").epochs
        assert figures["best_validation_total"] > 0
        assert figures["seconds_held"] > 0
    assert found["evaluation/simulated_evaluation"]["scenes"] == scenes.test
    assert 0 < found["evaluation/simulated_evaluation"]["ssim_stage2"] < 1
    for key, figures in found.items():
        assert all(math.isfinite(value) for value in figures.values()), (key, figures)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("simulation/galaxy_catalog", {"population"}),
        ("simulated/blended", {"scenes_of_the_first_shard"}),
        ("normalization/normalization_statistics", {"dynamic_range", "raw_and_normalised"}),
        ("training/stage1_vae", {"losses"}),
        ("training/stage2_deblender", {"losses"}),
        ("training/stage3_regressor", {"losses"}),
        (
            "evaluation/simulated_evaluation",
            {"reconstructions", "similarity", "ellipticity_scatter", "binned_accuracy"},
        ),
    ],
)
def test_plots_are_pictures(assets, key, shown):
    pictures = plots(assets[key])
    assert shown <= set(pictures)
    for label, picture in pictures.items():
        assert picture.startswith(b"\x89PNG\r\n\x1a\n"), label
        width, height = struct.unpack(">II", picture[16:24])
        assert 300 < width < 2000, (label, width)
        assert 200 < height < 2000, (label, height)
        assert len(picture) < 400_000, f"{label}: the event log keeps every one of them"


def test_checks_passed(assets):
    failed, warned = {}, set()
    for key, node in assets.items():
        for check in node["assetChecksOrError"]["checks"]:
            name, execution = f"{key}:{check['name']}", check["executionForLatestMaterialization"]
            assert execution is not None, f"{name} did not run"
            if execution["status"] == "SUCCEEDED":
                continue
            if execution["evaluation"] and execution["evaluation"]["severity"] == "WARN":
                warned.add(name)
            else:
                failed[name] = execution
    assert not failed
    # with a hundred scenes nothing is learnt, and the checks that look for it say so
    assert all(name.split(":")[0].startswith(("training/", "evaluation/")) for name in warned), warned


def test_history_lies_where_the_projects_dagster_yaml_says(dev, lineage):
    for run in lineage["runs"]:
        assert (dev.folder / "storage" / "dagster" / "history" / "runs" / f"{run['runId']}.db").exists()
        assert not list((CHECKOUT / "storage").rglob(f"*{run['runId']}*"))
    assert (dev.folder / "storage" / PROFILE).is_dir()
    assert not list(dev.home.glob(".dagster/.telemetry/*")), "telemetry is off"
    assert dev.stray == set()


def test_loopback_only(dev, lineage):
    assert ("127.0.0.1", dev.port) in dev.listening
    assert {address for address, _ in dev.listening} <= {"127.0.0.1", "::1"}
    assert dev.reached == set()


def test_the_jobs_page_makes_one_run_and_draws_and_trains_nothing_again(dev, assets):
    launched = materialize_all(dev, unwanted="baseline", page_of_job="lineage")
    (run,) = finished(dev, launched)["runs"]
    assert {"/".join(key["path"]) for key in run["assetSelection"]} == set(assets)
    again = nodes(dev, unwanted="baseline")
    assert numbers(again["simulated/truth"])["scenes_rendered_now"] == 0
    for stage in ("stage1_vae", "stage2_deblender", "stage3_regressor"):
        figures, before = numbers(again[f"training/{stage}"]), numbers(assets[f"training/{stage}"])
        assert "seconds_held" not in figures, "no device was taken"
        assert figures["best_validation_total"] == before["best_validation_total"]


def test_nothing_is_left_after_an_interrupt(dev):
    started = dev.processes()
    assert len(started) >= 4, "dagster dev, webserver, daemon, code server"
    dev.interrupt(STOP_SECONDS)
    # the code server lets go of what it is asked last, and ends after the others
    psutil.wait_procs(started, STOP_SECONDS)
    assert [process.cmdline() for process in dev.processes()] == []
    assert not list(dev.folder.glob(".tmp_dagster_home*"))
    with socket.socket() as port:
        assert port.connect_ex(("127.0.0.1", dev.port)) != 0
