"""The storage, as a Dagster resource; every asset uses it, so it also tags a run with its machine."""

from __future__ import annotations

import dagster as dg

from deblend_assets.resources.machine import JOB_TAG, MACHINE_TAG, machine_name, slurm_start
from deblend_assets.settings import Profile, store_path
from deblend_assets.stores.project import ProjectStore


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
