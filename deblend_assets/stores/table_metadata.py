"""Units, descriptions and UCDs of a Parquet table where pandas, astropy, TOPCAT and STILTS look for them."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from astropy.table import Table

# IVOA note "VOParquet" 1.0: a VOTable without rows.
_VERSION, _CONTENT = b"IVOA.VOTable-Parquet.version", b"IVOA.VOTable-Parquet.content"
_ROWS = re.compile(rb"\s*<DATA>.*</DATA>|\s*<!--.*?-->", re.DOTALL)


def metadata_of(table: pd.DataFrame, columns: Mapping[str, tuple[str, ...]], note: str) -> dict[bytes, bytes]:
    """Metadata of a Parquet schema.

    Args:
        table: the rows, of which the types alone are used.
        columns: unit ("" without one), description and, if known, UCD of every column.
        note: description of the table.

    Returns:
        `DataFrame.attrs` for pandas (`units`, `descriptions`, `description`); astropy's own description, with units,
        descriptions and UCDs; a VOTable for TOPCAT and STILTS.
    """
    # Not at the top: the definitions, which need no astropy, load this module.
    from astropy.table import Column, Table, meta

    described = {str(name): _words(columns[str(name)]) for name in table}
    empty = Table(
        [
            Column(
                np.empty(0, _plain(table[name].dtype)),
                name=name,
                unit=unit or None,
                description=description,
                meta={"ucd": ucd} if ucd else None,
            )
            for name, (unit, description, ucd) in described.items()
        ],
        meta={"description": note},
    )
    attributes = {
        "description": note,
        "units": {name: unit for name, (unit, _, _) in described.items() if unit},
        "descriptions": {name: description for name, (_, description, _) in described.items()},
    }
    return {
        b"PANDAS_ATTRS": json.dumps(attributes, ensure_ascii=False).encode(),
        b"table_meta_yaml": "\n".join(meta.get_yaml_from_table(empty)).encode(),
        _VERSION: b"1.0",
        _CONTENT: _votable(empty, described),
    }


# Types that VOTable lacks, and wider ones.
_NOT_IN_VOTABLE = {"i1": "i2", "u2": "i4", "u4": "i8", "u8": "i8", "f2": "f4"}


def _words(given: tuple[str, ...]) -> tuple[str, str, str]:
    unit, description, ucd = (*given, "")[:3]
    return unit, description, ucd


def _plain(kind: object) -> np.dtype:
    """A type that VOTable has: it describes the column, whose values keep theirs."""
    plain = getattr(kind, "numpy_dtype", kind)
    if not isinstance(plain, np.dtype) or plain.kind not in "biuf":
        return np.dtype("U1")
    return np.dtype(_NOT_IN_VOTABLE.get(plain.str[1:], plain))


def _votable(empty: Table, described: Mapping[str, tuple[str, str, str]]) -> bytes:
    from astropy.io.votable import from_table
    from astropy.units.function import FunctionUnitBase

    # VOTable has no units of functions: mag(AB) is its mag.
    plain = empty.copy()
    for column in plain.itercols():
        if isinstance(column.unit, FunctionUnitBase):
            column.unit = column.unit.function_unit
    with warnings.catch_warnings():
        # Of units that VOTable's standard does not have; readers take them as they are.
        warnings.simplefilter("ignore")
        document = from_table(plain)
        first = document.get_first_table()
        first.description = empty.meta["description"]
        for column in first.fields:
            if ucd := described[column.name][2]:
                column.ucd = ucd
        stream = io.BytesIO()
        document.to_xml(stream)
    return _ROWS.sub(b"", stream.getvalue())
