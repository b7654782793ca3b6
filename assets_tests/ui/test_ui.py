"""The real webserver and daemon: the whole lineage is launched and read back as the UI does it.

Sensors and schedule run meanwhile, as they do for a user; they have nothing to do until a tile is registered.
"""

from __future__ import annotations

import math
import re
import socket
import struct
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from assets_tests.assets.lineage import TILES_OF_FEW, raw_smoke, smoke_text
from assets_tests.ui.dagster_dev import CHECKOUT, DagsterDev
from assets_tests.ui.lineage_page import (
    READY,
    add_partition,
    finished,
    finished_run,
    instigators,
    materialize_all,
    materialize_in_one_run,
    nodes,
    numbers,
    plots,
    runs,
    stop_sensor,
)
from deblend_assets.assets.keys import SKY, TILE_ASSETS
from deblend_assets.automation.field_sensor import FIELD_AUTOMATION, NEW_FIELDS_SENSOR
from deblend_assets.automation.missing_tiles import MISSING_TILES
from deblend_assets.automation.recovery import DEAD_RUNS_SENSOR
from deblend_assets.automation.schedules import STALE_FIELDS, STALE_TILES
from deblend_assets.automation.tile_sensor import NEW_TILES_SENSOR, TILE_AUTOMATION
from deblend_assets.lineage import LINEAGE
from deblend_assets.partitions import TILES, shard_partitions
from deblend_assets.settings import SPLITS, parse_profile
from deblend_assets.stores.project import CODE_VERSIONS

# Most of it is waiting for the daemon, which looks at backfills every half minute.
pytestmark = pytest.mark.slow

# A figure and a check of everything; more scenes would show the same.
PROFILE = "small"
CHANGES: dict[str, Any] = {
    "simulation__scenes": {"train": 32, "validation": 16, "test": 16},
    **TILES_OF_FEW,
}
SMALL = parse_profile({"name": PROFILE, **raw_smoke(**CHANGES)}, where=PROFILE)
START_SECONDS, STOP_SECONDS = 300.0, 90.0
SENSORS = (DEAD_RUNS_SENSOR, NEW_TILES_SENSOR, TILE_AUTOMATION, NEW_FIELDS_SENSOR, FIELD_AUTOMATION)
MAIN_GROUPS = ("simulation", "normalization", "training", "evaluation", "shapes")


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterDev]:
    """The servers, ready for "Materialize all"; whatever a test does, nothing of them is left."""
    folder = tmp_path_factory.mktemp("ui")
    path = folder / f"{PROFILE}.toml"
    path.write_text(smoke_text(**CHANGES))
    served = DagsterDev(folder, str(path))
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
    """The backfill of the main leg, launched from the lineage page, when it has ended."""
    return finished(dev, materialize_all(dev, MAIN_GROUPS))


@pytest.fixture(scope="module")
def assets(dev: DagsterDev, lineage: dict[str, Any]) -> dict[str, Any]:
    """What the UI then shows of each asset, by key."""
    return nodes(dev, MAIN_GROUPS)


@pytest.fixture(scope="module")
def tile(dev: DagsterDev, lineage: dict[str, Any]) -> str:
    """A tile of the simulated survey, registered and made on the page of the group des."""
    # It would make the tile as soon as it is registered, which is `automation.test_daemon`'s to see.
    stop_sensor(dev, TILE_AUTOMATION)
    name = SMALL.des.sky.tiles[0]
    add_partition(dev, str(TILES.name), name)
    finished_run(dev, materialize_in_one_run(dev, ("des",), name, name))
    return name


def test_the_pages_are_served(dev: DagsterDev) -> None:
    for path in ("/", "/asset-groups", "/assets/training/stage1_vae", "/assets/training/stage1_vae?view=checks"):
        assert "/_next/static/" in dev.page(path)


def test_every_asset_says_what_it_is(dev: DagsterDev) -> None:
    described = nodes(dev)
    assert {node["groupName"] for node in described.values()} == {group for group, _ in LINEAGE}
    for key, node in described.items():
        assert 40 < len(node["description"]) < 600, key
        cited = re.search(r"Eq\. \d|[Ss]ection \d|Fig\. \d", node["description"])
        assert cited or key == SKY.to_user_string(), f"{key} names no source"
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


def test_the_lineage_takes_one_run_a_leg(lineage: dict[str, Any], assets: dict[str, Any]) -> None:
    made = [(run["status"], {"/".join(key["path"]) for key in run["assetSelection"]}) for run in lineage["runs"]]
    assert {status for status, _ in made} == {"SUCCESS"}
    # What needs the catalogue alone goes with it (shape network, head and posterior), then the shards. The rest goes in
    # one run, or in up to three where the daemon looks between the ends of these: the three stages with what they need
    # and give, Fisher's floor (it needs the shards alone), and the shapes' evaluation (it needs both and the floor).
    sizes = sorted(len(keys) for _, keys in made)
    assert sizes.count(4) >= 2, made
    assert 3 <= len(sizes) <= 5, made
    assert sum(sizes) == len(assets), "each asset in one run"
    assert set.union(*(keys for _, keys in made)) == set(assets)
    (shards,) = [run for run in lineage["runs"] if {"path": ["simulated", "truth"]} in run["assetSelection"]]
    tags = {tag["key"]: tag["value"] for tag in shards["tags"]}
    keys = shard_partitions(SMALL).get_partition_keys()
    assert tags["dagster/asset_partition_range_start"] == keys[0]
    assert tags["dagster/asset_partition_range_end"] == keys[-1]


def test_every_shard_is_materialised(assets: dict[str, Any]) -> None:
    keys = set(shard_partitions(SMALL).get_partition_keys())
    for name in ("truth", "isolated", "noisy", "blended"):
        node = assets[f"simulated/{name}"]
        assert set(node["partitionKeys"]) == keys
        status = node["assetPartitionStatuses"]
        assert set(status["materializedPartitions"]) == keys
        assert status["failedPartitions"] == status["unmaterializedPartitions"] == []
        assert {m["partition"] for m in node["assetMaterializations"]} == keys


def test_numbers_are_the_profiles(assets: dict[str, Any]) -> None:
    profile = SMALL
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
def test_plots_are_pictures(assets: dict[str, Any], key: str, shown: Any) -> None:
    pictures = plots(assets[key])
    assert shown <= set(pictures)
    for label, picture in pictures.items():
        require_picture(label, picture)


def require_picture(label: str, picture: bytes) -> None:
    """A PNG of a sensible size."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n"), label
    width, height = struct.unpack(">II", picture[16:24])
    assert 300 < width < 2000, (label, width)
    assert 200 < height < 2000, (label, height)
    assert len(picture) < 400_000, f"{label}: the event log keeps every one of them"


def not_passed(nodes_shown: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Checks that failed, with what was found, and those that only warn; every check has run."""
    failed, warned = {}, set()
    for key, node in nodes_shown.items():
        for check in node["assetChecksOrError"]["checks"]:
            name, execution = f"{key}:{check['name']}", check["executionForLatestMaterialization"]
            assert execution is not None, f"{name} did not run"
            if execution["status"] == "SUCCEEDED":
                continue
            if execution["evaluation"] and execution["evaluation"]["severity"] == "WARN":
                warned.add(name)
            else:
                failed[name] = execution
    return failed, warned


def test_checks_passed(assets: dict[str, Any]) -> None:
    failed, warned = not_passed(assets)
    assert not failed
    # with a hundred scenes nothing is learnt, and the checks that look for it say so
    assert all(name.split(":")[0].startswith(("training/", "evaluation/", "shapes/")) for name in warned), warned


def test_history_lies_where_the_projects_dagster_yaml_says(dev: DagsterDev, lineage: dict[str, Any]) -> None:
    for run in lineage["runs"]:
        assert (dev.folder / "storage" / "dagster" / "history" / "runs" / f"{run['runId']}.db").exists()
        assert not list((CHECKOUT / "storage").rglob(f"*{run['runId']}*"))
    assert (dev.folder / "storage" / PROFILE).is_dir()
    assert not list(dev.home.glob(".dagster/.telemetry/*")), "telemetry is off"


def test_the_jobs_page_makes_one_run_and_draws_and_trains_nothing_again(
    dev: DagsterDev, assets: dict[str, Any]
) -> None:
    launched = materialize_all(dev, MAIN_GROUPS, page_of_job="lineage")
    (run,) = finished(dev, launched)["runs"]
    assert {"/".join(key["path"]) for key in run["assetSelection"]} == set(assets)
    again = nodes(dev, MAIN_GROUPS)
    assert numbers(again["simulated/truth"])["scenes_rendered_now"] == 0
    for stage in ("stage1_vae", "stage2_deblender", "stage3_regressor"):
        figures, before = numbers(again[f"training/{stage}"]), numbers(assets[f"training/{stage}"])
        assert "seconds_held" not in figures, "no device was taken"
        assert figures["best_validation_total"] == before["best_validation_total"]


def test_sensors_and_schedule_run_and_disturb_nothing(dev: DagsterDev, lineage: dict[str, Any]) -> None:
    states = instigators(dev)
    assert {name: state["status"] for name, state in states.items()} == dict.fromkeys(
        (*SENSORS, STALE_TILES, STALE_FIELDS, MISSING_TILES), "RUNNING"
    )
    for name in SENSORS:
        ticks = states[name]["ticks"]
        assert ticks, f"{name} has not looked once in all that time"
        assert not [tick for tick in ticks if tick["runIds"] or tick["error"]], ticks
    automatic = {"dagster/from_automation_condition", "dagster/sensor_name", "dagster/schedule_name"}
    for run in runs(dev).values():
        assert not automatic & {tag["key"] for tag in run["tags"]}, run


def test_a_tile_s_pages_show_its_plots_and_numbers(dev: DagsterDev, tile: str) -> None:
    shown = {key: node for key, node in nodes(dev, ("des",)).items() if node["partitionKeys"]}
    assert set(shown) == {key.to_user_string() for key in TILE_ASSETS.values()}
    for key, node in shown.items():
        assert node["assetPartitionStatuses"]["materializedPartitions"] == [tile], key
        assert [m["partition"] for m in node["assetMaterializations"]] == [tile], key
        assert all(math.isfinite(value) for value in numbers(node).values()), key
    found = {key: numbers(node) for key, node in shown.items()}
    galaxies = [found[f"des/{noun}"]["galaxies"] for noun in ("im3shape_catalog", "des_cutouts", "shape_catalog")]
    assert galaxies[0] >= galaxies[1] == galaxies[2] >= SMALL.des.tiles.minimum_galaxies
    assert found["des/des_cutouts"]["archive_requests"] > 0
    for key, wanted in {
        "des/im3shape_catalog": {"distributions", "attrition_chart"},
        "des/des_cutouts": {"ellipses"},
        "des/des_evaluation": {"shapes_against_im3shape", "shape_distributions", "trust", "dynamic_range"},
    }.items():
        pictures = plots(shown[key])
        assert wanted <= set(pictures)
        for label, picture in pictures.items():
            require_picture(label, picture)
    failed, _ = not_passed(shown)
    assert not failed


def test_loopback_only_and_nothing_written_elsewhere(dev: DagsterDev, lineage: dict[str, Any], tile: str) -> None:
    assert ("127.0.0.1", dev.port) in dev.listening
    assert {address for address, _ in dev.listening} <= {"127.0.0.1", "::1"}
    assert dev.reached == set()
    assert dev.stray == set()


def test_nothing_is_left_after_an_interrupt(dev: DagsterDev) -> None:
    started = dev.processes()
    assert len(started) >= 4, "dagster dev, webserver, daemon, code server"
    dev.interrupt(STOP_SECONDS)
    # the code server lets go of what it is asked last, and ends after the others
    psutil.wait_procs(started, STOP_SECONDS)
    assert [process.cmdline() for process in dev.processes()] == []
    assert not list(dev.folder.glob(".tmp_dagster_home*"))
    with socket.socket() as port:
        assert port.connect_ex(("127.0.0.1", dev.port)) != 0
