"""Columns of a user's table as pandas and every output of ours can hold them: one value a row, the bytes native."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from astropy.table import Table
from astropy.table.serialize import represent_mixins_as_columns


@dataclass
class Columns:
    """The columns of a table.

    Attributes:
        frame: (N rows) booleans, integers, floats (NaN where missing) and text ("" where missing); integers and
            booleans with missing values in pandas' nullable types.
        units: by column, as written in the table; columns without a unit are absent.
        left_out: columns that do not have one value a row, and what they have.
    """

    frame: pd.DataFrame
    units: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of the columns in `frame`."""
        return [str(name) for name in self.frame]


def from_astropy(table: Table) -> Columns:
    """Columns of an astropy table; times and sky coordinates become columns of numbers, such as `sky.ra`."""
    plain = represent_mixins_as_columns(table)
    found, units, left_out = {}, {}, {}
    for name in plain.colnames:
        column = plain[name]
        if column.ndim > 1:
            left_out[name] = f"{column.shape[1:]} values a row"
        elif column.dtype.kind == "O" and any(np.ndim(value) for value in column):
            left_out[name] = "lists"
        elif column.dtype.kind not in "biufSUO":
            left_out[name] = str(column.dtype)
        else:
            values = np.asarray(column)
            found[name] = _plain(values, np.broadcast_to(np.asarray(getattr(column, "mask", False)), values.shape))
            if column.unit is not None:
                units[name] = str(column.unit)
    return Columns(pd.DataFrame(found, index=pd.RangeIndex(len(plain))), units, left_out)


def from_pandas(frame: pd.DataFrame, units: dict[str, str]) -> Columns:
    """Columns of a pandas table, and the levels of its index that have a name."""
    named = [name for name in frame.index.names if name is not None and name not in frame]
    frame = (frame.reset_index(level=named) if named else frame).reset_index(drop=True)
    found, left_out = {}, {}
    for name in map(str, frame):
        column: Any = frame[name]
        missing = column.isna().to_numpy(bool)
        if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_numeric_dtype(column.dtype):
            if pd.api.types.is_complex_dtype(column.dtype):
                left_out[name] = str(column.dtype)
                continue
            kind = getattr(column.dtype, "numpy_dtype", column.dtype)
            filled = column.to_numpy(kind, na_value=np.nan if kind.kind == "f" else kind.type(0))
            found[name] = _plain(filled, missing)
        elif column.map(lambda value: pd.api.types.is_list_like(value)).any():
            left_out[name] = "lists"
        else:
            found[name] = _plain(column.astype(object).to_numpy(object, na_value=None), missing)
    return Columns(pd.DataFrame(found, index=pd.RangeIndex(len(frame))), units, left_out)


def _plain(values: np.ndarray, missing: np.ndarray) -> pd.Series:
    """A column of one of the kinds that `Columns` has."""
    kind = values.dtype.kind
    if kind == "f":
        return pd.Series(np.where(missing, np.nan, values.astype(values.dtype.newbyteorder("="))))
    if kind in "biu":
        return whole(values.astype(values.dtype.newbyteorder("=")), missing)
    return _text(values, missing)


def whole(values: np.ndarray, missing: np.ndarray) -> pd.Series:
    """A column of booleans or integers, (N,), of pandas' nullable type where some are missing."""
    if not missing.any():
        return pd.Series(values)
    kind = pd.arrays.BooleanArray if values.dtype.kind == "b" else pd.arrays.IntegerArray
    return pd.Series(kind(values, missing.copy()))


def _text(values: Iterable[object], missing: Iterable[bool]) -> pd.Series:
    words = ["" if absent or value is None else _word(value) for value, absent in zip(values, missing, strict=True)]
    return pd.Series(words, dtype=object)


def _word(value: object) -> str:
    # Bytes need not be UTF-8: an identifier may be a hash.
    return value.decode(errors="backslashreplace").rstrip() if isinstance(value, bytes) else str(value)
