"""What `deblend_assets tiles` and `deblend_assets fields` print: added, retired, listed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from deblend_assets.automation.registry import Registry
from deblend_assets.automation.registry_rows import Row, list_rows
from deblend_assets.errors import DeblendError
from deblend_assets.settings import StorePath
from deblend_assets.stores.project import ProjectStore


@dataclass(frozen=True)
class Topic:
    """A registry as the command line has it.

    Attributes:
        registry: whose partitions.
        assets: of a partition, the last one evaluates.
        data: folder of a partition's data.
        argument: of `add`, as its usage names it.
    """

    registry: Registry
    assets: Collection[dg.AssetKey]
    data: Callable[[ProjectStore, str], StorePath]
    argument: str

    def add(self, instance: dg.DagsterInstance, store: ProjectStore, names: Sequence[str]) -> None:
        """Register names; prints which of them are new."""
        new = self.registry.add(instance, store.folder, names)
        for name in dict.fromkeys(names):
            print(f"{name}: {'registered' if name in new else 'was registered already'}")

    def retire(self, instance: dg.DagsterInstance, store: ProjectStore, names: Sequence[str]) -> None:
        """Retire names; prints where their data are."""
        for name in self.registry.retire(instance, store.folder, names):
            # A name that the UI took and the registry would not has no folder.
            data = self.data(store, name) if self.registry.allows(name) else None
            there = data is not None and data.exists()
            print(f"{name}: retired" + (f"; its data stay under {data}" if there else ""))

    def show(self, instance: dg.DagsterInstance, store: ProjectStore) -> None:
        """Print a table of the partitions, their failed checks, and the version of the present model."""
        noun = self.registry.noun
        try:
            model, present = store.sky_model_version(), ""
        except DeblendError as error:
            model, present = None, str(error)
        keys = list(self.assets)
        rows = list_rows(self.registry, instance, store.folder, keys[-1], model, keys)
        cells = [(noun, "registered", "evaluated", "model", "state"), *(_cells(row) for row in rows)]
        widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
        for line in cells if rows else []:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if not rows:
            print(f"no {noun}s; `deblend_assets {noun}s add {self.argument}` registers one")
        for row in rows:
            print(*(f"check failed: {line}\n" for line in row.failed_checks), sep="", end="")
        print(f"present model: {model or 'none'}" + (f" ({present})" if present else ""))


def _cells(row: Row) -> tuple[str, ...]:
    at = datetime.fromtimestamp(row.evaluation.at, UTC).strftime("%Y-%m-%d %H:%M UTC") if row.evaluation else "-"
    model = (row.evaluation.model_version if row.evaluation else None) or "-"
    return (row.name, "yes" if row.registered else "no", at, model, row.state)
