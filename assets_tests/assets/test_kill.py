"""Real `dagster asset materialize` processes, killed in every phase: nothing survives, and the end is the same.

One storage folder is killed in the middle of a shard (once the main process alone, once the whole process group) and in
each of the three trainings. After every kill the dead run is recovered and the same command given again. In the end
arrays, statistics, checkpoints and loss histories are those of a folder that was left alone, byte for byte.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deblend_assets.partitions import shard_range
from deblend_assets.settings import Profile, load_profile
from deblend_assets.stores.project import STAGES, ProjectStore

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 300.0
CHECKOUT = Path(__file__).resolve().parents[2]
# Long enough in every phase to be caught in it, and no longer.
PROFILE = """
[catalog]
galaxies = 2000

[simulation]
shard_scenes = 16
scenes = { train = 48, validation = 16, test = 16 }

[recipes.training]
batch_size = 16
stage1 = { epochs = 4, learning_rate = 1e-3 }
stage2 = { epochs = 4, learning_rate = 1e-3 }
stage3 = { epochs = 60, learning_rate = 1e-3 }

[recipes.baseline]
stage1 = { epochs = 1, learning_rate = 1e-4 }
stage2 = { epochs = 1, learning_rate = 1e-4 }
stage3 = { epochs = 1, learning_rate = 1e-3 }

[run]
workers = 2
"""


class Home:
    """A Dagster home with the project's own configuration, a profile and a storage folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.storage = folder, folder / "storage"
        folder.mkdir(parents=True)
        (folder / "dagster.yaml").write_text((CHECKOUT / "dagster.yaml").read_text())
        self.profile_path = folder / "killed.toml"
        self.profile_path.write_text(PROFILE)
        self.runs: list[subprocess.Popen[bytes]] = []

    @property
    def profile(self) -> Profile:
        return load_profile(str(self.profile_path))

    @property
    def store(self) -> ProjectStore:
        return ProjectStore(self.storage, self.profile)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DAGSTER_HOME": str(self.folder),
            "DEBLEND_PROFILE": str(self.profile_path),
            "DEBLEND_STORAGE": str(self.storage),
            "PYTHONPATH": str(CHECKOUT),
            "OMP_NUM_THREADS": "1",
        }

    def materialize(self) -> subprocess.Popen[bytes]:
        """Starts the run, everything but the report, in a process group of its own."""
        selection = "group:simulation or group:normalization or group:training"
        command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "deblend_assets.definitions"]
        command += ["--select", selection, "--partition-range", shard_range(self.profile)]
        with (self.folder / f"{len(self.runs)}.log").open("wb") as log:
            run = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.runs.append(run)
        return run

    def log(self) -> str:
        return (self.folder / f"{len(self.runs) - 1}.log").read_text(errors="replace")

    def finish(self) -> None:
        assert self.materialize().wait(PATIENCE_SECONDS) == 0, self.log()[-3000:]

    def recover(self) -> list[str]:
        command = [sys.executable, "-m", "deblend_assets.automation.recovery"]
        run = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        assert run.returncode == 0, run.stderr
        return run.stdout.splitlines()

    def kill_when(self, condition: Callable[[], bool], *, group: bool) -> list[psutil.Process]:
        """Starts the run, kills it as soon as `condition` holds; the processes it had started."""
        run = self.materialize()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert run.poll() is None, f"the run ended before it could be killed:\n{self.log()[-3000:]}"
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)
        children = psutil.Process(run.pid).children(recursive=True)
        (os.killpg if group else os.kill)(run.pid, signal.SIGKILL)
        assert run.wait(PATIENCE_SECONDS) == -signal.SIGKILL, "killed in the middle, not after its end"
        return children

    def end(self) -> None:
        for run in self.runs:
            try:
                os.killpg(run.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            run.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Home]]:
    made: list[Home] = []

    def make(name: str) -> Home:
        made.append(Home(tmp_path_factory.mktemp("homes") / name))
        return made[-1]

    yield make
    for home in made:
        home.end()


def results(home: Home) -> dict[str, str]:
    """SHA-256 of everything written but locks and histories of Dagster."""
    return {
        str(path.relative_to(home.storage)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((home.storage / "killed").rglob("*"))
        if path.is_file() and "_locks" not in path.parts
    }


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def assert_all_gone(processes: list[psutil.Process]) -> None:
    """Workers of a killed parent end by themselves, within seconds even on a busy machine."""
    deadline = time.monotonic() + 60
    while not all(gone(process) for process in processes):
        alive = [process for process in processes if not gone(process)]
        assert time.monotonic() < deadline, f"still alive: {alive}"
        time.sleep(0.05)


def done(home: Home) -> int:
    return len(list(home.storage.glob("killed/simulated/*/_done/*.json")))


def training(home: Home, stage: str) -> Callable[[], bool]:
    """Whether the stage has finished an epoch, and is at its next ones."""
    return lambda: bool(list(home.storage.glob(f"killed/checkpoints/training/{stage}/*/state_last.pt")))


def test_killed_in_every_phase_and_started_again_it_ends_as_if_left_alone(homes):
    alone = homes("alone")
    alone.finish()

    killed = homes("killed")
    workers = killed.kill_when(lambda: done(killed) >= 1, group=False)
    assert len(workers) >= 2, "two rendering processes at least"
    assert_all_gone(workers)
    marked = done(killed)
    assert 1 <= marked < 5
    (line,) = killed.recover()
    assert line.startswith("recovered run ")

    assert_all_gone(killed.kill_when(lambda: done(killed) >= marked + 1, group=True))
    assert f"kept {marked} finished shards of 5" in killed.log()
    assert len(killed.recover()) == 1

    for stage, group in zip(STAGES, (True, False, True), strict=True):
        assert_all_gone(killed.kill_when(training(killed, stage), group=group))
        assert not list(killed.storage.glob(f"killed/checkpoints/training/{stage}/*/checkpoint.pt.json"))
        assert len(killed.recover()) == 1, "else the pool's only slot stays taken and the next training waits for ever"

    killed.finish()
    assert "training/stage3_regressor: resuming after epoch" in killed.log()
    assert killed.recover() == ["no dead runs"]
    for number, stage in ((3, STAGES[0]), (4, STAGES[1])):
        log = (killed.folder / f"{number}.log").read_text(errors="replace")
        assert f"training/{stage}: resuming after epoch" in log

    for stage in STAGES:
        histories = [home.store.checkpoint("training", stage).read().history for home in (killed, alone)]
        assert histories[0] == histories[1]
    expected, found = results(alone), results(killed)
    assert found.keys() == expected.keys(), "no part, no state, nothing left behind"
    assert {name for name in expected if found[name] != expected[name]} == set()
