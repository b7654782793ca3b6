"""Fisher floors of a world's targets on disk: one Parquet table a field, each vouched for by a record beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from deblend_assets.errors import CorruptDataError, MissingDataError
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.worlds.floor import floor_columns
from deblend_assets.settings import StorePath
from deblend_assets.stores.files import each, exclusive_lock, read_record, read_vouched, write_vouched
from deblend_assets.stores.tables import from_parquet, to_parquet

ASSET = "worlds/floor"
_NOTE = "One row a target: the least standard errors of an unbiased estimate from its stamp; see docs/truth.md."


class FloorStore:
    """Floors of one world.

    Args:
        folder: named by the fingerprint of the world and of the floor's code.
    """

    def __init__(self, folder: StorePath) -> None:
        self.folder = folder

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the world's floors while they are made; BusyError where another run holds them."""
        return exclusive_lock(self.folder / "_locks" / "floor.lock", f"the floor of {self.folder.parent.name}")

    def _path(self, field: int) -> StorePath:
        return self.folder / f"field_{field:06d}.parquet"

    def write(self, field: int, rows: Sequence[int], table: pd.DataFrame, info: Mapping[str, Any]) -> None:
        """Store the floors of a field's targets."""
        data = to_parquet(table, _columns(), _NOTE)
        write_vouched(self._path(field), data, {**info, "rows": list(rows)})

    def is_done(self, field: int, rows: Sequence[int]) -> bool:
        """Whether the floors of exactly these targets are there, as they were written."""
        try:
            self._read(field, rows)
        except (MissingDataError, CorruptDataError):
            return False
        return True

    def read(self, fields: Sequence[tuple[int, Sequence[int]]]) -> pd.DataFrame:
        """Floors of the targets of some fields, in order.

        Raises:
            MissingDataError: a field has none, or of other targets.
            CorruptDataError: not what was written.
        """
        return pd.concat(each(lambda one: self._read(*one), fields, self.folder), ignore_index=True)

    def _read(self, field: int, rows: Sequence[int]) -> pd.DataFrame:
        path = self._path(field)
        if read_record(path, asset=ASSET).get("rows") != list(rows):
            raise MissingDataError(
                f"field {field} has floors of other targets", where=str(path), remedy=f"materialise {ASSET}"
            )
        data, _ = read_vouched(path, asset=ASSET)
        return from_parquet(data, where=str(path), asset=ASSET)


def _columns() -> dict[str, tuple[str, str]]:
    return {
        "field": ("", "number of the target's field"),
        "row": ("", "of the detection among those of its field"),
        **floor_columns(CATSIM_BANDS),
    }
