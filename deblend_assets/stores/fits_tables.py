"""Writes FITS tables with each column's unit, UCD and meaning in the header, for astropy and TOPCAT."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Column, Table

from deblend_assets.science.measuring.registry import CatalogColumn

HeaderValue = str | int | float | bool


def to_fits(
    table: pd.DataFrame, columns: Mapping[str, CatalogColumn[Any]], note: str, header: Mapping[str, HeaderValue]
) -> bytes:
    """Serialise a binary table; equal tables give equal bytes, since no date or version is written.

    A column's meaning is written twice: in TCOMMn, which TOPCAT shows, and in the COMMENT lines with astropy's column
    metadata, which include the UCD (`Table.read` ignores TCOMMn).

    Args:
        table: columns of integers, floats (NaN is kept), booleans and ASCII text.
        columns: unit, UCD and meaning of every column.
        note: the table's description and conventions, ASCII, written as COMMENT.
        header: provenance; keywords of at most eight capitals, digits, - and _.

    Raises:
        KeyError: a column has no unit, UCD and meaning.
        ValueError: text is not ASCII, or a keyword is not valid in FITS.
    """
    typed = Table([_column(name, table[name], columns[name]) for name in map(str, table)])
    stream = io.BytesIO()
    typed.write(stream, format="fits")
    with fits.open(io.BytesIO(stream.getvalue())) as opened:
        rows = opened[1]
        rows.name = "SHAPES"
        for index, name in enumerate(typed.colnames, start=1):
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


def _column(name: str, values: pd.Series, column: CatalogColumn[Any]) -> Column:
    plain = values.to_numpy()
    if not np.issubdtype(plain.dtype, np.number) and plain.dtype != np.bool_:
        # Without rows the width would be 0, for which FITS has no format.
        plain = np.array([text.encode("ascii") for text in values], dtype=bytes if len(values) else "S1")
    return Column(plain, name=name, unit=column.unit or None, description=column.meaning, meta={"ucd": column.ucd})


def _check_keyword(keyword: str) -> None:
    # astropy would write a longer one as HIERARCH, which other readers do not support.
    if not re.fullmatch(r"[A-Z0-9_-]{1,8}", keyword):
        raise ValueError(f"{keyword!r} is not a FITS keyword")
