"""Results of the referee: parts, kept until the whole table is written, so that a killed run can resume.

reports/<name>/parts/<identity>/<part>.parquet
reports/<name>/{estimates.parquet,numbers.json,report.html}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from deblend_assets.settings import StorePath
from deblend_assets.stores.files import (
    is_file,
    read_json,
    read_record,
    read_vouched,
    remove,
    safe_name,
    sidecar,
    write_vouched,
)
from deblend_assets.stores.folders import matching
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.tables import from_parquet, to_parquet

Columns = Mapping[str, tuple[str, str]]
_TABLE = "estimates.parquet"


class RefereeReport:
    """One report of the referee.

    Args:
        store: of the LSST or the DES leg.
        name: of the report's folder.
        asset: that writes it.
        identity: fingerprint of all that it depends on.
        of_parts: fingerprint of what all parts depend on; what else one depends on is in its name. None: the report's.
    """

    def __init__(self, store: ProjectStore, name: str, asset: str, identity: str, of_parts: str | None = None) -> None:
        self._store, self.name, self.asset, self.identity = store, name, asset, identity
        self.folder = store.report_folder(name)
        self._parts = self.folder / "parts" / safe_name(of_parts or identity)

    @property
    def stands(self) -> bool:
        """Whether the whole table is there, made from the same inputs."""
        path = self.folder / _TABLE
        return is_file(sidecar(path)) and read_record(path, asset=self.asset).get("inputs") == self.identity

    def kept(self, names: Iterable[str]) -> dict[str, pd.DataFrame]:
        """The parts, by name, that are measured already."""
        found = {}
        for name in names:
            path = self._part(name)
            if is_file(path) and is_file(sidecar(path)):
                data, _ = read_vouched(path, asset=self.asset)
                found[name] = from_parquet(data, where=str(path), asset=self.asset)
        return found

    def others(self, names: Iterable[str]) -> list[str]:
        """The parts that lie there beside those of some names."""
        wanted = {self._part(name).name for name in names}
        found = [path.name for path in matching(self._parts, "*.parquet")]
        return sorted(name.removesuffix(".parquet") for name in found if name not in wanted)

    def keep(self, name: str, table: pd.DataFrame, columns: Columns, note: str) -> None:
        """Store a part; columns and note as `to_parquet` takes them."""
        write_vouched(self._part(name), to_parquet(table, columns, note), {})

    def _part(self, name: str) -> StorePath:
        return self._parts / f"{safe_name(name)}.parquet"

    def finish(self, table: pd.DataFrame, columns: Columns, note: str, parts: Iterable[str]) -> None:
        """Write the whole table and delete parts: those that no other table will be made from."""
        self._store.write_report(self.name, {_TABLE: to_parquet(table, columns, note)}, {"inputs": self.identity})
        for part in parts:
            for each in (sidecar(self._part(part)), self._part(part)):
                remove(each)


def stored_table(store: ProjectStore, name: str, asset: str) -> pd.DataFrame:
    """The table of estimates of a report as it was last written; errors as `read_vouched`."""
    path = store.report_folder(name) / _TABLE
    data, _ = read_vouched(path, asset=asset)
    return from_parquet(data, where=str(path), asset=asset)


def numbers_of(store: ProjectStore, name: str) -> dict[str, Any] | None:
    """The evaluation of a report as it was last written, if any."""
    path = store.report_folder(name) / "numbers.json"
    return dict(read_json(path)) if is_file(path) else None
