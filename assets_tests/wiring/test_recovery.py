"""Real `dagster asset materialize` processes, killed for real; fabricated event logs for the finer rules."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from assets_tests.dagster_internals import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from deblend_assets.automation.dagster_internals import EngineEventData
from deblend_assets.automation.recovery import dead_runs, recover_dead_runs
from deblend_assets.resources.machine import MACHINE_TAG, machine_name

PATIENCE_SECONDS = 60.0
CONFIG = "telemetry: {enabled: false}\nconcurrency: {pools: {granularity: op, default_limit: 1}}\n"
MODULE = """
import os, pathlib, time
import dagster as dg

@dg.asset(pool="training")
def train():
    pathlib.Path(os.environ["STARTED"]).write_text(str(os.getpid()))
    time.sleep(float(os.environ["SLEEP"]))

defs = dg.Definitions(assets=[train], executor=getattr(dg, os.environ["EXECUTOR"]))
"""


class Home:
    """A Dagster home with one asset in a pool of one, and the processes started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "dagster.yaml").write_text(CONFIG)
        (folder / "sleeper.py").write_text(MODULE)
        self.started: list[int] = []

    def materialize(self, executor: str, sleep: float) -> subprocess.Popen[bytes]:
        """Starts a run in a process group of its own; its asset writes its pid into `<pid>.started`."""
        command = [
            sys.executable,
            "-m",
            "dagster",
            "asset",
            "materialize",
            "--select",
            "train",
            "-m",
            "sleeper",
        ]
        # a shell that becomes the command tells both sides the pid
        process = subprocess.Popen(
            ["sh", "-c", 'STARTED="$PWD/$$.started" exec "$@"', "sh", *command],
            cwd=self.folder,
            env={**os.environ, "DAGSTER_HOME": str(self.folder), "EXECUTOR": executor, "SLEEP": str(sleep)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.started.append(process.pid)
        return process

    def asset_pid(self, process: subprocess.Popen[bytes]) -> int:
        file = self.folder / f"{process.pid}.started"
        until(lambda: file.exists() and file.read_text() != "")
        return int(file.read_text())

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGKILL

    def recover_by_command(self) -> str:
        command = [sys.executable, "-m", "deblend_assets.automation.recovery"]
        env = {**os.environ, "DAGSTER_HOME": str(self.folder)}
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    for group in made.started:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.fixture
def instance(home: Home) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home.folder)) as opened:
        yield opened


def holders(instance: dg.DagsterInstance) -> set[str]:
    return set(instance.event_log_storage.get_concurrency_info("training").active_run_ids)


def waiting(instance: dg.DagsterInstance) -> set[str]:
    return set(instance.event_log_storage.get_concurrency_info("training").pending_run_ids)


def statuses(instance: dg.DagsterInstance) -> dict[str, str]:
    return {run.run_id: run.status.value for run in instance.get_runs()}


@pytest.mark.slow
def test_killed_runs_are_failed_and_the_next_training_runs(home: Home, instance: dg.DagsterInstance) -> None:
    holder = home.materialize("in_process_executor", 600)
    home.asset_pid(holder)
    (held,) = holders(instance)

    waiter = home.materialize("in_process_executor", 0)
    until(lambda: len(waiting(instance)) == 1)
    (queued,) = waiting(instance)
    assert recover_dead_runs(instance) == [], "living runs, one of them waiting for the pool, are left alone"
    assert home.recover_by_command() == "no dead runs\n"
    assert statuses(instance) == {held: "STARTED", queued: "STARTED"}
    assert holders(instance) == {held}

    home.kill(holder)
    home.kill(waiter)
    assert statuses(instance) == {held: "STARTED", queued: "STARTED"}, "nothing has noticed"
    assert holders(instance) == {held}

    printed = home.recover_by_command().splitlines()
    assert [line.split(":")[0] for line in printed] == [f"recovered run {held}", f"recovered run {queued}"]
    assert statuses(instance) == {held: "FAILURE", queued: "FAILURE"}
    assert (holders(instance), waiting(instance)) == (set(), set()), "a dead waiter does not inherit the slot"
    assert "ended without reporting it" in instance.all_logs(held)[-1].message
    assert recover_dead_runs(instance) == []

    after = home.materialize("in_process_executor", 0)
    assert after.wait(PATIENCE_SECONDS) == 0
    assert sorted(statuses(instance).values()) == ["FAILURE", "FAILURE", "SUCCESS"]


def test_a_step_worker_that_survives_its_parent_keeps_the_run_alive(home: Home, instance: dg.DagsterInstance) -> None:
    run = home.materialize("multiprocess_executor", 600)
    worker = home.asset_pid(run)
    (held,) = holders(instance)
    run.kill()
    run.wait(PATIENCE_SECONDS)
    assert worker != run.pid
    assert not gone(worker)
    assert recover_dead_runs(instance) == []
    assert holders(instance) == {held}

    os.kill(worker, signal.SIGKILL)
    until(lambda: gone(worker))
    assert recover_dead_runs(instance) == [held]
    assert statuses(instance) == {held: "FAILURE"}
    assert holders(instance) == set()


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# a queued run must say where its job comes from
ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("nowhere"), "nothing"), "nothing")


@dg.job
def nothing() -> None:
    """A job whose runs are fabricated."""


def fabricate(
    instance: dg.DagsterInstance,
    *pids: int,
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED,
    tags: dict[str, str] | None = None,
) -> str:
    """A run in the given status whose event log names these processes."""
    run = instance.create_run_for_job(nothing, status=status, tags=tags, remote_job_origin=ORIGIN)
    for pid in pids:
        instance.report_engine_event("Executing steps", run, EngineEventData.in_process(pid))
    return run.run_id


@pytest.mark.parametrize("status", ["STARTING", "STARTED", "CANCELING"])
def test_each_status_of_a_run_under_way_is_recovered(instance: dg.DagsterInstance, dead_pid: int, status: str) -> None:
    run_id = fabricate(instance, dead_pid, status=dg.DagsterRunStatus(status))
    assert recover_dead_runs(instance) == [run_id]
    assert statuses(instance) == {run_id: "FAILURE"}


def test_the_sensor_does_it_while_a_daemon_runs(instance: dg.DagsterInstance, dead_pid: int) -> None:
    run_id = fabricate(instance, dead_pid)
    skipped = dead_runs(dg.build_sensor_context(instance=instance))
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message == f"recovered {run_id}"
    assert statuses(instance) == {run_id: "FAILURE"}
    assert dead_runs(dg.build_sensor_context(instance=instance)).skip_message == "no dead runs"


@pytest.mark.parametrize("status", ["QUEUED", "NOT_STARTED", "SUCCESS", "CANCELED"])
def test_runs_not_under_way_are_left_alone(instance: dg.DagsterInstance, dead_pid: int, status: str) -> None:
    run_id = fabricate(instance, dead_pid, status=dg.DagsterRunStatus(status))
    assert recover_dead_runs(instance) == []
    assert statuses(instance) == {run_id: status}


def test_a_run_without_known_processes_or_with_one_alive_is_left_alone(
    instance: dg.DagsterInstance, dead_pid: int
) -> None:
    fabricate(instance)
    fabricate(instance, dead_pid, os.getpid())
    assert recover_dead_runs(instance) == []


def test_only_runs_of_this_machine_are_known_by_their_pids(instance: dg.DagsterInstance, dead_pid: int) -> None:
    ours = fabricate(instance, dead_pid, tags={MACHINE_TAG: machine_name()})
    theirs = fabricate(instance, dead_pid, tags={MACHINE_TAG: "another pid:[4026531836]"})
    assert recover_dead_runs(instance) == [ours]
    assert statuses(instance)[theirs] == "STARTED"


def test_a_pid_given_to_a_younger_process_counts_as_dead(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = fabricate(instance, os.getpid())
    assert recover_dead_runs(instance) == []
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: time.time() + 3600)
    assert recover_dead_runs(instance) == [run_id]


def test_a_zombie_counts_as_dead(instance: dg.DagsterInstance) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    until(lambda: gone(process.pid))
    run_id = fabricate(instance, process.pid)
    assert recover_dead_runs(instance) == [run_id]
    process.wait()


def test_the_slot_that_a_run_kept_when_it_was_ended_from_outside_is_freed(
    instance: dg.DagsterInstance, dead_pid: int
) -> None:
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default("training")
    run_id = fabricate(instance, dead_pid)
    assert storage.claim_concurrency_slot("training", run_id, "train").is_claimed
    instance.report_run_canceled(instance.get_run_by_id(run_id))
    assert holders(instance) == {run_id}, "Dagster itself keeps it"
    assert recover_dead_runs(instance) == [run_id]
    assert holders(instance) == set()
    assert statuses(instance) == {run_id: "CANCELED"}
    assert recover_dead_runs(instance) == []
