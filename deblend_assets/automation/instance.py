"""Which Dagster instance a command belongs to: the one whose history `dagster asset materialize` writes."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

from deblend_assets.errors import SettingsError


def open_instance() -> dg.DagsterInstance:
    """The instance of DAGSTER_HOME or, as `dagster asset materialize` does, of ./dagster.yaml.

    Raises:
        SettingsError: there is none; Dagster itself would begin a history in the present folder.
    """
    home = os.environ.get("DAGSTER_HOME")
    if not home and not Path("dagster.yaml").exists():
        raise SettingsError(
            "there is no dagster.yaml here, and DAGSTER_HOME is not set",
            where=os.getcwd(),
            remedy="change to the project's folder or set DAGSTER_HOME",
        )
    if home and not (Path(home).is_absolute() and Path(home).is_dir()):
        raise SettingsError(
            f"{home!r} is not the absolute path of a folder", where="DAGSTER_HOME", remedy="name a folder that exists"
        )
    return dg.DagsterInstance.get() if home else dg.DagsterInstance.from_config(os.getcwd())
