"""Runs that a job on another node has left behind: their pids say nothing here, so Slurm is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.cluster.slurm_node import SlurmNode, slurm_node, wait_until
from deblend_assets.automation.recovery import recover_dead_runs
from deblend_assets.resources.machine import JOB_TAG, MACHINE_TAG, machine_name
from deblend_assets.resources.storage import Storage


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmNode]:
    with slurm_node(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def submit(node: SlurmNode, folder: Path, command: str, *options: str) -> str:
    return node.command("sbatch", "--parsable", f"--output={folder}/%j.log", *options, "--wrap", command)


def run_of(instance: dg.DagsterInstance, start: str, owner: str | None = None) -> str:
    """A run that another machine has left under way; `owner`: the run that the tag was written for, itself if none."""
    run = instance.create_run_for_job(dg.job(name="empty")(lambda: None), status=dg.DagsterRunStatus.STARTED)
    tags = {MACHINE_TAG: "elsewhere pid:[1]", JOB_TAG: f"{owner or run.run_id} {start}"}
    instance.add_run_tags(run.run_id, tags)
    return run.run_id


def test_slurm_says_which_jobs_are_over(
    node: SlurmNode, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, running = submit(node, tmp_path, "true"), submit(node, tmp_path, "sleep 300")
    node.wait(ended, 60)
    wait_until(lambda: node.states(running) == {"RUNNING"}, "the job does not start")
    dead = [
        run_of(instance, f"deblend-test {ended} 0"),
        run_of(instance, "deblend-test 999999 0"),  # long over: Slurm has forgotten it
        run_of(instance, f"deblend-test {running} 1"),  # an earlier or later start of the job
    ]
    run_of(instance, f"deblend-test {running} 0")
    run_of(instance, f"other-cluster {ended} 0")
    run_of(instance, f"deblend-test {ended} 0", owner="the-run-that-this-one-repeats")
    monkeypatch.setenv("SLURM_CONF", node.environment["SLURM_CONF"])
    assert recover_dead_runs(instance) == [], "outside of a job nothing is known of its cluster"
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "deblend-test")
    assert recover_dead_runs(instance) == dead
    node.command("scancel", running)


@pytest.mark.parametrize(("ends", "lives"), [("0", "1"), ("1", "0")])
def test_a_task_of_an_array_says_nothing_of_the_others(
    node: SlurmNode,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ends: str,
    lives: str,
) -> None:
    array = submit(node, tmp_path, f"test $SLURM_ARRAY_TASK_ID = {ends} || sleep 300", "--array=0-1")
    wait_until(lambda: node.states(f"{array}_{ends}") == {"COMPLETED"}, "the one task does not end")
    wait_until(lambda: node.states(f"{array}_{lives}") == {"RUNNING"}, "the other task does not start")
    numbers = {entry["ArrayTaskId"]: entry["JobId"] for entry in node.show(array)}
    assert array in numbers.values(), "one task bears the number of the array"
    over = run_of(instance, f"deblend-test {numbers[ends]} 0")
    run_of(instance, f"deblend-test {numbers[lives]} 0")
    monkeypatch.setenv("SLURM_CONF", node.environment["SLURM_CONF"])
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "deblend-test")
    assert recover_dead_runs(instance) == [over]
    node.command("scancel", array)


def test_no_answer_closes_nothing(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_of(instance, "deblend-test 1 0")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "deblend-test")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert recover_dead_runs(instance) == [], "no squeue here"
    silent = tmp_path / "squeue"
    silent.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1\n")
    silent.chmod(0o755)
    assert recover_dead_runs(instance) == [], "the controller is away"


def test_a_run_in_a_job_is_tagged_with_it(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset
    def tagged(storage: Storage) -> None:
        """Uses the storage, as every asset does."""

    for name, value in {"CLUSTER_NAME": "deblend-test", "JOB_ID": "7", "RESTART_COUNT": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    inherited = {JOB_TAG: "another-run deblend-test 6 0"}
    result = dg.materialize(
        [tagged], instance=instance, resources={"storage": Storage(root=str(tmp_path))}, tags=inherited
    )
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags[JOB_TAG] == f"{result.run_id} deblend-test 7 2"
    assert run.tags[MACHINE_TAG] == machine_name()
