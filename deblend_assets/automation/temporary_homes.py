"""Temporary homes that `dagster dev` and `dagster asset materialize` make in the project's folder.

With the project's dagster.yaml they stay empty. A command that is killed leaves its home behind.
"""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

import psutil

_HOMES = ".tmp_dagster_home_*"
# Starts of processes are known to the second.
_CLOCK_SLACK_SECONDS = 2.0


def sweep_homes(folder: Path) -> list[str]:
    """Delete the empty homes in a folder that are older than every process of Dagster that works there.

    Returns:
        Their names.
    """
    homes = sorted(path for path in folder.glob(_HOMES) if path.is_dir())
    oldest = _oldest_process(folder) if homes else math.inf
    deleted = []
    for home in homes:
        # One that is not empty is no home of this project's.
        with contextlib.suppress(OSError):
            if home.stat().st_mtime < oldest - _CLOCK_SLACK_SECONDS:
                home.rmdir()
                deleted.append(home.name)
    return deleted


def _oldest_process(folder: Path) -> float:
    """Start of the oldest living process of Dagster with this working folder (Unix, seconds); infinity without one."""
    began = math.inf
    for process in psutil.process_iter():
        # Another user's process can have no home that this user may delete.
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            works_here = process.pid != os.getpid() and Path(process.cwd()) == folder.resolve()
            if works_here and any("dagster" in word for word in process.cmdline()):
                began = min(began, process.create_time())
    return began
