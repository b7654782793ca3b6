"""The storage, as a Dagster resource; every asset uses it, so it also tags a run with its machine."""

from __future__ import annotations

import contextlib
import os
import socket

import dagster as dg

from deblend_assets.settings import Profile, store_path
from deblend_assets.stores.project import ProjectStore

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


class Storage(dg.ConfigurableResource):
    """The folder or prefix below which everything is written.

    Attributes:
        root: absolute path of a folder, or URL of an object store; each profile has its own folder in it.
    """

    root: str

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Tag the run with its machine and its Slurm job: recovery looks pids up there alone, and jobs anywhere."""
        run, instance = context.run, context.instance
        if run is None or instance is None:
            return
        tags = {} if MACHINE_TAG in run.tags else {MACHINE_TAG: machine_name()}
        job = slurm_start()
        # A run that is executed again inherits tags: the job of another run is not its own.
        if job is not None and not run.tags.get(JOB_TAG, "").startswith(run.run_id):
            tags[JOB_TAG] = f"{run.run_id} {job}"
        if tags:
            instance.add_run_tags(run.run_id, tags)

    def open(self, profile: Profile) -> ProjectStore:
        """The store of one profile."""
        return ProjectStore(store_path(self.root), profile)
