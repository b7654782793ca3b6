"""Real processes: one that is asked to stop, two that train together by Gloo, and one of two that dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

from assets_tests.assets.homes import BLANK_FIGURES, CHECKOUT, assert_all_gone
from assets_tests.stores.test_project import COLUMNS, STATISTICS, galaxies, simulate, tiny
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.steps.training.fit import fit_stage
from deblend_assets.steps.training.several import fit_on_several
from deblend_assets.stores.checkpoints import Checkpoint, CheckpointFolder
from deblend_assets.stores.project import ProjectStore

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
TWO = ["cpu", "cpu"]
PATIENCE_SECONDS = 240.0
# Many batches an epoch, so that a request comes within one, and epochs enough to be met in the middle twice.
EPOCHS, BATCH = 8, 1

# One stage through Dagster, in a process of its own; its last line says how it ended.
STAGE = """
import sys
from pathlib import Path
import torch
from assets_tests.assets.lineage import Lineage
from assets_tests.stores.test_project import tiny
torch.set_num_threads(1)
root, stage, devices, epochs, batch = sys.argv[1:]
profile = tiny(
    run__devices=int(devices), recipes__training__stage1__epochs=int(epochs), recipes__training__batch_size=int(batch)
)
lineage = Lineage(Path(root), profile)
result = lineage.run("training/" + stage)
failures = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
print(failures[0].description if failures else "succeeded", flush=True)
sys.exit(len(failures))
"""


class Run:
    """The process of one stage, and what it said."""

    def __init__(self, project: ProjectStore, devices: int) -> None:
        recipe = project.profile.recipes.training
        self.folder = project.checkpoint("training", "stage1_vae")
        command = [sys.executable, "-c", STAGE, str(project.root), "stage1_vae", str(devices)]
        command += [str(recipe.stage1.epochs), str(recipe.batch_size)]
        paths = os.pathsep.join([str(CHECKOUT), str(BLANK_FIGURES)])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def when(self, condition: Callable[[], object]) -> None:
        """Waits until it is so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert self.process.poll() is None, f"ended too early: {self.last_line()}"
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.05)

    def training(self) -> bool:
        """Whether an epoch is done, and the next one under way."""
        return (self.folder.folder / "state_last.pt").exists()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def last_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read().splitlines()[-1]

    def end(self) -> str:
        """The last line, once the process is gone."""
        try:
            return self.last_line()
        finally:
            self.process.wait(PATIENCE_SECONDS)


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def begin(project: ProjectStore, devices: int = 1) -> Run:
        runs.append(Run(project, devices))
        return runs[-1]

    yield begin
    for run in runs:
        left = run.children() if run.process.poll() is None else []
        run.process.kill()
        run.process.wait(PATIENCE_SECONDS)
        for process in left:
            if process.is_running():
                process.kill()


def of_recipe(root: Path, epochs: int, batch: int) -> ProjectStore:
    return ProjectStore(root, tiny(recipes__training__stage1__epochs=epochs, recipes__training__batch_size=batch))


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> ProjectStore:
    """Catalogue, all shards, statistics, and stage 1 trained by this process without a break; only read."""
    made = of_recipe(tmp_path_factory.mktemp("alone"), EPOCHS, BATCH)
    made.write_catalog(galaxies(), COLUMNS, "note", {"source": "made up"})
    simulate(made, load_survey("LSST"))
    made.write_normalization(STATISTICS, {"stamps": 16})
    alone(made, "stage1_vae")
    return made


@pytest.fixture
def store(left_alone: ProjectStore, tmp_path: Path) -> ProjectStore:
    """A copy without the trained stage."""
    made = of_recipe(Path(shutil.copytree(str(left_alone.root), tmp_path / "storage")), EPOCHS, BATCH)
    shutil.rmtree(str(made.folder / "checkpoints"))
    return made


def alone(project: ProjectStore, stage: str) -> Checkpoint:
    checkpoint, _ = fit_stage(project, "training", stage, CPU, RenderingWorkers(), print)
    project.checkpoint("training", stage).finish(checkpoint)
    return checkpoint


def state(folder: CheckpointFolder) -> dict:
    found = folder.load_last()
    assert found is not None
    return found


def assert_close(found: Checkpoint, expected: Checkpoint) -> None:
    """Two trainings agree within 1e-4.

    Two processes add the float32 terms of a batch in another order than one, and Adam divides a gradient by its own
    size, so that the rounding of one near zero is a step of the learning rate times some 1e-2.
    """
    assert found.card["best_epoch"] == expected.card["best_epoch"]
    for ours, theirs in zip(found.history, expected.history, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    for name, weight in expected.weights.items():
        torch.testing.assert_close(found.weights[name], weight, rtol=1e-4, atol=1e-4)


def test_asked_to_stop_it_keeps_its_place_in_the_epoch_and_ends_as_if_left_alone(
    store: ProjectStore, left_alone: ProjectStore, start: Callable[..., Run]
) -> None:
    run = start(store)
    run.when(run.training)
    run.process.send_signal(signal.SIGTERM)
    line = run.end()
    assert run.process.returncode == 1
    assert line.startswith("training/stage1_vae: stopped in epoch ")
    assert line.endswith("[SIGTERM]: run the same command again")
    kept = state(run.folder)
    assert 1 <= kept["within"]["batches"] <= 16
    assert kept["step"] == 16 * len(kept["history"]) + kept["within"]["batches"]
    run = start(store)
    assert run.end() == "succeeded"
    assert run.folder.path.read_bytes() == left_alone.checkpoint("training", "stage1_vae").path.read_bytes()


def test_two_processes_end_where_one_does(store: ProjectStore) -> None:
    # 16 scenes in batches of 5: shares of two and three, and in the end one scene for two processes.
    store = of_recipe(Path(str(store.root)), 2, 5)
    alone(store, "stage1_vae")
    folder = store.checkpoint("training", "stage2_deblender")
    expected = alone(store, "stage2_deblender")
    folder.path.unlink()
    lines: list[str] = []
    handler = signal.getsignal(signal.SIGTERM)
    figures = fit_on_several(store, "training", "stage2_deblender", TWO, RenderingWorkers(), lines.append)
    assert_close(folder.read(), expected)
    assert figures["stamps_per_second"] > 0
    assert len([line for line in lines if "epoch 2/2, train_total" in line]) == 1, "one of the two tells, and here"
    assert not list(folder.folder.glob("state_*"))
    assert signal.getsignal(signal.SIGTERM) is handler


def test_two_processes_may_be_stopped_or_one_may_die_and_the_next_run_goes_on(
    store: ProjectStore, left_alone: ProjectStore, start: Callable[..., Run]
) -> None:
    folder = store.checkpoint("training", "stage1_vae")
    run = start(store, devices=2)
    run.when(run.training)
    children = run.children()
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == "training/stage1_vae: stopped, its state is kept [SIGTERM]: run the same command again"
    assert_all_gone(children)
    stopped = state(folder)
    assert stopped["within"]["batches"] >= 1

    run = start(store, devices=2)
    run.when(lambda: len(state(folder)["history"]) > len(stopped["history"]))
    children = run.children()
    ranks = [p for p in children if "spawn_main" in " ".join(p.cmdline())]
    assert len(ranks) == 2
    ranks[1].kill()
    line = run.end()
    assert "training/stage1_vae: process " in line
    assert "of 2 ended with code " in line
    assert "run the same command again" in line
    assert_all_gone(children)
    assert len(stopped["history"]) < len(state(folder)["history"]) < EPOCHS

    alone(store, "stage1_vae")  # on one device: it goes on where two had come to
    assert_close(folder.read(), left_alone.checkpoint("training", "stage1_vae").read())
