"""What the referee has measured so far: parts that are kept until the whole stands, so that a killed run goes on.

reports/<name>/parts/<identity>/<part>.parquet
reports/<name>/{estimates.parquet,numbers.json,report.html}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from deblend_assets.errors import MismatchError
from deblend_assets.stores.files import is_file, read_json, read_vouched, remove, safe_name, sidecar, write_vouched
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.tables import from_parquet, to_parquet

Columns = Mapping[str, tuple[str, str]]


class RefereeReport:
    """One report of the referee.

    Args:
        store: of the leg.
        name: of the report's folder.
        asset: that writes it.
        identity: fingerprint of all that it depends on.
    """

    def __init__(self, store: ProjectStore, name: str, asset: str, identity: str) -> None:
        self._store, self.name, self.asset, self.identity = store, name, asset, identity
        self.folder = store.report_folder(name)
        self._parts = self.folder / "parts" / safe_name(identity)

    @property
    def stands(self) -> bool:
        """Whether the whole table is there, made from the same things."""
        path = self.folder / "estimates.parquet"
        return is_file(sidecar(path)) and read_json(sidecar(path)).get("inputs") == self.identity

    def table(self) -> pd.DataFrame:
        """The whole table.

        Raises:
            MissingDataError, CorruptDataError: not there; not what was written.
            MismatchError: made from other things than those of now.
        """
        path = self.folder / "estimates.parquet"
        data, record = read_vouched(path, asset=self.asset)
        if record.get("inputs") != self.identity:
            raise MismatchError(
                "was made with another model or other settings",
                where=str(path),
                remedy=f"materialise {self.asset} again",
            )
        return from_parquet(data, where=str(path), asset=self.asset)

    def has_part(self, part: str) -> bool:
        path = self._parts / f"{safe_name(part)}.parquet"
        return is_file(path) and is_file(sidecar(path))

    def write_part(self, part: str, table: pd.DataFrame, columns: Columns, note: str) -> None:
        write_vouched(self._parts / f"{safe_name(part)}.parquet", to_parquet(table, columns, note), {})

    def read_part(self, part: str) -> pd.DataFrame:
        path = self._parts / f"{safe_name(part)}.parquet"
        data, _ = read_vouched(path, asset=self.asset)
        return from_parquet(data, where=str(path), asset=self.asset)

    def finish(self, table: pd.DataFrame, columns: Columns, note: str, files: Mapping[str, bytes]) -> None:
        """Write the report whole."""
        self._store.write_report(
            self.name,
            {"estimates.parquet": to_parquet(table, columns, note), **files},
            {"inputs": self.identity},
        )

    def drop_parts(self, parts: list[str]) -> None:
        """Parts of a whole that stands."""
        for part in parts:
            path = self._parts / f"{safe_name(part)}.parquet"
            for each in (sidecar(path), path):
                remove(each)


def numbers_of(store: ProjectStore, name: str) -> dict[str, Any] | None:
    """The judgement of a report as it was last written, if any."""
    path = store.report_folder(name) / "numbers.json"
    return dict(read_json(path)) if is_file(path) else None
