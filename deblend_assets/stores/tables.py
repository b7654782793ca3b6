"""Parquet tables whose schema carries each column's unit and meaning, where pandas, astropy and TOPCAT see them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from deblend_assets.errors import CorruptDataError
from deblend_assets.stores.table_metadata import metadata_of

# Unit, meaning and, if known, UCD of each column; and their names in a field's metadata.
Columns = Mapping[str, tuple[str, str] | tuple[str, str, str]]
_FIELDS = ("unit", "description", "ucd")


def to_parquet(table: pd.DataFrame, columns: Columns, note: str) -> bytes:
    """Parquet bytes, the same for the same table.

    Args:
        table: the rows.
        columns: for each column its unit ("" where it has none), meaning and, if known, UCD, kept in the field's
            metadata.
        note: the table's own description and conventions, kept in the schema's metadata.

    Raises:
        KeyError: a column has no unit and meaning.
    """
    stream = io.BytesIO()
    pq.write_table(to_arrow(table, columns, note), stream, compression="zstd")
    return stream.getvalue()


def to_arrow(table: pd.DataFrame, columns: Columns, note: str) -> Any:
    """The Arrow table that `to_parquet` writes, for catalogues that are written in parts; the same errors."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    fields = []
    for field in arrow.schema:
        fields.append(field.with_metadata(dict(zip(_FIELDS, columns[field.name], strict=False))))
    metadata = {
        **(arrow.schema.metadata or {}),
        b"description": note.encode(),
        **metadata_of(table, columns, note),
    }
    return arrow.cast(pa.schema(fields, metadata=metadata))


def from_parquet(data: bytes, *, where: str, asset: str) -> pd.DataFrame:
    """The table of `to_parquet`; CorruptDataError where the bytes are not Parquet."""
    try:
        frame: pd.DataFrame = pq.read_table(io.BytesIO(data)).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptDataError(
            f"is not a Parquet table ({error})", where=where, remedy=f"delete it and materialise {asset} again"
        ) from error
    return frame


def column_units(data: bytes) -> dict[str, tuple[str, str]]:
    """Unit and meaning of every column, as a reader of the file finds them."""
    schema: Any = pq.read_schema(io.BytesIO(data))
    return {field.name: (field.metadata[b"unit"].decode(), field.metadata[b"description"].decode()) for field in schema}
