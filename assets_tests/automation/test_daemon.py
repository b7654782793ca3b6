"""A real daemon over the stand-in lineage: tiles come, everything else happens without a hand."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.automation import stand_ins
from assets_tests.automation.stand_ins import MODEL, stand_in_assets
from deblend_assets.assets.keys import SKY, TILE_ASSETS
from deblend_assets.automation.conditions import AUTOMATION_SENSOR
from deblend_assets.automation.tile_registry import add_tiles, registered_tiles
from deblend_assets.automation.tile_sensor import NEW_TILES_SENSOR

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 180.0
FIRST, SECOND, THIRD = "DES0433-5331", "DES0436-5748", "DES0000+0015"


class Daemon:
    """`dagster-daemon run` in a process group of its own."""

    def __init__(self, log: Path) -> None:
        self._log = log
        command = [sys.executable, "-m", "dagster._daemon", "run", "-m", stand_ins.__name__, "-d", str(CHECKOUT)]
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-40:])
            assert self._process.poll() is None, f"the daemon ended\n{tail}"
            assert time.monotonic() < deadline, f"{what}: waited in vain\n{tail}"
            time.sleep(0.5)

    def kill(self) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)


@pytest.fixture
def daemon(code_server, instance, storage, tmp_path) -> Iterator[Daemon]:
    """Started where sky and model are there and the first tile is registered."""
    made = dg.materialize(stand_in_assets(), selection=[SKY, MODEL], instance=instance, resources={"storage": storage})
    assert made.success
    add_tiles(instance, Path(storage.root) / "smoke", [FIRST])
    started = Daemon(tmp_path / "daemon.log")
    yield started
    started.kill()


def materializations(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[str]:
    """The tile of every materialisation of an asset."""
    return sorted(str(record.partition_key) for record in instance.fetch_materializations(key, limit=100).records)


def looks(instance: dg.DagsterInstance) -> dict[str, int]:
    """How often each sensor has looked and come to an end."""
    states = {state.instigator_name: state for state in instance.all_instigator_state()}
    found = {}
    for name in (NEW_TILES_SENSOR, AUTOMATION_SENSOR):
        ticks = (
            instance.get_ticks(states[name].instigator_origin_id, states[name].selector_id) if name in states else []
        )
        assert not any(tick.is_failure for tick in ticks), ticks
        found[name] = sum(tick.is_completed for tick in ticks)
    return found


def test_tiles_are_evaluated_without_a_hand_and_once(daemon, instance, storage):
    evaluated = TILE_ASSETS["des_evaluation"]
    daemon.until(lambda: materializations(instance, evaluated) == [FIRST], "a tile older than the daemon")

    with (Path(storage.root) / "smoke" / "tiles.txt").open("a") as mine:
        mine.write(f"{SECOND}  # two more\n{THIRD}\n")
    three = sorted([FIRST, SECOND, THIRD])
    daemon.until(lambda: materializations(instance, evaluated) == three, "two tiles added while the daemon runs")
    assert registered_tiles(instance) == [FIRST, SECOND, THIRD]

    before = looks(instance)
    daemon.until(lambda: all(looks(instance)[name] >= before[name] + 2 for name in before), "two more looks of each")
    assert all(materializations(instance, key) == three for key in TILE_ASSETS.values())
    runs = [run for run in instance.get_runs() if "dagster/partition" in run.tags]
    assert sorted(run.tags["dagster/partition"] for run in runs) == three, "a run a tile"
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
