"""Tables of text: CSV, TSV, semicolons or blanks between the values, with comments, of any spreadsheet or catalogue.

Values stay what they are: 007 is text, 18 digits stay 18 digits.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from astropy.io import ascii as astropy_ascii

from deblend_assets.stores.positions.columns import Columns, from_astropy, whole

_MISSING = ("", "nan", "na", "n/a", "null", "none", "--", "indef")
_INTEGER = r"[+-]?(?:0|[1-9]\d{0,19})"
# 007, and more digits than an integer holds.
_DIGITS = r"[+-]?\d+"
_DECIMAL_COMMA = r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?"
_NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?|\d+[:hd]\d+\S*", re.ASCII)
_OF_FLOATS = frozenset("0123456789+-.eE")
_SEXTRACTOR = re.compile(r"#\s+1\s+[A-Za-z]\w*")


def read_text(data: bytes) -> Columns:
    """The columns of a table of text with a line of names.

    Raises:
        ValueError: it is no text, a row has more or fewer values than there are names, or a name is there twice.
    """
    text = _decoded(data)
    if "\0" in text:
        raise ValueError("is neither text nor a known format")
    begin = text.lstrip()[:20]
    if begin.startswith("# %ECSV"):
        return from_astropy(astropy_ascii.read(text.splitlines(), format="ecsv"))
    if begin.startswith(("|", "\\")):
        return from_astropy(astropy_ascii.read(text.splitlines(), format="ipac"))
    if _SEXTRACTOR.match(begin):
        return from_astropy(astropy_ascii.read(text.splitlines(), format="sextractor"))
    return _delimited(text)


def _decoded(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16").removeprefix("\ufeff")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _delimited(text: str) -> Columns:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    comments = [line for _, line in lines if line.startswith("#")]
    lines = [(number, line) for number, line in lines if not line.startswith("#")]
    if not lines:
        return Columns(pd.DataFrame())
    delimiter = next((sign for sign in "\t;," if sign in lines[0][1]), " ")
    rows = _split([line for _, line in lines], delimiter)
    names, units = [cell.strip() for cell in rows[0]], {}
    if any(_NUMBER.fullmatch(name) for name in names):
        names = _header(comments, delimiter, len(names))
    else:
        lines, rows = lines[1:], rows[1:]
    if len(rows) > 1 and all(cell and not cell.strip("-") for cell in rows[1]):
        # VizieR: a line of units and a line of dashes.
        units = {name: unit.strip() for name, unit in zip(names, rows[0], strict=False) if unit.strip()}
        lines, rows = lines[2:], rows[2:]
    if not names[-1]:
        names.pop()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"has the column {twice[0] or 'without a name'} twice")
    for (number, _), row in zip(lines, rows, strict=True):
        if len(row) == len(names) + 1 and not row[-1].strip():
            row.pop()
        if len(row) != len(names):
            raise ValueError(f"line {number} has {len(row)} values, {len(names)} names")
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    frame = {name: _typed(cells, delimiter) for name, cells in zip(names, columns, strict=True)}
    return Columns(pd.DataFrame(frame, index=pd.RangeIndex(len(rows))), units)


def _split(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    if delimiter != " ":
        return list(csv.reader(lines, delimiter=delimiter))
    return list(csv.reader((line.strip().replace("\t", " ") for line in lines), delimiter=" ", skipinitialspace=True))


def _header(comments: Sequence[str], delimiter: str, count: int) -> list[str]:
    """The names in the last comment that has so many, else col1, col2 and so on."""
    for line in reversed(comments):
        names = [cell.strip() for cell in _split([line.lstrip("# ")], delimiter)[0]]
        if len(names) == count:
            return names
    return [f"col{number}" for number in range(1, count + 1)]


def _typed(cells: Sequence[str], delimiter: str) -> pd.Series:
    """A column as integers or floats where every cell that is there is one; else as text."""
    floats = _floats(cells)
    if floats is not None:
        return floats
    text = pd.Series(cells, dtype=object).str.strip()
    missing = text.str.lower().isin(_MISSING).to_numpy(bool)
    there = text[~missing]
    if not len(there):
        return text
    if there.str.fullmatch(_INTEGER).all():
        integers = pd.to_numeric(text.mask(missing, "0")).to_numpy()
        if integers.dtype.kind in "iu":
            return whole(integers, missing)
    if there.str.fullmatch(_DIGITS).all():
        return text
    if delimiter == ";" and there.str.fullmatch(f"{_DIGITS}|{_DECIMAL_COMMA}").all():
        there = there.str.replace(",", ".")
    numbers = pd.to_numeric(there, errors="coerce")
    return text if numbers.isna().any() else numbers.astype(np.float64).reindex(text.index)


def _floats(cells: Sequence[str]) -> pd.Series | None:
    """The usual column of floats, all there; None for any other."""
    letters = set("".join(cells))
    if not letters & {".", "e", "E"} or not letters <= _OF_FLOATS:
        return None
    numbers = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce")
    return None if numbers.isna().any() else numbers
