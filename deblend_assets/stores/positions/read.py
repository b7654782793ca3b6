"""Reads a table of positions; all rows and columns are kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from astropy.table import Table

from deblend_assets.errors import CorruptDataError, DeblendError, MismatchError, MissingDataError, first_line
from deblend_assets.stores.field_files.names import image_name
from deblend_assets.stores.positions.angles import degrees, numbers
from deblend_assets.stores.positions.columns import Columns, from_astropy, from_pandas
from deblend_assets.stores.positions.files import read_columns
from deblend_assets.stores.positions.names import Pair, find_pair
from deblend_assets.stores.positions.positions import PIXELS, Positions

TableLike: TypeAlias = Table | pd.DataFrame | Mapping[str, Any] | np.ndarray | str | os.PathLike[str]
"""What a table in memory, or its file, may be."""

# Names of columns in a message.
_LISTED = 20


def read_positions(path: str | Path, *, sky: bool = True, origin: int | None = None) -> Positions:
    """Read a table of positions with all its columns.

    Right ascension and declination are taken under their usual names in any case, as are pixels: x, y count from 0,
    SExtractor's X_IMAGE, XWIN_IMAGE from 1. Units are followed; without one right ascension and declination are in
    degrees, or text such as 02:31:49.1 in hours.

    Args:
        path: FITS (PATH or PATH[EXT]), VOTable, Parquet, ECSV, CSV, or other text with a line of column names; gzipped
            too.
        sky: whether positions on the sky can be used, that is, the images have celestial coordinates.
        origin: 0 or 1, what the centre of the first pixel is; given, pixels are used even where the table has ra and
            dec.

    Raises:
        MissingDataError: the file, its positions or all rows are missing.
        MismatchError: two columns have the same name but for its case; `origin` is neither 0 nor 1.
        CorruptDataError: the table cannot be read, the positions are no numbers, or their unit is not an angle.
    """
    where = str(path)
    _require_origin(origin, where)
    named = image_name(where)
    file, extension = named.path, named.extension
    if not file.is_file():
        raise MissingDataError("is not a file", where=where, remedy="name a table of positions")

    def suits(found: Columns) -> bool:
        return find_pair(found.names, sky=sky, origin=origin, where=where) is not None

    try:
        table = read_columns(file, extension, suits)
    except DeblendError:
        raise
    # Each reader raises its own errors.
    except Exception as error:
        raise CorruptDataError(
            f"is not a readable table ({first_line(error)})",
            where=where,
            remedy="give FITS, VOTable, Parquet, ECSV, CSV, or text with a line of column names",
        ) from error
    return _found(table, sky=sky, origin=origin, where=where)


def positions_of(table: TableLike, *, sky: bool = True, origin: int | None = None, where: str = "table") -> Positions:
    """The positions of a table in memory, found as `read_positions` finds those of a file; the same arguments.

    Args:
        table: of astropy, or of pandas, whose named index levels are columns; columns by name; a structured array; or
            the path of a file.
        sky: see `read_positions`.
        origin: see `read_positions`.
        where: name of the table in messages.

    Raises:
        MissingDataError, MismatchError, CorruptDataError: see `read_positions`.
    """
    if isinstance(table, str | os.PathLike):
        return read_positions(os.fspath(table), sky=sky, origin=origin)
    _require_origin(origin, where)
    if isinstance(table, pd.DataFrame):
        return _found(from_pandas(table, table.attrs.get("units", {})), sky=sky, origin=origin, where=where)
    columns = from_astropy(table if isinstance(table, Table) else _as_table(table, where))
    return _found(columns, sky=sky, origin=origin, where=where)


def _as_table(values: Any, where: str) -> Table:
    """A table of columns by name, or of a structured array."""
    if isinstance(values, Mapping) or getattr(getattr(values, "dtype", None), "names", None):
        try:
            return Table(dict(values) if isinstance(values, Mapping) else values)
        except (ValueError, TypeError) as error:
            raise MismatchError(
                f"makes no table ({first_line(error)})", where=where, remedy="give columns of equal length"
            ) from error
    raise MismatchError(
        f"is a {type(values).__name__} without names of columns",
        where=where,
        remedy=f"give a table, columns by name or a file, with ra and dec [deg], or {PIXELS}",
    )


def _require_origin(origin: int | None, where: str) -> None:
    if origin not in (None, 0, 1):
        raise MismatchError(f"origin is {origin}", where=where, remedy="give 0 or 1")


def _found(table: Columns, *, sky: bool, origin: int | None, where: str) -> Positions:
    pair = find_pair(table.names, sky=sky, origin=origin, where=where)
    if pair is None or table.frame.empty:
        nearly = find_pair([*table.names, *table.left_out], sky=sky, origin=origin, where=where)
        raise _without_positions(table, nearly, sky, where)
    return _positions(table, pair, where)


def _positions(table: Columns, pair: Pair, where: str) -> Positions:
    first, second = pair.names
    if pair.origin is None:
        places = {
            "ra": degrees(table.frame[first], table.units.get(first), hours=True, where=f"{first} of {where}"),
            "dec": degrees(table.frame[second], table.units.get(second), hours=False, where=f"{second} of {where}"),
        }
    else:
        places = {
            "x": numbers(table.frame[first], where=f"{first} of {where}") - pair.origin,
            "y": numbers(table.frame[second], where=f"{second} of {where}") - pair.origin,
        }
    others = table.frame.drop(columns=[first, second])
    if "id" not in others:
        identifiers = [name for name in table.names if name.lower() == "id"]
        others = others.rename(columns={identifiers[0]: "id"}) if len(identifiers) == 1 else others
    units = {name: unit for name, unit in table.units.items() if name in others}
    return Positions(places, others, units, table.left_out, pair.names, where)


def _without_positions(table: Columns, nearly: Pair | None, sky: bool, where: str) -> DeblendError:
    """Why a table has no positions."""
    lists = [name for name in nearly.names if name in table.left_out] if nearly else []
    if lists:
        return CorruptDataError(
            f"the column {lists[0]} does not have one value per row but {table.left_out[lists[0]]}",
            where=where,
            remedy="write one number per row",
        )
    names = table.names
    listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} others" if len(names) > _LISTED else "")
    what, remedy = f"has {len(table.frame):,} rows of {listed}", "give one row per galaxy"
    if nearly is not None:
        return MissingDataError(what, where=where, remedy=remedy)
    remedy = f"{remedy}, with columns "
    return MissingDataError(
        what,
        where=where,
        remedy=f"{remedy}ra and dec [deg], or {PIXELS}"
        if sky
        else f"the images have no celestial coordinates: {remedy}{PIXELS}",
    )
