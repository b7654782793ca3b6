"""Dagster's own daemon in a process of its own, and its scheduler under a clock that the test sets."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from assets_tests.dagster_internals import (
    ModuleTarget,
    create_test_daemon_workspace_context,
    launch_scheduled_runs,
)
from deblend_assets.automation.field_sensor import FIELD_AUTOMATION, NEW_FIELDS_SENSOR
from deblend_assets.automation.schedules import STALE_TILES
from deblend_assets.automation.tile_sensor import NEW_TILES_SENSOR, TILE_AUTOMATION

CHECKOUT = Path(__file__).resolve().parents[2]
BLANK_FIGURES = CHECKOUT / "assets_tests" / "blank_figures"
# A test fails by what is printed, not by the clock of a busy machine.
PATIENCE_SECONDS = 900.0
OF_TILES = (NEW_TILES_SENSOR, TILE_AUTOMATION)
OF_FIELDS = (NEW_FIELDS_SENSOR, FIELD_AUTOMATION)


class Daemon:
    """`dagster-daemon run` over a module with definitions, in a process group of its own.

    Args:
        module: to be loaded.
        environment: its DAGSTER_HOME is the folder it starts in.
        log: takes what it prints.
    """

    def __init__(self, module: str, environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        command = [sys.executable, "-m", "dagster._daemon", "run", "-m", module, "-d", str(CHECKOUT)]
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command,
                cwd=environment["DAGSTER_HOME"],
                env={**environment, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(BLANK_FIGURES)])},
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

    def look_again(self, instance: dg.DagsterInstance, sensors: Sequence[str] = OF_TILES) -> None:
        """Wait until each sensor has ended two looks from now on: one may be under way, the next sees all there is."""
        before = looks(instance, sensors)
        self.until(lambda: all(looks(instance, sensors)[name] >= n + 2 for name, n in before.items()), "two more looks")

    def kill(self) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)


@contextlib.contextmanager
def running(module: str, environment: Mapping[str, str], log: Path) -> Iterator[Daemon]:
    """A daemon for as long as the block lasts."""
    daemon = Daemon(module, environment, log)
    try:
        yield daemon
    finally:
        daemon.kill()


def looks(instance: dg.DagsterInstance, sensors: Sequence[str] = OF_TILES) -> dict[str, int]:
    """How often each of some sensors has looked and come to an end."""
    states = {state.instigator_name: state for state in instance.all_instigator_state()}
    found = {}
    for name in sensors:
        ticks = (
            instance.get_ticks(states[name].instigator_origin_id, states[name].selector_id) if name in states else []
        )
        assert not any(tick.is_failure for tick in ticks), ticks
        found[name] = sum(tick.is_completed for tick in ticks)
    return found


class Scheduler:
    """The scheduler's iterations over a code server; nothing but `run` starts the runs that it queues."""

    def __init__(self, instance: dg.DagsterInstance, workspace: Any) -> None:
        self.instance, self._workspace = instance, workspace
        self._times: dict[Any, Any] = {}
        self.now = datetime.datetime.now(datetime.UTC)
        self.reason: str | None = None
        self._iterate()

    def _iterate(self) -> None:
        for error in launch_scheduled_runs(self._workspace, logging.getLogger("test"), self.now, self._times):
            assert error is None, error

    def next_monday(self) -> list[dg.DagsterRun]:
        """The runs requested by an iteration a minute past the next tick, oldest first."""
        before = {run.run_id for run in self.instance.get_runs()}
        day = self.now.replace(hour=3, minute=1, second=0)
        days = (-day.weekday()) % 7
        self.now = day + datetime.timedelta(days=days if day + datetime.timedelta(days=days) > self.now else days + 7)
        self._iterate()
        (state,) = [found for found in self.instance.all_instigator_state() if found.instigator_name == STALE_TILES]
        tick = self.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)[0]
        assert datetime.datetime.fromtimestamp(tick.timestamp, datetime.UTC) == self.now.replace(
            minute=0, microsecond=0
        )
        self.reason = tick.skip_reason
        return [run for run in reversed(self.instance.get_runs()) if run.run_id not in before]

    def run(self, *runs: dg.DagsterRun) -> list[str]:
        """Start queued runs and wait; how each ended."""
        for run in runs:
            self.instance.launch_run(run.run_id, self._workspace.create_request_context())
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not all(self.instance.get_run_by_id(run.run_id).is_finished for run in runs):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.2)
        return [self.instance.get_run_by_id(run.run_id).status.value for run in runs]


@contextlib.contextmanager
def scheduler_over(module: str, instance: dg.DagsterInstance) -> Iterator[Scheduler]:
    """The scheduler over a code server that loads a module, as `Daemon` does, with this process's environment."""
    target = ModuleTarget(module, attribute=None, working_directory=str(CHECKOUT), location_name=None)
    with create_test_daemon_workspace_context(target, instance) as workspace:
        yield Scheduler(instance, workspace)


def materializations(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[str]:
    """The tile of every materialisation of an asset, sorted."""
    return sorted(str(record.partition_key) for record in instance.fetch_materializations(key, limit=100).records)
