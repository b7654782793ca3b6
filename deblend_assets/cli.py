"""The command `deblend_assets`: what a user does to a Dagster instance beside materialising assets."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from deblend_assets.assets.keys import TILE_ASSETS
from deblend_assets.automation.tile_registry import TileRow, add_tiles, list_tiles, retire_tiles
from deblend_assets.errors import DeblendError, SettingsError
from deblend_assets.settings import load_profile, storage_root
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.project import ProjectStore


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


def add(instance: dg.DagsterInstance, store: ProjectStore, names: Sequence[str]) -> None:
    """Register tiles and say which were not registered before."""
    new = add_tiles(instance, store.folder, names)
    for name in dict.fromkeys(names):
        print(f"{name}: {'registered' if name in new else 'was registered already'}")


def retire(instance: dg.DagsterInstance, store: ProjectStore, names: Sequence[str]) -> None:
    """Retire tiles."""
    for name in retire_tiles(instance, store.folder, names):
        data = DesStore(store).tile(name).folder
        print(f"{name}: retired" + (f"; its data stay under {data}" if data.exists() else ""))


def show(instance: dg.DagsterInstance, store: ProjectStore) -> None:
    """Print a table of the tiles, and which model is the present one."""
    try:
        model, present = store.model_version(), ""
    except DeblendError as error:
        model, present = None, str(error)
    rows = list_tiles(instance, store.folder, TILE_ASSETS["des_evaluation"], model)
    cells = [("tile", "registered", "evaluated", "model", "state"), *(_cells(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    for line in cells if rows else []:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if not rows:
        print("no tiles; `deblend_assets tiles add NAME` registers one")
    print(f"present model: {model or 'none'}" + (f" ({present})" if present else ""))


def _cells(row: TileRow) -> tuple[str, ...]:
    at = datetime.fromtimestamp(row.evaluation.at, UTC).strftime("%Y-%m-%d %H:%M UTC") if row.evaluation else "-"
    model = (row.evaluation.model_version if row.evaluation else None) or "-"
    return (row.name, "yes" if row.registered else "no", at, model, row.state)


def parser() -> argparse.ArgumentParser:
    """The arguments, as `--help` shows them."""
    command = argparse.ArgumentParser("deblend_assets", description="Galaxy deblending and shapes as Dagster assets.")
    topics = command.add_subparsers(dest="topic", required=True, metavar="TOPIC")
    tiles = topics.add_parser("tiles", help="the DES tiles that are evaluated", description="Add, list, retire tiles.")
    actions = tiles.add_subparsers(dest="action", required=True, metavar="add | list | retire")
    added = actions.add_parser("add", help="register tiles; the running daemon makes their assets")
    retired = actions.add_parser("retire", help="take tiles out of the registry; their data and history stay")
    for action in (added, retired):
        action.add_argument("names", nargs="+", metavar="NAME", help="a tile, such as DES0458-4957")
    actions.add_parser("list", help="every tile, its last evaluation and its state")
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments (none: the command line's) say; 0, or 2 with one line on standard error."""
    given = parser().parse_args(arguments)
    try:
        profile = load_profile()
        with open_instance() as instance:
            store = ProjectStore(storage_root(), profile.des_leg)
            if given.action == "list":
                show(instance, store)
            else:
                {"add": add, "retire": retire}[given.action](instance, store, given.names)
    except DeblendError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
