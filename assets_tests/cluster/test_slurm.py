"""The job scripts on a real Slurm of one node: the LSST model and tiles in one submission, the training interrupted.

The network for every sky is submitted by the same lines with other names: `test_submission.py`.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.assets.homes import CHECKOUT, Home, results
from assets_tests.assets.lineage import CATALOG, SIMULATED, STAGES, STATISTICS, TEXT_OF_FEW, Lineage
from assets_tests.cluster.slurm_node import SlurmNode, slurm_node, wait_until
from deblend_assets.science.simulation.scenes import all_shards
from deblend_assets.settings import PROFILE_FOLDER

pytestmark = pytest.mark.slow

SCRIPTS = CHECKOUT / "cluster" / "slurm"
# Long enough to be met in the middle; everything else as small as it can be.
# A test fails by what is printed, not by the clock of a busy machine.
PATIENCE_SECONDS = 900.0
EPOCHS = 40


def profile_text(epochs: int = EPOCHS) -> str:
    """The smoke profile with fewer scenes and a stage 1 that lasts."""
    text = (PROFILE_FOLDER / "smoke.toml").read_text(encoding="utf-8")
    for old, new in {
        "stage1 = { epochs = 2,": f"stage1 = {{ epochs = {epochs},",
        "train = 64, validation = 16, test = 32": "train = 32, validation = 16, test = 16",
        **TEXT_OF_FEW,
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class Cluster(Home):
    """A Dagster home whose runs are Slurm's jobs."""

    def __init__(self, node: SlurmNode, folder: Path) -> None:
        super().__init__(folder, "small", profile_text(), [])
        self.node = node
        self.settings = {
            **{key: value for key, value in self.environment.items() if os.environ.get(key) != value},
            "DEBLEND_CHECKOUT": str(CHECKOUT),
            "DEBLEND_PYTHON": sys.executable,
            "STOP_SECONDS": "5",
        }

    def submit_lineage(self, **settings: str) -> dict[str, str]:
        """Submits everything; the jobs' numbers by name."""
        given = {"CORES": "1", "MEMORY_PER_CORE": "1G", "SHARD_TASKS": "2", "SHARD_TIME": "30"}
        given |= {"TRAINING_TIME": "30", "ASSET_TIME": "30", "TILE_TIME": "30"}
        answer = self.node.command(str(SCRIPTS / "submit_lineage.sh"), **{**self.settings, **given, **settings})
        return dict(line.split() for line in answer.splitlines())

    def submit(self, *words: str, **settings: str) -> str:
        """One job."""
        fixed = ["--parsable", "--cpus-per-task=1", f"--output={self.folder}/%j.log"]
        return self.node.command("sbatch", *fixed, *words, **{**self.settings, **settings})

    def output(self, job: str) -> str:
        """What the job has printed, or the tasks of an array."""
        files = {Path(entry["StdOut"]) for entry in self.node.show(job)}
        return "".join(path.read_text(errors="replace") for path in sorted(files) if path.exists())

    def wait_for(self, job: str, words: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Until the job has printed some words."""

        def said() -> bool:
            assert self.node.states(job) & {"PENDING", "RUNNING", "COMPLETING"}, self.output(job)[-3000:]
            return words in self.output(job)

        wait_until(said, f"job {job} never said {words!r}", seconds)

    def ends_well(self, job: str, seconds: float = PATIENCE_SECONDS) -> None:
        assert self.node.wait(job, seconds) == {"COMPLETED"}, self.output(job)[-5000:]

    def run_again(self, job: str) -> None:
        """What was put back into the queue starts in a few seconds; Slurm would let it wait for two minutes.

        Not at once: a node refuses the credentials that a job is given in the second in which it was revoked.
        """
        wait_until(lambda: self.node.states(job) == {"PENDING"}, f"job {job} is not in the queue: {self.output(job)}")
        self.node.command("scontrol", "update", f"JobId={job}", "StartTime=now+3")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmNode]:
    with slurm_node(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture(scope="module")
def finished(node: SlurmNode, tmp_path_factory: pytest.TempPathFactory) -> tuple[Cluster, dict[str, str]]:
    """Everything submitted at once; the training is requeued in the middle, then told that its time is up."""
    cluster = Cluster(node, tmp_path_factory.mktemp("cluster") / "home")
    jobs = cluster.submit_lineage(PARTS="lsst tiles")
    training = jobs["training"]
    cluster.wait_for(training, "epoch 5/")
    node.command("scontrol", "requeue", training)
    cluster.run_again(training)
    cluster.wait_for(training, "(start 1)")
    cluster.wait_for(training, f"epoch {EPOCHS // 2}/")
    node.command("scancel", "--batch", "--signal=USR1", training)
    cluster.run_again(training)
    for job in jobs.values():
        cluster.ends_well(job)
    return cluster, jobs


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, finished: tuple[Cluster, dict[str, str]]) -> Lineage:
    """The model by one plain run, undisturbed."""
    lineage = Lineage(tmp_path_factory.mktemp("plain"), finished[0].profile)
    lineage.succeeds(CATALOG, *SIMULATED, STATISTICS, *STAGES)
    return lineage


def test_every_shard_is_drawn_by_one_of_two_tasks(finished: tuple[Cluster, dict[str, str]]) -> None:
    cluster, jobs = finished
    tasks = cluster.node.show(jobs["shards"])
    printed = [Path(task["StdOut"]).read_text() for task in sorted(tasks, key=lambda task: task["ArrayTaskId"])]
    ranges = [match[1] for text in printed if (match := re.search(r"^shards (\S+)$", text, re.MULTILINE))]
    assert ranges == ["train_000...train_001", "validation_000...test_000"]
    assert all("rendering: 32/32 scenes" in text for text in printed), "each draws its own and no other's"


def test_arrays_and_checkpoints_are_those_of_a_plain_run(
    finished: tuple[Cluster, dict[str, str]], plain: Lineage
) -> None:
    cluster, _ = finished
    wanted = results(plain.store.folder)
    drawn = [name for name in wanted if name.startswith("simulated/")]
    assert len([name for name in drawn if "/_done/" in name]) == len(all_shards(plain.profile.simulation))
    assert len([name for name in wanted if name.endswith("checkpoint.pt")]) == 3
    found = results(cluster.storage / "small")
    assert {name: found.get(name) for name in wanted} == wanted


def test_an_interrupted_training_went_on_where_it_was(finished: tuple[Cluster, dict[str, str]]) -> None:
    cluster, jobs = finished
    (job,) = cluster.node.show(jobs["training"])
    assert job["Restarts"] == "2"
    starts = re.split(r"\(start [12]\)", cluster.output(jobs["training"]))
    assert len(starts) == 3
    for (before, again), least in zip(itertools.pairwise(starts), (5, EPOCHS // 2), strict=True):
        epochs = [int(number) for number in re.findall(rf"stage1_vae: epoch (\d+)/{EPOCHS},", before)]
        assert least <= epochs[-1] < EPOCHS
        resumed = re.search(r"stage1_vae: resuming after epoch (\d+)", again)
        # the last line before the kill may not have reached the file
        assert resumed
        assert int(resumed[1]) >= epochs[-1]
    assert "the time is up: back into the queue" in starts[1]


def test_every_tile_has_its_report(finished: tuple[Cluster, dict[str, str]]) -> None:
    cluster, jobs = finished
    tiles = cluster.profile.des.sky.tiles
    assert len(cluster.node.show(jobs["tiles"])) == len(tiles), "a tile a task"
    assert all((cluster.storage / "small" / "tiles" / tile / "report.html").exists() for tile in tiles)


def test_no_run_is_left_under_way(finished: tuple[Cluster, dict[str, str]]) -> None:
    cluster, jobs = finished
    with dg.DagsterInstance.from_config(str(cluster.folder)) as instance:
        runs = instance.get_runs()
    assert len(runs) >= len(jobs), "a run a job at least"
    assert [run for run in runs if not run.is_finished] == []


def test_a_training_killed_without_a_word_does_not_block_the_next(finished: tuple[Cluster, dict[str, str]]) -> None:
    """As where memory runs out: its run stays under way and holds the only place in the pool of trainings."""
    cluster, _ = finished
    longer = cluster.folder / "longer" / "small.toml"
    longer.parent.mkdir()
    longer.write_text(profile_text(EPOCHS + 1))
    script = [str(SCRIPTS / "training.sh"), "training/stage1_vae"]
    killed = cluster.submit(*script, DEBLEND_PROFILE=str(longer))
    cluster.wait_for(killed, "epoch 5/")
    cluster.node.kill(killed)
    assert cluster.node.wait(killed, PATIENCE_SECONDS) == {"FAILED"}
    following = cluster.submit(*script, DEBLEND_PROFILE=str(longer))
    cluster.ends_well(following)
    output = cluster.output(following)
    assert "its process is dead; marked as failed" in output
    assert "resuming after epoch" in output


def test_a_step_sees_the_gpu_of_its_job_alone(node: SlurmNode, tmp_path: Path) -> None:
    """Two jobs at a time on a node with two (unreal) GPUs: what Slurm masks, the process that would train sees."""
    script = tmp_path / "masked.sh"
    meet = (
        "import os, pathlib, time; from deblend_assets.resources.devices import list_cuda_devices; "
        f"folder = pathlib.Path({str(tmp_path)!r}); "
        "(folder / ('gpu' + os.environ['CUDA_VISIBLE_DEVICES'])).touch(); "
        "began = time.monotonic(); "
        "exec('while len(list(folder.glob(\"gpu*\"))) < 2 and time.monotonic() - began < 90: time.sleep(0.1)'); "
        "print('mask', os.environ['CUDA_VISIBLE_DEVICES'], len(list_cuda_devices()))"
    )
    script.write_text(
        "#!/usr/bin/env bash\nset -euo pipefail\n"
        f"source {SCRIPTS}/job.sh\n"
        f'step "$DEBLEND_PYTHON" -c {shlex.quote(meet)}\n'
    )
    cluster = Cluster(node, tmp_path / "home")
    jobs = [cluster.submit("--gres=gpu:1", str(script)) for _ in range(2)]
    for job in jobs:
        cluster.ends_well(job)
    # an unreal GPU is none of CUDA's
    assert sorted(cluster.output(job).splitlines()[-1] for job in jobs) == ["mask 0 0", "mask 1 0"]
