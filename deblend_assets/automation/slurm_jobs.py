"""Whether a Slurm job is over, as Slurm reports it. A pid of another node means nothing here; a job's number does."""

from __future__ import annotations

import os
import subprocess

# As long as a job is in one of these, processes of it may live.
_HAS_PROCESSES = {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"}
_UNKNOWN_JOB = "Invalid job id"
_PATIENCE_SECONDS = 60.0


def job_is_over(start: str) -> bool:
    """Whether a start of a job has ended; False where Slurm does not report it.

    False outside a job of the same cluster: the numbers of one cluster mean nothing in another.

    Args:
        start: cluster, job and restart count, see `resources.storage.slurm_start`.
    """
    cluster, job, number = start.split()
    if os.environ.get("SLURM_CLUSTER_NAME") != cluster:
        return False
    columns = ",".join(f"{name}:30" for name in ("JobID", "State", "RestartCnt"))
    command = ["squeue", "--noheader", "--states=all", f"--jobs={job}", f"--Format={columns}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    if answer.returncode:
        return _UNKNOWN_JOB in answer.stderr
    # The last task of an array has the array's number, under which Slurm lists all tasks. Slurm forgets a job some
    # minutes after its end.
    rows = [line.split() for line in answer.stdout.splitlines()]
    return not any(row[0] == job and row[1] in _HAS_PROCESSES and row[2] == number for row in rows)
