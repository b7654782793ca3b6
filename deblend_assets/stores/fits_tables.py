"""Writes FITS tables with each column's unit, UCD and meaning in the header, for astropy and TOPCAT."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table
from astropy.units import Unit
from astropy.utils.exceptions import AstropyWarning

from deblend_assets.science.measuring.registry import CatalogColumn
from deblend_assets.stores.tables import Columns

HeaderValue = str | int | float | bool


def to_fits(
    table: pd.DataFrame, columns: Mapping[str, CatalogColumn[Any]], note: str, header: Mapping[str, HeaderValue]
) -> bytes:
    """Serialise a binary table; equal tables give equal bytes, since no date or version is written.

    A column's meaning is written twice: in TCOMMn, which TOPCAT shows, and in the COMMENT lines with astropy's column
    metadata, which include the UCD (`Table.read` ignores TCOMMn).

    Args:
        table: columns of integers, floats (NaN is kept), booleans and text; pandas' nullable integers are null where
            missing (TNULL), nullable booleans become text. Letters that are not ASCII are written as escapes: a user's
            own columns may have them.
        columns: unit, UCD and meaning of every column.
        note: the table's description and conventions, ASCII, written as COMMENT.
        header: provenance; keywords of at most eight capitals, digits, - and _.

    Raises:
        KeyError: a column has no unit, UCD and meaning.
        ValueError: a keyword is not valid in FITS.
    """
    typed = Table([_column(name, table[name], columns[name]) for name in map(str, table)])
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # Of a user's units that no standard has.
        warnings.simplefilter("ignore", AstropyWarning)
        typed.write(stream, format="fits")
    with fits.open(io.BytesIO(stream.getvalue())) as opened:
        rows = opened[1]
        rows.name = "SHAPES"
        for index, name in enumerate(map(str, table), start=1):
            rows.header.set(f"TUCD{index}", columns[name].ucd, after=f"TFORM{index}")
            rows.header.set(f"TCOMM{index}", columns[name].meaning, after=f"TUCD{index}")
        for keyword, value in header.items():
            _check_keyword(keyword)
            rows.header.set(keyword, value)
        for line in textwrap.wrap(note, 72):
            rows.header.add_comment(line)
        written = io.BytesIO()
        opened.writeto(written, output_verify="exception")
    return written.getvalue()


def fits_of_parquet(path: Path, columns: Columns, note: str) -> bytes:
    """The binary table with the rows of a Parquet file; see `to_fits`.

    Args:
        path: of a file with the given columns.
        columns: unit, meaning and, if known, UCD of every column.
        note: see `to_fits`.
    """
    described: dict[str, CatalogColumn[Any]] = {
        name: CatalogColumn(column[0], column[2] if len(column) == 3 else "", column[1])
        for name, column in columns.items()
    }
    return to_fits(pd.read_parquet(path), described, note, {})


def _column(name: str, values: pd.Series, column: CatalogColumn[Any]) -> Column:
    unit = Unit(column.unit, parse_strict="silent") if column.unit else None
    return _values(values, name=_ascii(name), unit=unit, description=column.meaning, meta={"ucd": column.ucd})


def _values(values: pd.Series, **described: Any) -> Column:
    missing, kind = values.isna().to_numpy(bool), getattr(values.dtype, "numpy_dtype", np.dtype(object))
    if isinstance(values.array, pd.arrays.IntegerArray):
        whole = values.to_numpy(kind, na_value=kind.type(0))
        # astropy writes the fill value into TNULL and into the rows.
        return MaskedColumn(whole, mask=missing, fill_value=_free(whole), **described)
    plain = values.to_numpy()
    if np.issubdtype(plain.dtype, np.number) or plain.dtype == np.bool_:
        return Column(plain, **described)
    text = ["" if absent else _ascii(str(value)) for value, absent in zip(values, missing, strict=True)]
    # Without letters the width would be 0, for which FITS has no format.
    return Column(np.array(text, dtype=bytes if any(text) else "S1"), **described)


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def _free(values: np.ndarray) -> int:
    """An integer that is not among the values: the least one of their type that is free."""
    least = int(np.iinfo(values.dtype).min)
    taken = set(values.tolist())
    return next(number for number in count(least) if number not in taken)


def _check_keyword(keyword: str) -> None:
    # astropy would write a longer one as HIERARCH, which other readers do not support.
    if not re.fullmatch(r"[A-Z0-9_-]{1,8}", keyword):
        raise ValueError(f"{keyword!r} is not a FITS keyword")
