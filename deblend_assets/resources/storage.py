"""The storage, as a Dagster resource; every asset uses it, so it also says which machine a run is on."""

from __future__ import annotations

import contextlib
import os
import socket

import dagster as dg

from deblend_assets.settings import Profile, store_path
from deblend_assets.stores.project import ProjectStore

MACHINE_TAG = "deblend/machine"


def machine_name() -> str:
    """Names the space in which a pid means something: the host and, on Linux, its PID namespace."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


class Storage(dg.ConfigurableResource):
    """What everything is written below.

    Attributes:
        root: absolute path of a folder, or URL of an object store; each profile has its own folder in it.
    """

    root: str

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Tag the run with its machine, so that recovery elsewhere does not look its pids up here."""
        run, instance = context.run, context.instance
        if run is not None and instance is not None and MACHINE_TAG not in run.tags:
            instance.add_run_tags(run.run_id, {MACHINE_TAG: machine_name()})

    def open(self, profile: Profile) -> ProjectStore:
        """The store of one profile."""
        return ProjectStore(store_path(self.root), profile)
