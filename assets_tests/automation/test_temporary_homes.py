"""Temporary homes of Dagster's commands: those of killed ones go, one of a command that runs stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deblend_assets.automation import recovery
from deblend_assets.automation.temporary_homes import sweep_homes


def test_homes_of_killed_commands_go_and_one_of_a_command_that_runs_stays(tmp_path: Path) -> None:
    killed, filled = tmp_path / ".tmp_dagster_home_a", tmp_path / ".tmp_dagster_home_b"
    killed.mkdir()
    filled.mkdir()
    (filled / "history.db").touch()
    for home in (killed, filled):
        os.utime(home, (time.time() - 10, time.time() - 10))
    running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "dagster"], cwd=tmp_path)
    try:
        # Between the fork and the interpreter's start it is in the folder, and bears this process's name.
        while "dagster" not in psutil.Process(running.pid).cmdline():
            time.sleep(0.01)
        living = tmp_path / ".tmp_dagster_home_c"
        living.mkdir()
        assert sweep_homes(tmp_path) == [killed.name]
        assert living.exists()
    finally:
        running.kill()
        running.wait()
    assert sweep_homes(tmp_path) == [living.name]
    assert sweep_homes(tmp_path) == []
    assert (filled / "history.db").exists()


def test_the_command_that_precedes_every_target_of_make_deletes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    Path("dagster.yaml").write_text("telemetry: {enabled: false}\n")
    os.mkdir(".tmp_dagster_home_a")
    recovery.main()
    assert capsys.readouterr().out == "no dead runs\ndeleted 1 temporary homes of killed commands\n"
    assert not os.path.exists(".tmp_dagster_home_a")
