"""Reads a table of positions (FITS, ECSV, CSV, Parquet or plain text); all rows are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.wcs import WCS, NoConvergence
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, MissingDataError
from deblend_assets.stores.stamps import first_line

# The first pair in the table is used.
_PAIRS = (("ra", "dec"), ("x", "y"))
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Positions:
    """Positions from a table.

    Attributes:
        columns: `id`, if present, and `ra`, `dec` (ICRS [deg]) or `x`, `y` [pixel, 0-based]; (N,) each.
            Positions are float64, NaN where missing.
    """

    columns: dict[str, np.ndarray]

    def pixels(self, wcs: WCS) -> tuple[Floats, Floats]:
        """Positions x, y on an image, (N,) each [pixel, 0-based]; not finite where undefined."""
        if "ra" in self.columns:
            return sky_to_pixels(wcs, self.columns["ra"], self.columns["dec"])
        return self.columns["x"], self.columns["y"]


def read_positions(path: Path, *, sky: bool = True) -> Positions:
    """Read a table with the columns ra and dec, or else x and y, and optionally id, in lower or upper case.

    Args:
        path: FITS, ECSV, CSV, Parquet, or plain text (.txt, .dat) with a line of column names.
        sky: whether ra and dec can be used, that is, the images have celestial coordinates.

    Raises:
        MissingDataError: the file, a column or all rows are missing.
        CorruptDataError: the table cannot be read, or the unit of ra and dec is not an angle.
    """
    if not path.is_file():
        raise MissingDataError("is not a file", where=str(path), remedy="name a table of positions")
    try:
        rows, known, table = _read_columns(path, ("id", *(name for pair in _PAIRS for name in pair)))
    # Each reader raises its own errors.
    except Exception as error:
        raise CorruptDataError(
            f"is not a readable table ({first_line(error)})",
            where=str(path),
            remedy="give .fits, .ecsv, .csv, .parquet, or .txt with a line of column names",
        ) from error
    pair = next((pair for pair in _PAIRS if set(pair) <= set(table) and (sky or pair == ("x", "y"))), None)
    if pair is None or not rows:
        pixels = "x and y [pixel, from 0]"
        raise MissingDataError(
            f"has {rows} rows of {', '.join(known)}",
            where=str(path),
            remedy=f"give one row per galaxy, with columns ra and dec [deg], or {pixels}"
            if sky
            else f"the images have no celestial coordinates: give one row per galaxy, with columns {pixels}",
        )
    columns: dict[str, np.ndarray] = {}
    for name in [*({"id"} & set(table)), *pair]:
        try:
            columns[name] = _identifiers(table[name]) if name == "id" else _numbers(table[name])
        # pandas raises various errors for lists, nested tables and others.
        except Exception as error:
            raise CorruptDataError(
                f"the column {name} does not have one value per row ({first_line(error)})",
                where=str(path),
                remedy="write one number per row (id: a number or a text)",
            ) from error
    return Positions(columns)


def sky_to_pixels(wcs: WCS, ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
    """Convert ICRS positions [deg] to pixels of an image, (N,) each [0-based], for any celestial frame of its WCS.

    NaN where a position is not valid, or where the projection or its distortion is not defined.
    """
    x, y = np.full(ra.shape, np.nan), np.full(ra.shape, np.nan)
    known = np.isfinite(ra) & (np.abs(dec) <= 90)
    if not known.any():
        return x, y
    sky = SkyCoord(ra[known], dec[known], unit="deg", frame="icrs").transform_to(wcs_to_celestial_frame(wcs))
    longitude, latitude = sky.spherical.lon.deg, sky.spherical.lat.deg
    try:
        places = np.stack(wcs.all_world2pix(longitude, latitude, 0), axis=1)
    except NoConvergence as error:
        places = np.array(error.best_solution, dtype=np.float64)
        for astray in (error.divergent, error.slow_conv):
            if astray is not None:
                places[astray] = np.nan
    x[known], y[known] = places.T
    return x, y


def _read_columns(path: Path, wanted: Sequence[str]) -> tuple[int, list[str], pd.DataFrame]:
    """Number of rows, names of all columns, and the `wanted` columns, with ra and dec in degrees.

    Other columns are not read: pandas does not support some, such as arrays.
    """
    if path.suffix.lower() == ".parquet":
        file = pq.ParquetFile(path)
        known = list(file.schema_arrow.names)
        there = _spelled(known, wanted)
        # Nullable types: otherwise integer ids become floats if one is missing.
        table = pd.read_parquet(path, columns=list(there.values()), dtype_backend="numpy_nullable")
        table = table.rename(columns={given: name for name, given in there.items()})
        # pandas stores the index apart from the columns; a range index is in no column.
        for name in {*wanted} & {*table.index.names}:
            table[name] = table.index.get_level_values(name)
        return file.metadata.num_rows, [*known, *(name for name in table if name not in there)], table
    # astropy recognises every format of ours but plain text.
    whole = Table.read(path, format="ascii" if path.suffix.lower() in (".txt", ".dat") else None)
    known = list(whole.colnames)
    there = _spelled(known, wanted)
    table = whole[list(there.values())]
    for name, given in there.items():
        table.rename_column(given, name)
    table.convert_bytestring_to_unicode()
    for name in {"ra", "dec"} & set(table.colnames):
        if table[name].unit is not None:
            table[name].convert_unit_to("deg")
    if "id" in there and np.any(getattr(table["id"], "mask", False)):
        # astropy's to_pandas converts integers to floats if one is missing.
        table["id"] = ["" if given is None else str(given) for given in table["id"].tolist()]
    return len(whole), known, table.to_pandas() if table.colnames else pd.DataFrame()


def _spelled(known: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """The names of `wanted` in the table, with their spelling; RA for ra if there is no ra."""
    found = {}
    for name in wanted:
        alike = [name] if name in known else [given for given in known if given.lower() == name]
        if len(alike) == 1:
            found[name] = alike[0]
    return found


def _identifiers(given: pd.Series) -> np.ndarray:
    """Numbers if every row has one; else text, which preserves all digits, empty where missing."""
    if pd.api.types.is_numeric_dtype(given) and given.notna().all():
        return given.to_numpy(getattr(given.dtype, "numpy_dtype", None))
    text = given.map(lambda value: value.decode(errors="backslashreplace") if isinstance(value, bytes) else value)
    return text.astype("string").fillna("").to_numpy(object)


def _numbers(given: pd.Series) -> Floats:
    """Convert to float64, NaN where missing; TypeError for lists."""
    if given.dtype == object and given.map(pd.api.types.is_list_like).any():
        raise TypeError("some rows hold lists")
    return pd.to_numeric(given, errors="coerce").to_numpy(np.float64, na_value=np.nan)
