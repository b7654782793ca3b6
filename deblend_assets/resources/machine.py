"""Where a run is: its machine and its Slurm job, and the tags that tell recovery. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import os
import socket

# Dagster keeps tags with this prefix out of the UI: they are for recovery, not for readers of the list of runs.
MACHINE_TAG = ".dagster/deblend_machine"
JOB_TAG = ".dagster/deblend_slurm_job"


def machine_name() -> str:
    """The space in which a pid is unique: the host and, on Linux, its PID namespace."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def slurm_start() -> str | None:
    """The Slurm job of this process: cluster, number and restart count; none outside Slurm."""
    names = ("SLURM_CLUSTER_NAME", "SLURM_JOB_ID")
    if not all(os.environ.get(name) for name in names):
        return None
    return " ".join([*(os.environ[name] for name in names), os.environ.get("SLURM_RESTART_COUNT", "0")])
