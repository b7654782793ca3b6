"""Dagster homes for runs in processes of their own, which tests kill and start again."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg
import psutil

from deblend_assets.automation.recovery import recover_dead_runs
from deblend_assets.settings import Profile, load_profile
from deblend_assets.stores.project import ProjectStore

PATIENCE_SECONDS = 900.0
CHECKOUT = Path(__file__).resolve().parents[2]
BLANK_FIGURES = CHECKOUT / "assets_tests" / "blank_figures"


class Home:
    """A Dagster home with the project's own configuration, a profile and a storage folder.

    Args:
        folder: to be made.
        name: of the profile.
        profile: its text.
        selection: of `dagster asset materialize`: assets and partitions.
        module: with the definitions.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        profile: str,
        selection: Sequence[str],
        module: str = "deblend_assets.definitions",
    ) -> None:
        self.folder, self.storage, self.selection, self.module = folder, folder / "storage", selection, module
        folder.mkdir(parents=True)
        # The project's paths start in the working folder, which is not always the home of who reads its history.
        settings = (CHECKOUT / "dagster.yaml").read_text()
        (folder / "dagster.yaml").write_text(settings.replace("base_dir: ", f"base_dir: {folder}/"))
        self.profile_path = folder / f"{name}.toml"
        self.profile_path.write_text(profile)
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
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(BLANK_FIGURES)]),
            "OMP_NUM_THREADS": "1",
        }

    def materialize(self) -> subprocess.Popen[bytes]:
        """Starts the run in a process group of its own."""
        command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", self.module]
        command += self.selection
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
        """The runs that were dead; in this process, which is what the command does in one of its own."""
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            return recover_dead_runs(instance)

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


def results(folder: Path) -> dict[str, str]:
    """SHA-256 of everything written below a folder but locks, by the path from there."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
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
